//! The gateway's routes, from a plan.

use unimodel_gateway::routes::{Endpoint, Fallback, Hedging, Routes, Share, Span, StaticList, Task, Timeout, Version};

use crate::plan::Route;

/// A routes file with the addresses of servers. `version`: what is known of a version.
pub fn routes_document<'a>(routes: &[Route], version: impl Fn(&str) -> Option<&'a Version>) -> Routes {
    let mut names: Vec<&str> = routes.iter().filter_map(|route| route.version.as_deref()).collect();
    names.sort_unstable();
    names.dedup();
    Routes {
        api_version: "unimodel.dev/v1alpha1".into(),
        kind: "Routes".into(),
        versions: names.into_iter().filter_map(|name| version(name).cloned()).collect(),
        tasks: routes.iter().map(|route| task(route, route.version.as_deref().and_then(&version))).collect(),
    }
}

fn task(route: &Route, version: Option<&Version>) -> Task {
    // An element that the version does not have makes its own task unusable, which its servers say. It must not make the
    // whole file so.
    let known = |element: &&String| version.is_none_or(|known| known.context.iter().any(|e| e.name == **element));
    Task {
        name: route.task.clone(),
        head: Some(route.head.clone()),
        version: version.map(|version| version.name.clone()),
        required: route.required.iter().filter(known).cloned().collect(),
        max_candidates: route.max_candidates as usize,
        timeout: Timeout { default: Span(route.default_timeout), max: Span(route.max_timeout) },
        max_concurrency: route.max_concurrency as usize,
        queue_depth: route.queue_depth as usize,
        endpoints: endpoints(&route.endpoints),
        service: None,
        fallback: route.fallback.iter().map(fallback).collect(),
        canary: route.canary.as_ref().map(share),
        mirror: route.mirror.as_ref().map(share),
        hedging: route.hedging.map(|delay| Hedging { min_delay: Span(delay) }),
    }
}

fn endpoints(addresses: &[String]) -> Vec<Endpoint> {
    addresses.iter().map(|address| Endpoint { address: address.clone(), weight: 1.0 }).collect()
}

fn share(share: &crate::plan::Share) -> Share {
    Share { percent: f64::from(share.percent), endpoints: endpoints(&share.endpoints), service: None }
}

fn fallback(step: &Option<String>) -> Fallback {
    match step {
        Some(task) => Fallback { task: Some(task.clone()), list: None },
        None => Fallback { task: None, list: Some(StaticList::Popularity) },
    }
}
