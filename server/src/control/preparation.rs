//! Preparing a version, on a thread of its own.

use std::num::NonZeroUsize;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, PoisonError};
use std::{io, thread};

use jiff::Timestamp;
use unimodel_model::store::StoreError;
use unimodel_model::version::{Digest, Manifest, PartlyVerified};

use super::{Control, Facts, Failure, Prepared, Step, Ticket};
use crate::compute::threads::{lower_priority_of_current_thread, panic_message};
use crate::metrics::{ReloadLabels, ReloadResult};
use crate::runtime::{LoadError, LoadedVersion};

/// Why a preparation ends early.
enum Ended {
    /// It failed.
    Failed(Failure),
    /// Nobody wants it any more.
    Discarded,
}

impl<E: Into<Failure>> From<E> for Ended {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Begins a thread that has what others leave; so have the threads that it starts in turn.
pub(super) fn spawn_low_priority(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let run = move || {
        if let Err(error) = lower_priority_of_current_thread() {
            tracing::debug!(%error, "a thread keeps its priority");
        }
        work();
    };
    thread::Builder::new().name(name.into()).spawn(run).map(drop)
}

/// Prepares on a thread of its own and reports under the ticket.
pub(super) fn spawn(control: Arc<Control>, ticket: Ticket, schema: Option<Digest>) {
    let (failing, failed) = (control.clone(), ticket.clone());
    let run = move || {
        // A preparation that was discarded may still be busy: two at a time would take the memory of two.
        let _one_at_a_time = control.preparing.lock().unwrap_or_else(PoisonError::into_inner);
        let prepare = || prepare(&control, &ticket, schema);
        let ended = std::panic::catch_unwind(AssertUnwindSafe(prepare)).unwrap_or_else(|panic| {
            Err(Ended::Failed(Failure::internal(format!(
                "preparing panicked: {}",
                panic_message(&*panic).unwrap_or("the log has the place")
            ))))
        });
        match ended {
            Ok(prepared) => finish(&control, &ticket, Ok(prepared)),
            Err(Ended::Failed(failure)) => finish(&control, &ticket, Err(failure)),
            Err(Ended::Discarded) => {}
        }
    };
    if let Err(error) = spawn_low_priority("prepare", run) {
        finish(&failing, &failed, Err(Failure::internal(format!("no thread to prepare: {error}"))));
    }
}

fn finish(control: &Arc<Control>, ticket: &Ticket, result: Result<Prepared, Failure>) {
    let version = &ticket.version;
    let (count, text) = match &result {
        Ok(_) => (ReloadResult::Prepared, None),
        Err(failure) => (ReloadResult::Failed, Some(failure.clone())),
    };
    if control.change(|versions| versions.finish(ticket, result, Timestamp::now())) {
        control.metrics.reloads.get_or_create(&ReloadLabels { result: count }).inc();
        match text {
            None => tracing::info!(%version, "prepared"),
            Some(failure) => {
                tracing::warn!(%version, reason = failure.reason, "cannot prepare: {failure}");
                control.prune();
            }
        }
    }
}

fn prepare(control: &Control, ticket: &Ticket, schema: Option<Digest>) -> Result<Prepared, Ended> {
    let local = fetch(control, ticket, schema)?;
    let heads = control.heads();
    step(control, ticket, Step::Loading)?;
    // As long as nothing is served there is nobody to leave cores for.
    let threads = match control.runtime.active() {
        Some(_) => NonZeroUsize::MIN,
        None => thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
    };
    let loaded = match load(control, &local, threads) {
        Err(damaged) if control.cache.holds(local.dir()) => {
            block_on(control, ticket, async {
                Ok(control.cache.store()?.delete_copy(local.dir(), &damaged.to_string()).await?)
            })?;
            load(control, &fetch(control, ticket, schema)?, threads)?
        }
        loaded => loaded?,
    }?;
    let (served, missing): (Vec<String>, Vec<String>) = heads.into_iter().partition(|head| loaded.head(head).is_ok());
    match missing.first() {
        // Nothing that this server is asked for could be answered.
        Some(head) if served.is_empty() => drop(loaded.head(head)?),
        Some(head) => {
            tracing::warn!(version = %ticket.version, head, "the version lacks a head; its tasks will not answer")
        }
        None => {}
    }
    let served: Vec<&str> = served.iter().map(String::as_str).collect();
    step(control, ticket, Step::Warming)?;
    loaded.warm(&served)?;
    step(control, ticket, Step::Checking)?;
    let checks = loaded.check(&served)?;
    step(control, ticket, Step::Checking)?;
    Ok(Prepared { loaded: Arc::new(loaded), checks })
}

/// Reads a version, whose weights are verified at the same time if there are threads enough. An error is what is damaged,
/// whatever came of reading it.
fn load(
    control: &Control,
    local: &PartlyVerified,
    threads: NonZeroUsize,
) -> Result<Result<LoadedVersion, LoadError>, StoreError> {
    let open = || LoadedVersion::open(local.dir(), local.manifest(), control.kernels, &control.device, threads);
    if threads == NonZeroUsize::MIN {
        local.verify()?;
        return Ok(open());
    }
    thread::scope(|scope| {
        let loading = scope.spawn(open);
        let verified = local.verify();
        let loaded = loading.join();
        verified?;
        Ok(loaded.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

fn step(control: &Control, ticket: &Ticket, step: Step) -> Result<(), Ended> {
    let wanted = control.change(|versions| {
        versions.advance(ticket, step, Timestamp::now());
        versions.wants(ticket)
    });
    if wanted { Ok(()) } else { Err(Ended::Discarded) }
}

fn fetch(control: &Control, ticket: &Ticket, schema: Option<Digest>) -> Result<PartlyVerified, Ended> {
    let accept = |manifest: &Manifest| {
        let facts =
            Facts { schema_hash: manifest.schema_hash, data_time: manifest.data_time, total_bytes: manifest.size() };
        control.change(|versions| versions.learn(ticket, facts));
        match schema {
            Some(expected) if expected != facts.schema_hash => Err(Failure {
                reason: "SchemaMismatch",
                message: format!("version `{}` has the schema {}, not {expected}", ticket.version, facts.schema_hash),
            }),
            _ => Ok(()),
        }
    };
    let load = control.cache.load(&ticket.version, &ticket.fetched, accept);
    block_on(control, ticket, async { load.await.map_err(Ended::Failed) })
}

/// Waits for what is done with the store, as long as the preparation is wanted.
fn block_on<T>(control: &Control, ticket: &Ticket, work: impl Future<Output = Result<T, Ended>>) -> Result<T, Ended> {
    // A runtime of this thread: hashing and decryption have its low priority too.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::internal(format!("no runtime to fetch with: {error}")))?;
    let mut versions = control.versions();
    let done = runtime.block_on(async {
        tokio::select! {
            biased;
            _ = versions.wait_for(|versions| !versions.wants(ticket)) => Err(Ended::Discarded),
            done = work => done,
        }
    });
    // A download that was given up may wait for the network in a thread of the runtime.
    runtime.shutdown_background();
    done
}
