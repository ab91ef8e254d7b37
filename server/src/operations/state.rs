//! What the server is doing, as JSON for people.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use serde::Serialize;
use serde_json::{Value, json};
use unimodel_model::version::VersionId;

use super::Operations;
use crate::compute::kernels::Kernels;
use crate::control::{Held, Phase, Prepared};
use crate::ranking::{Ranking, Readiness};

/// Threads of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Threads {
    /// Those that compute.
    pub workers: usize,
    /// Those that read and write.
    pub io: usize,
}

pub(super) fn of(operations: &Operations) -> Value {
    let Operations { runtime, control, metrics, config, threads, .. } = operations;
    let readiness = match &*runtime.readiness().borrow() {
        Readiness::Ready => json!({ "ready": true }),
        Readiness::NotReady { reason } => json!({ "ready": false, "reason": reason }),
        Readiness::Stopping => json!({ "ready": false, "reason": "stopping" }),
    };
    let versions = control.versions();
    let versions = versions.borrow();
    let active = versions.active();
    let problems: BTreeMap<_, _> = runtime.unfit().into_iter().collect();
    let tasks: Vec<Value> = runtime
        .tasks()
        .iter()
        .map(|task| {
            let of_task = metrics.task(&task.name);
            json!({
                "name": &*task.name,
                "head": task.head,
                "problem": active.and_then(|_| problems.get(&task.name)),
                "inFlight": of_task.in_flight.get(),
                "cacheEntries": of_task.cache_entries.get(),
            })
        })
        .collect();
    json!({
        "server": { "version": env!("CARGO_PKG_VERSION"), "pid": std::process::id() },
        "readiness": readiness,
        "draining": control.draining(),
        "active": active.map(|(name, held)| version(name, held)),
        "previous": versions.previous().map(VersionId::as_str),
        "others": versions.others().iter().map(|(name, held)| version(name, held)).collect::<Vec<_>>(),
        "tasks": tasks,
        "queue": { "requests": metrics.queue_depth.get(), "rows": metrics.queued_rows.get() },
        "threads": threads,
        "kernels": Kernels::detect().isa().name(),
        "config": &**config.borrow(),
    })
}

fn version(name: &VersionId, held: &Held<Prepared>) -> Value {
    let failure = match &held.phase {
        Phase::Failed(failure) => Some(json!({ "reason": failure.reason, "message": failure.message })),
        _ => None,
    };
    let checks = match &held.phase {
        Phase::Prepared(prepared) | Phase::Active(prepared) => prepared
            .checks
            .iter()
            .map(|check| {
                json!({
                    "head": check.head,
                    "goldenRequests": check.requests,
                    "largestDifference": check.largest_difference,
                    "tolerance": check.tolerance,
                    "latencyP99Seconds": check.latency_p99.map(|latency| latency.as_secs_f64()),
                })
            })
            .collect(),
        _ => Vec::new(),
    };
    json!({
        "version": name.as_str(),
        "phase": held.phase.name(),
        "since": held.since.to_string(),
        "schemaHash": held.facts.map(|facts| facts.schema_hash.to_string()),
        "dataTime": held.facts.map(|facts| facts.data_time.to_string()),
        "fetchedBytes": held.fetched.load(Ordering::Relaxed),
        "totalBytes": held.facts.map(|facts| facts.total_bytes),
        "failure": failure,
        "checks": checks,
    })
}
