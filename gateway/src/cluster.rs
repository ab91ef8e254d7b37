//! Routes in a cluster: from a ConfigMap, with the endpoints of the Services that it names. Both are watched, and what was
//! known last holds while the API server is away.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt, reflector::Lookup};
use kube::{Api, Client};

use crate::gateway::Gateway;
use crate::routes::{self, Endpoint, Routes, Service};

/// The key of the ConfigMap that holds the routes.
const KEY: &str = "routes.json";

/// The label by which an EndpointSlice names its Service.
const SERVICE: &str = "kubernetes.io/service-name";

/// How long further changes are waited for, so that many of them become one table.
const GATHER: Duration = Duration::from_millis(10);

/// Where routes come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Namespace of the ConfigMap.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// A label selector of EndpointSlices, so that those of others are not watched.
    pub selector: String,
}

/// What an EndpointSlice says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Slice {
    service: String,
    port: Option<(String, i32)>,
    addresses: Vec<Address>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Address {
    host: String,
    ready: bool,
    /// It answers though it is about to end.
    serving: bool,
}

/// Seconds after which the API server ends a watch, and it is begun again: a connection that the network has forgotten is
/// given up soon after that.
const TURN: u32 = 60;

/// Endpoints by the name of their slice.
type Slices = BTreeMap<String, Slice>;

/// Follows the routes until the end of the process.
///
/// # Errors
/// There is no cluster to be found: neither a service account nor a kubeconfig.
pub async fn follow(gateway: Arc<Gateway>, source: Source) -> anyhow::Result<()> {
    // One that is there already is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::try_default().await.context("cannot find the cluster")?;
    tokio::spawn(run(gateway, client, source));
    Ok(())
}

async fn run(gateway: Arc<Gateway>, client: Client, source: Source) {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &source.namespace);
    let maps =
        watcher(maps, watcher::Config::default().timeout(TURN).fields(&format!("metadata.name={}", source.name)));
    let slices: Api<EndpointSlice> = Api::namespaced(client, &source.namespace);
    let slices = watcher(slices, watcher::Config::default().timeout(TURN).labels(&source.selector));
    let mut maps = std::pin::pin!(calm(maps, "ConfigMap"));
    let mut slices = std::pin::pin!(calm(slices, "EndpointSlice"));

    let mut routes: Option<Routes> = None;
    let mut known = Known::default();
    let mut changed = false;
    loop {
        let gathered = async { if changed { tokio::time::sleep(GATHER).await } else { std::future::pending().await } };
        tokio::select! {
            Some(event) = maps.next() => {
                let (Event::Apply(map) | Event::InitApply(map)) = event else { continue };
                match read(&map) {
                    Ok(new) => {
                        changed |= routes.as_ref() != Some(&new);
                        routes = Some(new);
                    }
                    Err(error) => {
                        gateway.metrics.refused.fetch_add(1, Ordering::Relaxed);
                        tracing::warn!(error, "routes refused; those before stay");
                    }
                }
            }
            Some(event) = slices.next() => changed |= known.take(event),
            () = gathered => {
                changed = false;
                // Without the endpoints all tasks would seem to have none.
                if let (Some(routes), true) = (&routes, known.complete) {
                    let resolved = resolve(routes.clone(), &known.slices);
                    let endpoints: usize = resolved.tasks.iter().map(|task| task.endpoints.len()).sum();
                    tracing::info!(tasks = resolved.tasks.len(), endpoints, "routes applied");
                    gateway.apply(resolved);
                }
            }
        }
    }
}

/// A watch that tries again and again, and says once what is wrong.
fn calm<K: Lookup + 'static>(
    events: impl Stream<Item = watcher::Result<Event<K>>>,
    kind: &'static str,
) -> impl Stream<Item = Event<K>> {
    let mut is_broken = false;
    events.default_backoff().filter_map(move |event| {
        std::future::ready(match event {
            Ok(event) => {
                is_broken = false;
                Some(event)
            }
            Err(error) => {
                if !is_broken {
                    tracing::warn!(kind, %error, "the API server does not answer; what was known last holds");
                }
                is_broken = true;
                None
            }
        })
    })
}

fn read(map: &ConfigMap) -> Result<Routes, String> {
    let text = map.data.as_ref().and_then(|data| data.get(KEY)).ok_or_else(|| format!("there is no key `{KEY}`"))?;
    routes::parse(KEY, text).map_err(|error| error.to_string())
}

/// The slices that there are.
#[derive(Debug, Default)]
struct Known {
    slices: Slices,
    /// A list that is being read again: those before hold until it is whole.
    listed: Slices,
    complete: bool,
}

impl Known {
    /// Takes a change; true where it matters.
    fn take(&mut self, event: Event<EndpointSlice>) -> bool {
        match event {
            Event::Apply(slice) => {
                let Some((name, slice)) = slice_of(slice) else { return false };
                let same = self.slices.get(&name) == Some(&slice);
                self.slices.insert(name, slice);
                !same
            }
            Event::Delete(slice) => slice.metadata.name.is_some_and(|name| self.slices.remove(&name).is_some()),
            Event::Init => {
                self.listed.clear();
                false
            }
            Event::InitApply(slice) => {
                self.listed.extend(slice_of(slice));
                false
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                let changed = !self.complete || listed != self.slices;
                self.slices = listed;
                self.complete = true;
                changed
            }
        }
    }
}

fn slice_of(slice: EndpointSlice) -> Option<(String, Slice)> {
    let service = slice.metadata.labels?.remove(SERVICE)?;
    let port = slice.ports.into_iter().flatten().find_map(|port| Some((port.name?, port.port?)));
    let address = |endpoint: k8s_openapi::api::discovery::v1::Endpoint| {
        let host = endpoint.addresses.into_iter().next()?;
        let host = if slice.address_type == "IPv6" { format!("[{host}]") } else { host };
        let conditions = endpoint.conditions.unwrap_or_default();
        // What is not said counts as ready.
        let ready = conditions.ready.unwrap_or(true);
        Some(Address { host, ready, serving: conditions.serving.unwrap_or(ready) })
    };
    let addresses = slice.endpoints.into_iter().filter_map(address).collect();
    Some((slice.metadata.name?, Slice { service, port, addresses }))
}

/// The routes with the endpoints of the Services that they name.
fn resolve(mut routes: Routes, slices: &Slices) -> Routes {
    let mut by_service: HashMap<&str, Vec<&Slice>> = HashMap::new();
    for slice in slices.values() {
        by_service.entry(&slice.service).or_default().push(slice);
    }
    let endpoints = |service: &Service| -> Vec<Endpoint> {
        let slices = by_service.get(service.name.as_str()).map(Vec::as_slice).unwrap_or_default();
        let all = || {
            slices.iter().flat_map(|slice| {
                let port = slice.port.as_ref().filter(|(name, _)| *name == service.port).map(|(_, port)| *port);
                slice.addresses.iter().filter_map(move |address| Some((address, port?)))
            })
        };
        let chosen = |wanted: fn(&Address) -> bool| -> Vec<Endpoint> {
            let mut found: Vec<String> = all()
                .filter(|(address, _)| wanted(address))
                .map(|(address, port)| format!("{}:{port}", address.host))
                .collect();
            // One pod may stand in two slices while they are rewritten.
            found.sort_unstable();
            found.dedup();
            found.into_iter().map(|address| Endpoint { address, weight: 1.0 }).collect()
        };
        let ready = chosen(|address| address.ready);
        // Those that are about to end are better than none.
        if ready.is_empty() { chosen(|address| address.serving) } else { ready }
    };
    for task in &mut routes.tasks {
        if let Some(service) = task.service.take() {
            task.endpoints = endpoints(&service);
        }
        for share in [&mut task.canary, &mut task.mirror] {
            if let Some(service) = share.as_mut().and_then(|share| share.service.take())
                && let Some(share) = share
            {
                share.endpoints = endpoints(&service);
            }
            // A share that has nowhere to go stays with the task's own servers.
            if share.as_ref().is_some_and(|share| share.endpoints.is_empty()) {
                *share = None;
            }
        }
    }
    routes
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const ROUTES: &str = r#"{"apiVersion": "unimodel.dev/v1alpha1", "kind": "Routes", "tasks": [
        {"name": "search", "service": {"namespace": "n", "name": "um-search", "port": "http"},
         "canary": {"percent": 5, "service": {"namespace": "n", "name": "um-cheap", "port": "http"}}},
        {"name": "fixed", "endpoints": [{"address": "10.9.9.9:8080"}]}]}"#;

    fn slice(name: &str, service: &str, endpoints: &[(&str, bool, bool)]) -> EndpointSlice {
        let endpoints: Vec<serde_json::Value> = endpoints
            .iter()
            .map(|(address, ready, serving)| {
                serde_json::json!({"addresses": [address], "conditions": {"ready": ready, "serving": serving}})
            })
            .collect();
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": endpoints,
        }))
        .unwrap()
    }

    fn addresses(known: &Known) -> Vec<Vec<String>> {
        let routes = resolve(routes::parse("r", ROUTES).unwrap(), &known.slices);
        let names = |endpoints: &[Endpoint]| endpoints.iter().map(|e| e.address.clone()).collect();
        let task = &routes.tasks[0];
        let canary = task.canary.as_ref().map(|share| names(&share.endpoints)).unwrap_or_default();
        vec![names(&task.endpoints), canary, names(&routes.tasks[1].endpoints)]
    }

    #[test]
    fn ready_pods_answer_and_ending_ones_only_where_there_is_no_other() {
        let mut known = Known::default();
        assert!(known.take(Event::Apply(slice(
            "a",
            "um-search",
            &[("10.0.0.2", true, true), ("10.0.0.1", true, true)]
        ))));
        known.take(Event::Apply(slice("b", "um-search", &[("10.0.0.3", false, true), ("10.0.0.2", true, true)])));
        let fixed = || vec!["10.9.9.9:8080".to_owned()];
        assert_eq!(addresses(&known), [vec!["10.0.0.1:8080".into(), "10.0.0.2:8080".into()], vec![], fixed()]);
        known.take(Event::Apply(slice("c", "um-cheap", &[("10.0.0.7", true, true)])));
        assert_eq!(addresses(&known)[1], ["10.0.0.7:8080"]);
        let ending = slice("a", "um-search", &[("10.0.0.2", false, true), ("10.0.0.1", false, false)]);
        known.take(Event::Apply(ending.clone()));
        assert!(!known.take(Event::Apply(ending)), "the same is no change");
        known.take(Event::Delete(slice("b", "um-search", &[])));
        assert_eq!(addresses(&known)[0], ["10.0.0.2:8080"]);
    }

    #[test]
    fn while_a_list_is_read_again_what_was_known_holds() {
        let mut known = Known::default();
        let one = || slice("a", "um-search", &[("10.0.0.1", true, true)]);
        known.take(Event::Init);
        known.take(Event::InitApply(one()));
        assert!(!known.complete);
        assert!(known.take(Event::InitDone));
        assert!(known.complete);
        known.take(Event::Init);
        assert_eq!(addresses(&known)[0], ["10.0.0.1:8080"]);
        known.take(Event::InitApply(one()));
        assert!(!known.take(Event::InitDone), "the same is no change");
        known.take(Event::Init);
        assert!(known.take(Event::InitDone));
        assert!(addresses(&known)[0].is_empty());
    }
}
