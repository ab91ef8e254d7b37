//! The data path: from a checked request to its ranking.
//!
//! ```text
//! admission ──► preparation ──► response cache ──► queue ──► compute threads ──► answer
//! ```
//! What a request sees, the version and the task's settings, is one value that it takes when it comes: a swap changes
//! nothing for requests in flight.

mod cache;
mod cost;
mod golden;
mod job;
mod prepare;
mod queue;
mod scheduler;
mod select;
mod serving;
mod statistics;
mod version;
mod warm;

use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use tokio::sync::{Notify, watch};
use unimodel_model::features::EncodedContext;

use self::cache::{Found, Key};
use self::job::RankJob;
use self::prepare::{ContextRules, Prepared, Selection, prepare};
use self::queue::Ticket;
use self::scheduler::{Gauges, GivenUp, Scheduler, Submitted};
use self::serving::{Counts, ServedTask, Serving};
use crate::config::{AdmissionConfig, TaskConfig};
use crate::error::RankError;
use crate::metrics::{Metrics, Stage};
use crate::ranking::{Exchange, Ranking, Readiness, Statistics};
use crate::request::{RankRequest, RankResponse, RankedItems, Task};
use crate::timeout::Deadline;

pub use self::golden::{HeadCheck, TOLERANCE};
pub use self::version::{LoadError, LoadedVersion};

/// A ranking that is expected to take less may be computed by the thread that read its request.
const SMALL: Duration = Duration::from_micros(50);

/// Answers requests with the active version.
pub struct Runtime {
    serving: ArcSwap<Serving>,
    /// Held while `serving` is replaced.
    change: Mutex<()>,
    readiness: watch::Sender<Readiness>,
    scheduler: Arc<Scheduler<RankJob>>,
    in_flight: AtomicUsize,
    max_in_flight: usize,
    none_in_flight: Notify,
    metrics: Metrics,
}

/// Why the runtime cannot start.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// No compute thread.
    #[error("cannot start a compute thread: {0}")]
    Thread(#[source] io::Error),
}

/// Why tasks cannot be served as they are declared.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("task `{task}`: {problem}")]
pub struct TaskError {
    /// The task.
    pub task: String,
    /// What does not fit the active version.
    pub problem: String,
}

impl Runtime {
    /// Starts the compute threads. Nothing is ready yet.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        workers: NonZeroUsize,
        admission: AdmissionConfig,
        tasks: &[TaskConfig],
        metrics: Metrics,
    ) -> Result<Arc<Self>, RuntimeError> {
        let gauges = Gauges {
            depth: metrics.queue_depth.clone(),
            rows: metrics.queued_rows.clone(),
            panics: metrics.worker_panics.clone(),
        };
        let scheduler =
            Scheduler::start(workers, admission.max_queued_rows.get(), SMALL, gauges).map_err(RuntimeError::Thread)?;
        let reason = "no version is loaded".to_owned();
        Ok(Arc::new(Self {
            serving: ArcSwap::from_pointee(Serving::new(None, tasks, None, &metrics)),
            change: Mutex::new(()),
            readiness: watch::Sender::new(Readiness::NotReady { reason }),
            scheduler: Arc::new(scheduler),
            in_flight: AtomicUsize::new(0),
            max_in_flight: admission.max_in_flight.get(),
            none_in_flight: Notify::new(),
            metrics,
        }))
    }

    /// Says why no version answers yet; does nothing once one does.
    pub fn not_ready(&self, reason: String) {
        self.readiness.send_if_modified(|readiness| match readiness {
            Readiness::NotReady { reason: old } if *old != reason => {
                *old = reason;
                true
            }
            _ => false,
        });
    }

    /// The version that answers.
    pub fn active(&self) -> Option<Arc<LoadedVersion>> {
        self.serving.load().version.clone()
    }

    /// Lets a version answer from now on; requests in flight keep theirs. Returns the version that answered before.
    pub fn activate(&self, version: Arc<LoadedVersion>) -> Option<Arc<LoadedVersion>> {
        let before = {
            let _change = self.changing();
            let before = self.serving.load_full();
            self.metrics.activated(version.manifest());
            let serving = Serving::new(Some(version), &before.configs(), Some(&before), &self.metrics);
            self.serving.store(Arc::new(serving));
            before.version.clone()
        };
        self.tasks_changed(|readiness| {
            if let Readiness::NotReady { .. } = readiness {
                *readiness = Readiness::Ready;
            }
        });
        before
    }

    /// Serves these tasks from now on; requests in flight keep what they began with.
    ///
    /// # Errors
    /// A required element or a default that the active version does not know: nothing changes. A head that it lacks is
    /// no error, since a later version may have it; until then that task does not answer.
    pub fn apply(&self, tasks: &[TaskConfig]) -> Result<(), TaskError> {
        let _change = self.changing();
        let before = self.serving.load_full();
        if let Some(version) = &before.version {
            for task in tasks {
                ContextRules::new(&task.context, version)
                    .map_err(|problem| TaskError { task: task.name.clone(), problem })?;
            }
        }
        let serving = Serving::new(before.version.clone(), tasks, Some(&before), &self.metrics);
        self.serving.store(Arc::new(serving));
        self.tasks_changed(|_| {});
        Ok(())
    }

    /// Tells who watches: a task may answer now that did not, or the other way round.
    fn tasks_changed(&self, change: impl FnOnce(&mut Readiness)) {
        self.readiness.send_if_modified(|readiness| {
            change(readiness);
            *readiness == Readiness::Ready
        });
    }

    /// Tasks that do not answer though a version is active, and why.
    pub fn unfit(&self) -> Vec<(Arc<str>, String)> {
        let serving = self.serving.load();
        let unfit = serving.tasks().filter_map(|task| Some((task.facts.name.clone(), task.problem()?.to_owned())));
        unfit.collect()
    }

    /// Refuses requests from now on, those in flight excepted.
    pub fn stop(&self) {
        self.readiness.send_replace(Readiness::Stopping);
    }

    /// Requests that were admitted and are not answered yet.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Resolves when no request is in flight.
    pub async fn drained(&self) {
        loop {
            let none = self.none_in_flight.notified();
            tokio::pin!(none);
            none.as_mut().enable();
            if self.in_flight() == 0 {
                return;
            }
            none.await;
        }
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.change.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a request in, before anything is done for it.
    fn admit(&self, task: &ServedTask) -> Result<Permit<'_>, RankError> {
        let in_flight = &task.counts.metrics.in_flight;
        let (total, of_task) = (self.in_flight.fetch_add(1, Ordering::AcqRel), in_flight.inc());
        let permit = Permit { runtime: self, counts: task.counts.clone() };
        if *self.readiness.borrow() == Readiness::Stopping {
            return Err(RankError::NotReady { reason: "the server stops".into() });
        }
        let overloaded = |reason| Err(RankError::Overloaded { reason, retry_after: self.scheduler.backlog() });
        if total >= self.max_in_flight {
            return overloaded(format!("{} requests are in flight", self.max_in_flight));
        }
        let max = task.config.max_concurrency.get();
        if usize::try_from(of_task).is_ok_and(|before| before >= max) {
            return overloaded(format!("{max} requests of `{}` are in flight", task.facts.name));
        }
        Ok(permit)
    }
}

/// A request in flight.
struct Permit<'a> {
    runtime: &'a Runtime,
    counts: Arc<Counts>,
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.counts.metrics.in_flight.dec();
        if self.runtime.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.runtime.none_in_flight.notify_waiters();
        }
    }
}

/// What is computed for one request or many that ask the same.
#[derive(Clone)]
struct Computation {
    scheduler: Arc<Scheduler<RankJob>>,
    version: Arc<LoadedVersion>,
    counts: Arc<Counts>,
    head: usize,
    context: EncodedContext,
    candidates: Selection,
    limit: usize,
    deadline: Deadline,
}

impl Computation {
    /// Waits for the compute threads. Dropped, it gives the work up.
    async fn run(self) -> Result<RankedItems, RankError> {
        let Self { scheduler, version, counts, head, context, candidates, limit, deadline } = self;
        if matches!(&candidates, Selection::Items(items) if items.is_empty()) {
            return Ok(RankedItems::default());
        }
        let now = Instant::now();
        let (job, answer) = RankJob::new(version, head, context, candidates, limit, [now, deadline.at]);
        let (size, first) = job.cost();
        let submitted = scheduler
            .submit(job.clone(), size, first, deadline.at, now)
            .map_err(|full| RankError::Overloaded { reason: full.reason, retry_after: full.retry_after })?;
        let mut asking = Asking { scheduler: &scheduler, job, ticket: submitted.ticket(), answered: false };
        if let Submitted::Quiet(ticket) = submitted {
            // Until this thread has read what there is to read.
            tokio::task::yield_now().await;
            scheduler.help(ticket, size);
        }
        let ranked = answer.await;
        asking.answered = true;
        let ranked = ranked.unwrap_or(Err(GivenUp::Panicked)).map_err(|why| match why {
            GivenUp::Expired => RankError::DeadlineExceeded { timeout: deadline.timeout },
            GivenUp::Panicked => RankError::Internal { message: "scoring failed; the server's log says why".into() },
        })?;
        let Counts { metrics, statistics } = &*counts;
        statistics.queue.add(ranked.waited);
        statistics.compute.add(ranked.computed);
        metrics.stage(Stage::Queue, ranked.waited);
        metrics.stage(Stage::Compute, ranked.computed);
        metrics.rows.inc_by(asking.job.rows() as u64);
        Ok(ranked.items)
    }
}

/// Gives a job up when nobody waits for it any more.
struct Asking<'a> {
    scheduler: &'a Scheduler<RankJob>,
    job: Arc<RankJob>,
    ticket: Ticket,
    answered: bool,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.job.withdraw();
            self.scheduler.withdraw(self.ticket);
        }
    }
}

#[async_trait]
impl Ranking for Runtime {
    fn task(&self, name: &str) -> Option<Arc<Task>> {
        self.serving.load().task(name).map(|task| task.facts.clone())
    }

    fn tasks(&self) -> Vec<Arc<Task>> {
        self.serving.load().tasks().map(|task| task.facts.clone()).collect()
    }

    fn readiness(&self) -> watch::Receiver<Readiness> {
        self.readiness.subscribe()
    }

    fn statistics(&self, task: &str) -> Statistics {
        self.serving.load().task(task).map(|task| task.counts.statistics.read()).unwrap_or_default()
    }

    async fn rank(&self, request: RankRequest, deadline: Deadline) -> Result<RankResponse, RankError> {
        let start = Instant::now();
        let serving = self.serving.load_full();
        let task = serving.task(&request.task).ok_or_else(|| serving.unknown(&request.task))?;
        let _permit = self.admit(task)?;
        let fit = task.fit().map_err(|error| self.why_not_ready(error))?;
        let version = &fit.version;
        let Prepared { context, candidates, unknown, imputed } = prepare(version, &fit.rules, &request)?;
        let Counts { metrics, statistics } = &*task.counts;
        let encoded = start.elapsed();
        statistics.encode.add(encoded);
        metrics.stage(Stage::Encode, encoded);
        let (head, limit) = (fit.head, request.limit);
        // Many small values, which nobody needs while it waits for its answer.
        drop(request);
        let key = task.cache.as_ref().map(|_| Key::new(version.name(), head, limit, &context, &candidates));
        let computation = Computation {
            scheduler: self.scheduler.clone(),
            version: version.clone(),
            counts: task.counts.clone(),
            head,
            context,
            candidates,
            limit,
            deadline,
        };
        let items = match task.cache.as_ref().zip(key) {
            None => computation.run().await?,
            Some((cache, key)) => {
                let (answer, found) = cache.get_or_compute(key, deadline, || computation.run()).await;
                let elapsed = start.elapsed();
                self.count_cache(task, found, elapsed);
                answer?.items.clone()
            }
        };
        Ok(RankResponse {
            items,
            unknown,
            task: task.facts.name.clone(),
            model_version: version.name().clone(),
            data_time: version.facts().data_time,
            imputed,
        })
    }

    fn written(&self, task: &str, elapsed: Duration) {
        if let Some(task) = self.serving.load().task(task) {
            task.counts.metrics.stage(Stage::Serialise, elapsed);
            task.counts.statistics.serialise.add(elapsed);
        }
    }

    fn observe(&self, exchange: &Exchange<'_>) {
        let serving = self.serving.load();
        let task = exchange.task.and_then(|name| serving.task(name));
        match task {
            Some(task) => {
                task.counts.metrics.answered(exchange.protocol, exchange.elapsed);
                task.counts.statistics.answered(exchange.error.is_none(), exchange.elapsed);
            }
            None => self.metrics.without_task(exchange.protocol),
        }
        if let Some(reason) = exchange.error {
            self.metrics.error(task.and(exchange.task), exchange.protocol, reason);
        }
    }
}

impl Runtime {
    /// While no version is active, what holds it up.
    fn why_not_ready(&self, error: RankError) -> RankError {
        match (&*self.readiness.borrow(), error) {
            (Readiness::NotReady { reason }, RankError::NotReady { .. }) => {
                RankError::NotReady { reason: reason.clone() }
            }
            (_, error) => error,
        }
    }

    fn count_cache(&self, task: &ServedTask, found: Found, elapsed: Duration) {
        let Counts { metrics, statistics } = &*task.counts;
        match found {
            Found::Hit => {
                metrics.cache_hits.inc();
                statistics.cache_hit.add(elapsed);
            }
            Found::Miss => {
                metrics.cache_misses.inc();
                statistics.cache_miss.add(elapsed);
            }
        }
    }
}
