//! From what is observed to what is to be done.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use unimodel_crds::{Fallback, HardwareClass, Model, RefreshPhase, Task, TaskStatus, UnifiedModelStatus, Want};

use crate::refresh::{self, Call, Step, Watch};
use crate::snapshot::{Replica, Snapshot};
use crate::status;

/// What is to be done. A shell does it in this order: workloads, calls, routes; then it stops what nothing asks for.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// The servers of each task.
    pub workloads: Vec<Workload>,
    /// Calls to servers.
    pub calls: Vec<Call>,
    /// What the gateway does for each task.
    pub routes: Vec<Route>,
    /// What is so.
    pub status: UnifiedModelStatus,
    /// When to plan again though nothing changes, such as for a schedule.
    pub wake: Option<Timestamp>,
}

/// The servers of a task.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Workload {
    /// The task.
    pub task: String,
    /// How many.
    pub replicas: u32,
    /// What they start with.
    pub start: Start,
    /// What they run on.
    pub hardware: HardwareClass,
    /// Compute threads of each.
    pub workers: u32,
    /// A text that is another one where servers must be replaced: hardware and threads. Versions and all else change in a
    /// server that runs.
    pub environment: String,
    /// What each server answers for, as `tasks` of `server.yaml`. It changes in a server that runs.
    pub tasks: Value,
}

/// What servers start with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Start {
    /// What the channel names then. Only the first server of a task starts so, and alone.
    Channel(String),
    /// This version.
    Version(String),
}

/// What the gateway does for a task.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Route {
    /// The task.
    pub task: String,
    /// The head that answers.
    pub head: String,
    /// The version that its servers answer by.
    pub version: Option<String>,
    /// Elements that requests must give.
    pub required: Vec<String>,
    /// Candidates of a request.
    pub max_candidates: u32,
    /// How long an answer may take where the caller asks for nothing.
    pub default_timeout: Duration,
    /// How long an answer may take at most.
    pub max_timeout: Duration,
    /// Requests at a time in each server.
    pub max_concurrency: u32,
    /// Requests that wait.
    pub queue_depth: u32,
    /// Addresses of the servers that answer.
    pub endpoints: Vec<String>,
    /// Tasks, or `None` for the version's list of popular items, in order.
    pub fallback: Vec<Option<String>>,
    /// Servers that answer a share of the requests.
    pub canary: Option<Share>,
    /// Servers that get copies of a share of the requests.
    pub mirror: Option<Share>,
    /// When a second server is asked.
    pub hedging: Option<Duration>,
}

/// Servers with a share of the requests.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Share {
    /// Percent.
    pub percent: u32,
    /// Their addresses.
    pub endpoints: Vec<String>,
}

/// What is to be done.
pub fn plan(snapshot: &Snapshot) -> Plan {
    let mut calls = Vec::new();
    let mut steps = Vec::new();
    let mut workloads = Vec::new();
    for task in &snapshot.model.tasks {
        let step = step(snapshot, task);
        calls.extend(step.calls.iter().cloned());
        workloads.push(workload(&snapshot.model, task, &step));
        steps.push(step);
    }
    let routes = snapshot.model.tasks.iter().zip(&steps).map(|(task, step)| route(snapshot, task, step)).collect();
    let limits = snapshot.model.tasks.iter().zip(&steps).filter_map(|(task, step)| deadline(task, step));
    let wake = steps.iter().filter_map(|step| step.next).chain(limits).filter(|time| *time > snapshot.now).min();
    let status = status::status(snapshot, &steps);
    Plan { workloads, calls, routes, status, wake }
}

fn step(snapshot: &Snapshot, task: &Task) -> Step {
    let previous = snapshot.previous.tasks.iter().find(|status| status.name == task.name).cloned();
    let previous = previous.unwrap_or_else(|| TaskStatus { name: task.name.clone(), ..TaskStatus::default() });
    let replicas = of_task(snapshot, &task.name);
    refresh::step(Watch {
        task,
        want: &snapshot.model.want,
        previous: &previous,
        replicas: &replicas,
        resolved: snapshot.resolved.get(&task.name),
        request: snapshot.requests.get(&task.name).map(String::as_str),
        facts: &snapshot.facts,
        created: snapshot.created,
        now: snapshot.now,
    })
}

pub(crate) fn of_task<'a>(snapshot: &'a Snapshot, task: &str) -> Vec<&'a Replica> {
    snapshot.replicas.iter().filter(|replica| replica.task == task).collect()
}

/// When a refresh that is on its way has taken too long.
fn deadline(task: &Task, step: &Step) -> Option<Timestamp> {
    let started = step
        .refresh
        .started
        .as_ref()
        .filter(|_| matches!(step.refresh.phase, RefreshPhase::Resolving | RefreshPhase::Preparing))?;
    started.0.checked_add(task.refresh.load_timeout).ok()
}

fn workload(model: &Model, task: &Task, step: &Step) -> Workload {
    let (start, replicas) = match (&step.active, &model.want) {
        (Some(version), _) | (None, Want::Version(version)) => (Start::Version(version.clone()), task.min_replicas),
        // One server finds the version for all, so that two never come up with two versions.
        (None, Want::Channel(channel)) => (Start::Channel(channel.clone()), 1),
    };
    Workload {
        task: task.name.clone(),
        replicas,
        start,
        hardware: task.hardware.clone(),
        workers: task.inference.workers,
        environment: environment(task),
        tasks: server_tasks(model, task),
    }
}

/// What tells two environments apart, as text: stable from release to release, or an upgrade would replace servers.
fn environment(task: &Task) -> String {
    let hardware = &task.hardware;
    // Not its name: a class by another name that says the same is the same.
    json!([
        hardware.device,
        hardware.requests,
        hardware.limits,
        hardware.node_selector,
        hardware.tolerations,
        task.inference.workers
    ])
    .to_string()
}

/// `tasks` of `server.yaml`: the task, and those that send a share of their requests here.
fn server_tasks(model: &Model, task: &Task) -> Value {
    let guests =
        model.tasks.iter().filter(|other| other.rollout.as_ref().is_some_and(|rollout| rollout.to == task.name));
    std::iter::once(task).chain(guests).map(server_task).collect()
}

fn server_task(task: &Task) -> Value {
    let text = |duration: Duration| format!("{duration:?}");
    let mut document = json!({
        "name": task.name,
        "head": task.head,
        "timeout": {"default": text(task.timeout.default), "max": text(task.timeout.max)},
        "maxCandidates": task.inference.max_candidates,
        "maxConcurrency": task.inference.max_concurrency,
        "context": {"required": task.required, "defaults": task.defaults},
    });
    if let Some(cache) = task.cache {
        document["cache"] = json!({"ttl": text(cache.ttl), "maxEntries": cache.max_entries});
    }
    document
}

/// A `server.yaml` without what only the shell knows: where to listen, its certificates and its cache.
pub fn server_config(model: &Model, workload: &Workload) -> Value {
    let device = match workload.hardware.device {
        unimodel_crds::Device::Cpu => "cpu",
        unimodel_crds::Device::Cuda => "cuda",
    };
    let mut document = json!({
        "apiVersion": "unimodel.dev/v1alpha1",
        "kind": "ServerConfig",
        "store": model.store,
        "device": device,
        "workers": workload.workers,
        "tasks": workload.tasks,
    });
    match &workload.start {
        Start::Channel(channel) => document["channel"] = channel.as_str().into(),
        Start::Version(version) => document["version"] = version.as_str().into(),
    }
    document
}

fn route(snapshot: &Snapshot, task: &Task, step: &Step) -> Route {
    let addresses = |name: &str| -> Vec<String> {
        let ready = of_task(snapshot, name).into_iter().filter(|replica| replica.ready());
        ready.map(|replica| replica.address.clone()).collect()
    };
    let endpoints = addresses(&task.name);
    let share = |percent: u32| {
        let rollout = task.rollout.as_ref()?;
        let endpoints = addresses(&rollout.to);
        (percent > 0 && !endpoints.is_empty()).then_some(Share { percent, endpoints })
    };
    let known = step.active.as_ref().and_then(|version| Some((version, snapshot.facts.get(version)?)));
    let list = known.is_some_and(|(_, facts)| facts.popularity);
    Route {
        task: task.name.clone(),
        head: task.head.clone(),
        version: known.map(|(version, _)| version.clone()),
        required: task.required.clone(),
        max_candidates: task.inference.max_candidates,
        default_timeout: task.timeout.default,
        max_timeout: task.timeout.max,
        max_concurrency: task.inference.max_concurrency,
        queue_depth: task.inference.queue_depth,
        endpoints,
        fallback: task
            .fallback
            .iter()
            .filter_map(|step| match step {
                Fallback::Task(name) => Some(Some(name.clone())),
                Fallback::Static(_) => list.then_some(None),
            })
            .collect(),
        canary: share(task.rollout.as_ref().map_or(0, |rollout| rollout.canary_percent)),
        mirror: share(task.rollout.as_ref().map_or(0, |rollout| rollout.mirror_percent)),
        hedging: task.hedging,
    }
}
