//! The program itself: live files, ports, signals, and a server that is killed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Request;
use http_body_util::Full;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::server::{Behaviour, Server};
use crate::world::{ALL, Answer, Client, file, request, task};

/// The program with a routes file of its own.
pub(crate) struct Program {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    lines: tokio::io::Lines<BufReader<tokio::process::ChildStderr>>,
    routes: PathBuf,
    _folder: tempfile::TempDir,
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_unimodel-gateway");

impl Program {
    pub(crate) async fn start(tasks: &str) -> Self {
        Self::with(tasks, &[]).await
    }

    /// With those variables in its environment.
    pub(crate) async fn with(tasks: &str, environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let routes = folder.path().join("routes.yaml");
        std::fs::write(&routes, file(tasks)).unwrap();
        let mut child = Command::new(PROGRAM)
            .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--workers", "1", "--routes"])
            .arg(&routes)
            .env_remove("RUST_LOG")
            .env("NO_COLOR", "1")
            .envs(environment.iter().copied())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let ready = lines.next_line().await.unwrap().unwrap();
        let port = |name: &str| {
            let (_, rest) = ready.split_once(&format!("{name}=")).unwrap_or_else(|| panic!("{ready}"));
            rest.split(' ').next().unwrap().parse().unwrap()
        };
        Self { address: port("listen"), admin: port("admin"), child, lines, routes, _folder: folder }
    }

    /// The next line of the log that has that text.
    async fn says(&mut self, text: &str) -> String {
        let find = async {
            loop {
                let line = self.lines.next_line().await.unwrap().expect("the program runs");
                if line.contains(text) {
                    return line;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), find).await.unwrap_or_else(|_| panic!("no line with {text}"))
    }

    /// Replaces the routes file by the text, at once.
    fn write(&self, text: &str) {
        let next = self.routes.with_extension("next");
        std::fs::write(&next, text).unwrap();
        std::fs::rename(next, &self.routes).unwrap();
    }

    async fn rank(&self, task: &str) -> Answer {
        Client::connect(self.address).await.post(&format!("/v1/tasks/{task}:rank"), ALL).await
    }

    pub(crate) async fn admin(&self, path: &str) -> Answer {
        Client::connect(self.admin).await.send(Request::get(path).body(Full::default()).unwrap()).await
    }

    pub(crate) async fn exited(&mut self) -> std::process::ExitStatus {
        self.child.wait().await.unwrap()
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }
}

#[tokio::test]
async fn the_file_is_followed_and_a_bad_one_changes_nothing() {
    let server = Server::start("server").await;
    let endpoints = [server.address];
    let mut program = Program::start(&task("search", &endpoints, "")).await;
    assert_eq!(program.rank("search").await.status, 200);
    assert_eq!(program.rank("related").await.problem(), "unknown-task");

    let both = [task("search", &endpoints, ""), task("related", &endpoints, "")].join(", ");
    program.write(&file(&both));
    program.says("routes applied").await;
    assert_eq!(program.rank("related").await.status, 200);

    // Cut off in the middle, in either form; a clash; a refusal of each is said once.
    let flow = file(&both);
    program.write(&flow[..flow.len() / 2]);
    program.says("routes refused").await;
    program.write("apiVersion: unimodel.dev/v1alpha1\nkind: Routes\ntasks:\n- name: search\n");
    assert!(program.says("routes refused").await.contains("does not end with a line `...`"));
    program.write(&file(&[task("search", &[], ""), task("search", &[], "")].join(", ")));
    assert!(program.says("routes refused").await.contains("`search` is the name of tasks[0] already"));
    std::fs::remove_file(&program.routes).unwrap();
    assert!(program.says("routes refused").await.contains("No such file"));
    assert_eq!(
        (program.rank("related").await.status, program.rank("search").await.status.as_u16()),
        (http::StatusCode::OK, 200)
    );

    program.write(&file(&task("related", &endpoints, "")));
    program.says("routes applied").await;
    assert_eq!(program.rank("search").await.problem(), "unknown-task");
    let metrics = String::from_utf8(program.admin("/metrics").await.body.to_vec()).unwrap();
    for line in [
        "unimodel_gateway_requests_total{task=\"related\",protocol=\"rest\",outcome=\"ok\"} 2",
        "unimodel_gateway_unrouted_requests_total{outcome=\"unknown-task\"} 2",
        "unimodel_gateway_routes_refused_total 4",
        "unimodel_gateway_endpoints{task=\"related\",state=\"up\"} 1",
        "unimodel_gateway_request_duration_seconds_count{task=\"related\"} 2",
        "# EOF",
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line} in {metrics}");
    }
    assert!(!metrics.contains("task=\"search\""));
    let state = program.admin("/debug/state").await.json();
    assert_eq!(
        (state["tasks"].as_array().unwrap().len(), &state["tasks"][0]["endpoints"][0]["state"]),
        (1, &"up".into())
    );
    assert_eq!(program.admin("/livez").await.status, 200);
    assert_eq!(program.admin("/nothing").await.problem(), "no-resource");
}

#[tokio::test]
async fn it_finishes_what_is_in_flight_when_it_is_told_to_stop() {
    let server = Server::start("server").await;
    server.set(Behaviour::Hang);
    let mut program = Program::start(&task("search", &[server.address], "")).await;
    let client = Client::connect(program.address).await;
    let waiting = tokio::spawn(async move {
        let hurried = Request::post("/v1/tasks/search:rank").header("x-unimodel-timeout", "2s");
        client.send(hurried.body(Full::from(ALL)).unwrap()).await
    });
    server.working(1).await;
    assert_eq!(program.admin("/readyz").await.status, 200);
    program.signal("TERM");
    program.says("stops").await;
    assert_eq!(program.admin("/readyz").await.status, 503);
    // The port is closed, and the request still gets its answer.
    let closed = async { while tokio::net::TcpStream::connect(program.address).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(20), closed).await.unwrap();
    assert_eq!(waiting.await.unwrap().problem(), "deadline-exceeded");
    assert!(program.exited().await.success());
}

/// The error of a start that fails.
fn fails(arguments: &[&str]) -> String {
    let output = std::process::Command::new(PROGRAM).args(arguments).output().unwrap();
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

#[tokio::test]
async fn a_port_in_use_and_a_bad_file_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("routes.yaml");
    let path = path.to_str().unwrap();
    assert!(fails(&["--routes", path]).starts_with(&format!("error: cannot read routes file {path}: No such file")));
    std::fs::write(path, "{tasks: [").unwrap();
    assert!(fails(&["--routes", path]).starts_with(&format!("error: {path}: ")));
    std::fs::write(path, file(&task("search", &[], ""))).unwrap();

    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = fails(&["--routes", path, "--listen", &address]);
    let expected = format!("error: cannot listen on {address}: Address already in use");
    assert!(error.starts_with(&expected), "{error}");
    let by = format!("(process {})", std::process::id());
    assert!(error.contains(&by), "{error} names {by}");
    let error = fails(&["--routes", path, "--listen", "127.0.0.1:0", "--admin-listen", &address]);
    assert!(error.starts_with(&expected), "{error}");
}

/// Not a test by itself: the server that is killed below, in a process of its own.
#[tokio::test]
#[ignore = "a part of the test below"]
async fn a_server_in_a_process_of_its_own() {
    if let Ok(address) = std::env::var("UNIMODEL_TEST_SERVER") {
        let _server = Server::at("process", address.parse().unwrap()).await;
        std::future::pending().await
    }
}

fn server_process(address: SocketAddr) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["process::a_server_in_a_process_of_its_own", "--exact", "--ignored"])
        .env("UNIMODEL_TEST_SERVER", address.to_string())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn a_server_killed_under_load_costs_no_request() {
    let addresses = [crate::world::nobody().await, crate::world::nobody().await];
    let mut processes = addresses.map(server_process);
    let program = Program::start(&task("search", &addresses, "")).await;
    // Until both are there.
    let up = async {
        loop {
            program.rank("search").await;
            let state = program.admin("/debug/state").await.json();
            if state["tasks"][0]["endpoints"].as_array().unwrap().iter().all(|e| e["state"] == "up") {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), up).await.expect("both servers are up");

    const REQUESTS: usize = 10_000;
    let (sent, kill) = (AtomicUsize::new(0), REQUESTS / 3);
    let client = Client::connect(program.address).await;
    let killed = tokio::sync::Notify::new();
    let load = async {
        let workers = (0..32).map(|worker| {
            let (client, sent, killed) = (client.clone(), &sent, &killed);
            async move {
                let mut failed = Vec::new();
                loop {
                    let number = sent.fetch_add(1, Ordering::Relaxed);
                    if number >= REQUESTS {
                        return failed;
                    }
                    if number == kill {
                        killed.notify_one();
                    }
                    let good = if worker % 2 == 0 {
                        let answer = client.post("/v1/tasks/search:rank", ALL).await;
                        (answer.status == 200).then_some(()).ok_or(answer)
                    } else {
                        let answer = client.rank(&request("search")).await;
                        (answer.code() == tonic::Code::Ok).then_some(()).ok_or(answer)
                    };
                    failed.extend(good.err());
                }
            }
        });
        futures::future::join_all(workers).await.into_iter().flatten().collect::<Vec<_>>()
    };
    let kill = async {
        killed.notified().await;
        // By KILL.
        processes[0].kill().await.unwrap();
    };
    let (failed, ()) = tokio::join!(load, kill);
    assert!(failed.is_empty(), "{} of {REQUESTS} failed, such as {:?}", failed.len(), failed[0]);
    let state = program.admin("/debug/state").await.json();
    let states: Vec<_> = state["tasks"][0]["endpoints"].as_array().unwrap().iter().map(|e| &e["state"]).collect();
    assert!(states[0] != "up" && states[1] == "up", "{states:?}");
}

#[tokio::test]
async fn a_thousand_tasks_fit_into_little_memory() {
    let tasks: Vec<String> = (0..1000)
        .map(|i| {
            let endpoints: Vec<SocketAddr> =
                (0..10).map(|e| format!("10.{}.{}.{e}:8080", i / 250, i % 250).parse().unwrap()).collect();
            task(&format!("task-{i}"), &endpoints, "version: v7, fallback: [{static: Popularity}]")
        })
        .collect();
    let mut program = Program::start(&tasks.join(", ")).await;
    // Files that were read before must not stay in memory either.
    for round in 0..5 {
        program.write(&file(&tasks[round..].join(", ")));
        program.says("routes applied").await;
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.child.id().unwrap())).unwrap();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: u64 = rss.trim().strip_suffix(" kB").unwrap().trim().parse().unwrap();
    assert!(kib <= 50 << 10, "{kib} KiB");
    let state = program.admin("/debug/state").await.json();
    assert_eq!(state["backends"].as_array().unwrap().len(), 9960);
}
