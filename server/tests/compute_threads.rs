//! Rayon's threads, which a process chooses once.

#![allow(clippy::unwrap_used)]

use unimodel_server::compute::threads::keep_rayon_to_one_thread;

#[test]
fn rayon_gets_one_thread_and_no_second_choice() {
    keep_rayon_to_one_thread().unwrap();
    assert_eq!(rayon::current_num_threads(), 1);
    #[cfg(target_os = "linux")]
    {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        assert_eq!(rayon::broadcast(|_| nice()), [19]);
    }
    assert!(keep_rayon_to_one_thread().is_err());
}
