//! Logs, and traces where somebody collects them.
//!
//! Traces go by OTLP over gRPC to `OTEL_EXPORTER_OTLP_ENDPOINT` and are off without it. The other usual variables
//! (`OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER`, `OTEL_EXPORTER_OTLP_HEADERS`, …) are read by
//! the OpenTelemetry SDK.

use std::io::IsTerminal;
use std::pin::Pin;
use std::time::Duration;

use futures::future::Either;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::service::Service;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{Instrument, Level};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// Target of the spans of requests.
const REQUESTS: &str = "unimodel::request";

/// How long sending the last traces may take.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Pretty,
    /// One JSON object a line.
    Json,
}

/// Why there is no telemetry.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// RUST_LOG says something that is no filter.
    #[error("RUST_LOG: {0}; give a level such as `info`, or `hyper=debug,info`")]
    Filter(String),
    /// The exporter refuses its settings.
    #[error("OTEL_EXPORTER_OTLP_ENDPOINT: {0}; give a URL such as `http://localhost:4317`")]
    Exporter(String),
    /// The process has a log already.
    #[error("logging has been set up before")]
    Twice,
}

/// Logs, and traces where somebody collects them.
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Writes the log to standard error from now on; `default_filter` says how much, unless RUST_LOG does. `service` is
    /// this program's name in traces, unless `OTEL_SERVICE_NAME` says another. To be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`TelemetryError`].
    pub fn start(service: &'static str, format: LogFormat, default_filter: &str) -> Result<Self, TelemetryError> {
        let filter = match std::env::var(EnvFilter::DEFAULT_ENV) {
            Ok(filter) if !filter.is_empty() => EnvFilter::try_new(filter),
            _ => EnvFilter::try_new(default_filter),
        };
        let filter = filter.map_err(|error| TelemetryError::Filter(error.to_string()))?;
        let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        let log = match format {
            LogFormat::Pretty => log.with_ansi(std::io::stderr().is_terminal()).boxed(),
            LogFormat::Json => log.json().flatten_event(true).with_span_list(false).boxed(),
        };
        let traces = if is_wanted() { Some(provider(service)?) } else { None };
        let spans = traces.as_ref().map(|traces| {
            tracing_opentelemetry::layer()
                .with_tracer(traces.tracer(service))
                .with_filter(Targets::new().with_target(REQUESTS, Level::INFO))
        });
        tracing_subscriber::registry()
            .with(log.with_filter(filter))
            .with(spans)
            .try_init()
            .map_err(|_| TelemetryError::Twice)?;
        Ok(Self { traces })
    }

    /// The service with a span for each request, where traces are collected.
    pub fn trace<S>(&self, service: S) -> Traced<S> {
        Traced { service, is_on: self.traces.is_some() }
    }

    /// Sends the last traces.
    pub async fn stop(self) {
        let Some(traces) = self.traces else { return };
        // It blocks, and what it waits for may need this thread.
        let stopped = tokio::task::spawn_blocking(move || traces.shutdown_with_timeout(FLUSH_TIMEOUT)).await;
        if let Ok(Err(error)) = stopped {
            tracing::warn!(%error, "the last traces are lost");
        }
    }
}

fn is_wanted() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    set("OTEL_EXPORTER_OTLP_ENDPOINT") || set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
}

fn provider(service: &'static str) -> Result<SdkTracerProvider, TelemetryError> {
    let exporter =
        SpanExporter::builder().with_tonic().build().map_err(|error| TelemetryError::Exporter(error.to_string()))?;
    // The environment's resource first: what it says wins.
    let named = std::env::var_os("OTEL_SERVICE_NAME").is_some_and(|name| !name.is_empty());
    let resource = Resource::builder();
    let resource = if named { resource } else { resource.with_service_name(service) };
    Ok(SdkTracerProvider::builder().with_resource(resource.build()).with_batch_exporter(exporter).build())
}

/// A service with a span for each request: a child of the caller's, if the caller sends a W3C `traceparent`. The request
/// goes on with the span for its `traceparent`, so that whoever it is sent to is a child of it.
#[derive(Clone, Debug)]
pub struct Traced<S> {
    service: S,
    is_on: bool,
}

impl<S, B> Service<Request<Incoming>> for Traced<S>
where
    S: Service<Request<Incoming>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = Response<B>;
    type Error = S::Error;
    // Without traces a request costs nothing more.
    type Future = Either<S::Future, Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        if !self.is_on {
            return Either::Left(self.service.call(request));
        }
        let (method, path) = (request.method(), request.uri().path());
        let span = tracing::info_span!(
            target: REQUESTS,
            "request",
            otel.name = format_args!("{method} {path}"),
            otel.kind = "server",
            http.request.method = %method,
            url.path = %path,
            http.response.status_code = tracing::field::Empty,
            unimodel.task = tracing::field::Empty,
            unimodel.outcome = tracing::field::Empty,
        );
        let parent = TraceContextPropagator::new().extract(&Headers(request.headers()));
        if let Err(error) = span.set_parent(parent) {
            tracing::debug!(?error, "a request's span has no parent");
        }
        TraceContextPropagator::new().inject_context(&span.context(), &mut HeadersMut(request.headers_mut()));
        let answer = span.in_scope(|| self.service.call(request));
        let recorded = span.clone();
        let traced = async move {
            let response = answer.await?;
            recorded.record("http.response.status_code", response.status().as_u16());
            Ok(response)
        };
        Either::Right(Box::pin(traced.instrument(span)))
    }
}

/// Says which task the current request is about, and what came of it, where traces are collected.
pub fn record(task: &str, outcome: &str) {
    let span = tracing::Span::current();
    span.record("unimodel.task", task).record("unimodel.outcome", outcome);
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct HeadersMut<'a>(&'a mut HeaderMap);

impl Injector for HeadersMut<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}
