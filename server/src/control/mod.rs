//! Which version answers, and the change to another one: downloaded, verified, warmed and checked beside it, then
//! swapped by one pointer.

mod cache;
mod failure;
mod preparation;
pub mod service;
pub mod start;
pub mod tls;
mod versions;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use jiff::Timestamp;
use tokio::sync::watch;
use unimodel_model::Device;
use unimodel_model::store::Store;
use unimodel_model::version::{Digest, VersionId};

pub use cache::VersionCache;
pub use failure::Failure;
pub use versions::{Facts, Held, Phase, Refused, Step, Ticket, Versions};

use crate::compute::kernels::Kernels;
use crate::metrics::{Metrics, ReloadLabels, ReloadResult};
use crate::ranking::Ranking;
use crate::runtime::{HeadCheck, LoadedVersion, Runtime};

/// A version that can answer, and what its golden requests showed.
#[derive(Debug)]
pub struct Prepared {
    /// The version.
    pub loaded: Arc<LoadedVersion>,
    /// One entry per head that this server serves.
    pub checks: Vec<HeadCheck>,
}

/// Changes versions.
pub struct Control {
    versions: watch::Sender<Versions<Prepared>>,
    runtime: Arc<Runtime>,
    cache: VersionCache,
    kernels: Kernels,
    device: Device,
    metrics: Metrics,
    draining: AtomicBool,
    /// Why no version is active yet.
    start_failure: Mutex<Option<Failure>>,
    /// Held by the thread that prepares: one version at a time is being read into memory.
    preparing: Mutex<()>,
}

impl Control {
    /// Nothing is active yet. Fetched versions are kept below `cache_directory`.
    pub fn new(
        runtime: Arc<Runtime>,
        store: Store,
        cache_directory: &Path,
        kernels: Kernels,
        device: Device,
        metrics: Metrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            versions: watch::Sender::new(Versions::default()),
            runtime,
            cache: VersionCache::new(store, cache_directory),
            kernels,
            device,
            metrics,
            draining: AtomicBool::new(false),
            start_failure: Mutex::new(None),
            preparing: Mutex::new(()),
        })
    }

    /// Where versions come from.
    pub fn cache(&self) -> &VersionCache {
        &self.cache
    }

    /// All versions, now and from now on.
    pub fn versions(&self) -> watch::Receiver<Versions<Prepared>> {
        self.versions.subscribe()
    }

    /// The server has been told to stop: it begins nothing new.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the server has been told to stop.
    pub fn draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// A version that could answer, or does.
    pub fn prepared(&self, version: &VersionId) -> Option<Arc<Prepared>> {
        let versions = self.versions.borrow();
        versions.prepared().find(|(name, _)| *name == version).map(|(_, prepared)| prepared.clone())
    }

    /// The first version could not be served.
    pub fn failed_to_start(&self, failure: &Failure) {
        *self.start_failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure.clone());
    }

    /// Why the last try to serve a first version failed.
    pub fn start_failure(&self) -> Option<Failure> {
        self.start_failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Begins to prepare a version on a thread of low priority, unless it is there or under way.
    ///
    /// # Errors
    /// See [`Versions::prepare`].
    pub fn prepare(self: &Arc<Self>, version: &VersionId, schema: Option<Digest>) -> Result<(), Refused> {
        let begun = self.change(|versions| versions.prepare(version, schema.as_ref(), Timestamp::now()))?;
        if let Some(ticket) = begun {
            tracing::info!(%version, "preparing");
            preparation::spawn(self.clone(), ticket, schema);
        }
        Ok(())
    }

    /// Lets a prepared version answer from the next request on. The version that answered before, where that has changed.
    ///
    /// # Errors
    /// See [`Versions::activate`].
    pub fn activate(self: &Arc<Self>, version: &VersionId) -> Result<Option<VersionId>, Refused> {
        let mut before = None;
        let replaced = self.change(|versions| {
            let was_active = versions.active().is_some_and(|(active, _)| active == version);
            let (prepared, replaced) = versions.activate(version, Timestamp::now())?;
            // Under the lock of `versions`, so that both always name the same version.
            if !was_active {
                before = self.runtime.activate(prepared.loaded.clone());
                self.metrics.reloads.get_or_create(&ReloadLabels { result: ReloadResult::Activated }).inc();
                tracing::info!(%version, replaced = replaced.as_ref().map(tracing::field::display), "active");
            }
            Ok(replaced)
        })?;
        drop(before);
        self.prune();
        Ok(replaced)
    }

    /// Drops a version, or stops preparing it. False where there is none of that name.
    ///
    /// # Errors
    /// See [`Versions::discard`].
    pub fn discard(self: &Arc<Self>, version: &VersionId) -> Result<bool, Refused> {
        let discarded = self.change(|versions| versions.discard(version))?;
        if discarded {
            tracing::info!(%version, "discarded");
            self.prune();
        }
        Ok(discarded)
    }

    /// Asks the golden requests of heads that were not asked before, of all versions that are prepared or active: a task
    /// may come to a running server. Heads that a version lacks are left out.
    ///
    /// # Errors
    /// Scores that are too far from the trainer's, or golden requests that cannot be used.
    pub async fn check_heads(self: &Arc<Self>, heads: Vec<String>) -> Result<(), Failure> {
        let (sender, checked) = tokio::sync::oneshot::channel();
        let control = self.clone();
        let check = move || drop(sender.send(control.check_heads_here(&heads)));
        preparation::spawn_low_priority("check", check)
            .map_err(|error| Failure::internal(format!("no thread to check with: {error}")))?;
        checked.await.unwrap_or_else(|_| Err(Failure::internal("checking panicked; the log has the place")))
    }

    fn check_heads_here(&self, heads: &[String]) -> Result<(), Failure> {
        let held: Vec<(VersionId, Arc<Prepared>)> =
            self.versions.borrow().prepared().map(|(version, prepared)| (version.clone(), prepared.clone())).collect();
        for (version, prepared) in held {
            let unchecked: Vec<&str> = heads
                .iter()
                .map(String::as_str)
                .filter(|head| prepared.loaded.head(head).is_ok() && !prepared.checks.iter().any(|c| c.head == *head))
                .collect();
            let more = prepared.loaded.check(&unchecked)?;
            if !more.is_empty() {
                let checks = prepared.checks.iter().cloned().chain(more).collect();
                let checked = Arc::new(Prepared { loaded: prepared.loaded.clone(), checks });
                self.change(|versions| versions.replace(&version, &prepared, checked));
            }
        }
        Ok(())
    }

    /// The heads that this server's tasks ask for, each once.
    fn heads(&self) -> Vec<String> {
        let mut heads: Vec<String> = self.runtime.tasks().iter().map(|task| task.head.clone()).collect();
        heads.sort_unstable();
        heads.dedup();
        heads
    }

    /// One change of the versions, seen by all who wait for one.
    fn change<T>(&self, change: impl FnOnce(&mut Versions<Prepared>) -> T) -> T {
        let mut result = None;
        self.versions.send_modify(|versions| result = Some(change(versions)));
        result.expect("`send_modify` calls it once")
    }

    /// Deletes fetched versions that nobody needs, on a thread of its own.
    fn prune(self: &Arc<Self>) {
        let control = self.clone();
        preparation::spawn_low_priority("prune", move || {
            let (needed, previous) = {
                let versions = control.versions.borrow();
                (versions.needed().cloned().collect(), versions.previous().is_some())
            };
            control.cache.prune(&needed, previous, SystemTime::now());
        })
        .unwrap_or_else(|error| tracing::warn!(%error, "no thread to prune the cache"));
    }
}
