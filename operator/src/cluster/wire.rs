//! Objects as the API server writes them. Only what is needed is read: most of what watches tell is passed over, such as
//! who set which field, which is half of every object.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::Resource;
use kube::core::{ApiResource, DynamicResourceScope};
use serde::de::{DeserializeOwned, Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use unimodel_crds::{UnifiedModel, UnifiedModelSpec};

use super::names;
use super::text::Copy;

/// A child, of any kind.
#[derive(Clone, Debug, Default)]
pub struct WireChild {
    /// What every object has, without `managedFields`.
    pub metadata: ObjectMeta,
    /// All else but the status, as JSON.
    pub fields: Vec<u8>,
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
    generation: Option<i64>,
    creation_timestamp: Option<Time>,
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
            generation: meta.generation,
            creation_timestamp: meta.creation_timestamp,
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
        let mut child = WireChild { fields: vec![b'{'], ..WireChild::default() };
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "metadata" => {
                    let metadata: Metadata = map.next_value()?;
                    child.replicas_are_ours = metadata.replicas_are_ours();
                    child.metadata = metadata.into();
                }
                "status" => child.conditions = map.next_value::<Status>()?.conditions.unwrap_or_default(),
                "apiVersion" | "kind" => drop(map.next_value::<IgnoredAny>()?),
                _ => {
                    if child.fields.len() > 1 {
                        child.fields.push(b',');
                    }
                    serde_json::to_writer(&mut child.fields, &key).map_err(A::Error::custom)?;
                    child.fields.push(b':');
                    map.next_value_seed(Copy(&mut child.fields))?;
                }
            }
        }
        child.fields.push(b'}');
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
#[derive(Clone, Debug, Default, Deserialize, Resource)]
#[resource(inherit = "Pod")]
pub struct WirePod {
    /// What every object has, without `managedFields`.
    #[serde(deserialize_with = "metadata")]
    pub metadata: ObjectMeta,
    /// What the kubelet and the scheduler say.
    #[serde(default)]
    pub status: WirePodStatus,
}

/// What is needed of a pod's status.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WirePodStatus {
    /// Where it stands.
    pub phase: Option<String>,
    /// One word.
    pub reason: Option<String>,
    /// A sentence.
    pub message: Option<String>,
    /// Its address.
    #[serde(rename = "podIP")]
    pub pod_ip: Option<String>,
    /// What is true of it.
    pub conditions: Vec<WireCondition>,
    /// Its containers.
    pub container_statuses: Vec<ContainerStatus>,
}

/// A UnifiedModel; or its metadata and what is wrong, where one of another release cannot be read: the others can.
#[derive(Clone, Debug)]
pub struct WireModel(pub Result<UnifiedModel, (ObjectMeta, String)>);

struct ModelVisitor;

impl<'de> Visitor<'de> for ModelVisitor {
    type Value = WireModel;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a UnifiedModel")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WireModel, A::Error> {
        let (mut meta, mut spec, mut status) = (Metadata::default(), b"{}".to_vec(), b"null".to_vec());
        while let Some(key) = map.next_key::<String>()? {
            let text = match key.as_str() {
                "metadata" => {
                    meta = map.next_value()?;
                    continue;
                }
                "spec" => &mut spec,
                "status" => &mut status,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            text.clear();
            map.next_value_seed(Copy(text))?;
        }
        let metadata = ObjectMeta::from(meta);
        let read = parse::<UnifiedModelSpec>(&spec).and_then(|spec| Ok((spec, parse::<Option<_>>(&status)?)));
        Ok(WireModel(match read {
            Ok((spec, status)) => Ok(UnifiedModel { metadata, spec, status }),
            Err(error) => Err((metadata, error)),
        }))
    }
}

fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, String> {
    serde_json::from_slice(text).map_err(|error| error.to_string())
}

impl<'de> Deserialize<'de> for WireModel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ModelVisitor)
    }
}

impl Resource for WireModel {
    type DynamicType = ();
    type Scope = <UnifiedModel as Resource>::Scope;

    fn kind(dt: &()) -> Cow<'_, str> {
        UnifiedModel::kind(dt)
    }

    fn group(dt: &()) -> Cow<'_, str> {
        UnifiedModel::group(dt)
    }

    fn version(dt: &()) -> Cow<'_, str> {
        UnifiedModel::version(dt)
    }

    fn plural(dt: &()) -> Cow<'_, str> {
        UnifiedModel::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        match &self.0 {
            Ok(object) => &object.metadata,
            Err((metadata, _)) => metadata,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match &mut self.0 {
            Ok(object) => &mut object.metadata,
            Err((metadata, _)) => metadata,
        }
    }
}

fn metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    Metadata::deserialize(deserializer).map(ObjectMeta::from)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

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
        let text = String::from_utf8(ours.fields).unwrap();
        assert_eq!((ours.metadata.name.as_deref(), text.as_str()), (Some("d"), r#"{"spec":{"replicas":2}}"#));
        assert!(!deployment("kube-controller-manager", replicas()).replicas_are_ours);
        assert!(!deployment(names::MANAGER, json!({"f:spec": {"f:template": {}}})).replicas_are_ours);
    }

    #[test]
    fn an_object_of_another_release_is_known_by_its_name() {
        let read = |spec: Value, status: Value| {
            let metadata = json!({"name": "m", "namespace": "n", "generation": 2});
            let object = json!({"apiVersion": "v", "kind": "UnifiedModel", "metadata": metadata, "spec": spec, "status": status});
            serde_json::from_str::<WireModel>(&object.to_string()).unwrap()
        };
        let spec = || json!({"model": {"source": {"uri": "s3://a/b"}}, "tasks": [{"name": "search"}]});
        let object = read(spec(), json!({"observedGeneration": 1, "tasks": []})).0.unwrap();
        assert_eq!((object.metadata.generation, object.status.unwrap().observed_generation), (Some(2), Some(1)));
        for other in [read(json!({"tasks": 1}), Value::Null), read(spec(), json!({"tasks": 1}))] {
            assert_eq!(other.meta().name.as_deref(), Some("m"));
            assert!(other.0.is_err());
        }
    }
}
