//! Routes in a cluster: they name Services, so that pods come and go without a write. What is known of versions stands in
//! them too, and is read from there by an operator that has just started.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};
use unimodel_crds::Model;
use unimodel_gateway::routes::{Popularity, Routes, Service, Share, Version};
use unimodel_protocol::control::v1::DescribeResponse;

use super::child::Observed;
use super::names;
use crate::plan::Route;
use crate::routes_document;
use crate::snapshot::{Facts, Replica};

/// How large routes may be: a ConfigMap holds 1 MiB.
const LARGEST: usize = 900_000;

/// Lengths of static lists, of which the first that fits is taken.
const LENGTHS: [usize; 6] = [1000, 300, 100, 30, 10, 0];

/// What is known of versions, by name.
pub type Versions = BTreeMap<String, Version>;

/// What routes depend on beside the plan.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The object's namespace.
    pub namespace: &'a str,
    /// What it asks for.
    pub model: &'a Model,
    /// Its servers.
    pub replicas: &'a [Replica],
    /// The routes as they are.
    pub before: Option<&'a Routes>,
}

/// The routes of a plan.
pub fn routes(place: Place<'_>, plan: &[Route], versions: &Versions) -> Routes {
    let mut routes = routes_document(plan, |name| versions.get(name));
    let service = |task: &str| Service {
        namespace: place.namespace.to_owned(),
        name: names::task(&place.model.name, task),
        port: "http".into(),
    };
    for (route, task) in routes.tasks.iter_mut().zip(&place.model.tasks) {
        route.endpoints.clear();
        route.service = Some(service(&task.name));
        let rollout = task.rollout.as_ref().filter(|rollout| knows(place, &rollout.to, &task.name));
        let share = |percent: u32, to: &str| {
            let service = Some(service(to));
            (percent > 0).then_some(Share { percent: f64::from(percent), endpoints: Vec::new(), service })
        };
        route.canary = rollout.and_then(|rollout| share(rollout.canary_percent, &rollout.to));
        route.mirror = rollout.and_then(|rollout| share(rollout.mirror_percent, &rollout.to));
    }
    fit(&mut routes);
    routes
}

/// Whether the servers of a task answer for a guest too. They hear of it when the kubelet has brought their configuration;
/// those that start later begin with it, so that what was so once stays so.
fn knows(place: Place<'_>, servers: &str, guest: &str) -> bool {
    let is_sent = |route: &unimodel_gateway::routes::Task| {
        route.name == guest && (route.canary.is_some() || route.mirror.is_some())
    };
    let before = place.before.is_some_and(|routes| routes.tasks.iter().any(is_sent));
    let mut answers = place.replicas.iter().filter(|r| r.task == servers && r.ready()).peekable();
    before
        || (answers.peek().is_some()
            && answers.all(|r| r.answer.as_ref().is_some_and(|answer| answer.tasks.iter().any(|task| task == guest))))
}

/// Cuts static lists until the whole fits into a ConfigMap.
fn fit(routes: &mut Routes) {
    for length in LENGTHS {
        let size = serde_json::to_vec_pretty(routes).map_or(0, |text| text.len());
        if size <= LARGEST {
            return;
        }
        for popularity in routes.versions.iter_mut().filter_map(|version| version.popularity.as_mut()) {
            let lists = popularity.by.values_mut().flat_map(BTreeMap::values_mut).chain([&mut popularity.all]);
            lists.for_each(|list| list.truncate(length));
        }
    }
}

/// The routes of a ConfigMap.
pub fn read(map: &Observed) -> Option<Routes> {
    serde_json::from_str(map.routes.as_deref()?).ok()
}

/// What a plan needs to know of a version.
pub fn facts(version: &Version) -> Facts {
    Facts {
        heads: version.heads.iter().map(|head| head.name.clone()).collect(),
        data_time: version.data_time,
        popularity: version.popularity.is_some(),
    }
}

/// What a server says of a version. None: it makes no sense.
pub fn described(answer: &DescribeResponse) -> Option<Version> {
    let time = answer.data_time.as_ref()?;
    let data_time = Timestamp::new(time.seconds, time.nanos).ok()?;
    let text = |text: &str| if text.is_empty() { Value::Null } else { text.into() };
    let popularity: Option<Popularity> = match &answer.popularity[..] {
        [] => None,
        text => Some(serde_json::from_slice(text).ok()?),
    };
    let document = json!({
        "name": answer.version,
        "dataTime": data_time,
        "items": answer.items,
        "context": answer.context.iter().map(|e| json!({
            "name": e.name, "type": e.r#type, "description": text(&e.description),
            "default": serde_json::from_str::<Value>(&e.default).unwrap_or_default(),
        })).collect::<Vec<_>>(),
        "attributes": answer.attributes.iter().map(|a| json!({"name": a.name, "type": a.r#type})).collect::<Vec<_>>(),
        "heads": answer.heads.iter().map(|head| json!({
            "name": head.name, "description": text(&head.description), "elements": head.elements,
        })).collect::<Vec<_>>(),
    });
    let mut version: Version = serde_json::from_value(document).ok()?;
    version.popularity = popularity;
    Some(version)
}
