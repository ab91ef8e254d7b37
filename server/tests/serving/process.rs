//! A running `unimodel-server`: its files, its log, and how to ask it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::watch;
use tonic::transport::Channel;
use unimodel_protocol::v1;
use unimodel_protocol::v1::ranking_service_client::RankingServiceClient;

/// Longer than anything takes; only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the file says unless a test says otherwise.
pub(crate) struct Setup {
    pub(crate) store: String,
    /// `channel: stable` or `version: …`
    pub(crate) start: String,
    pub(crate) workers: usize,
    pub(crate) tasks: String,
    /// More lines.
    pub(crate) more: String,
    pub(crate) environment: Vec<(&'static str, String)>,
}

impl Setup {
    pub(crate) fn new(store: impl Into<String>) -> Self {
        Self {
            store: store.into(),
            start: "channel: stable".into(),
            workers: 1,
            tasks: "[{name: search, head: h0, timeout: {default: 60s, max: 60s}}, {name: related, head: h1}]".into(),
            more: String::new(),
            environment: vec![],
        }
    }

    /// The text of the file, in a directory for all that the server writes.
    pub(crate) fn text(&self, dir: &Path) -> String {
        let Self { store, start, workers, tasks, more, .. } = self;
        let cache = if more.contains("cacheDirectory") {
            String::new()
        } else {
            format!("cacheDirectory: {}/cache", dir.display())
        };
        format!(
            "apiVersion: unimodel.dev/v1alpha1\nkind: ServerConfig\nstore: {store}\n{start}\nworkers: {workers}\n\
             listen: 127.0.0.1:0\nadminListen: 127.0.0.1:0\n{cache}\n{more}\ntasks: {tasks}\n"
        )
    }
}

/// A process that may serve.
pub(crate) struct Server {
    child: Child,
    pub(crate) dir: tempfile::TempDir,
    log: watch::Receiver<Vec<Json>>,
    pub(crate) data: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) control: Option<SocketAddr>,
}

pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_unimodel-server"));
    command
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

impl Server {
    /// Starts one and waits until it listens.
    pub(crate) async fn start(setup: Setup) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("server.yaml");
        std::fs::write(&file, setup.text(dir.path())).unwrap();
        let mut command = command();
        command.arg("--config").arg(&file).args(["--log-format", "json"]).envs(setup.environment);
        let mut child = command.spawn().unwrap();
        let log = follow(child.stderr.take().unwrap());
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self { child, dir, log, data: nowhere, admin: nowhere, control: None };
        let listening = server.logged("listening").await;
        let address = |name: &str| listening[name].as_str().map(|text| text.parse().unwrap());
        server.data = address("data").unwrap();
        server.admin = address("operations").unwrap();
        server.control = address("control");
        server
    }

    /// Starts one and waits until it serves.
    pub(crate) async fn ready(setup: Setup) -> Self {
        let server = Self::start(setup).await;
        server.logged("active").await;
        server
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.dir.path().join("server.yaml")
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    /// The first line of the log whose message begins so.
    pub(crate) async fn logged(&self, message: &str) -> Json {
        self.logged_times(message, 1).await
    }

    /// The line of the log whose message begins so for the `times`-th time.
    pub(crate) async fn logged_times(&self, message: &str, times: usize) -> Json {
        let mut log = self.log.clone();
        let starts = |line: &&Json| line["message"].as_str().is_some_and(|text| text.starts_with(message));
        let found = log.wait_for(|lines| lines.iter().filter(starts).nth(times - 1).is_some());
        match tokio::time::timeout(PATIENCE, found).await {
            Ok(Ok(lines)) => lines.iter().filter(starts).nth(times - 1).unwrap().clone(),
            _ => panic!("no `{message}` in the log:\n{}", self.log_text()),
        }
    }

    pub(crate) fn log_text(&self) -> String {
        self.log.borrow().iter().map(|line| format!("{line}\n")).collect()
    }

    pub(crate) fn log_lines(&self, message: &str) -> usize {
        let starts = |line: &&Json| line["message"].as_str().is_some_and(|text| text.starts_with(message));
        self.log.borrow().iter().filter(starts).count()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Sends a signal, `TERM` or `INT`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let status = std::process::Command::new("kill").args(["-s", name, &pid]).status().unwrap();
        assert!(status.success());
    }

    pub(crate) async fn exited(&mut self) -> ExitStatus {
        tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("the server does not exit").unwrap()
    }

    /// GET at the operations port: status and body.
    pub(crate) async fn admin(&self, path: &str) -> (u16, String) {
        http(self.admin, "GET", path, "").await
    }

    pub(crate) async fn state(&self) -> Json {
        let (status, body) = self.admin("/debug/state").await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// The value of a metric without labels, or with exactly these.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let (_, text) = self.admin("/metrics").await;
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().unwrap()
    }

    /// Asks again and again until the answer is right.
    pub(crate) async fn until<T>(&self, ask: impl AsyncFn(&Self) -> Option<T>) -> T {
        let asking = async {
            loop {
                if let Some(answer) = ask(self).await {
                    return answer;
                }
                tokio::task::yield_now().await;
            }
        };
        match tokio::time::timeout(PATIENCE, asking).await {
            Ok(answer) => answer,
            Err(_) => panic!("it never came to it; the log:\n{}", self.log_text()),
        }
    }

    /// `POST /v1/tasks/{task}:rank`: status and answer.
    pub(crate) async fn rank(&self, task: &str, body: &Json) -> (u16, Json) {
        let (status, body) = http(self.data, "POST", &format!("/v1/tasks/{task}:rank"), &body.to_string()).await;
        (status, serde_json::from_str(&body).unwrap_or_else(|_| panic!("{status} {body}")))
    }

    /// The version that answers a request.
    pub(crate) async fn answering(&self) -> String {
        let (status, answer) = self.rank("search", &json!({ "candidates": { "all": true }, "limit": 1 })).await;
        assert_eq!(status, 200, "{answer}");
        answer["modelVersion"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn grpc(&self) -> RankingServiceClient<Channel> {
        RankingServiceClient::connect(format!("http://{}", self.data)).await.unwrap()
    }
}

/// A request for the best of all items.
pub(crate) fn all_items(task: &str) -> v1::RankRequest {
    let candidates = v1::Candidates { all: true, ..v1::Candidates::default() };
    v1::RankRequest { task: task.into(), candidates: Some(candidates), limit: Some(5), ..v1::RankRequest::default() }
}

/// The lines of a log, as they come.
fn follow(stderr: ChildStderr) -> watch::Receiver<Vec<Json>> {
    let (sender, receiver) = watch::channel(Vec::new());
    tokio::spawn(async move {
        let mut lines = BufReader::new(stderr).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let line = serde_json::from_str(&line).unwrap_or_else(|_| json!({ "message": line }));
            sender.send_modify(|lines: &mut Vec<Json>| lines.push(line));
        }
    });
    receiver
}

/// One request on a connection of its own: status and body.
pub(crate) async fn http(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    assert!(!head.to_lowercase().contains("transfer-encoding"), "{head}");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}
