//! Where threads run, and how urgently.

use std::any::Any;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::{io, panic, thread};

/// The cores that this process may run on; in a container those of its cpuset.
///
/// # Errors
/// The system does not say.
pub fn allowed_cores() -> io::Result<Vec<usize>> {
    #[cfg(target_os = "linux")]
    {
        let set = rustix::thread::sched_getaffinity(None)?;
        Ok((0..rustix::thread::CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
    }
    #[cfg(not(target_os = "linux"))]
    Ok((0..std::thread::available_parallelism()?.get()).collect())
}

/// Keeps the current thread on one core, so that its caches stay its own. Does nothing where the system has no such call.
///
/// # Errors
/// There is no such core, or the process may not run on it.
pub fn pin_current_thread(core: usize) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        if core >= rustix::thread::CpuSet::MAX_CPU {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("core {core}: no system has so many")));
        }
        let mut set = rustix::thread::CpuSet::new();
        set.set(core);
        rustix::thread::sched_setaffinity(None, &set)?;
    }
    #[cfg(not(target_os = "linux"))]
    let _ = core;
    Ok(())
}

/// Lets the current thread, and those that it starts, have what the others leave: for preparing a version beside
/// serving. Does nothing where priorities are those of processes.
///
/// # Errors
/// The system refuses.
pub fn lower_priority_of_current_thread() -> io::Result<()> {
    // On Linux a nice value is a thread's, and process 0 means the calling thread (setpriority(2), "C library/kernel
    // differences").
    #[cfg(target_os = "linux")]
    rustix::process::setpriority_process(None, 19)?;
    Ok(())
}

/// Gives rayon one thread, of low priority: on a CPU candle and its rayon only prepare versions, and a thread per core
/// would take the cores from those that serve. Call it before the first use of candle.
///
/// # Errors
/// Rayon has its threads already.
pub fn keep_rayon_to_one_thread() -> Result<(), rayon::ThreadPoolBuildError> {
    let lower = |_| {
        if let Err(error) = lower_priority_of_current_thread() {
            tracing::warn!(%error, "the thread that prepares versions keeps its priority");
        }
    };
    rayon::ThreadPoolBuilder::new().num_threads(1).thread_name(|_| "prepare".into()).start_handler(lower).build_global()
}

/// What a thread said when it panicked, where it is text.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> Option<&str> {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
}

/// Lets so many threads, this one among them, do pieces of work, each the first that is left. Each thread begins with
/// something of its own.
///
/// # Errors
/// Of a piece: some of the others are not done then.
pub(super) fn in_parallel<P: Send, O, E: Send>(
    threads: NonZeroUsize,
    pieces: impl Iterator<Item = P> + Send,
    own: impl Fn() -> O + Sync,
    work: impl Fn(&mut O, P) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let pieces = Mutex::new(pieces);
    let next = || pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
    let run = || {
        let mut own = own();
        while let Some(piece) = next() {
            work(&mut own, piece)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads.get()).map(|_| scope.spawn(run)).collect();
        let own = run();
        let joined = others.into_iter().map(|other| other.join().unwrap_or_else(|panic| panic::resume_unwind(panic)));
        joined.fold(own, Result::and)
    })
}

#[cfg(all(test, target_os = "linux"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_may_run_on_its_core_alone() {
        let cores = allowed_cores().unwrap();
        let core = *cores.last().unwrap();
        let pinned = std::thread::spawn(move || {
            pin_current_thread(core).unwrap();
            allowed_cores().unwrap()
        });
        assert_eq!(pinned.join().unwrap(), [core]);
        assert_eq!(allowed_cores().unwrap(), cores);
    }

    #[test]
    fn a_core_that_is_not_there_is_an_error() {
        assert!(pin_current_thread(rustix::thread::CpuSet::MAX_CPU - 1).is_err());
        assert_eq!(pin_current_thread(usize::MAX).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn only_the_thread_itself_gets_nicer() {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let before = nice();
        let lowered = std::thread::spawn(move || {
            lower_priority_of_current_thread().unwrap();
            nice()
        });
        assert_eq!(lowered.join().unwrap(), 19);
        assert_eq!(nice(), before);
    }

    #[test]
    fn every_piece_is_done_once_by_any_number_of_threads_and_an_error_comes_back() {
        for threads in 1..5 {
            let threads = NonZeroUsize::new(threads).unwrap();
            let mut done = vec![0; 100];
            in_parallel(
                threads,
                done.iter_mut(),
                || (),
                |(), piece| {
                    *piece += 1;
                    Ok::<_, ()>(())
                },
            )
            .unwrap();
            assert_eq!(done, [1; 100]);
            assert_eq!(
                in_parallel(threads, 0..100, || (), |(), piece| if piece == 40 { Err(piece) } else { Ok(()) }),
                Err(40)
            );
        }
    }
}
