//! Versions on the local disk, so that a restart or a rollback needs no download.
//!
//! ```text
//! <cacheDirectory>/<store>/<version>-<digest>/    a verified version; <store> and <digest> are the first digits of the
//!                                                 SHA-256 of the store's URL and of the version's manifest
//!                         /.fetch-…/              a download under way
//!                         /.prune-…/              a version that is being deleted
//! ```
//!
//! A server keeps a shared lock on the directories of versions that it may need again, which the kernel releases when
//! the server ends. Only what nobody has locked is deleted, so that servers may share a cache. The files of a version
//! are verified each time before they are read into memory; nothing reads them after that. A store that is a directory
//! is read in place.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use unimodel_model::store::{Store, StoreError};
use unimodel_model::version::{Digest, Manifest, PartlyVerified, VersionId};

use super::failure::Failure;

/// A download or deletion that has changed nothing for so long has been killed.
const LEFTOVER_AFTER: Duration = Duration::from_secs(3600);

/// Digits of a digest in a directory's name.
const DIGITS: usize = 16;

/// How often a version is fetched again that another server has just deleted.
const ATTEMPTS: usize = 3;

/// The part of the cache directory that belongs to a store.
#[derive(Debug)]
pub struct VersionCache {
    store: Store,
    root: PathBuf,
    locks: Mutex<BTreeMap<VersionId, File>>,
}

impl VersionCache {
    /// The cache of that store below a directory, which need not be there yet.
    pub fn new(store: Store, directory: &Path) -> Self {
        let key = Digest::of(store.url().as_bytes()).to_string();
        Self { root: directory.join(&key[..DIGITS]), store, locks: Mutex::default() }
    }

    /// The store, opened anew: credentials may have changed since.
    ///
    /// # Errors
    /// Those that there are now make no sense.
    pub fn store(&self) -> Result<Store, StoreError> {
        Store::open(self.store.url())
    }

    /// The store's URL.
    pub fn url(&self) -> &str {
        self.store.url()
    }

    /// A version in a local directory, fetched if it is not there, and verified but for the weights of what was there. Blocks
    /// the thread while it verifies.
    ///
    /// `accept` is asked about the manifest before anything is fetched. Where the store does not answer, a copy that was
    /// fetched from it before will do: versions never change.
    pub async fn load(
        &self,
        version: &VersionId,
        fetched: &Arc<AtomicU64>,
        accept: impl Fn(&Manifest) -> Result<(), Failure>,
    ) -> Result<PartlyVerified, Failure> {
        let store = self.store()?;
        match store.manifest(version).await {
            Ok(manifest) => accept(&manifest)?,
            Err(error @ StoreError::Object { .. }) => {
                let local = self.copy(version).ok_or(error)?;
                accept(local.manifest())?;
                tracing::warn!(%version, dir = %local.dir().display(), "the store does not answer; using the local copy");
                return Ok(local);
            }
            Err(error) => return Err(error.into()),
        }
        for _ in 0..ATTEMPTS {
            let local = store.find(version, &self.root, fetched).await?;
            if !self.holds(local.dir()) || self.keep(version, local.dir()) {
                fetched.store(local.manifest().size(), Ordering::Relaxed);
                return Ok(local);
            }
        }
        let message = format!("version `{version}` is deleted from {} again and again", self.root.display());
        Err(Failure { reason: "CacheNotWritable", message })
    }

    /// Whether a directory is one of the cache, and no store's.
    pub fn holds(&self, dir: &Path) -> bool {
        dir.parent() == Some(&self.root)
    }

    /// A copy of a version that was fetched before.
    fn copy(&self, version: &VersionId) -> Option<PartlyVerified> {
        let dirs = list(&self.root).unwrap_or_default();
        dirs.iter().filter(|dir| version_of(dir).as_ref() == Some(version)).find_map(|dir| {
            let local = PartlyVerified::open(dir).ok()?;
            (local.manifest().version == *version && self.keep(version, dir)).then_some(local)
        })
    }

    /// Keeps other servers from deleting a version's directory. False where one has done so already.
    fn keep(&self, version: &VersionId, dir: &Path) -> bool {
        let Ok(handle) = File::open(dir) else { return false };
        if let Err(error) = handle.lock_shared() {
            tracing::debug!(dir = %dir.display(), %error, "no locks here; a server that shares the cache may delete it");
        }
        if !is_still(dir, &handle) {
            return false;
        }
        // For whoever deletes what was not used for longest.
        if let Err(error) = handle.set_modified(SystemTime::now()) {
            tracing::debug!(dir = %dir.display(), %error, "cannot note that it is used");
        }
        self.locks.lock().unwrap_or_else(PoisonError::into_inner).insert(version.clone(), handle);
        true
    }

    /// Deletes what neither this server nor another that shares the cache needs: all but the versions in `needed` and,
    /// where `previous` does not say that the version before the active one is among them, the one that was used last.
    pub fn prune(&self, needed: &BTreeSet<VersionId>, previous: bool, now: SystemTime) {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner).retain(|version, _| needed.contains(version));
        let found: Vec<Found> = list(&self.root).unwrap_or_default().into_iter().filter_map(Found::at).collect();
        for dir in doomed(&found, needed, previous, now) {
            match self.delete(dir) {
                Ok(true) => tracing::info!(dir = %dir.display(), "deleted from the cache"),
                Ok(false) => {}
                Err(error) => tracing::warn!(dir = %dir.display(), %error, "cannot delete from the cache"),
            }
        }
    }

    /// False where another server needs it.
    fn delete(&self, dir: &Path) -> io::Result<bool> {
        let handle = File::open(dir)?;
        match handle.try_lock() {
            Ok(()) if is_still(dir, &handle) => {}
            Ok(()) | Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        let doomed = self.root.join(format!(".prune-{}-{name}", std::process::id()));
        // What goes under its name is whole, always.
        std::fs::rename(dir, &doomed)?;
        std::fs::remove_dir_all(&doomed)?;
        Ok(true)
    }
}

/// Whether the path still leads to what was opened.
fn is_still(path: &Path, handle: &File) -> bool {
    match (std::fs::metadata(path), handle.metadata()) {
        (Ok(path), Ok(handle)) => (path.dev(), path.ino()) == (handle.dev(), handle.ino()),
        _ => false,
    }
}

fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    std::fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect()
}

/// The version whose directory this is, by its name.
fn version_of(dir: &Path) -> Option<VersionId> {
    let (version, digest) = dir.file_name()?.to_str()?.rsplit_once('-')?;
    let is_digest = digest.len() == DIGITS && digest.bytes().all(|b| b.is_ascii_hexdigit());
    version.parse().ok().filter(|_| is_digest)
}

/// A directory of the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    dir: PathBuf,
    /// The version; `None` for what a killed download or deletion has left.
    version: Option<VersionId>,
    /// When it was used, or written to, last.
    used: SystemTime,
}

impl Found {
    /// `None` for what is not the cache's.
    fn at(dir: PathBuf) -> Option<Self> {
        let name = dir.file_name()?.to_str()?;
        let version = version_of(&dir);
        let is_leftover = name.starts_with(".fetch-") || name.starts_with(".prune-");
        let used = match &version {
            Some(_) => std::fs::metadata(&dir).ok()?.modified().ok()?,
            None if is_leftover => newest(&dir)?,
            None => return None,
        };
        Some(Self { dir, version, used })
    }
}

/// When anything below was last written to.
fn newest(path: &Path) -> Option<SystemTime> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    let below = if metadata.is_dir() { list(path).unwrap_or_default() } else { Vec::new() };
    below.iter().filter_map(|path| newest(path)).chain(metadata.modified().ok()).max()
}

/// What to delete.
fn doomed<'a>(
    found: &'a [Found],
    needed: &BTreeSet<VersionId>,
    previous: bool,
    now: SystemTime,
) -> impl Iterator<Item = &'a Path> {
    let mut idle: Vec<&Found> =
        found.iter().filter(|found| found.version.as_ref().is_some_and(|version| !needed.contains(version))).collect();
    idle.sort_by_key(|found| std::cmp::Reverse(found.used));
    let leftovers = found.iter().filter(move |found| {
        found.version.is_none() && now.duration_since(found.used).is_ok_and(|age| age >= LEFTOVER_AFTER)
    });
    let spared = usize::from(!previous);
    idle.into_iter().skip(spared).chain(leftovers).map(|found| &*found.dir)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn id(name: &str) -> VersionId {
        name.parse().unwrap()
    }

    fn found(name: &str, second: u64) -> Found {
        let dir = PathBuf::from(name);
        Found { version: version_of(&dir), used: SystemTime::UNIX_EPOCH + Duration::from_secs(second), dir }
    }

    #[test]
    fn a_directory_is_named_by_its_version_and_digest() {
        assert_eq!(version_of(Path::new("/c/20261124T1-ab-0123456789abcdef")), Some(id("20261124T1-ab")));
        for name in ["v1", "v1-0123", ".fetch-0123456789abcdef", "v1-0123456789abcdeg", "-0123456789abcdef"] {
            assert_eq!(version_of(Path::new(name)), None, "{name}");
        }
    }

    #[test]
    fn what_is_needed_stays_and_one_more_after_a_restart() {
        let dirs = ["a", "b", "c", "d"].map(|name| format!("{name}-0123456789abcdef"));
        let found: Vec<Found> = dirs.iter().zip([4, 3, 2, 1]).map(|(dir, used)| found(dir, used)).collect();
        let now = SystemTime::UNIX_EPOCH;
        let doomed = |needed: &[&str], previous| -> Vec<String> {
            let needed = needed.iter().map(|name| id(name)).collect();
            doomed(&found, &needed, previous, now).map(|dir| dir.to_str().unwrap()[..1].to_owned()).collect()
        };
        assert_eq!(doomed(&["d", "b"], true), ["a", "c"]);
        assert_eq!(doomed(&["d"], false), ["b", "c"], "`a` was used last");
        assert_eq!(doomed(&["a", "b", "c", "d"], false), [""; 0]);
    }

    #[test]
    fn leftovers_go_once_nothing_writes_to_them() {
        let found = [found(".fetch-x", 0), found(".fetch-y", 90_000), found(".prune-1-v", 0)];
        let now = SystemTime::UNIX_EPOCH + DAY + LEFTOVER_AFTER;
        let doomed: Vec<_> = doomed(&found, &BTreeSet::new(), false, now).collect();
        assert_eq!(doomed, [Path::new(".fetch-x"), Path::new(".prune-1-v")]);
    }

    #[test]
    fn what_another_server_has_locked_stays() {
        let cache = tempfile::tempdir().unwrap();
        let store = Store::open("file:///nowhere").unwrap();
        let [ours, theirs] = [(); 2].map(|()| VersionCache::new(store.clone(), cache.path()));
        let dirs = ["a", "b", "c"].map(|name| ours.root.join(format!("{name}-0123456789abcdef")));
        dirs.iter().for_each(|dir| std::fs::create_dir_all(dir.join("golden")).unwrap());
        std::fs::write(ours.root.join("notes.txt"), "not the cache's").unwrap();
        assert!(theirs.keep(&id("a"), &dirs[0]) && ours.keep(&id("b"), &dirs[1]));

        ours.prune(&BTreeSet::from([id("b")]), true, SystemTime::now());
        let left: BTreeSet<PathBuf> = list(&ours.root).unwrap().into_iter().collect();
        assert_eq!(left, BTreeSet::from([dirs[0].clone(), dirs[1].clone(), ours.root.join("notes.txt")]));

        drop(theirs);
        ours.prune(&BTreeSet::from([id("b")]), true, SystemTime::now());
        assert!(!dirs[0].exists() && dirs[1].exists());
        assert!(!ours.keep(&id("a"), &dirs[0]), "it is gone");
    }

    #[test]
    fn a_cache_that_is_not_there_is_empty() {
        let cache = VersionCache::new(Store::open("file:///nowhere").unwrap(), Path::new("/nowhere/cache"));
        cache.prune(&BTreeSet::new(), false, SystemTime::now());
        assert!(cache.copy(&id("a")).is_none());
    }
}
