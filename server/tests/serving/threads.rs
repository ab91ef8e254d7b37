//! Where the threads of a running server run, and how urgently, as the system says.

#![cfg(target_os = "linux")]

use std::path::Path;

use tokio::net::TcpListener;

use crate::process::{Server, Setup};
use crate::store::Versions;

/// A thread, as `/proc` has it.
#[derive(Debug)]
struct Thread {
    name: String,
    nice: i32,
    cores: String,
}

/// The cores that a thread may run on, such as `0-3`.
fn cores(thread: &Path) -> Option<String> {
    let status = std::fs::read_to_string(thread.join("status")).ok()?;
    let cores = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    Some(cores.trim().to_owned())
}

/// Those whose name begins so. Threads may end meanwhile.
fn threads(server: &Server, name: &str) -> Vec<Thread> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
    let read = |path: &Path| {
        let stat = std::fs::read_to_string(path.join("stat")).ok()?;
        // Behind the name, which may have spaces: the state is the 3rd field, the nice value the 19th (proc(5)).
        let nice = stat.rsplit_once(") ")?.1.split(' ').nth(19 - 3)?.parse().ok()?;
        let name = std::fs::read_to_string(path.join("comm")).ok()?.trim().to_owned();
        Some(Thread { name, nice, cores: cores(path)? })
    };
    let all = tasks.filter_map(|task| read(&task.ok()?.path()));
    all.filter(|thread| thread.name.starts_with(name)).collect()
}

#[tokio::test]
async fn each_compute_thread_has_one_core_and_others_have_all() {
    let (store, _) = Versions::with_one().await;
    let server = Server::ready(Setup { workers: 2, ..Setup::new(store.url()) }).await;
    // A thread pins itself a moment after it has begun.
    server
        .until(async |server| {
            let compute = threads(server, "compute-");
            (compute.len() == 2 && compute.iter().all(|thread| thread.cores.parse::<usize>().is_ok())).then_some(())
        })
        .await;
    assert!(threads(&server, "compute-").iter().all(|thread| thread.nice == 0));
    let io = threads(&server, "io");
    let own = cores(Path::new("/proc/self")).unwrap();
    assert!(!io.is_empty() && io.iter().all(|thread| (thread.nice, &thread.cores) == (0, &own)), "{io:?}");
}

#[tokio::test]
async fn a_version_is_prepared_with_what_the_others_leave() {
    // A store that takes the request and does not answer.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let store = format!("http://{}/models", silent.local_addr().unwrap());
    let server = Server::start(Setup { start: "version: 20260101T000000Z-00000001".into(), ..Setup::new(store) }).await;
    let _asked = silent.accept().await.unwrap();
    // One that fetches, and candle's.
    let preparing = threads(&server, "prepare");
    assert_eq!(preparing.iter().map(|thread| thread.nice).collect::<Vec<_>>(), [19, 19], "{preparing:?}");
}
