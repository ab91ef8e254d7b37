//! From what watches and servers have said to what a plan depends on.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::ResourceExt;
use unimodel_crds::{Model, Task, UnifiedModel};

use super::child::{DeploymentFacts, Observed};
use super::children::Kind;
use super::names;
use super::observed::Family;
use crate::snapshot::{Answer, Replica, Trouble};

/// A child as it is.
pub fn child<'a>(family: &'a Family, kind: Kind, name: &str) -> Option<&'a Arc<Observed>> {
    family.children.get(&(kind, name.to_owned()))
}

/// A task's Deployment as it is.
pub fn deployment<'a>(family: &'a Family, model: &str, task: &str) -> Option<&'a DeploymentFacts> {
    child(family, Kind::Deployment, &names::task(model, task))?.deployment.as_ref()
}

/// How many servers autoscalers ask for, by task.
pub fn scaled(family: &Family, model: &Model) -> BTreeMap<String, u32> {
    let of = |task: &Task| {
        let known = deployment(family, &model.name, &task.name).filter(|known| known.autoscaled)?;
        Some((task.name.clone(), known.replicas?))
    };
    model.tasks.iter().filter_map(of).collect()
}

/// The servers: pods that are not about to end, and after them, since pods know more, what is wrong with a Deployment.
pub fn replicas(family: &Family, model: &Model, answer: impl Fn(&str) -> Option<Answer>) -> Vec<Replica> {
    let mut replicas = Vec::new();
    for (name, pod) in family.pods.iter().filter(|(_, pod)| !pod.ending) {
        let Some(task) = &pod.task else { continue };
        let deployment = deployment(family, &model.name, task);
        let template = deployment.and_then(|deployment| deployment.template.as_ref());
        replicas.push(Replica {
            task: task.clone(),
            name: name.clone(),
            environment: String::new(),
            outdated: template.is_some() && template != pod.template.as_ref(),
            address: pod.ip.as_ref().map(|ip| format!("{ip}:8080")).unwrap_or_default(),
            probe: Some(pod.ready),
            answer: answer(&pod.uid).filter(|_| pod.running),
            trouble: pod.trouble.clone(),
        });
    }
    replicas.sort_by(|a, b| (&a.task, &a.name).cmp(&(&b.task, &b.name)));
    for task in &model.tasks {
        let trouble = deployment(family, &model.name, &task.name).and_then(|deployment| deployment.trouble.clone());
        replicas.extend(trouble.map(|trouble| missing(&task.name, trouble, names::task(&model.name, &task.name))));
    }
    replicas
}

/// Why the gateway does not answer as it should.
pub fn gateway(family: &Family, model: &Model) -> Option<Trouble> {
    let pods = || family.pods.values().filter(|pod| pod.task.is_none() && !pod.ending);
    let (ready, wanted) = (pods().filter(|pod| pod.ready).count(), model.gateway.replicas as usize);
    if ready >= wanted {
        return None;
    }
    let count = format!("{ready} of {wanted} gateways answer");
    let gateways = child(family, Kind::Deployment, &names::gateway(&model.name));
    let made = || gateways.and_then(|child| child.deployment.as_ref()?.trouble.clone());
    let trouble = pods().find_map(|pod| pod.trouble.clone()).or_else(made);
    Some(trouble.map_or_else(
        || Trouble::new("GatewayStarting", count.clone()),
        |trouble| Trouble { message: format!("{count}; {}", trouble.message), ..trouble },
    ))
}

/// A server that there is not, and why.
pub fn missing(task: &str, trouble: Trouble, name: String) -> Replica {
    Replica {
        task: task.to_owned(),
        name,
        environment: String::new(),
        outdated: false,
        address: String::new(),
        probe: Some(false),
        answer: None,
        trouble: Some(trouble),
    }
}

/// Requests for a refresh: `unimodel.dev/refresh: TASK=TEXT`, several with commas. Another text is another request.
pub fn requests(object: &UnifiedModel) -> BTreeMap<String, String> {
    let text = object.annotations().get("unimodel.dev/refresh").map(String::as_str).unwrap_or_default();
    let each = text.split(',').filter_map(|entry| entry.split_once('='));
    each.map(|(task, text)| (task.trim().to_owned(), text.trim().chars().take(128).collect())).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::super::observed::{Cluster, key};
    use super::*;

    fn model() -> Model {
        let text = "{apiVersion: unimodel.dev/v1alpha1, kind: UnifiedModel, metadata: {name: m}, \
                    spec: {model: {source: {uri: 's3://a/b'}}, tasks: [{name: search}]}}";
        unimodel_crds::check(text, Path::new("um.yaml")).unwrap().model
    }

    fn deployment(name: &str, condition: Value) -> Value {
        let owner = json!({"apiVersion": "v", "kind": "UnifiedModel", "name": "m", "uid": "o", "controller": true});
        json!({
            "metadata": {"name": name, "namespace": "n", "uid": name, "resourceVersion": "1", "ownerReferences": [owner]},
            "spec": {"replicas": 1, "progressDeadlineSeconds": 660}, "status": {"conditions": [condition]},
        })
    }

    fn family(deployments: [Value; 2], pods: &[Value]) -> Family {
        let cluster = Cluster::default();
        for deployment in deployments {
            cluster.put_child(Kind::Deployment, serde_json::from_value(deployment).unwrap()).unwrap();
        }
        for pod in pods {
            cluster.put_pod(&serde_json::from_value(pod.clone()).unwrap()).unwrap();
        }
        cluster.family(&key("n", "m")).unwrap()
    }

    #[test]
    fn a_first_start_that_does_not_end_is_said_unless_a_pod_knows_better() {
        let late = || json!({"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"});
        let quota = json!({"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota"});
        let deployments = || [deployment("m-search", late()), deployment("m-gateway", quota.clone())];
        let says = |family: &Family| {
            let replicas = replicas(family, &model(), |_| None);
            let trouble = replicas.iter().find_map(|replica| replica.trouble.clone()).unwrap();
            (trouble.reason, trouble.message)
        };
        let known = family(deployments(), &[]);
        let (reason, message) = says(&known);
        assert_eq!(reason, "LoadTimeout");
        assert!(message.contains("660 s") && message.contains("kubectl logs deployment/m-search"), "{message}");
        let gateway = gateway(&known, &model()).unwrap();
        assert_eq!(
            (gateway.reason.as_str(), gateway.message.as_str()),
            ("FailedCreate", "0 of 2 gateways answer; quota")
        );

        let labels = json!({(names::MODEL): "m", (names::TASK): "search"});
        let condition =
            json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "full"});
        let pod = json!({"metadata": {"name": "m-search-x", "namespace": "n", "uid": "p", "labels": labels},
            "status": {"conditions": [condition]}});
        assert_eq!(says(&family(deployments(), &[pod])), ("Unschedulable".into(), "full".into()));
        let goes_on = json!({"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated"});
        let fine = family([deployment("m-search", goes_on), deployment("m-gateway", quota.clone())], &[]);
        assert!(replicas(&fine, &model(), |_| None).is_empty());
    }
}
