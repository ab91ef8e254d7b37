//! What an object has in a cluster, as it is applied: only the fields that are ours.
//!
//! All of it is a function of values. A pod's template has nothing that changes without need: no version, no number of
//! servers, no limits that a server takes while it runs.

mod gateway;
mod server;
mod store;

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::core::ApiResource;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use unimodel_crds::Model;
use unimodel_gateway::routes::Routes;

pub use store::Store;

use super::child::DeploymentFacts;
use super::names;
use crate::plan::{Plan, Workload};

/// Annotation: a digest of what was applied, so that a field that is applied no longer is noticed.
pub const APPLIED: &str = "unimodel.dev/applied";

/// Annotation of a Deployment: who says how many pods there are.
pub const REPLICAS_BY: &str = "unimodel.dev/replicas-by";

/// Annotation of a pod: a digest of the template that it was made from.
pub const TEMPLATE: &str = "unimodel.dev/template";

/// A kind of child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// ServiceAccount
    ServiceAccount,
    /// Role
    Role,
    /// RoleBinding
    RoleBinding,
    /// ConfigMap
    ConfigMap,
    /// Service
    Service,
    /// Deployment
    Deployment,
    /// PodDisruptionBudget
    PodDisruptionBudget,
    /// HorizontalPodAutoscaler
    HorizontalPodAutoscaler,
}

impl Kind {
    /// All of them, in the order in which they are applied: what pods need comes before them.
    pub const ALL: [Self; 8] = [
        Self::ServiceAccount,
        Self::Role,
        Self::RoleBinding,
        Self::ConfigMap,
        Self::Service,
        Self::Deployment,
        Self::PodDisruptionBudget,
        Self::HorizontalPodAutoscaler,
    ];

    /// API group, version, kind and plural.
    fn address(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Self::ServiceAccount => ("", "v1", "ServiceAccount", "serviceaccounts"),
            Self::Role => ("rbac.authorization.k8s.io", "v1", "Role", "roles"),
            Self::RoleBinding => ("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings"),
            Self::ConfigMap => ("", "v1", "ConfigMap", "configmaps"),
            Self::Service => ("", "v1", "Service", "services"),
            Self::Deployment => ("apps", "v1", "Deployment", "deployments"),
            Self::PodDisruptionBudget => ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
            Self::HorizontalPodAutoscaler => {
                ("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
            }
        }
    }

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        self.address().2
    }

    /// Its API group.
    pub fn group(self) -> &'static str {
        self.address().0
    }

    /// Its name in URLs and rules.
    pub fn plural(self) -> &'static str {
        self.address().3
    }

    /// Where the API server has it.
    pub fn resource(self) -> ApiResource {
        let (group, version, kind, plural) = self.address();
        let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        ApiResource {
            group: group.into(),
            version: version.into(),
            api_version,
            kind: kind.into(),
            plural: plural.into(),
        }
    }
}

/// An object of the cluster as we want it.
#[derive(Clone, Debug, PartialEq)]
pub struct Child {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Its fields.
    pub value: Arc<Value>,
}

/// Who says how many servers a task has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Scaling {
    /// We do.
    Fixed(u32),
    /// The autoscaler does, from this number on where there is no Deployment yet.
    Autoscaled(u32),
}

/// The object that all belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
}

/// What children depend on.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The object.
    pub owner: &'a Owner,
    /// What it asks for.
    pub model: &'a Model,
    /// What is to be done for it.
    pub plan: &'a Plan,
    /// Who says how many servers each task has.
    pub scaling: &'a BTreeMap<String, Scaling>,
    /// The gateway's routes.
    pub routes: &'a Routes,
    /// The image of servers and gateways.
    pub image: &'a str,
    /// Secrets of the object's namespace by which it is pulled.
    pub pull_secrets: &'a [String],
    /// Where servers find the store.
    pub store: &'a Store,
}

/// All children but the Secret, whose content is not a function of what is asked for.
pub fn children(input: &Input<'_>) -> Vec<Child> {
    let mut children = gateway::children(input);
    for workload in &input.plan.workloads {
        children.extend(server::children(input, workload));
    }
    for child in &mut children {
        seal(Arc::make_mut(&mut child.value));
    }
    children.sort_by_key(|child| child.kind);
    children
}

/// Names, labels and owner of a child. `task`: whose it is; the gateway's where absent.
fn child(input: &Input<'_>, kind: Kind, name: &str, task: Option<&str>, body: Value) -> Child {
    let (owner, resource) = (input.owner, kind.resource());
    let mut value = json!({
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {
            "name": name,
            "namespace": owner.namespace,
            "labels": names::labels(&owner.name, task),
            "annotations": {},
            "ownerReferences": [{
                "apiVersion": unimodel_crds::API_VERSION,
                "kind": "UnifiedModel",
                "name": owner.name,
                "uid": owner.uid,
                "controller": true,
            }],
        },
    });
    if let Value::Object(fields) = body {
        for (name, field) in fields {
            value[name] = field;
        }
    }
    Child { kind, name: name.to_owned(), value: Arc::new(value) }
}

/// Writes down digests of all that is applied, and of a Deployment's pods.
fn seal(value: &mut Value) {
    if let Some(template) = value.pointer_mut("/spec/template") {
        template["metadata"]["annotations"][TEMPLATE] = digest(template).into();
    }
    value["metadata"]["annotations"][APPLIED] = digest(value).into();
}

fn digest(value: &Value) -> String {
    Sha256::digest(value.to_string().as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// A pod with the Secrets by which its image is pulled. Without any it is as it is: a field more would replace it.
fn pulled(mut pod: Value, input: &Input<'_>) -> Value {
    if !input.pull_secrets.is_empty() {
        pod["imagePullSecrets"] = input.pull_secrets.iter().map(|name| json!({"name": name})).collect();
    }
    pod
}

/// What every pod of ours may not do.
fn pod_security() -> Value {
    json!({
        "runAsNonRoot": true,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "fsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}

/// What every container of ours may not do.
fn container_security() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
    })
}

/// Pods stand on different machines where there are several.
fn spread(selector: &BTreeMap<String, String>) -> Value {
    json!([{
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": selector},
    }])
}

fn get(path: &str, period: u32, timeout: u32, failures: u32) -> Value {
    json!({
        "httpGet": {"path": path, "port": "admin", "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    })
}

/// A budget that lets one pod go at a time.
fn budget(input: &Input<'_>, name: &str, task: Option<&str>) -> Child {
    let selector = names::selector(&input.owner.name, task);
    let body = json!({"spec": {"maxUnavailable": 1, "selector": {"matchLabels": selector}}});
    child(input, Kind::PodDisruptionBudget, name, task, body)
}

/// Who says how many servers a task has. `known`: its Deployment as it is.
pub fn scaling(model: &Model, workload: &Workload, known: Option<&DeploymentFacts>) -> Scaling {
    let task = model.tasks.iter().find(|task| task.name == workload.task);
    let elastic =
        task.is_some_and(|task| task.max_replicas > task.min_replicas && workload.replicas >= task.min_replicas);
    // An autoscaler goes on from what it finds, so that there must be enough before it begins.
    let enough = |known: &DeploymentFacts| known.autoscaled || known.replicas >= Some(workload.replicas);
    if elastic && known.is_none_or(enough) {
        Scaling::Autoscaled(workload.replicas)
    } else {
        Scaling::Fixed(workload.replicas)
    }
}
