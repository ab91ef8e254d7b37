//! The directory of one hosted object: what runs, its logs, and requests of other commands.

use std::fs::{self, File, TryLockError};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use unimodel_crds::UnifiedModelStatus;

/// The option that names the directory.
#[derive(clap::Args, Clone)]
pub struct PlaceArgs {
    /// Directory of logs and state; another one for each object that is hosted at a time
    #[arg(long = "state", value_name = "DIRECTORY", env = "UNIMODEL_STATE", default_value = ".unimodel")]
    directory: PathBuf,
}

/// What `unimodel up` says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Up {
    /// Its process.
    pub pid: u32,
    /// Where the gateway answers requests.
    pub gateway: SocketAddr,
    /// Where the gateway answers /livez, /readyz and /metrics.
    pub admin: SocketAddr,
    /// The file that it hosts.
    pub file: PathBuf,
    /// URL of the store.
    pub store: String,
    /// Why what the file says now is not what is hosted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_problem: Option<String>,
    /// Fields that have no meaning on one machine.
    pub notices: Vec<String>,
    /// The servers.
    pub servers: Vec<ServerState>,
    /// What is so.
    pub status: UnifiedModelStatus,
}

/// A server, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerState {
    /// Its name, which is that of its log.
    pub name: String,
    /// The task that it is for.
    pub task: String,
    /// Where it answers requests.
    pub address: SocketAddr,
    /// Its process, where it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Whether it answers.
    pub ready: bool,
    /// The version that it answers by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// How often it has been started again.
    pub restarts: u32,
}

/// The directory.
#[derive(Clone, Debug)]
pub struct Place {
    directory: PathBuf,
}

/// Held for as long as the object is hosted.
pub struct Lock(#[allow(dead_code)] File);

impl PlaceArgs {
    /// The directory, which need not exist.
    pub fn place(&self) -> anyhow::Result<Place> {
        let directory = std::path::absolute(&self.directory)?;
        Ok(Place { directory })
    }
}

impl Place {
    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The log of a process.
    pub fn log(&self, name: &str) -> PathBuf {
        self.path("logs").join(format!("{name}.log"))
    }

    /// Takes the directory for a new host.
    pub fn take(&self) -> anyhow::Result<Lock> {
        for name in ["logs", "servers", "tls", "requests"] {
            let path = self.path(name);
            fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        }
        let lock = File::create(self.path("lock"))?;
        // Whoever asks whether it is taken holds it for a moment.
        let held = (0..10).find_map(|_| match lock.try_lock() {
            Err(TryLockError::WouldBlock) => {
                std::thread::sleep(Duration::from_millis(20));
                None
            }
            other => Some(other),
        });
        match held.unwrap_or(Err(TryLockError::WouldBlock)) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let what = self
                    .up()
                    .map_or("another object".into(), |up| format!("{} (process {})", up.file.display(), up.pid));
                let directory = self.directory.display();
                bail!("{what} is up already in {directory}; `unimodel down` ends it, `--state` hosts another beside it")
            }
            Err(TryLockError::Error(error)) => return Err(error).context("cannot lock the state directory"),
        }
        for entry in fs::read_dir(self.path("requests"))? {
            fs::remove_file(entry?.path())?;
        }
        let _ = fs::remove_file(self.path("up.json"));
        Ok(Lock(lock))
    }

    /// Whether a host holds the directory.
    pub fn is_taken(&self) -> bool {
        // Another reader of the lock would look like a host for a moment: a shared lock does not.
        File::open(self.path("lock")).is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// What the host says of itself.
    pub fn up(&self) -> anyhow::Result<Up> {
        let nothing = || format!("nothing is up in {}; start it with `unimodel up -f FILE`", self.directory.display());
        if !self.is_taken() {
            bail!(nothing());
        }
        let text = fs::read(self.path("up.json")).with_context(nothing)?;
        serde_json::from_slice(&text).with_context(|| format!("{} is unreadable", self.path("up.json").display()))
    }

    /// Replaces a file as a whole: nobody reads half of it.
    pub fn write(&self, name: &str, content: &[u8]) -> anyhow::Result<()> {
        let path = self.path(name);
        let half = path.with_extension("half");
        let write = || fs::write(&half, content).and_then(|()| fs::rename(&half, &path));
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    /// Requests for a refresh: task and token.
    pub fn requests(&self) -> Vec<(String, String)> {
        let entries = fs::read_dir(self.path("requests")).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok().filter(|name| !name.contains('.'))?;
                Some((name, fs::read_to_string(entry.path()).ok()?))
            })
            .collect()
    }
}

/// The last line of a file that says something, for people.
pub fn last_line(path: &Path) -> Option<String> {
    let text = String::from_utf8_lossy(&fs::read(path).ok()?).into_owned();
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(line.chars().take(500).collect())
}
