//! From what is observed to what is said.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use unimodel_crds::{Complaint, ModelStatus, RefreshPhase, Task, TaskStatus, UnifiedModelStatus};

use crate::conditions::set_condition;
use crate::plan::of_task;
use crate::refresh::Step;
use crate::snapshot::{Phase, Replica, Snapshot, Trouble};

/// The status after these steps.
pub(crate) fn status(snapshot: &Snapshot, steps: &[Step]) -> UnifiedModelStatus {
    let tasks: Vec<TaskStatus> =
        snapshot.model.tasks.iter().zip(steps).map(|(task, step)| task_status(snapshot, task, step)).collect();
    let ready = |task: &&TaskStatus| task.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
    let troubled: Vec<&TaskStatus> = tasks.iter().filter(|task| !ready(task)).collect();
    let served = tasks.iter().filter(|task| task.ready_replicas > 0).count();
    let moving: Vec<&str> = tasks.iter().filter(|task| moves(task)).map(|task| task.name.as_str()).collect();

    let mut conditions = snapshot.previous.conditions.clone();
    let mut set = |kind: &str, value| set_condition(&mut conditions, kind, value, snapshot.generation, snapshot.now);
    set("Accepted", Ok(Trouble::new("Valid", "the object makes sense")));
    let count = format!("{served} of {} tasks have a server that answers", tasks.len());
    set("Available", truth(served == tasks.len(), "Served", "NotServed", count));
    let what = if moving.is_empty() { "nothing is being changed".into() } else { moving.join(", ") };
    set("Progressing", truth(!moving.is_empty(), "Changing", "Settled", what));
    set(
        "Ready",
        match troubled.first() {
            None if snapshot.gateway.is_some() => {
                let trouble = snapshot.gateway.clone().unwrap_or_else(|| Trouble::new("GatewayStarting", ""));
                Err(Trouble { message: format!("gateway: {}", trouble.message), ..trouble })
            }
            None => Ok(Trouble::new("AllReady", format!("{} tasks are as they were asked for", tasks.len()))),
            Some(first) => {
                let (reason, message) = crate::conditions::ready_reason(&first.conditions).unwrap_or(("Unknown", ""));
                let more = troubled.len() - 1;
                let more = if more == 0 { String::new() } else { format!("; and {more} more") };
                Err(Trouble::new(reason, format!("{}: {message}{more}", first.name)))
            }
        },
    );
    UnifiedModelStatus {
        observed_generation: Some(snapshot.generation),
        conditions,
        ready_tasks: Some(format!("{}/{}", tasks.len() - troubled.len(), tasks.len())),
        model: model_status(snapshot, &tasks),
        tasks,
    }
}

fn truth(is: bool, yes: &str, no: &str, message: String) -> Result<Trouble, Trouble> {
    if is { Ok(Trouble::new(yes, message)) } else { Err(Trouble::new(no, message)) }
}

fn moves(task: &TaskStatus) -> bool {
    task.ready_replicas < task.replicas || !matches!(task.refresh.phase, RefreshPhase::Idle | RefreshPhase::Failed)
}

fn task_status(snapshot: &Snapshot, task: &Task, step: &Step) -> TaskStatus {
    let previous = snapshot.previous.tasks.iter().find(|status| status.name == task.name);
    let replicas = of_task(snapshot, &task.name);
    let ready = replicas.iter().filter(|replica| replica.ready()).count();
    let facts = step.active.as_ref().and_then(|version| snapshot.facts.get(version));
    let mut conditions = previous.map(|status| status.conditions.clone()).unwrap_or_default();
    let before = previous.and_then(|status| still(status, snapshot.generation));
    let wanted = snapshot.scaled.get(&task.name).map_or(task.min_replicas, |scaled| task.min_replicas.max(*scaled));
    let value = task_ready(task, wanted as usize, &replicas, before);
    set_condition(&mut conditions, "Ready", value, snapshot.generation, snapshot.now);
    TaskStatus {
        name: task.name.clone(),
        replicas: signed(wanted as usize),
        ready_replicas: signed(ready),
        active_version: step.active.clone(),
        data_time: facts.map(|facts| Time(facts.data_time)),
        last_refresh: step.last.map(Time),
        next_refresh: step.next.map(Time),
        refresh: step.refresh.clone(),
        conditions,
    }
}

/// The status of an object that makes no sense: what it had before serves on.
pub fn rejected(
    previous: &UnifiedModelStatus,
    complaints: &[Complaint],
    generation: i64,
    now: Timestamp,
) -> UnifiedModelStatus {
    let each: Vec<String> =
        complaints.iter().map(|complaint| format!("{}: {}", complaint.key, complaint.message)).collect();
    let mut status = UnifiedModelStatus { observed_generation: Some(generation), ..previous.clone() };
    for kind in ["Accepted", "Ready"] {
        let trouble = Err(Trouble::new("Invalid", each.join("; ")));
        set_condition(&mut status.conditions, kind, trouble, generation, now);
    }
    status
}

/// Whether a task is as it was asked for, and if not what stands most in its way. `wanted`: servers, by whoever says how many.
fn task_ready(task: &Task, wanted: usize, replicas: &[&Replica], before: Option<Trouble>) -> Result<Trouble, Trouble> {
    let ready = replicas.iter().filter(|replica| replica.ready()).count();
    let outdated = replicas.iter().filter(|replica| replica.outdated && replica.ready()).count();
    let current = ready - outdated;
    if current >= wanted {
        let text = if wanted == 1 { "1 server answers".to_owned() } else { format!("{wanted} servers answer") };
        return Ok(Trouble::new("Serving", text));
    }
    let count = match outdated {
        0 => format!("{ready} of {wanted} servers answer"),
        1 => format!("{current} of {wanted} servers are replaced, and an old one answers"),
        _ => format!("{current} of {wanted} servers are replaced, and {outdated} old ones answer"),
    };
    let trouble = replicas.iter().filter(|replica| !replica.ready()).find_map(|replica| trouble(task, replica));
    if let Some((name, trouble)) = trouble {
        return Err(Trouble::new(trouble.reason, format!("{count}; {name}: {}", trouble.message)));
    }
    // A server that tries again is no news until it has succeeded or failed otherwise.
    if let Some(before) = before.filter(|_| !replicas.is_empty()) {
        return Err(before);
    }
    // What an autoscaler adds may take its time.
    if current >= task.min_replicas as usize {
        return Ok(Trouble::new("Serving", count));
    }
    let reason = if outdated > 0 { "Replacing" } else { "Starting" };
    Err(Trouble::new(reason, count))
}

/// What stood in a task's way at the last round, of the same object.
fn still(status: &TaskStatus, generation: i64) -> Option<Trouble> {
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready")?;
    let passing = ["Starting", "Replacing"].contains(&ready.reason.as_str());
    let same = ready.observed_generation == Some(generation) && ready.status == "False" && !passing;
    same.then(|| Trouble::new(ready.reason.clone(), ready.message.clone()))
}

fn trouble<'a>(task: &Task, replica: &'a Replica) -> Option<(&'a str, Trouble)> {
    let name = replica.name.as_str();
    let Some(answer) = &replica.answer else {
        return replica.trouble.clone().map(|trouble| (name, trouble));
    };
    if let Some(problem) = &answer.problem {
        let reason = if problem.contains("has no head") { "HeadMissing" } else { "TaskUnusable" };
        return Some((name, Trouble::new(reason, problem.clone())));
    }
    let failed = answer.held.iter().find_map(|held| match &held.phase {
        Phase::Failed(trouble) => Some(trouble.clone()),
        _ => None,
    });
    let failed = failed.or_else(|| answer.failure.clone());
    if answer.active.is_none()
        && let Some(failed) = failed
    {
        // A server that has no head to answer for says so of the version.
        let missing = failed.reason == "UnknownHead";
        let message = if missing { format!("head `{}`: {}", task.head, failed.message) } else { failed.message };
        let reason = if missing { "HeadMissing".to_owned() } else { failed.reason };
        return Some((name, Trouble { reason, message }));
    }
    replica.trouble.clone().map(|trouble| (name, trouble))
}

fn model_status(snapshot: &Snapshot, tasks: &[TaskStatus]) -> Option<ModelStatus> {
    let mut versions: Vec<&str> = tasks.iter().filter_map(|task| task.active_version.as_deref()).collect();
    versions.sort_unstable();
    versions.dedup();
    let time = |version: &str| snapshot.facts.get(version).map(|facts| facts.data_time);
    // Names begin with the time of publishing, which decides where data is of one time.
    let key = |version: &&&str| (time(version), (**version).to_owned());
    let latest = versions.iter().max_by_key(key)?;
    let oldest = versions.iter().min_by_key(key)?;
    Some(ModelStatus {
        latest: Some((*latest).to_owned()),
        oldest_served: Some((*oldest).to_owned()),
        oldest_data_time: time(oldest).map(Time),
        skew: signed(versions.len() - 1),
    })
}

fn signed(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
