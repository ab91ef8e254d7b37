//! Pods: what is needed of them, and why one does not run as it should.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus};

use super::children::TEMPLATE;
use super::names;
use super::wire::WirePod;
use crate::snapshot::Trouble;

/// What is needed of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodFacts {
    /// Its uid.
    pub uid: String,
    /// The task that it is for; none for a gateway.
    pub task: Option<String>,
    /// The template that it was made from, by its digest.
    pub template: Option<String>,
    /// Its address, once it has one.
    pub ip: Option<String>,
    /// Its container runs.
    pub running: bool,
    /// The kubelet found it ready.
    pub ready: bool,
    /// It has been told to end, or has ended.
    pub ending: bool,
    /// Why it does not run as it should.
    pub trouble: Option<Trouble>,
}

impl PodFacts {
    /// Takes what is needed.
    pub fn new(pod: &WirePod) -> Self {
        let status = &pod.status;
        let condition = |kind: &str| status.conditions.iter().find(|condition| condition.type_ == kind);
        let container = status.container_statuses.first();
        let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let ready = condition("Ready").is_some_and(|condition| condition.status == "True");
        let unscheduled = condition("PodScheduled")
            .filter(|condition| condition.status == "False" && condition.reason == "Unschedulable")
            .map(|condition| Trouble::new("Unschedulable", condition.message.clone()));
        let evicted = status
            .reason
            .clone()
            .filter(|_| ended)
            .map(|reason| Trouble::new(reason, status.message.clone().unwrap_or_default()));
        Self {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            task: pod.metadata.labels.as_ref().and_then(|labels| labels.get(names::TASK).cloned()),
            template: pod.metadata.annotations.as_ref().and_then(|all| all.get(TEMPLATE).cloned()),
            ip: status.pod_ip.clone(),
            running: container.and_then(|c| c.state.as_ref()).is_some_and(|state| state.running.is_some()),
            ready,
            ending: pod.metadata.deletion_timestamp.is_some() || ended,
            trouble: unscheduled.or(evicted).or_else(|| container.filter(|_| !ready).and_then(trouble)),
        }
    }
}

/// Why a container does not run. Texts that change while nothing does, such as how long the next try is put off, are left
/// out: each would be written.
fn trouble(container: &ContainerStatus) -> Option<Trouble> {
    let state = container.state.clone().unwrap_or_default();
    let last = container.last_state.clone().unwrap_or_default();
    let died = [&state, &last].into_iter().find_map(|state| death(container, state));
    let Some(waiting) = state.waiting else { return died };
    let reason = waiting.reason.unwrap_or_default();
    match reason.as_str() {
        "ImagePullBackOff" | "ErrImagePull" | "ImageInspectError" | "ErrImageNeverPull" | "InvalidImageName" => {
            // Both come by turns.
            let reason = if reason == "ErrImagePull" { "ImagePullBackOff".to_owned() } else { reason };
            Some(Trouble::new(reason, format!("image {} cannot be had", container.image)))
        }
        "CrashLoopBackOff" => Some(match died {
            Some(died) if died.reason == "Ended" => Trouble { reason: "CrashLoop".into(), ..died },
            Some(died) => died,
            None => Trouble::new("CrashLoop", "it ends again and again"),
        }),
        // It is on its way.
        "" | "ContainerCreating" | "PodInitializing" => died,
        _ => Some(Trouble::new(reason, waiting.message.unwrap_or_default())),
    }
}

fn death(container: &ContainerStatus, state: &ContainerState) -> Option<Trouble> {
    let ended = state.terminated.as_ref()?;
    if ended.reason.as_deref() == Some("OOMKilled") {
        let limit = container.resources.as_ref().and_then(|resources| resources.limits.as_ref()?.get("memory"));
        let limit = limit.map_or(String::new(), |limit| format!(", {}", limit.0));
        return Some(Trouble::new("OOMKilled", format!("it took more memory than its limit{limit}")));
    }
    let said = ended.message.as_deref().and_then(|text| text.lines().rev().find(|line| !line.trim().is_empty()));
    let said = said.map_or(String::new(), |line| format!(": {}", line.chars().take(500).collect::<String>()));
    let how = match ended.signal {
        Some(signal) if signal != 0 => format!("signal {signal}"),
        _ => format!("exit code {}", ended.exit_code),
    };
    let reason = if container.restart_count > 1 { "CrashLoop" } else { "Ended" };
    Some(Trouble::new(reason, format!("it ended with {how}{said}")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn facts(status: Value) -> PodFacts {
        let pod =
            json!({"metadata": {"name": "p", "uid": "u", "labels": {"unimodel.dev/task": "search"}}, "status": status});
        PodFacts::new(&serde_json::from_value(pod).unwrap())
    }

    fn container(state: Value, last: Value, restarts: i32) -> PodFacts {
        facts(json!({"phase": "Running", "podIP": "10.0.0.1", "containerStatuses": [{
            "name": "server", "image": "i:1", "imageID": "", "ready": false, "restartCount": restarts,
            "state": state, "lastState": last, "resources": {"limits": {"memory": "16Mi"}},
        }]}))
    }

    #[test]
    fn why_a_pod_does_not_run() {
        let why = |facts: PodFacts| facts.trouble.map(|trouble| (trouble.reason, trouble.message));
        let pair = |reason: &str, message: &str| Some((reason.to_owned(), message.to_owned()));
        let unscheduled = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."}]});
        assert_eq!(
            why(facts(unscheduled)),
            pair("Unschedulable", "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.")
        );
        for reason in ["ErrImagePull", "ImagePullBackOff"] {
            let found = why(container(json!({"waiting": {"reason": reason, "message": "Back-off 10s"}}), json!({}), 0));
            assert_eq!(found, pair("ImagePullBackOff", "image i:1 cannot be had"));
        }
        let killed = json!({"terminated": {"reason": "OOMKilled", "exitCode": 137}});
        let back_off = || json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}});
        let memory = pair("OOMKilled", "it took more memory than its limit, 16Mi");
        assert_eq!(why(container(back_off(), killed.clone(), 3)), memory);
        assert_eq!(why(container(json!({"running": {}}), killed, 3)), memory, "also while it is tried again");
        let said = json!({"terminated": {"reason": "Error", "exitCode": 1, "message": "a\nerror: no store\n"}});
        assert_eq!(
            why(container(back_off(), said.clone(), 3)),
            pair("CrashLoop", "it ended with exit code 1: error: no store")
        );
        assert_eq!(why(container(said, json!({}), 0)).unwrap().0, "Ended");
        let missing = json!({"waiting": {"reason": "CreateContainerConfigError", "message": "secret \"s\" not found"}});
        assert_eq!(why(container(missing, json!({}), 0)), pair("CreateContainerConfigError", "secret \"s\" not found"));
        assert_eq!(why(container(json!({"waiting": {"reason": "ContainerCreating"}}), json!({}), 0)), None);
    }

    #[test]
    fn a_pod_that_is_ready_has_no_trouble() {
        let status = json!({"phase": "Running", "podIP": "10.0.0.1",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "server", "image": "i", "imageID": "", "ready": true, "restartCount": 2,
                "state": {"running": {}}, "lastState": {"terminated": {"exitCode": 1}}}]});
        let facts = facts(status);
        assert_eq!(
            (facts.ready, facts.running, facts.trouble, facts.task.as_deref()),
            (true, true, None, Some("search"))
        );
    }
}
