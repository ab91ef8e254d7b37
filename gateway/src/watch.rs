//! Reading the routes file again whenever it changes.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use crate::gateway::Gateway;
use crate::routes::{self, Routes, RoutesError};

/// How often the file is looked at. Looking costs microseconds, works on every file system, and sees what a cluster does
/// with a mounted file, which notifications miss.
const LOOK: Duration = Duration::from_millis(20);

/// Why a routes file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be read.
    #[error("cannot read routes file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is wrong.
    #[error(transparent)]
    Routes(#[from] RoutesError),
}

/// Reads and checks a routes file.
///
/// # Errors
/// It cannot be read, or is wrong.
pub fn read(path: &Path) -> Result<Routes, ReadError> {
    Ok(routes::parse(&path.display().to_string(), &text(path)?)?)
}

fn text(path: &Path) -> Result<String, ReadError> {
    fs::read_to_string(path).map_err(|source| ReadError::Read { path: path.to_owned(), source })
}

/// What tells one state of a file from another. None: there is no file.
type Stamp = Option<(SystemTime, u64, u64)>;

/// A file replaced by another one has another inode; one that is written in place has another time or length.
pub fn stamp(path: &Path) -> Stamp {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

/// Follows the file on a thread of its own until the gateway is gone. `seen`: the [`stamp`] from before the file was read
/// first. A file that is wrong or gone changes nothing, and is said once.
pub fn follow(gateway: &Arc<Gateway>, path: PathBuf, seen: Stamp) -> std::io::Result<()> {
    let gateway = Arc::downgrade(gateway);
    std::thread::Builder::new().name("routes".into()).spawn(move || look(&gateway, &path, seen)).map(drop)
}

/// File systems tell times a few milliseconds apart: a file that was written just before it was read may be written again
/// without a new time, and is read once more.
const SETTLED: Duration = Duration::from_millis(100);

fn look(gateway: &Weak<Gateway>, path: &Path, mut seen: Stamp) {
    let mut is_settled = true;
    let mut last = None;
    loop {
        std::thread::sleep(LOOK);
        let Some(gateway) = gateway.upgrade() else { return };
        let now = stamp(path);
        if now == seen && is_settled {
            continue;
        }
        let age = now.and_then(|(modified, ..)| modified.elapsed().ok()).unwrap_or(SETTLED);
        if now == seen && age < SETTLED {
            continue;
        }
        (seen, is_settled) = (now, age >= SETTLED);
        let begun = Instant::now();
        let text = text(path);
        let hash = text.as_ref().ok().map(|text| hash(text));
        if hash.is_some() && hash == last {
            continue;
        }
        last = hash;
        match text.and_then(|text| Ok(routes::parse(&path.display().to_string(), &text)?)) {
            Ok(routes) => {
                let tasks = routes.tasks.len();
                gateway.apply(routes);
                tracing::info!(tasks, took = ?begun.elapsed(), "routes applied");
            }
            Err(error) => {
                gateway.metrics.refused.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%error, "routes refused; those before stay");
            }
        }
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
