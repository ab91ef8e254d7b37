//! What watches have said of the cluster, by the object that it belongs to. Objects are kept as small as they are needed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use kube::core::DynamicObject;
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};
use unimodel_crds::UnifiedModel;

use super::children::{APPLIED, Kind, REPLICAS_BY, TEMPLATE};
use super::compare::holds;
use super::names;
use super::pods::PodFacts;
use crate::snapshot::Trouble;

/// A UnifiedModel by namespace and name.
pub type Key = (Arc<str>, Arc<str>);

/// A child as the API server has it.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Its fields, as JSON: a tenth of what the same takes as a tree.
    json: Box<[u8]>,
    /// Whether it has all that was applied.
    whole: OnceLock<bool>,
}

/// What is needed of a Deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeploymentFacts {
    /// How many pods it asks for.
    pub replicas: Option<u32>,
    /// An autoscaler says so.
    pub autoscaled: bool,
    /// Its pods' template, by a digest.
    pub template: Option<String>,
    /// Why it cannot make pods.
    pub trouble: Option<Trouble>,
}

impl DeploymentFacts {
    fn new(object: &DynamicObject) -> Self {
        let (data, annotations) = (&object.data, object.metadata.annotations.as_ref());
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let conditions = data["status"]["conditions"].as_array().into_iter().flatten();
        let failure = conditions.into_iter().find(|c| c["type"] == "ReplicaFailure" && c["status"] == "True");
        Self {
            replicas: data["spec"]["replicas"].as_u64().and_then(|count| u32::try_from(count).ok()),
            autoscaled: annotations.and_then(|all| all.get(REPLICAS_BY)).is_some_and(|by| by == "autoscaler"),
            template: text(&data["spec"]["template"]["metadata"]["annotations"][TEMPLATE]),
            trouble: failure.map(|condition| {
                let said = |name: &str| text(&condition[name]).unwrap_or_default();
                Trouble::new(said("reason"), said("message"))
            }),
        }
    }
}

impl Observed {
    /// Takes what is needed of an object.
    pub fn new(kind: Kind, object: DynamicObject) -> Self {
        let metadata = &object.metadata;
        let owner = metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
        let deployment = (kind == Kind::Deployment).then(|| DeploymentFacts::new(&object));
        let mut data = object.data;
        if let Value::Object(fields) = &mut data {
            fields.remove("status");
        }
        let mut kept = json!({
            // Entries of a list do not say so themselves.
            "apiVersion": kind.resource().api_version,
            "kind": kind.name(),
            "metadata": {
                "name": metadata.name,
                "namespace": metadata.namespace,
                "labels": metadata.labels,
                "annotations": metadata.annotations,
                "ownerReferences": metadata.owner_references,
            },
        });
        if let (Value::Object(kept), Value::Object(data)) = (&mut kept, data) {
            kept.extend(data);
        }
        Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            version: version(metadata.resource_version.as_deref()),
            owner_uid: owner.map(|owner| owner.uid.clone()),
            ending: metadata.deletion_timestamp.is_some(),
            deployment,
            applied: metadata.annotations.as_ref().and_then(|all| all.get(APPLIED).cloned()),
            json: serde_json::to_vec(&kept).unwrap_or_default().into_boxed_slice(),
            whole: OnceLock::new(),
        }
    }

    /// Whether it has all that is wanted, which must be what was applied: then the answer stays the same.
    pub fn has_all(&self, wanted: &Value) -> bool {
        *self.whole.get_or_init(|| holds(wanted, &self.value()))
    }

    fn says_the_same(&self, other: &Self) -> bool {
        (&self.json, self.ending, &self.deployment) == (&other.json, other.ending, &other.deployment)
    }

    /// Its fields.
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.json).unwrap_or_default()
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
        families.iter().map(|(key, family)| (key.clone(), family.object.as_deref().is_some_and(is_begun))).collect()
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
    pub fn put_child(&self, kind: Kind, object: DynamicObject) -> Option<(Key, bool)> {
        let key = owner_of(&object)?;
        let name = object.name_any();
        let observed = Observed::new(kind, object);
        let mut families = self.lock();
        let children = &mut families.entry(key.clone()).or_default().children;
        let known = children.get(&(kind, name.clone()));
        if known.is_some_and(|known| known.uid == observed.uid && known.version >= observed.version) {
            return Some((key, false));
        }
        let news = known.is_none_or(|known| known.uid != observed.uid || !known.says_the_same(&observed));
        children.insert((kind, name), Arc::new(observed));
        Some((key, news))
    }

    /// A child is gone.
    pub fn remove_child(&self, kind: Kind, key: Key, name: &str) -> Key {
        self.change(key, |family| drop(family.children.remove(&(kind, name.to_owned()))))
    }

    /// Takes a pod. Whose it is, and whether something of it has changed.
    pub fn put_pod(&self, pod: &Pod) -> Option<(Key, bool)> {
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

/// Whether an object has been worked on before: it has a status of this or an earlier state of it.
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
