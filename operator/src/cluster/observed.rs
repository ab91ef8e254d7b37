//! What watches have said of the cluster, by the object that it belongs to. Objects are kept as small as they are needed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::{Resource, ResourceExt};
use serde_json::{Value, json};
use unimodel_crds::UnifiedModel;

use super::children::{APPLIED, Kind, REPLICAS_BY, TEMPLATE};
use super::compare::holds;
use super::names;
use super::pods::PodFacts;
use super::wire::{WireChild, WirePod};
use crate::snapshot::Trouble;

/// A UnifiedModel by namespace and name.
pub type Key = (Arc<str>, Arc<str>);

/// A child as the API server has it.
#[derive(Debug)]
pub struct Observed {
    /// Its uid.
    pub uid: String,
    /// Its version: it grows with every change.
    pub version: u64,
    /// The uid of whom it belongs to.
    pub owner_uid: Option<String>,
    /// What was applied, by its annotation.
    pub applied: Option<String>,
    /// It is about to go.
    pub ending: bool,
    /// Of a Deployment, what else is needed of it.
    pub deployment: Option<DeploymentFacts>,
    /// Of a ConfigMap, the gateway's routes.
    pub routes: Option<Box<str>>,
    /// A digest of its fields: it is another one where somebody has changed them.
    digest: u64,
    fields: Mutex<Fields>,
}

/// A child's fields, until it is known whether they are as they should be. Most of the operator's memory would be theirs.
#[derive(Debug)]
enum Fields {
    /// As JSON: a tenth of what the same takes as a tree.
    Json(Box<[u8]>),
    /// Whether it has all that was applied.
    Compared(bool),
}

/// What is needed of a Deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeploymentFacts {
    /// How many pods it asks for.
    pub replicas: Option<u32>,
    /// An autoscaler says so.
    pub autoscaled: bool,
    /// Our own word for that number is the last one: were it taken back, there would be one pod.
    pub replicas_are_ours: bool,
    /// Its pods' template, by a digest.
    pub template: Option<String>,
    /// Why it cannot make pods.
    pub trouble: Option<Trouble>,
}

impl DeploymentFacts {
    /// Takes what is needed of a Deployment.
    pub fn new(object: &WireChild) -> Self {
        let (spec, annotations) = (object.fields.get("spec").unwrap_or(&Value::Null), &object.metadata.annotations);
        let failure = object.conditions.iter().find(|c| c.type_ == "ReplicaFailure" && c.status == "True");
        Self {
            replicas: spec["replicas"].as_u64().and_then(|count| u32::try_from(count).ok()),
            autoscaled: annotations.as_ref().and_then(|all| all.get(REPLICAS_BY)).is_some_and(|by| by == "autoscaler"),
            replicas_are_ours: object.replicas_are_ours,
            template: spec["template"]["metadata"]["annotations"][TEMPLATE].as_str().map(str::to_owned),
            trouble: failure.map(|condition| Trouble::new(&condition.reason, &condition.message)),
        }
    }
}

impl Observed {
    /// Takes what is needed of an object.
    pub fn new(kind: Kind, object: WireChild) -> Self {
        let deployment = (kind == Kind::Deployment).then(|| DeploymentFacts::new(&object));
        let WireChild { metadata, fields, .. } = object;
        let mut annotations = metadata.annotations.unwrap_or_default();
        // The controller counts a Deployment's templates there: nobody's edit.
        annotations.retain(|name, _| !name.starts_with("deployment.kubernetes.io/"));
        let routes = fields.get("data").and_then(|data| data["routes.json"].as_str()).map(Box::from);
        let mut kept = json!({
            // Entries of a list do not say so themselves.
            "apiVersion": kind.resource().api_version,
            "kind": kind.name(),
            "metadata": {
                "name": metadata.name,
                "namespace": metadata.namespace,
                "labels": metadata.labels,
                "annotations": annotations,
                "ownerReferences": metadata.owner_references,
            },
        });
        if let Value::Object(kept) = &mut kept {
            kept.extend(fields);
        }
        let json = serde_json::to_vec(&kept).unwrap_or_default().into_boxed_slice();
        let mut hasher = DefaultHasher::new();
        hasher.write(&json);
        let owner = metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
        Self {
            owner_uid: owner.map(|owner| owner.uid.clone()),
            uid: metadata.uid.unwrap_or_default(),
            version: version(metadata.resource_version.as_deref()),
            ending: metadata.deletion_timestamp.is_some(),
            applied: annotations.remove(APPLIED),
            deployment,
            routes,
            digest: hasher.finish(),
            fields: Mutex::new(Fields::Json(json)),
        }
    }

    /// Whether it has all that is wanted, which must be what was applied: then the answer stays the same.
    pub fn has_all(&self, wanted: &Value) -> bool {
        let mut fields = self.fields.lock().unwrap_or_else(PoisonError::into_inner);
        match &*fields {
            Fields::Compared(whole) => *whole,
            Fields::Json(json) => {
                let found: Value = serde_json::from_slice(json).unwrap_or_default();
                let whole = holds(wanted, &found);
                *fields = Fields::Compared(whole);
                whole
            }
        }
    }

    fn compared(&self) -> Option<bool> {
        match *self.fields.lock().unwrap_or_else(PoisonError::into_inner) {
            Fields::Compared(whole) => Some(whole),
            Fields::Json(_) => None,
        }
    }

    fn says_the_same(&self, other: &Self) -> bool {
        (self.digest, self.ending, &self.deployment) == (other.digest, other.ending, &other.deployment)
    }
}

/// A resource version as a number. They are numbers, and grow, in every API server that there is.
fn version(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// All that is known of one UnifiedModel.
#[derive(Clone, Debug, Default)]
pub struct Family {
    /// The object; none where only its children are left.
    pub object: Option<Arc<UnifiedModel>>,
    /// Its children.
    pub children: BTreeMap<(Kind, String), Arc<Observed>>,
    /// Its pods.
    pub pods: BTreeMap<String, Arc<PodFacts>>,
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
    pub fn put_object(&self, mut object: UnifiedModel) -> (Key, bool) {
        // Half of its size, and nobody asks for it.
        object.metadata.managed_fields = None;
        let key = key(&object.namespace().unwrap_or_default(), &object.name_any());
        let mut families = self.lock();
        let family = families.entry(key.clone()).or_default();
        let of = |object: &UnifiedModel| version(object.metadata.resource_version.as_deref());
        let news = family
            .object
            .as_ref()
            .is_none_or(|known| known.metadata.uid != object.metadata.uid || of(known) < of(&object));
        if news {
            family.object = Some(Arc::new(object));
        }
        (key, news)
    }

    /// An object is gone.
    pub fn remove_object(&self, key: Key) -> Key {
        self.change(key, |family| family.object = None)
    }

    /// Takes a child, unless a later state of it is known. Whose it is, and whether something of it has changed.
    pub fn put_child(&self, kind: Kind, object: WireChild) -> Option<(Key, bool)> {
        let key = owner_of(&object)?;
        let place = (kind, object.name_any());
        let uid = object.metadata.uid.clone().unwrap_or_default();
        let version = version(object.metadata.resource_version.as_deref());
        let is_old = |known: Option<&Arc<Observed>>| known.is_some_and(|k| k.uid == uid && k.version >= version);
        // Most are what was written a moment ago: they are not looked into.
        if is_old(self.lock().get(&key).and_then(|family| family.children.get(&place))) {
            return Some((key, false));
        }
        let mut observed = Observed::new(kind, object);
        let mut families = self.lock();
        let children = &mut families.entry(key.clone()).or_default().children;
        let known = children.get(&place);
        if is_old(known) {
            return Some((key, false));
        }
        let same = known.filter(|known| known.uid == observed.uid && known.says_the_same(&observed));
        let news = same.is_none();
        if let Some(whole) = same.and_then(|same| same.compared()) {
            observed.fields = Mutex::new(Fields::Compared(whole));
        }
        children.insert(place, Arc::new(observed));
        Some((key, news))
    }

    /// A child is gone.
    pub fn remove_child(&self, kind: Kind, key: Key, name: &str) -> Key {
        self.change(key, |family| drop(family.children.remove(&(kind, name.to_owned()))))
    }

    /// Takes a pod. Whose it is, and whether something of it has changed.
    pub fn put_pod(&self, pod: &WirePod) -> Option<(Key, bool)> {
        let key = owner_of(pod)?;
        let (name, facts) = (pod.name_any(), PodFacts::new(pod));
        let mut families = self.lock();
        let pods = &mut families.entry(key.clone()).or_default().pods;
        let news = pods.get(&name).is_none_or(|known| **known != facts);
        if news {
            pods.insert(name, Arc::new(facts));
        }
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
        let news = |child| cluster.put_child(Kind::ConfigMap, child).unwrap().1;
        let has = |data: &str| {
            let family = cluster.family(&key("n", "m")).unwrap();
            let observed = &family.children[&(Kind::ConfigMap, "c".to_owned())];
            (observed.applied.clone(), observed.has_all(&json!({"data": {"a": data}})))
        };
        assert!(news(map(2, "x", "other")));
        assert!(!news(map(2, "x", "other")) && !news(map(1, "y", "other")), "an echo, and an old state");
        assert_eq!(has("x"), (Some("d".to_owned()), true));
        assert!(!news(map(3, "x", "other")), "another version that says the same");
        assert_eq!(has("x"), (Some("d".to_owned()), true));
        assert!(news(map(4, "y", "other")));
        assert_eq!(has("x"), (Some("d".to_owned()), false));
        assert!(news(map(5, "y", "deployment.kubernetes.io/revision")));
        assert!(!news(map(6, "y", "deployment.kubernetes.io/more")), "a controller's own count");
    }
}
