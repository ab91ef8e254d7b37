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

/// The servers: pods that are not about to end, and where a Deployment cannot make any, why.
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
    for task in &model.tasks {
        let trouble = deployment(family, &model.name, &task.name).and_then(|deployment| deployment.trouble.clone());
        replicas.extend(trouble.map(|trouble| missing(&task.name, trouble, names::task(&model.name, &task.name))));
    }
    replicas.sort_by(|a, b| (&a.task, &a.name).cmp(&(&b.task, &b.name)));
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
    let trouble = pods().find_map(|pod| pod.trouble.clone());
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
