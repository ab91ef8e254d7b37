//! Watches: one for each kind and namespace, each with a back-off of its own, so that one that is refused slows no other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};

use super::children::Kind;
use super::metrics::Metrics;
use super::names;
use super::observed::{Cluster, Key, News, What, is_begun, key, owner_of};
use super::queue::{Class, Queue};
use super::wire::{WireChild, WireModel, WirePod};
use crate::rbac::Rule;

/// Seconds after which the API server ends a watch, and it is begun again: a connection that the network has forgotten is
/// given up soon after that.
const TURN: u32 = 60;

/// What this needs, in each namespace that is watched. `list` and `watch` of ConfigMaps and EndpointSlices are also what
/// gateways are given: nobody can give more than they have. `get` is for a child of whose name there is another's.
pub const RULES: &[Rule] = &[
    Rule::new("unimodel.dev", &["unifiedmodels"], &["list", "watch"]),
    Rule::new("", &["pods"], &["list", "watch"]),
    Rule::new("", &["configmaps", "services", "serviceaccounts"], &["get", "list", "watch"]),
    Rule::new("apps", &["deployments"], &["get", "list", "watch"]),
    Rule::new("policy", &["poddisruptionbudgets"], &["get", "list", "watch"]),
    Rule::new("autoscaling", &["horizontalpodautoscalers"], &["get", "list", "watch"]),
    Rule::new("rbac.authorization.k8s.io", &["roles", "rolebindings"], &["get", "list", "watch"]),
    Rule::new("discovery.k8s.io", &["endpointslices"], &["list", "watch"]),
];

/// How many objects a list brings at a time: all of them together would be most of the memory that is ever needed.
const PAGE: u32 = 100;

/// Changes come in bursts: what follows within this time is looked at together. Somebody waits for the answer to an edit,
/// while a pod that comes up changes several times, and its neighbours beside it.
const GATHER: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(100));

/// Of what is only on its way.
const COMES: Duration = Duration::from_secs(1);

/// A stream that has gone on failing for so long has no hiccup.
const DEAD: Duration = Duration::from_secs(300);

/// A stream that has been silent for so long since an error goes on as it should: nothing says so until something changes,
/// and one that cannot begin again tells of the next error before, after its longest back-off and a connection's time limit.
const SILENCE: Duration = Duration::from_secs(120);

/// How the watches are.
#[derive(Debug, Default)]
pub struct Health(Mutex<BTreeMap<String, Stream>>);

#[derive(Debug, Default)]
struct Stream {
    synced: bool,
    failing: Option<Failing>,
}

/// Errors that follow each other.
#[derive(Clone, Copy, Debug)]
struct Failing {
    since: Instant,
    last: Instant,
}

impl Stream {
    fn succeeded(&mut self) {
        self.failing = None;
    }

    /// An error came. Whether it is the first one.
    fn failed(&mut self, now: Instant) -> bool {
        let before = self.failing(now).map(|failing| failing.since);
        self.failing = Some(Failing { since: before.unwrap_or(now), last: now });
        before.is_none()
    }

    fn failing(&self, now: Instant) -> Option<Failing> {
        self.failing.filter(|failing| now.duration_since(failing.last) <= SILENCE)
    }

    fn is_dead(&self, now: Instant) -> bool {
        self.failing(now).is_some_and(|failing| now.duration_since(failing.since) > DEAD)
    }
}

impl Health {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Stream>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches that have not been told of everything yet.
    pub fn missing(&self) -> Vec<String> {
        self.lock().iter().filter(|(_, stream)| !stream.synced).map(|(name, _)| name.clone()).collect()
    }

    /// Watches that have failed for long, and still do.
    pub fn dead(&self, now: Instant) -> Vec<String> {
        self.lock().iter().filter(|(_, stream)| stream.is_dead(now)).map(|(name, _)| name.clone()).collect()
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Stream)) {
        change(self.lock().entry(name.to_owned()).or_default());
    }
}

/// What watches tell.
#[derive(Clone)]
pub struct Watches {
    /// The way to the API server.
    pub client: Client,
    /// Where it is kept.
    pub cluster: Arc<Cluster>,
    /// Who is told.
    pub queue: Arc<Queue>,
    /// How they are.
    pub health: Arc<Health>,
    /// Where errors are counted.
    pub metrics: Metrics,
}

impl Watches {
    /// Begins all watches in that namespace, or everywhere.
    pub fn begin(&self, namespace: Option<&str>) {
        let (client, within) = (&self.client, namespace.map(str::to_owned));
        let objects = match namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        };
        self.follow::<WireModel>(
            "UnifiedModel",
            What::Object,
            within.clone(),
            objects,
            watcher::Config::default().timeout(TURN).page_size(PAGE),
        );
        let ours = || {
            watcher::Config::default().timeout(TURN).page_size(PAGE).labels(&format!(
                "{}={}",
                names::MANAGED_BY,
                names::MANAGER
            ))
        };
        let pods = match namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        };
        self.follow::<WirePod>("Pod", What::Pod, within.clone(), pods, ours());
        for kind in Kind::ALL {
            let resource = kind.resource();
            let children = match namespace {
                Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
                None => Api::all_with(client.clone(), &resource),
            };
            self.follow::<WireChild>(kind.name(), What::Child(kind), within.clone(), children, ours());
        }
    }

    fn follow<K>(&self, kind: &'static str, what: What, namespace: Option<String>, api: Api<K>, config: watcher::Config)
    where
        K: Seen + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
    {
        let name = namespace.as_deref().map_or_else(|| kind.to_owned(), |namespace| format!("{kind} in {namespace}"));
        self.health.change(&name, |_| {});
        let errors = self.metrics.watch_errors(kind);
        let mut follower = Follower { watches: self.clone(), what, namespace, listed: BTreeSet::new() };
        tokio::spawn(async move {
            let mut events = std::pin::pin!(watcher(api, config).default_backoff());
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => {
                        let done = matches!(event, Event::InitDone);
                        follower.watches.health.change(&name, |stream| {
                            stream.succeeded();
                            stream.synced |= done;
                        });
                        follower.take(event);
                    }
                    Err(error) => {
                        let mut first = false;
                        follower.watches.health.change(&name, |stream| first = stream.failed(Instant::now()));
                        if first {
                            tracing::warn!(watch = name, %error, "a watch fails; it is tried again");
                        }
                        errors.inc();
                    }
                }
            }
        });
    }
}

/// What one watch keeps.
struct Follower {
    watches: Watches,
    what: What,
    namespace: Option<String>,
    /// What a list has named that is not whole yet.
    listed: BTreeSet<(Key, String)>,
}

impl Follower {
    fn take<K: Seen>(&mut self, event: Event<K>) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(object) => {
                let entry = owner(self.what, &object).zip(object.meta().name.clone());
                self.listed.extend(entry);
                self.put(object);
            }
            Event::Apply(object) => self.put(object),
            Event::Delete(object) => {
                if let (Some(key), Some(name)) = (owner(self.what, &object), object.meta().name.clone()) {
                    self.remove(key, &name);
                }
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                let gone = self.watches.cluster.unlisted(self.what, self.namespace.as_deref(), &listed);
                for (key, name) in gone {
                    self.remove(key, &name);
                }
            }
        }
    }

    fn put<K: Seen>(&self, object: K) {
        let class = object.class();
        let Some((key, news)) = object.put(&self.watches.cluster, self.what) else { return };
        let gather = match news {
            News::None => return,
            News::Slow => COMES,
            News::Quick if self.what == What::Object => GATHER.0,
            News::Quick => GATHER.1,
        };
        self.watches.queue.add(key, class, gather);
    }

    fn remove(&self, key: Key, name: &str) {
        let cluster = &self.watches.cluster;
        let key = match self.what {
            What::Object => cluster.remove_object(key),
            What::Child(kind) => cluster.remove_child(kind, key, name),
            What::Pod => cluster.remove_pod(key, name),
        };
        self.watches.queue.add(key, Class::Begun, GATHER.0);
    }
}

/// Whose an object is: its own, or its owner's.
fn owner<K: Resource>(what: What, object: &K) -> Option<Key> {
    let meta = object.meta();
    match what {
        What::Object => Some(key(meta.namespace.as_deref()?, meta.name.as_deref()?)),
        What::Child(_) | What::Pod => owner_of(object),
    }
}

/// An object that is kept. `put`: whose it is, and whether something has changed.
trait Seen: Resource + Sized {
    fn put(self, cluster: &Cluster, what: What) -> Option<(Key, News)>;

    fn class(&self) -> Class {
        Class::Begun
    }
}

impl Seen for WireModel {
    fn put(self, cluster: &Cluster, _: What) -> Option<(Key, News)> {
        match self.0 {
            Ok(object) => Some(cluster.put_object(object)),
            Err((metadata, error)) => {
                let name = metadata.name.unwrap_or_default();
                tracing::error!(name, error, "a UnifiedModel of another release cannot be read");
                None
            }
        }
    }

    fn class(&self) -> Class {
        if self.0.as_ref().is_ok_and(is_begun) { Class::Begun } else { Class::New }
    }
}

impl Seen for WirePod {
    fn put(self, cluster: &Cluster, _: What) -> Option<(Key, News)> {
        cluster.put_pod(&self)
    }
}

impl Seen for WireChild {
    fn put(self, cluster: &Cluster, what: What) -> Option<(Key, News)> {
        let What::Child(kind) = what else { return None };
        cluster.put_child(kind, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn one_error_and_then_silence_is_no_dead_watch() {
        let now = Instant::now();
        let mut stream = Stream::default();
        assert!(stream.failed(now));
        for minute in 1..20 {
            assert!(!stream.is_dead(now + MINUTE * minute), "{minute}");
        }
        // The next one, long after, is a first one again.
        assert!(stream.failed(now + MINUTE * 20));
        assert!(!stream.is_dead(now + MINUTE * 21));
    }

    #[test]
    fn errors_that_go_on_are() {
        let now = Instant::now();
        let mut stream = Stream::default();
        for minute in 0..6 {
            assert_eq!(stream.failed(now + MINUTE * minute), minute == 0);
            assert!(!stream.is_dead(now + MINUTE * minute), "{minute}");
        }
        assert!(stream.is_dead(now + MINUTE * 5 + Duration::from_secs(1)));
        stream.succeeded();
        assert!(!stream.is_dead(now + MINUTE * 6));
    }
}
