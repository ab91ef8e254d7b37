//! The admin port: /livez, /readyz and /metrics.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use super::leader::Claim;
use super::metrics::Metrics;
use super::observed::Cluster;
use super::queue::Queue;
use super::watch::Health;

/// What the admin port answers from.
#[derive(Clone)]
pub struct Admin {
    /// How the watches are.
    pub health: Arc<Health>,
    /// Counts.
    pub metrics: Metrics,
    /// What waits.
    pub queue: Arc<Queue>,
    /// What is known.
    pub cluster: Arc<Cluster>,
    /// Whether this operator writes.
    pub claim: Claim,
}

/// Answers until the end of the process.
pub async fn serve(listener: TcpListener, admin: Admin) {
    let router = Router::new()
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(admin);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "the admin port has failed");
    }
}

/// Not while a watch has failed for long: a new process may find a way.
async fn live(State(admin): State<Admin>) -> (StatusCode, String) {
    tell(&admin.health.dead(Instant::now()), "these watches fail")
}

/// Once everything is known, for those that stand by too.
async fn ready(State(admin): State<Admin>) -> (StatusCode, String) {
    tell(&admin.health.missing(), "not known yet")
}

fn tell(wrong: &[String], what: &str) -> (StatusCode, String) {
    match wrong {
        [] => (StatusCode::OK, "ok\n".into()),
        _ => (StatusCode::SERVICE_UNAVAILABLE, format!("{what}: {}\n", wrong.join(", "))),
    }
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    let objects = admin.cluster.keys().len();
    let text = admin.metrics.print(admin.queue.waiting(), *admin.claim.held().borrow(), objects);
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
}
