//! What the cluster tests have in common. They run by `make e2e`; see `docs/kubernetes.md`.
#![allow(clippy::unwrap_used, missing_docs)] // A test fails by panicking; what is public here is so for tests alone.

mod admin;
mod ask;
mod audit;
mod objects;
mod place;
mod programs;
mod release;
mod shell;
mod store;
mod web;

pub use admin::Admin;
pub use ask::{Gateway, Load, Report};
pub use audit::{Request, requests};
pub use objects::{Child, Model, ONE, sample_of};
pub use place::{Place, is_ready, on_cluster};
pub use programs::Held;
pub use release::{Release, image};
pub use shell::{Output, helm, kubectl, kubectl_with};
pub use store::{Store, secret, secret_of_none, trained, versions};

use std::time::{Duration, Instant};

/// Waits until the check says so, or panics with what it last said.
pub async fn until<T>(what: &str, limit: Duration, mut check: impl AsyncFnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match check().await {
            Ok(value) => return value,
            Err(why) if began.elapsed() > limit => panic!("after {limit:?} not yet: {what}: {why}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

/// Whether the cluster is another's: its node is not this machine, and requests go through its API server.
pub fn cluster_is_anothers() -> bool {
    std::env::var_os("UNIMODEL_E2E_PROXIED").is_some()
}

/// What `search` is asked: words of the trained catalogue.
pub fn query() -> serde_json::Value {
    serde_json::json!({"query": "gounnounisk"})
}

pub const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
