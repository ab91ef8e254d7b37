//! Where the tests store: a temporary directory, or versitygw over one.

use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tempfile::TempDir;
use unimodel_model::store::{Publication, Store};
use unimodel_model::version::Manifest;

/// Which kind of store.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Files,
    S3,
}

/// An empty store of its own, gone when dropped.
pub struct Backend {
    pub url: String,
    pub variables: Vec<(String, String)>,
    /// Where its objects lie as files.
    pub files: PathBuf,
    _server: Option<Server>,
    _dir: TempDir,
}

impl Backend {
    pub fn new(kind: Kind) -> Self {
        let dir = tempfile::tempdir().unwrap();
        match kind {
            Kind::Files => {
                let files = dir.path().join("store");
                let url = format!("file://{}", files.display());
                Self { url, variables: Vec::new(), files, _server: None, _dir: dir }
            }
            Kind::S3 => {
                let files = dir.path().join("bucket/models");
                std::fs::create_dir_all(dir.path().join("bucket")).unwrap();
                let server = Server::start(dir.path());
                let variables = server.variables("key", "secret");
                Self { url: "s3://bucket/models".to_owned(), variables, files, _server: Some(server), _dir: dir }
            }
        }
    }

    pub fn open(&self) -> Store {
        Store::open_with(&self.url, self.variables.clone()).unwrap()
    }

    /// The same server for somebody with other keys.
    pub fn open_as(&self, key: &str, secret: &str) -> Store {
        Store::open_with(&self.url, self._server.as_ref().unwrap().variables(key, secret)).unwrap()
    }

    /// The file in which the store keeps a version's file.
    pub fn file(&self, manifest: &Manifest, path: &str) -> PathBuf {
        self.files.join("versions").join(manifest.version.as_str()).join(path)
    }
}

/// A running versitygw, killed when dropped.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(root: &Path) -> Self {
        let program = std::env::var_os("VERSITYGW")
            .expect("set VERSITYGW to the program that scripts/install-versitygw.sh prints; `make test` does");
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            // Free now; should another process take it first, the server exits and another port is tried.
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut child = Command::new(&program)
                .args(["--port", &format!("127.0.0.1:{port}"), "--quiet", "posix"])
                .arg(root)
                .envs([("ROOT_ACCESS_KEY", "key"), ("ROOT_SECRET_KEY", "secret")])
                .stdout(Stdio::null())
                .spawn()
                .expect("VERSITYGW names a program");
            while child.try_wait().unwrap().is_none() {
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return Self { child, port };
                }
                assert!(Instant::now() < deadline, "versitygw does not listen");
                std::thread::yield_now();
            }
            assert!(Instant::now() < deadline, "versitygw does not start");
        }
    }

    fn variables(&self, key: &str, secret: &str) -> Vec<(String, String)> {
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        [
            ("AWS_ENDPOINT_URL", endpoint.as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ACCESS_KEY_ID", key),
            ("AWS_SECRET_ACCESS_KEY", secret),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // No panic beside that of a test that fails: it would end the process, and leave what other tests have started.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory to publish: small files, and weights of that size whose bytes depend on the seed.
pub fn model(weights: usize, seed: u64) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("golden")).unwrap();
    for (path, text) in [("schema.json", "{}"), ("golden/search.jsonl", "{}\n{}\n"), ("items.parquet", "")] {
        std::fs::write(dir.path().join(path), text).unwrap();
    }
    std::fs::write(dir.path().join("model.safetensors"), noise(weights, seed)).unwrap();
    dir
}

fn noise(size: usize, seed: u64) -> Vec<u8> {
    use rand::{RngCore, SeedableRng};
    let mut bytes = vec![0; size];
    rand::rngs::SmallRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

/// The time that is so many seconds after a fixed one.
pub fn time(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_533_300 + second).unwrap()
}

/// What is said about a version that is published at that second.
pub fn publication(second: i64) -> Publication {
    Publication {
        created: time(second),
        data_time: time(-3600),
        parent: None,
        pipeline: Some("movielens".to_owned()),
        metrics: BTreeMap::from([("search".to_owned(), BTreeMap::from([("mrr".to_owned(), 0.75)]))]),
    }
}

/// Publishes a small version.
pub async fn publish(store: &Store, second: i64) -> Manifest {
    store.publish(model(1000, second as u64).path(), publication(second)).await.unwrap()
}

/// The names of the versions that a reader sees.
pub async fn listed(store: &Store) -> Vec<String> {
    store.versions().await.unwrap().into_iter().map(|v| v.version.to_string()).collect()
}
