//! Counts of the operator's own work. Labels have few values: no object is named.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tower::{Layer, Service};

/// How work on an object ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

/// A request to the API server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerbLabels {
    verb: &'static str,
}

/// A kind of object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

/// All of them.
#[derive(Clone, Debug)]
pub struct Metrics {
    reconciles: Family<ResultLabels, Counter>,
    duration: Histogram,
    requests: Family<VerbLabels, Counter>,
    watch_errors: Family<KindLabels, Counter>,
    queued: Gauge,
    leader: Gauge,
    objects: Gauge,
    registry: Arc<Registry>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("unimodel_operator");
        let reconciles: Family<ResultLabels, Counter> = Family::default();
        let duration = Histogram::new(exponential_buckets(0.0005, 2.0, 15));
        let requests: Family<VerbLabels, Counter> = Family::default();
        let watch_errors: Family<KindLabels, Counter> = Family::default();
        let (queued, leader, objects) = (Gauge::default(), Gauge::default(), Gauge::default());
        registry.register("reconciles", "Objects worked on, by result", reconciles.clone());
        registry.register("reconcile_duration_seconds", "Time of the work on one object", duration.clone());
        registry.register("api_requests", "Requests to the API server, by verb", requests.clone());
        registry.register("watch_errors", "Errors of watches, by kind", watch_errors.clone());
        registry.register("queue_depth", "Objects that wait to be worked on", queued.clone());
        registry.register("leader", "1 while this operator writes", leader.clone());
        registry.register("objects", "UnifiedModels that are watched", objects.clone());
        Self { reconciles, duration, requests, watch_errors, queued, leader, objects, registry: Arc::new(registry) }
    }
}

impl Metrics {
    /// Work on an object has ended.
    pub fn reconciled(&self, result: &'static str, took: Duration) {
        self.reconciles.get_or_create(&ResultLabels { result }).inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// So often watches of that kind have failed: there from the first on, since an alert looks for what changes.
    pub fn watch_errors(&self, kind: &'static str) -> Counter {
        self.watch_errors.get_or_create(&KindLabels { kind }).clone()
    }

    /// In OpenMetrics text.
    pub fn print(&self, queued: usize, leader: bool, objects: usize) -> String {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.queued.set(count(queued));
        self.leader.set(i64::from(leader));
        self.objects.set(count(objects));
        let mut text = String::new();
        // Writing into a String does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }

    /// Counts requests to the API server.
    pub fn counting(&self) -> Counting {
        Counting(self.requests.clone())
    }
}

/// A layer of the client that counts requests.
#[derive(Clone, Debug)]
pub struct Counting(Family<VerbLabels, Counter<u64, AtomicU64>>);

/// A client that counts requests.
#[derive(Clone, Debug)]
pub struct Counted<S> {
    inner: S,
    requests: Family<VerbLabels, Counter<u64, AtomicU64>>,
}

impl<S> Layer<S> for Counting {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, requests: self.0.clone() }
    }
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for Counted<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> S::Future {
        self.requests.get_or_create(&VerbLabels { verb: verb(&request) }).inc();
        self.inner.call(request)
    }
}

/// What a request does, as RBAC names it; a read of one object and of a list are one.
fn verb<B>(request: &Request<B>) -> &'static str {
    let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
    match request.method().as_str() {
        "GET" if is_watch => "watch",
        "GET" => "read",
        "POST" => "create",
        "PATCH" => "patch",
        "PUT" => "update",
        "DELETE" => "delete",
        _ => "other",
    }
}
