//! What watches have said of the cluster, by the object that it belongs to. Objects are kept as small as they are needed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::{Resource, ResourceExt};
use serde_json::Value;
use unimodel_crds::{UnifiedModel, UnifiedModelStatus};

use super::child::{Observed, version};
use super::children::{Child, Kind};
use super::names;
use super::pods::PodFacts;
use super::wire::{WireChild, WirePod};

/// A UnifiedModel by namespace and name.
pub type Key = (Arc<str>, Arc<str>);

/// All that is known of one UnifiedModel.
#[derive(Clone, Debug, Default)]
pub struct Family {
    /// The object; none where only its children are left.
    pub object: Option<Arc<UnifiedModel>>,
    /// Its children.
    pub children: BTreeMap<(Kind, String), Arc<Observed>>,
    /// Its pods.
    pub pods: BTreeMap<String, Arc<PodFacts>>,
    /// What is being written. A watch may tell of it before the answer does: that is no news.
    writing: BTreeMap<(Kind, String), Arc<Value>>,
    /// The same of the object's status.
    telling: Option<UnifiedModelStatus>,
}

impl Family {
    /// Whether the object has been worked on before, also by another operator that ended then.
    pub fn is_begun(&self) -> bool {
        !self.children.is_empty() || self.object.as_deref().is_some_and(is_begun)
    }

    fn is_empty(&self) -> bool {
        self.object.is_none() && self.children.is_empty() && self.pods.is_empty()
    }
}

/// The cluster as watches have told it.
#[derive(Default)]
pub struct Cluster(Mutex<HashMap<Key, Family>>);

impl Cluster {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Family>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that is known of one.
    pub fn family(&self, key: &Key) -> Option<Family> {
        self.lock().get(key).cloned()
    }

    /// All that there are, and whether each has been begun.
    pub fn keys(&self) -> Vec<(Key, bool)> {
        let families = self.lock();
        families.iter().map(|(key, family)| (key.clone(), family.is_begun())).collect()
    }

    /// Takes an object, unless a later state of it is known. Whose it is, and whether it is news.
    pub fn put_object(&self, object: UnifiedModel) -> (Key, News) {
        let key = key(&object.namespace().unwrap_or_default(), &object.name_any());
        let mut families = self.lock();
        let family = families.entry(key.clone()).or_default();
        let of = |object: &UnifiedModel| version(object.metadata.resource_version.as_deref());
        let known = family.object.as_deref().filter(|known| known.metadata.uid == object.metadata.uid);
        if known.is_some_and(|known| of(known) >= of(&object)) {
            return (key, News::None);
        }
        let asks = |object: &UnifiedModel| {
            let metadata = &object.metadata;
            (metadata.generation, metadata.annotations.clone(), metadata.deletion_timestamp.clone())
        };
        let told = family.telling.is_some() && family.telling == object.status;
        let news =
            if told && known.is_some_and(|known| asks(known) == asks(&object)) { News::None } else { News::Quick };
        family.object = Some(Arc::new(object));
        (key, news)
    }

    /// A status is about to be written.
    pub fn telling(&self, key: &Key, status: &UnifiedModelStatus) {
        if let Some(family) = self.lock().get_mut(key) {
            family.telling = Some(status.clone());
        }
    }

    /// It has been written, and what the object is since; or it has not.
    pub fn told(&self, key: &Key, object: Option<UnifiedModel>) {
        if let Some(family) = self.lock().get_mut(key) {
            family.telling = None;
        }
        object.map(|object| self.put_object(object));
    }

    /// An object is gone.
    pub fn remove_object(&self, key: Key) -> Key {
        self.change(key, |family| family.object = None)
    }

    /// Takes a child, unless a later state of it is known. Whose it is, and whether something of it has changed.
    pub fn put_child(&self, kind: Kind, object: WireChild) -> Option<(Key, News)> {
        let key = owner_of(&object)?;
        let place = (kind, object.name_any());
        let mut families = self.lock();
        let family = families.entry(key.clone()).or_default();
        let known = family.children.get(&place).filter(|known| Some(&known.uid) == object.metadata.uid.as_ref());
        // Most are what was written a moment ago: they are not looked into.
        if known.is_some_and(|known| known.version >= version(object.metadata.resource_version.as_deref())) {
            return Some((key, News::None));
        }
        let observed = Observed::new(kind, object, known.map(Arc::as_ref));
        let same = known.is_some_and(|known| known.says_the_same(&observed));
        let ours = || family.writing.get(&place).is_some_and(|wanted| observed.is_as(wanted));
        let news = if same || ours() { News::None } else { News::Quick };
        family.children.insert(place, Arc::new(observed));
        Some((key, news))
    }

    /// A child is about to be written.
    pub fn writing(&self, key: &Key, child: &Child) {
        if let Some(family) = self.lock().get_mut(key) {
            family.writing.insert((child.kind, child.name.clone()), child.value.clone());
        }
    }

    /// It has been written, and what it is since; or it has not.
    pub fn wrote(&self, key: &Key, child: &Child, object: Option<WireChild>) {
        object.map(|object| self.put_child(child.kind, object));
        let place = (child.kind, child.name.clone());
        if let Some(family) = self.lock().get_mut(key) {
            family.writing.remove(&place);
            // Compared while what was wanted is at hand.
            family.children.get(&place).map(|observed| observed.is_as(&child.value));
        }
    }

    /// A child is gone.
    pub fn remove_child(&self, kind: Kind, key: Key, name: &str) -> Key {
        self.change(key, |family| drop(family.children.remove(&(kind, name.to_owned()))))
    }

    /// Takes a pod. Whose it is, and whether something of it has changed.
    pub fn put_pod(&self, pod: &WirePod) -> Option<(Key, News)> {
        let key = owner_of(pod)?;
        let (name, facts) = (pod.name_any(), PodFacts::new(pod));
        let mut families = self.lock();
        let pods = &mut families.entry(key.clone()).or_default().pods;
        let known = pods.get(&name);
        if known.is_some_and(|known| **known == facts) {
            return Some((key, News::None));
        }
        let comes = |pod: &PodFacts| !pod.ready && !pod.ending && pod.trouble.is_none();
        // What does not run yet can be asked nothing, and a gateway never is: it is looked at with those that come up beside it.
        let waits = if facts.running {
            facts.task.is_none() && pods.iter().any(|(other, pod)| *other != name && comes(pod))
        } else {
            comes(&facts)
        };
        let news = if waits && known.is_none_or(|known| comes(known)) { News::Slow } else { News::Quick };
        pods.insert(name, Arc::new(facts));
        Some((key, news))
    }

    /// A pod is gone.
    pub fn remove_pod(&self, key: Key, name: &str) -> Key {
        self.change(key, |family| drop(family.pods.remove(name)))
    }

    fn change(&self, key: Key, change: impl FnOnce(&mut Family)) -> Key {
        let mut families = self.lock();
        if let Some(family) = families.get_mut(&key) {
            change(family);
            if family.is_empty() {
                families.remove(&key);
            }
        }
        key
    }

    /// Names of all objects, children or pods in a scope that a whole list did not name. `kind` of `None`: pods;
    /// `namespace` of `None`: everywhere.
    pub fn unlisted(
        &self,
        what: What,
        namespace: Option<&str>,
        listed: &BTreeSet<(Key, String)>,
    ) -> Vec<(Key, String)> {
        let families = self.lock();
        let within = families.iter().filter(|(key, _)| namespace.is_none_or(|namespace| &*key.0 == namespace));
        within
            .flat_map(|(key, family)| {
                let names: Vec<String> = match what {
                    What::Object => family.object.iter().map(|object| object.name_any()).collect(),
                    What::Pod => family.pods.keys().cloned().collect(),
                    What::Child(kind) => {
                        family.children.keys().filter(|(k, _)| *k == kind).map(|(_, name)| name.clone()).collect()
                    }
                };
                names.into_iter().map(|name| (key.clone(), name))
            })
            .filter(|entry| !listed.contains(entry))
            .collect()
    }
}

/// Whether something is to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// It is known already.
    None,
    /// It is only on its way: more will follow that is to be looked at anyway.
    Slow,
    /// It is.
    Quick,
}

/// What a watch is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// UnifiedModels.
    Object,
    /// Children of a kind.
    Child(Kind),
    /// Pods.
    Pod,
}

/// Whether an object says that it has been worked on before: it has a status of this or an earlier state of it.
pub fn is_begun(object: &UnifiedModel) -> bool {
    object.status.as_ref().is_some_and(|status| status.observed_generation.is_some())
}

/// A key from a namespace and a name.
pub fn key(namespace: &str, name: &str) -> Key {
    (namespace.into(), name.into())
}

/// Whose an object is: by its owner, or as pods have it, by its labels.
pub fn owner_of<K: Resource>(object: &K) -> Option<Key> {
    let meta = object.meta();
    let owner = meta.owner_references.iter().flatten().find(|owner| owner.kind == "UnifiedModel");
    let label = || meta.labels.as_ref()?.get(names::MODEL).map(String::as_str);
    Some(key(meta.namespace.as_deref()?, owner.map(|owner| owner.name.as_str()).or_else(label)?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::super::children::APPLIED;
    use super::*;

    fn map(version: u32, data: &str, annotation: &str) -> WireChild {
        let owner = json!({"apiVersion": "v", "kind": "UnifiedModel", "name": "m", "uid": "o", "controller": true});
        let object = json!({
            "metadata": {"name": "c", "namespace": "n", "uid": "u", "resourceVersion": version.to_string(),
                "annotations": {(APPLIED): "d", (annotation): "1"}, "ownerReferences": [owner]},
            "data": {"a": data},
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn what_is_known_already_is_no_news_and_what_somebody_changed_is() {
        let cluster = Cluster::default();
        let news = |child| cluster.put_child(Kind::ConfigMap, child).unwrap().1 == News::Quick;
        let has = |data: &str| {
            let family = cluster.family(&key("n", "m")).unwrap();
            let observed = &family.children[&(Kind::ConfigMap, "c".to_owned())];
            observed.is_as(&json!({"metadata": {"annotations": {(APPLIED): "d"}}, "data": {"a": data}}))
        };
        assert!(news(map(2, "x", "other")));
        assert!(!news(map(2, "x", "other")) && !news(map(1, "y", "other")), "an echo, and an old state");
        assert!(has("x"));
        assert!(!news(map(3, "x", "other")), "another version that says the same");
        assert!(has("x"));
        assert!(news(map(4, "y", "other")));
        assert!(!has("x"));
        assert!(news(map(5, "y", "deployment.kubernetes.io/revision")));
        assert!(!news(map(6, "y", "deployment.kubernetes.io/more")), "a controller's own count");
    }

    #[test]
    fn what_is_being_written_is_no_news_and_what_somebody_else_makes_of_it_is() {
        let cluster = Cluster::default();
        let family = key("n", "m");
        let child = |data: &str| {
            let value = json!({"metadata": {"annotations": {(APPLIED): "d"}}, "data": {"a": data}});
            Child { kind: Kind::ConfigMap, name: "c".into(), value: Arc::new(value) }
        };
        let news = |object| cluster.put_child(Kind::ConfigMap, object).unwrap().1;
        assert_eq!(news(map(1, "w", "other")), News::Quick);
        cluster.writing(&family, &child("x"));
        assert_eq!(news(map(2, "x", "other")), News::None);
        assert_eq!(news(map(3, "y", "other")), News::Quick, "before the answer");
        cluster.wrote(&family, &child("x"), Some(map(2, "x", "other")));
        assert_eq!(cluster.family(&family).unwrap().children[&(Kind::ConfigMap, "c".to_owned())].version, 3);
        cluster.writing(&family, &child("z"));
        cluster.wrote(&family, &child("z"), None);
        assert_eq!(news(map(4, "z", "other")), News::Quick, "nothing is being written any more");
    }

    #[test]
    fn pods_that_come_up_are_looked_at_together() {
        let cluster = Cluster::default();
        let put = |name: &str, task: Option<&str>, running: bool| {
            let mut labels = json!({(names::MODEL): "m"});
            if let Some(task) = task {
                labels[names::TASK] = task.into();
            }
            let state =
                if running { json!({"running": {}}) } else { json!({"waiting": {"reason": "ContainerCreating"}}) };
            let ready = json!({"type": "Ready", "status": if running { "True" } else { "False" }});
            let container =
                json!({"name": "c", "image": "i", "imageID": "", "ready": running, "restartCount": 0, "state": state});
            let pod = json!({
                "metadata": {"name": name, "namespace": "n", "uid": name, "labels": labels},
                "status": {"conditions": [ready], "containerStatuses": [container]},
            });
            cluster.put_pod(&serde_json::from_value(pod).unwrap()).unwrap().1
        };
        for (name, task) in [("gateway1", None), ("gateway2", None), ("server", Some("search"))] {
            assert_eq!(put(name, task, false), News::Slow);
        }
        assert_eq!(put("gateway1", None, true), News::Slow, "others come up beside it");
        assert_eq!(put("gateway1", None, true), News::None);
        assert_eq!(put("server", Some("search"), true), News::Quick, "it is to be asked");
        assert_eq!(put("gateway2", None, true), News::Quick, "the last");
        assert_eq!(put("gateway2", None, false), News::Quick, "what has run is not on its way");
    }
}
