//! What the server counts and measures, as Prometheus reads it.
//!
//! Label values are bounded: names of tasks that the server knows, protocols, stages, and reasons from
//! [`crate::error::Kind::name`].

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use unimodel_model::version::Manifest;

use crate::ranking::Protocol;

/// All metrics of a server but those of its process. Handles: a clone counts into the same.
#[derive(Clone, Debug)]
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    errors: Family<ErrorLabels, Counter>,
    duration: Family<TaskLabels, Histogram, fn() -> Histogram>,
    stage: Family<StageLabels, Histogram, fn() -> Histogram>,
    rows: Family<TaskLabels, Counter>,
    in_flight: Family<TaskLabels, Gauge>,
    cache_hits: Family<TaskLabels, Counter>,
    cache_misses: Family<TaskLabels, Counter>,
    cache_evictions: Family<TaskLabels, Counter>,
    cache_entries: Family<TaskLabels, Gauge>,
    /// Requests that wait for a compute thread.
    pub queue_depth: Gauge,
    /// Candidates that wait to be scored.
    pub queued_rows: Gauge,
    /// Panics of compute threads.
    pub worker_panics: Counter,
    /// The active version: one series of value 1.
    version: Family<VersionLabels, Gauge>,
    /// The newest event that the active version has learned from, in seconds since 1970.
    data_time: Gauge<f64, AtomicU64>,
    /// Attempts to change the version.
    pub reloads: Family<ReloadLabels, Counter>,
}

/// One task's handles, resolved once.
#[derive(Clone, Debug)]
pub struct TaskMetrics {
    requests: [Counter; Protocol::ALL.len()],
    duration: Histogram,
    stage: [Histogram; Stage::ALL.len()],
    /// Candidates that were scored.
    pub rows: Counter,
    /// Requests that were admitted and are not answered yet.
    pub in_flight: Gauge,
    /// Answered from the cache.
    pub cache_hits: Counter,
    /// Not found in the cache.
    pub cache_misses: Counter,
    /// Answers that left the cache.
    pub cache_evictions: Counter,
    /// Answers in the cache.
    pub cache_entries: Gauge,
}

/// Where a request's time goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Encoding the context and finding the candidates.
    Encode,
    /// Waiting for a compute thread.
    Queue,
    /// Scoring, and looking up the ids of the best: the sum over all threads.
    Compute,
    /// Writing the answer.
    Serialise,
}

impl Stage {
    const ALL: [Self; 4] = [Self::Encode, Self::Queue, Self::Compute, Self::Serialise];

    fn name(self) -> &'static str {
        match self {
            Self::Encode => "encode",
            Self::Queue => "queue",
            Self::Compute => "compute",
            Self::Serialise => "serialise",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TaskLabels {
    task: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    task: String,
    protocol: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    task: String,
    protocol: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabels {
    task: String,
    stage: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VersionLabels {
    version: String,
    schema_hash: String,
}

/// Labels of [`Metrics::reloads`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReloadLabels {
    /// How it ended.
    pub result: ReloadResult,
}

/// How an attempt to change the version ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReloadResult {
    /// Loaded and checked.
    Prepared,
    /// It answers.
    Activated,
    /// Nothing changed.
    Failed,
}

impl EncodeLabelValue for ReloadResult {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        let name = match self {
            Self::Prepared => "prepared",
            Self::Activated => "activated",
            Self::Failed => "failed",
        };
        name.encode(encoder)
    }
}

/// 20 µs to 10 s.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(20e-6, 2.0, 20))
}

impl Metrics {
    /// Registers all under the prefix `unimodel_`.
    pub fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("unimodel");
        let of_tasks = || Family::<TaskLabels, Counter>::default();
        let metrics = Self {
            requests: Family::default(),
            errors: Family::default(),
            duration: Family::new_with_constructor(seconds),
            stage: Family::new_with_constructor(seconds),
            rows: of_tasks(),
            in_flight: Family::default(),
            cache_hits: of_tasks(),
            cache_misses: of_tasks(),
            cache_evictions: of_tasks(),
            cache_entries: Family::default(),
            queue_depth: Gauge::default(),
            queued_rows: Gauge::default(),
            worker_panics: Counter::default(),
            version: Family::default(),
            data_time: Gauge::default(),
            reloads: Family::default(),
        };
        let m = metrics.clone();
        registry.register("requests", "Requests answered, errors among them", m.requests);
        registry.register("request_errors", "Requests without a ranking, by reason", m.errors);
        registry.register_with_unit(
            "request_duration",
            "From a request's arrival to its answer",
            Unit::Seconds,
            m.duration,
        );
        registry.register_with_unit("stage_duration", "Where a request's time goes", Unit::Seconds, m.stage);
        registry.register("rows", "Candidates scored", m.rows);
        registry.register("in_flight", "Requests admitted and not answered yet", m.in_flight);
        registry.register("cache_hits", "Requests answered from the response cache", m.cache_hits);
        registry.register("cache_misses", "Requests not found in the response cache", m.cache_misses);
        registry.register("cache_evictions", "Answers that left the response cache", m.cache_evictions);
        registry.register("cache_entries", "Answers in the response cache", m.cache_entries);
        registry.register("queue_depth", "Requests that wait for a compute thread", m.queue_depth);
        registry.register("queued_rows", "Candidates that wait to be scored", m.queued_rows);
        registry.register("worker_panics", "Panics of compute threads", m.worker_panics);
        registry.register("active_version", "The version that answers", m.version);
        registry.register_with_unit(
            "data_time",
            "The newest event that the active version has learned from",
            Unit::Other("timestamp_seconds".into()),
            m.data_time,
        );
        registry.register("reloads", "Attempts to change the version, by result", m.reloads);
        metrics
    }

    /// The handles of a task.
    pub fn task(&self, name: &str) -> TaskMetrics {
        let labels = TaskLabels { task: name.into() };
        TaskMetrics {
            requests: Protocol::ALL.map(|protocol| {
                let labels = RequestLabels { task: name.into(), protocol: protocol.name() };
                self.requests.get_or_create_owned(&labels)
            }),
            duration: self.duration.get_or_create_owned(&labels),
            stage: Stage::ALL
                .map(|stage| self.stage.get_or_create_owned(&StageLabels { task: name.into(), stage: stage.name() })),
            rows: self.rows.get_or_create_owned(&labels),
            in_flight: self.in_flight.get_or_create_owned(&labels),
            cache_hits: self.cache_hits.get_or_create_owned(&labels),
            cache_misses: self.cache_misses.get_or_create_owned(&labels),
            cache_evictions: self.cache_evictions.get_or_create_owned(&labels),
            cache_entries: self.cache_entries.get_or_create_owned(&labels),
        }
    }

    /// Another version answers.
    pub(crate) fn activated(&self, manifest: &Manifest) {
        self.version.clear();
        let labels =
            VersionLabels { version: manifest.version.to_string(), schema_hash: manifest.schema_hash.to_string() };
        self.version.get_or_create(&labels).set(1);
        self.data_time.set(manifest.data_time.as_millisecond() as f64 / 1e3);
    }

    /// Counts a request for no task of this server.
    pub(crate) fn without_task(&self, protocol: Protocol) {
        let labels = RequestLabels { task: String::new(), protocol: protocol.name() };
        self.requests.get_or_create(&labels).inc();
    }

    /// Counts an error, of a request for `task` if it is one of this server.
    pub(crate) fn error(&self, task: Option<&str>, protocol: Protocol, reason: &'static str) {
        let task = task.unwrap_or_default().into();
        self.errors.get_or_create(&ErrorLabels { task, protocol: protocol.name(), reason }).inc();
    }
}

impl TaskMetrics {
    /// Counts a request and its time.
    pub(crate) fn answered(&self, protocol: Protocol, elapsed: Duration) {
        self.requests[protocol as usize].inc();
        self.duration.observe(elapsed.as_secs_f64());
    }

    /// Measures a stage.
    pub(crate) fn stage(&self, stage: Stage, elapsed: Duration) {
        self.stage[stage as usize].observe(elapsed.as_secs_f64());
    }
}
