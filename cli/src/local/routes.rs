//! The gateway's routes file.

use unimodel_gateway::routes::{Endpoint, Fallback, Hedging, Routes, Share, Span, StaticList, Task, Timeout};
use unimodel_operator::Route;

use super::versions::Versions;

/// The file of these routes: JSON, which says its own end.
pub fn document(routes: &[Route], versions: &Versions) -> anyhow::Result<Vec<u8>> {
    let mut names: Vec<&String> = routes.iter().filter_map(|route| route.version.as_ref()).collect();
    names.sort();
    names.dedup();
    let document = Routes {
        api_version: "unimodel.dev/v1alpha1".into(),
        kind: "Routes".into(),
        versions: names.into_iter().filter_map(|name| Some(versions.get(name)?.route.clone())).collect(),
        tasks: routes.iter().map(|route| task(route, versions)).collect(),
    };
    Ok(serde_json::to_vec_pretty(&document)?)
}

fn task(route: &Route, versions: &Versions) -> Task {
    let version = route.version.as_ref().and_then(|version| versions.get(version));
    // An element that the version does not have makes its own task unusable, which its servers say. It must not make the
    // whole file so.
    let known = |element: &&String| version.is_none_or(|known| known.route.context.iter().any(|e| e.name == **element));
    Task {
        name: route.task.clone(),
        head: Some(route.head.clone()),
        version: route.version.clone(),
        required: route.required.iter().filter(known).cloned().collect(),
        max_candidates: route.max_candidates as usize,
        timeout: Timeout { default: Span(route.default_timeout), max: Span(route.max_timeout) },
        max_concurrency: route.max_concurrency as usize,
        queue_depth: route.queue_depth as usize,
        endpoints: endpoints(&route.endpoints),
        fallback: route.fallback.iter().map(fallback).collect(),
        canary: route.canary.as_ref().map(share),
        mirror: route.mirror.as_ref().map(share),
        hedging: route.hedging.map(|delay| Hedging { min_delay: Span(delay) }),
    }
}

fn endpoints(addresses: &[String]) -> Vec<Endpoint> {
    addresses.iter().map(|address| Endpoint { address: address.clone(), weight: 1.0 }).collect()
}

fn share(share: &unimodel_operator::Share) -> Share {
    Share { percent: f64::from(share.percent), endpoints: endpoints(&share.endpoints) }
}

fn fallback(step: &Option<String>) -> Fallback {
    match step {
        Some(task) => Fallback { task: Some(task.clone()), list: None },
        None => Fallback { task: None, list: Some(StaticList::Popularity) },
    }
}
