//! A store with versions: a directory, and the same behind a web server.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use unimodel_model::bundle::files;
use unimodel_model::store::{Publication, Store};
use unimodel_model::version::MANIFEST;

use crate::fixture::{Fixture, Recipe};

/// A store in a directory.
pub(crate) struct Versions {
    dir: TempDir,
}

impl Versions {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// A store with one version that `stable` names.
    pub(crate) async fn with_one() -> (Self, String) {
        let store = Self::new();
        let version = store.publish(1).await;
        store.promote(&version).await;
        (store, version)
    }

    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn url(&self) -> String {
        format!("file://{}", self.root().display())
    }

    fn open(&self) -> Store {
        Store::open(&self.url()).unwrap()
    }

    /// Publishes a small version.
    pub(crate) async fn publish(&self, seed: u64) -> String {
        self.publish_changed(&Recipe { seed, ..Recipe::default() }, |_| {}).await
    }

    /// Publishes a version after its files have been changed.
    pub(crate) async fn publish_changed(&self, recipe: &Recipe, change: impl FnOnce(&Path)) -> String {
        let fixture = Fixture::new(recipe);
        let dir = fixture.dir.path();
        std::fs::remove_file(dir.join(MANIFEST)).unwrap();
        change(dir);
        let publication = Publication {
            created: Timestamp::from_second(1_800_000_000 + recipe.seed as i64).unwrap(),
            data_time: "2026-11-24T00:00:00Z".parse().unwrap(),
            parent: None,
            pipeline: None,
            metrics: [("h0".to_owned(), [("hit_rate@10".to_owned(), 0.25)].into())].into(),
        };
        self.open().publish(dir, publication).await.unwrap().version.to_string()
    }

    pub(crate) async fn promote(&self, version: &str) {
        let (version, stable) = (version.parse().unwrap(), "stable".parse().unwrap());
        self.open().promote(&version, &stable, Timestamp::now()).await.unwrap();
    }

    pub(crate) fn version_dir(&self, version: &str) -> PathBuf {
        self.root().join("versions").join(version)
    }

    /// Changes one byte of a published file.
    pub(crate) fn damage(&self, version: &str, file: &str) {
        let path = self.version_dir(version).join(file);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
}

/// Makes a golden request of a head expect other scores.
pub(crate) fn spoil_golden(dir: &Path, head: &str) {
    let path = dir.join(files::GOLDEN).join(format!("{head}.jsonl"));
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<String> = text
        .lines()
        .enumerate()
        .map(|(i, line)| {
            let mut golden: serde_json::Value = serde_json::from_str(line).unwrap();
            if i == 2 {
                golden["scores"][3] = 12.5.into();
            }
            golden.to_string() + "\n"
        })
        .collect();
    std::fs::write(path, lines.concat()).unwrap();
}

/// A web server with the files of a store. It stops when this is dropped.
pub(crate) struct Web {
    pub(crate) url: String,
    task: AbortHandle,
}

impl Drop for Web {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Web {
    pub(crate) async fn serve(store: &Versions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/models", listener.local_addr().unwrap());
        let root = store.root().to_owned();
        let accept = async move {
            // They end with this task.
            let mut connections = JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                let root = root.clone();
                connections.spawn(async move { answer(connection, &root).await });
            }
        };
        Self { url, task: tokio::spawn(accept).abort_handle() }
    }
}

async fn answer(connection: TcpStream, root: &Path) -> std::io::Result<()> {
    let mut connection = BufReader::new(connection);
    loop {
        let (mut request, mut line) = (String::new(), String::new());
        if connection.read_line(&mut request).await? == 0 {
            return Ok(());
        }
        while connection.read_line(&mut line).await? > 2 {
            line.clear();
        }
        let mut words = request.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (status, body) = match std::fs::read(root.join(path.trim_start_matches("/models/"))) {
            Ok(body) => ("200 OK", body),
            Err(_) => ("404 Not Found", Vec::new()),
        };
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
        connection.write_all(head.as_bytes()).await?;
        if method == "GET" {
            connection.write_all(&body).await?;
        }
    }
}
