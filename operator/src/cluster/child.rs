//! A child as the API server has it, kept as small as it is needed.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::sync::{Mutex, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::children::{APPLIED, Kind, REPLICAS_BY};
use super::compare::holds;
use super::wire::WireChild;
use crate::snapshot::Trouble;

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
    /// Why it cannot make pods, or that those that it made take too long.
    pub trouble: Option<Trouble>,
}

impl DeploymentFacts {
    /// Takes what is needed of a Deployment.
    pub fn new(object: &WireChild) -> Self {
        let annotations = &object.metadata.annotations;
        let Needed { spec: Spec { replicas, template, progress_deadline_seconds }, .. } = needed(object);
        let condition = |kind, status| object.conditions.iter().find(|c| c.type_ == kind && c.status == status);
        let failure = condition("ReplicaFailure", "True").map(|c| Trouble::new(&c.reason, &c.message));
        let late = || {
            condition("Progressing", "False").filter(|c| c.reason == "ProgressDeadlineExceeded")?;
            let name = object.metadata.name.as_deref().unwrap_or_default();
            let limit = progress_deadline_seconds.map_or(String::new(), |seconds| format!(" within {seconds} s"));
            let what = format!("no pod became ready{limit}, which is the limit for loading and starting");
            Some(Trouble::new("LoadTimeout", format!("{what}; see `kubectl logs deployment/{name}`")))
        };
        Self {
            replicas,
            autoscaled: annotations.as_ref().and_then(|all| all.get(REPLICAS_BY)).is_some_and(|by| by == "autoscaler"),
            replicas_are_ours: object.replicas_are_ours,
            template: template.metadata.annotations.digest,
            trouble: failure.or_else(late),
        }
    }
}

/// What is needed of a child's own fields.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Needed {
    spec: Spec,
    data: Data,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    replicas: Option<u32>,
    template: Template,
    progress_deadline_seconds: Option<u32>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Template {
    metadata: TemplateMetadata,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TemplateMetadata {
    annotations: TemplateAnnotations,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TemplateAnnotations {
    #[serde(rename = "unimodel.dev/template")]
    digest: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Data {
    #[serde(rename = "routes.json")]
    routes: Option<Box<str>>,
}

fn needed(object: &WireChild) -> Needed {
    serde_json::from_slice(&object.fields).unwrap_or_default()
}

/// A child's metadata as they are compared with what is wanted.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Head<'a> {
    api_version: &'a str,
    kind: &'a str,
    metadata: HeadMetadata<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HeadMetadata<'a> {
    name: &'a Option<String>,
    namespace: &'a Option<String>,
    labels: &'a Option<BTreeMap<String, String>>,
    annotations: &'a BTreeMap<String, String>,
    owner_references: &'a Option<Vec<OwnerReference>>,
}

impl Observed {
    /// Takes what is needed of an object. `known`: what is known of it.
    pub fn new(kind: Kind, object: WireChild, known: Option<&Self>) -> Self {
        let deployment = (kind == Kind::Deployment).then(|| DeploymentFacts::new(&object));
        let routes = if kind == Kind::ConfigMap { needed(&object).data.routes } else { None };
        let WireChild { metadata, fields, .. } = object;
        let mut annotations = metadata.annotations.unwrap_or_default();
        // The controller counts a Deployment's templates there: nobody's edit.
        annotations.retain(|name, _| !name.starts_with("deployment.kubernetes.io/"));
        let resource = kind.resource();
        let head = Head {
            // Entries of a list do not say so themselves.
            api_version: &resource.api_version,
            kind: kind.name(),
            metadata: HeadMetadata {
                name: &metadata.name,
                namespace: &metadata.namespace,
                labels: &metadata.labels,
                annotations: &annotations,
                owner_references: &metadata.owner_references,
            },
        };
        let mut json = serde_json::to_vec(&head).unwrap_or_default();
        if fields.len() > 2 {
            json.pop();
            json.push(b',');
            json.extend_from_slice(&fields[1..]);
        }
        let mut hasher = DefaultHasher::new();
        hasher.write(&json);
        let owner = metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
        let (uid, digest) = (metadata.uid.unwrap_or_default(), hasher.finish());
        let whole = known.filter(|known| known.uid == uid && known.digest == digest).and_then(Self::compared);
        Self {
            owner_uid: owner.map(|owner| owner.uid.clone()),
            uid,
            version: version(metadata.resource_version.as_deref()),
            ending: metadata.deletion_timestamp.is_some(),
            applied: annotations.remove(APPLIED),
            deployment,
            routes,
            digest,
            fields: Mutex::new(whole.map_or_else(|| Fields::Json(json.into_boxed_slice()), Fields::Compared)),
        }
    }

    /// Whether it is what was applied, and still has all of it. The annotation tells of fields that are applied no longer, the
    /// fields of changes by others.
    pub fn is_as(&self, wanted: &Value) -> bool {
        self.applied.as_deref() == wanted["metadata"]["annotations"][APPLIED].as_str() && self.has_all(wanted)
    }

    /// Whether it has all that is wanted, which must be what was applied: then the answer stays the same.
    fn has_all(&self, wanted: &Value) -> bool {
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

    /// Whether it has all that was wanted when that was asked last; none where it has changed since, or nobody has asked.
    pub fn compared(&self) -> Option<bool> {
        match *self.fields.lock().unwrap_or_else(PoisonError::into_inner) {
            Fields::Compared(whole) => Some(whole),
            Fields::Json(_) => None,
        }
    }

    /// Whether nothing has changed from one to the other.
    pub fn says_the_same(&self, other: &Self) -> bool {
        (&self.uid, self.digest, self.ending, &self.deployment)
            == (&other.uid, other.digest, other.ending, &other.deployment)
    }
}

/// A resource version as a number. They are numbers, and grow, in every API server that there is.
pub fn version(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}
