//! The routing table: a routes file made ready for requests. A table never changes; a new file makes a new one that
//! takes over what is known about tasks and endpoints that stay.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use tokio::sync::Semaphore;

use crate::backend::Backend;
use crate::balance::budget::RetryBudget;
use crate::balance::latency::Latencies;
use crate::limiter::Limiter;
use crate::metrics::TaskMetrics;
use crate::pool::Pool;
use crate::popularity::Ranking;
use crate::routes::{self, Routes};
use crate::timeout::TimeoutPolicy;

/// Copies of requests in flight, per task.
const MIRRORED: usize = 32;

/// Where requests go.
#[derive(Debug, Default)]
pub struct Table {
    tasks: Vec<Arc<Task>>,
    by_name: HashMap<Arc<str>, usize, RandomState>,
    backends: HashMap<Arc<str>, Arc<Backend>, RandomState>,
}

/// A task.
#[derive(Debug)]
pub struct Task {
    /// Name.
    pub name: Arc<str>,
    /// What the routes file says of it.
    pub facts: routes::Task,
    /// The version that its servers have active.
    pub version: Option<Arc<Version>>,
    /// How long an answer may take.
    pub timeout: TimeoutPolicy,
    /// Its servers.
    pub pool: Pool,
    /// Servers that get a share of its requests.
    pub canary: Option<Split>,
    /// Servers that get copies of a share of its requests.
    pub mirror: Option<Split>,
    /// What lives on from table to table.
    pub state: Arc<TaskState>,
}

/// Servers with a share.
#[derive(Debug)]
pub struct Split {
    /// Percent.
    pub percent: f64,
    /// The servers.
    pub pool: Pool,
}

/// A version with its static lists in order.
#[derive(Debug, PartialEq)]
pub struct Version {
    /// What the routes file says of it.
    pub facts: routes::Version,
    /// The static answer, where the version has one.
    pub ranking: Option<Ranking>,
}

/// What is known of a task whatever the file says next.
#[derive(Debug)]
pub struct TaskState {
    /// Its concurrency.
    pub limiter: Arc<Limiter>,
    /// Its counts.
    pub metrics: TaskMetrics,
    /// Room for copies in flight.
    pub mirrored: Arc<Semaphore>,
    budget: Mutex<RetryBudget>,
    latencies: Mutex<Latencies>,
}

impl Task {
    /// Whether a request would find an endpoint, as far as is known: one that nobody has tried counts.
    pub fn can_answer(&self, now: Instant) -> bool {
        self.pool.states(now).iter().any(|(state, count)| *count > 0 && matches!(*state, "up" | "idle"))
    }
}

impl TaskState {
    fn new(task: &routes::Task, now: Instant) -> Self {
        Self {
            limiter: Arc::new(Limiter::new(limit(task), task.queue_depth)),
            metrics: TaskMetrics::default(),
            mirrored: Arc::new(Semaphore::new(MIRRORED)),
            budget: Mutex::new(RetryBudget::new(now)),
            latencies: Mutex::default(),
        }
    }

    /// A request came: the retry budget grows.
    pub fn deposit(&self, now: Instant) {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner).deposit(now);
    }

    /// Takes one retry from the budget.
    pub fn withdraw(&self, now: Instant) -> bool {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner).withdraw(now)
    }

    /// A server answered after so long.
    pub fn observe(&self, latency: Duration) {
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner).observe(latency);
    }

    /// The latency that a share of the recent answers did not exceed.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner).quantile(share)
    }

    /// When a request that finds the queue full may find room: half of the queue has moved on by then.
    pub fn retry_after(&self) -> Duration {
        let median = self.quantile(0.5).unwrap_or(Duration::from_millis(50));
        let turns = 1.0 + self.limiter.waiting() as f64 / (2.0 * self.limiter.limit() as f64);
        median.mul_f64(turns).clamp(Duration::from_millis(10), Duration::from_secs(5))
    }
}

/// Requests of a task at a time: what its endpoints take together. With none there, what comes is answered otherwise at once.
fn limit(task: &routes::Task) -> usize {
    task.max_concurrency.saturating_mul(task.endpoints.len().max(1)).min(Semaphore::MAX_PERMITS)
}

impl Table {
    /// Makes checked routes ready. `before` is the table that they replace.
    pub fn new(routes: Routes, before: &Table, now: Instant) -> Self {
        let known: HashMap<&str, &Arc<Version>> = before
            .tasks
            .iter()
            .filter_map(|task| task.version.as_ref())
            .map(|version| (version.facts.name.as_str(), version))
            .collect();
        let versions: HashMap<String, Arc<Version>> = routes
            .versions
            .into_iter()
            .map(|facts| {
                let name = facts.name.clone();
                let version = match known.get(name.as_str()) {
                    Some(version) if version.facts == facts => (*version).clone(),
                    _ => Arc::new(Version { ranking: facts.popularity.as_ref().map(Ranking::new), facts }),
                };
                (name, version)
            })
            .collect();

        let mut backends: HashMap<Arc<str>, Arc<Backend>, RandomState> = HashMap::default();
        let mut backend = |address: &str| -> Arc<Backend> {
            if let Some(backend) = backends.get(address) {
                return backend.clone();
            }
            let backend = before.backends.get(address).cloned().unwrap_or_else(|| Arc::new(Backend::new(address)));
            backends.insert(backend.address().clone(), backend.clone());
            backend
        };
        let tasks: Vec<Arc<Task>> = routes
            .tasks
            .into_iter()
            .map(|facts| {
                let old = before.task(&facts.name);
                let state = match old {
                    Some(old) => {
                        old.state.limiter.resize(limit(&facts), facts.queue_depth);
                        old.state.clone()
                    }
                    None => Arc::new(TaskState::new(&facts, now)),
                };
                let pool = Pool::new(&facts.endpoints, old.map(|old| &old.pool), now, &mut backend);
                let mut split = |share: &Option<routes::Share>, old: Option<&Split>| {
                    share.as_ref().map(|share| Split {
                        percent: share.percent,
                        pool: Pool::new(&share.endpoints, old.map(|old| &old.pool), now, &mut backend),
                    })
                };
                Arc::new(Task {
                    name: facts.name.as_str().into(),
                    version: facts.version.as_ref().and_then(|name| versions.get(name).cloned()),
                    timeout: TimeoutPolicy { default: facts.timeout.default.0, max: facts.timeout.max.0 },
                    pool,
                    canary: split(&facts.canary, old.and_then(|old| old.canary.as_ref())),
                    mirror: split(&facts.mirror, old.and_then(|old| old.mirror.as_ref())),
                    state,
                    facts,
                })
            })
            .collect();
        // Endpoints that stay keep their backends, without asking for them by address.
        for task in &tasks {
            let pools =
                [Some(&task.pool), task.canary.as_ref().map(|s| &s.pool), task.mirror.as_ref().map(|s| &s.pool)];
            for (endpoint, _) in pools.into_iter().flatten().flat_map(Pool::iter) {
                let backend = &endpoint.backend;
                backends.entry(backend.address().clone()).or_insert_with(|| backend.clone());
            }
        }
        let by_name = tasks.iter().enumerate().map(|(index, task)| (task.name.clone(), index)).collect();
        Self { tasks, by_name, backends }
    }

    /// The task of that name.
    pub fn task(&self, name: &str) -> Option<&Arc<Task>> {
        self.by_name.get(name).map(|index| &self.tasks[*index])
    }

    /// All tasks, in the file's order.
    pub fn tasks(&self) -> &[Arc<Task>] {
        &self.tasks
    }

    /// The names of all tasks, by name.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.tasks.iter().map(|task| task.name.to_string()).collect();
        names.sort_unstable();
        names
    }

    /// All servers.
    pub fn backends(&self) -> impl Iterator<Item = &Arc<Backend>> {
        self.backends.values()
    }
}
