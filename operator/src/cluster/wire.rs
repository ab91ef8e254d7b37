//! Objects as the API server writes them. Only what is needed is read: most of what watches tell is passed over, such as
//! who set which field, which is half of every object.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::Resource;
use kube::core::{ApiResource, DynamicResourceScope};
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::names;

/// A child, of any kind.
#[derive(Clone, Debug, Default)]
pub struct WireChild {
    /// What every object has, without `managedFields`.
    pub metadata: ObjectMeta,
    /// All else but the status.
    pub fields: Map<String, Value>,
    /// What its status says, where that has conditions.
    pub conditions: Vec<WireCondition>,
    /// That we apply `spec.replicas`, and nobody has said otherwise since.
    pub replicas_are_ours: bool,
}

/// A condition of a status.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct WireCondition {
    /// Its kind.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    conditions: Option<Vec<WireCondition>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    deletion_timestamp: Option<Time>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<OwnerReference>>,
    managed_fields: Vec<Manager>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Manager {
    manager: String,
    fields_v1: Owned,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Owned {
    #[serde(rename = "f:spec")]
    spec: OwnedSpec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct OwnedSpec {
    #[serde(rename = "f:replicas")]
    replicas: Option<IgnoredAny>,
}

impl Metadata {
    fn replicas_are_ours(&self) -> bool {
        self.managed_fields
            .iter()
            .any(|entry| entry.manager == names::MANAGER && entry.fields_v1.spec.replicas.is_some())
    }
}

impl From<Metadata> for ObjectMeta {
    fn from(meta: Metadata) -> Self {
        Self {
            name: meta.name,
            namespace: meta.namespace,
            uid: meta.uid,
            resource_version: meta.resource_version,
            deletion_timestamp: meta.deletion_timestamp,
            labels: meta.labels,
            annotations: meta.annotations,
            owner_references: meta.owner_references,
            ..Self::default()
        }
    }
}

struct ChildVisitor;

impl<'de> Visitor<'de> for ChildVisitor {
    type Value = WireChild;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of Kubernetes")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WireChild, A::Error> {
        let mut child = WireChild::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "metadata" => {
                    let metadata: Metadata = map.next_value()?;
                    child.replicas_are_ours = metadata.replicas_are_ours();
                    child.metadata = metadata.into();
                }
                "status" => child.conditions = map.next_value::<Status>()?.conditions.unwrap_or_default(),
                "apiVersion" | "kind" => drop(map.next_value::<IgnoredAny>()?),
                _ => drop(child.fields.insert(key, map.next_value()?)),
            }
        }
        Ok(child)
    }
}

impl<'de> Deserialize<'de> for WireChild {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ChildVisitor)
    }
}

impl Resource for WireChild {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(dt: &ApiResource) -> Cow<'_, str> {
        dt.kind.as_str().into()
    }

    fn group(dt: &ApiResource) -> Cow<'_, str> {
        dt.group.as_str().into()
    }

    fn version(dt: &ApiResource) -> Cow<'_, str> {
        dt.version.as_str().into()
    }

    fn plural(dt: &ApiResource) -> Cow<'_, str> {
        dt.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// A pod.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct WirePod {
    /// What every object has, without `managedFields`.
    #[serde(deserialize_with = "metadata")]
    pub metadata: ObjectMeta,
    /// What the kubelet and the scheduler say.
    pub status: Option<PodStatus>,
}

fn metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    Metadata::deserialize(deserializer).map(ObjectMeta::from)
}

impl Resource for WirePod {
    type DynamicType = ();
    type Scope = <Pod as Resource>::Scope;

    fn kind(dt: &()) -> Cow<'_, str> {
        Pod::kind(dt)
    }

    fn group(dt: &()) -> Cow<'_, str> {
        Pod::group(dt)
    }

    fn version(dt: &()) -> Cow<'_, str> {
        Pod::version(dt)
    }

    fn plural(dt: &()) -> Cow<'_, str> {
        Pod::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_says_how_many_pods_there_are() {
        let deployment = |manager: &str, owned: Value| {
            let entry = json!({"manager": manager, "operation": "Apply", "apiVersion": "apps/v1", "fieldsV1": owned});
            let object = json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"name": "d", "uid": "u", "managedFields": [entry], "generation": 3},
                "spec": {"replicas": 2}, "status": {"replicas": 2},
            });
            serde_json::from_str::<WireChild>(&object.to_string()).unwrap()
        };
        let replicas = || json!({"f:spec": {"f:replicas": {}, "f:template": {"f:spec": {}}}, "f:metadata": {}});
        let ours = deployment(names::MANAGER, replicas());
        assert!(ours.replicas_are_ours);
        assert_eq!((ours.metadata.name.as_deref(), &ours.fields["spec"]["replicas"]), (Some("d"), &json!(2)));
        assert_eq!(ours.fields.len(), 1, "neither status nor kind is kept");
        assert!(!deployment("kube-controller-manager", replicas()).replicas_are_ours);
        assert!(!deployment(names::MANAGER, json!({"f:spec": {"f:template": {}}})).replicas_are_ours);
    }
}
