//! Counts and times by task, as the admin port prints them. A task's series end with the task, so that what callers
//! send can make no new ones.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::gateway::Gateway;

/// How a request was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `/v1` by HTTP.
    Rest,
    /// `unimodel.v1.RankingService`.
    Grpc,
    /// `/v2` by HTTP.
    InferenceRest,
    /// `inference.GRPCInferenceService`.
    InferenceGrpc,
}

impl Protocol {
    const ALL: [Self; 4] = [Self::Rest, Self::Grpc, Self::InferenceRest, Self::InferenceGrpc];

    /// As metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rest => "rest",
            Self::Grpc => "grpc",
            Self::InferenceRest => "inference_rest",
            Self::InferenceGrpc => "inference_grpc",
        }
    }
}

/// Outcomes of requests: `ok`, the reasons of errors (`docs/api.md`), and what servers say besides.
pub const OUTCOMES: [&str; 17] = [
    "ok",
    "unknown-task",
    "missing-task",
    "conflicting-task",
    "invalid-timeout",
    "invalid-body",
    "unsupported-encoding",
    "body-too-large",
    "slow-body",
    "deadline-exceeded",
    "overloaded",
    "not-ready",
    "bad-gateway",
    "internal",
    // A server refused the request: the caller's error.
    "refused",
    "canceled",
    "other",
];

/// Why an endpoint's answer was none: labels of retries and fallbacks.
pub const FAILURES: [&str; 8] = [
    "connect",
    "refused-stream",
    "connection-lost",
    "overloaded",
    "not-ready",
    "internal",
    "deadline-exceeded",
    "bad-gateway",
];

/// Events by one of a few names.
#[derive(Debug)]
pub struct Counts<const N: usize> {
    names: &'static [&'static str; N],
    counts: [AtomicU64; N],
}

impl<const N: usize> Counts<N> {
    fn new(names: &'static [&'static str; N]) -> Self {
        Self { names, counts: [const { AtomicU64::new(0) }; N] }
    }

    /// One more of that name; of the last where there is none.
    pub fn add(&self, name: &str) {
        let index = self.names.iter().position(|known| *known == name).unwrap_or(N - 1);
        self.counts[index].fetch_add(1, Ordering::Relaxed);
    }

    /// Those that have happened.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.names.iter().zip(&self.counts);
        counts.map(|(name, count)| (*name, count.load(Ordering::Relaxed))).filter(|(_, count)| *count > 0)
    }

    /// How many of that name.
    pub fn get(&self, name: &str) -> u64 {
        self.iter().find(|(known, _)| *known == name).map_or(0, |(_, count)| count)
    }
}

/// What has happened to a task's requests.
#[derive(Debug)]
pub struct TaskMetrics {
    requests: [Counts<17>; 4],
    /// Seconds from a request's arrival to its answer.
    pub duration: Histogram,
    /// Requests sent again, by why.
    pub retries: Counts<8>,
    /// Retries that the budget did not allow.
    pub over_budget: AtomicU64,
    /// Second requests sent because the first was slow.
    pub hedges: AtomicU64,
    /// Requests that went to the canary.
    pub canary: AtomicU64,
    /// Copies sent, and copies not sent because too many were in flight.
    pub mirrored: [AtomicU64; 2],
    /// Answers of another task's servers, by why.
    pub by_task: Counts<8>,
    /// Answers of the static list, by why.
    pub by_list: Counts<8>,
    /// Times that an endpoint was ejected.
    pub ejections: AtomicU64,
    /// Nanoseconds of all answers, and of all errors.
    pub nanos: [AtomicU64; 2],
    /// When the last request was answered, in milliseconds since 1970.
    pub last: AtomicU64,
}

/// Upper ends of the buckets, in seconds.
const BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.0, 2.0, 4.0];

impl Default for TaskMetrics {
    fn default() -> Self {
        Self {
            requests: std::array::from_fn(|_| Counts::new(&OUTCOMES)),
            duration: Histogram::new(BUCKETS),
            retries: Counts::new(&FAILURES),
            over_budget: AtomicU64::new(0),
            hedges: AtomicU64::new(0),
            canary: AtomicU64::new(0),
            mirrored: Default::default(),
            by_task: Counts::new(&FAILURES),
            by_list: Counts::new(&FAILURES),
            ejections: AtomicU64::new(0),
            nanos: Default::default(),
            last: AtomicU64::new(0),
        }
    }
}

impl TaskMetrics {
    /// A request has come to its end.
    pub fn done(&self, protocol: Protocol, outcome: &str, took: Duration) {
        self.requests[protocol as usize].add(outcome);
        self.duration.observe(took.as_secs_f64());
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanos[usize::from(outcome != "ok")].fetch_add(nanos, Ordering::Relaxed);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        self.last.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Requests by outcome, over all protocols: those that were answered, and all others.
    pub fn answered(&self) -> [u64; 2] {
        let mut sums = [0, 0];
        for (outcome, count) in self.requests.iter().flat_map(Counts::iter) {
            sums[usize::from(outcome != "ok")] += count;
        }
        sums
    }
}

/// What belongs to no task.
#[derive(Debug)]
pub struct GatewayMetrics {
    /// Requests that named no task that there is, or were refused before it was read, by why.
    pub unrouted: Counts<17>,
    /// Routes files applied.
    pub applied: AtomicU64,
    /// Routes files refused.
    pub refused: AtomicU64,
}

impl Default for GatewayMetrics {
    fn default() -> Self {
        Self { unrouted: Counts::new(&OUTCOMES), applied: AtomicU64::new(0), refused: AtomicU64::new(0) }
    }
}

/// All metrics in the text format of OpenMetrics.
pub fn print(gateway: &Arc<Gateway>) -> String {
    let mut registry = Registry::with_prefix("unimodel_gateway");
    registry.register_collector(Box::new(Metrics(gateway.clone())));
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
    text
}

struct Metrics(Arc<Gateway>);

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

type Labels<'a> = &'a [(&'a str, &'a str)];

fn count(encoder: &mut MetricEncoder<'_>, labels: Labels<'_>, value: u64) -> fmt::Result {
    encoder.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, f64>(&value, None)
}

fn gauge(encoder: &mut MetricEncoder<'_>, labels: Labels<'_>, value: usize) -> fmt::Result {
    encoder.encode_family(&labels)?.encode_gauge(&i64::try_from(value).unwrap_or(i64::MAX))
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let table = self.0.table();
        let tasks = || table.tasks().iter().map(|task| (&*task.name, &**task));
        let load = |value: &AtomicU64| value.load(Ordering::Relaxed);
        let counter = MetricType::Counter;

        let mut family = encoder.encode_descriptor("requests", "Requests by outcome.", None, counter)?;
        for (name, task) in tasks() {
            for protocol in Protocol::ALL {
                for (outcome, value) in task.state.metrics.requests[protocol as usize].iter() {
                    let labels = [("task", name), ("protocol", protocol.name()), ("outcome", outcome)];
                    count(&mut family, &labels, value)?;
                }
            }
        }
        let help = "Requests that name no task that there is, or were refused before it was read.";
        let mut family = encoder.encode_descriptor("unrouted_requests", help, None, counter)?;
        for (outcome, value) in self.0.metrics.unrouted.iter() {
            count(&mut family, &[("outcome", outcome)], value)?;
        }
        let help = "Seconds from a request's arrival to its answer.";
        let mut family = encoder.encode_descriptor("request_duration_seconds", help, None, MetricType::Histogram)?;
        for (name, task) in tasks() {
            let labels: Labels<'_> = &[("task", name)];
            task.state.metrics.duration.encode(family.encode_family(&labels)?)?;
        }
        let mut family = encoder.encode_descriptor("retries", "Requests sent again, by why.", None, counter)?;
        for (name, task) in tasks() {
            for (reason, value) in task.state.metrics.retries.iter() {
                count(&mut family, &[("task", name), ("reason", reason)], value)?;
            }
        }
        let mut family = encoder.encode_descriptor("fallbacks", "Answers by something else, by why.", None, counter)?;
        for (name, task) in tasks() {
            let metrics = &task.state.metrics;
            for (kind, counts) in [("task", &metrics.by_task), ("static", &metrics.by_list)] {
                for (reason, value) in counts.iter() {
                    count(&mut family, &[("task", name), ("kind", kind), ("reason", reason)], value)?;
                }
            }
        }
        let mut family = encoder.encode_descriptor("mirrored_requests", "Copies of requests.", None, counter)?;
        for (name, task) in tasks() {
            for (outcome, value) in ["sent", "dropped"].iter().zip(&task.state.metrics.mirrored) {
                if load(value) > 0 {
                    count(&mut family, &[("task", name), ("outcome", outcome)], load(value))?;
                }
            }
        }
        type Of = fn(&TaskMetrics) -> &AtomicU64;
        let totals: [(&str, &str, Of); 4] = [
            ("retries_over_budget", "Retries that the budget did not allow.", |m| &m.over_budget),
            ("hedges", "Second requests because the first was slow.", |m| &m.hedges),
            ("canary_requests", "Requests that went to the canary.", |m| &m.canary),
            ("ejections", "Times that an endpoint was ejected.", |m| &m.ejections),
        ];
        for (metric, help, of) in totals {
            let mut family = encoder.encode_descriptor(metric, help, None, counter)?;
            for (name, task) in tasks() {
                count(&mut family, &[("task", name)], load(of(&task.state.metrics)))?;
            }
        }

        let mut family = encoder.encode_descriptor("in_flight", "Requests in flight.", None, MetricType::Gauge)?;
        for (name, task) in tasks() {
            gauge(&mut family, &[("task", name)], task.state.limiter.in_flight())?;
        }
        let mut family = encoder.encode_descriptor("queued", "Requests that wait.", None, MetricType::Gauge)?;
        for (name, task) in tasks() {
            gauge(&mut family, &[("task", name)], task.state.limiter.waiting())?;
        }
        let mut family = encoder.encode_descriptor("endpoints", "Endpoints by state.", None, MetricType::Gauge)?;
        let now = std::time::Instant::now();
        for (name, task) in tasks() {
            for (state, value) in task.pool.states(now) {
                gauge(&mut family, &[("task", name), ("state", state)], value)?;
            }
        }
        let mut family = encoder.encode_descriptor("routes_applied", "Routes files applied.", None, counter)?;
        family.encode_counter::<NoLabelSet, u64, f64>(&load(&self.0.metrics.applied), None)?;
        let mut family = encoder.encode_descriptor("routes_refused", "Routes files refused.", None, counter)?;
        family.encode_counter::<NoLabelSet, u64, f64>(&load(&self.0.metrics.refused), None)
    }
}
