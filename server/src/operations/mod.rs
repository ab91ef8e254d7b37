//! The port of those who operate the server: probes, metrics, and what it is doing.

mod metrics;
mod process;
mod state;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

pub use metrics::{FileReload, OperationsMetrics};
pub use process::ProcessCollector;
pub use state::Threads;

use crate::config::ServerConfig;
use crate::control::Control;
use crate::metrics::Metrics;
use crate::ranking::{Ranking, Readiness};
use crate::runtime::Runtime;

/// The content type of OpenMetrics text, which Prometheus asks for.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the port tells of.
pub struct Operations {
    /// The data path.
    pub runtime: Arc<Runtime>,
    /// Versions.
    pub control: Arc<Control>,
    /// All metrics.
    pub registry: Registry,
    /// Those of the data path.
    pub metrics: Metrics,
    /// The configuration in effect.
    pub config: watch::Receiver<Arc<ServerConfig>>,
    /// Threads.
    pub threads: Threads,
}

/// Everything that the port answers.
pub fn service(operations: Operations) -> Router {
    Router::new()
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics_text))
        .route("/debug/state", get(state_text))
        .with_state(Arc::new(operations))
}

async fn ready(State(operations): State<Arc<Operations>>) -> Response {
    let readiness = operations.runtime.readiness().borrow().clone();
    match readiness {
        Readiness::Ready => "ready\n".into_response(),
        Readiness::NotReady { reason } => (StatusCode::SERVICE_UNAVAILABLE, reason + "\n").into_response(),
        Readiness::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response(),
    }
}

async fn metrics_text(State(operations): State<Arc<Operations>>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &operations.registry) {
        Ok(()) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("metrics cannot be written: {error}\n")).into_response()
        }
    }
}

async fn state_text(State(operations): State<Arc<Operations>>) -> Response {
    let text = format!("{:#}\n", state::of(&operations));
    ([(CONTENT_TYPE, "application/json")], text).into_response()
}
