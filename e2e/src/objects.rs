//! Objects as a test asks after them.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Api;
use unimodel_crds::{RefreshPhase, TaskStatus, UnifiedModel, UnifiedModelStatus};

use crate::place::{Place, is_ready};
use crate::store::Store;
use crate::until;

/// One UnifiedModel.
pub struct Model {
    api: Api<UnifiedModel>,
    place: Place,
    pub name: String,
}

/// What must not change while others do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    pub uid: String,
    pub restarts: i32,
}

impl Child {
    pub fn of(pod: &Pod) -> Self {
        let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        Self {
            uid: pod.metadata.uid.clone().unwrap(),
            restarts: statuses.map(|container| container.restart_count).sum(),
        }
    }
}

impl Model {
    pub(crate) fn new(place: &Place, name: &str) -> Self {
        Self { api: place.api(), place: place.clone(), name: name.into() }
    }

    pub async fn status(&self) -> UnifiedModelStatus {
        self.api.get(&self.name).await.unwrap().status.unwrap_or_default()
    }

    pub async fn task(&self, task: &str) -> Result<TaskStatus, String> {
        let status = self.status().await;
        let found = status.tasks.iter().find(|each| each.name == task).cloned();
        found.ok_or_else(|| format!("the status has no task {task}: {:?}", status.conditions))
    }

    /// Waits until all is as the newest generation asks for.
    pub async fn ready(&self, limit: Duration) -> UnifiedModelStatus {
        until(&format!("{} is ready", self.name), limit, async || {
            let object = self.api.get(&self.name).await.map_err(|error| error.to_string())?;
            let status = object.status.clone().unwrap_or_default();
            let is = condition(&status.conditions, "Ready").is_some_and(|ready| ready.status == "True");
            if is && status.observed_generation == object.metadata.generation {
                return Ok(status);
            }
            let tasks: Vec<_> = status.tasks.iter().map(|t| (&t.name, condition(&t.conditions, "Ready"))).collect();
            Err(format!("{:?} {tasks:?}", condition(&status.conditions, "Ready")))
        })
        .await
    }

    /// Waits until a task's condition `Ready` has this reason, and gives its message.
    pub async fn reason(&self, task: &str, reason: &str, limit: Duration) -> String {
        until(&format!("{task} has the reason {reason}"), limit, async || {
            let status = self.task(task).await?;
            match condition(&status.conditions, "Ready") {
                Some(ready) if ready.reason == reason => Ok(ready.message.clone()),
                other => Err(format!("{other:?}, refresh {:?}", status.refresh)),
            }
        })
        .await
    }

    /// Waits until a task has taken a version and is at rest again.
    pub async fn takes(&self, task: &str, version: &str, limit: Duration) {
        until(&format!("{task} has taken {version}"), limit, async || {
            let task = self.task(task).await?;
            let taken = task.active_version.as_deref() == Some(version) && task.refresh.phase == RefreshPhase::Idle;
            if taken { Ok(()) } else { Err(format!("{:?} {:?}", task.active_version, task.refresh)) }
        })
        .await;
    }

    /// Servers of a task that are not going.
    pub async fn servers(&self, task: &str) -> Vec<Pod> {
        self.place.pods(&format!("unimodel.dev/model={},unimodel.dev/task={task}", self.name)).await
    }

    /// Waits until the servers of a task are others than these, all of them ready, and these are gone.
    pub async fn replaces(&self, task: &str, old: &[Pod], limit: Duration) {
        let selector = format!("unimodel.dev/model={},unimodel.dev/task={task}", self.name);
        until(&format!("{task} has other servers"), limit, async || {
            // One that is going answers still.
            let now = self.place.all_pods(&selector).await;
            let is_new = |pod: &Pod| old.iter().all(|old| old.metadata.uid != pod.metadata.uid) && is_ready(pod);
            if !now.is_empty() && now.iter().all(is_new) { Ok(()) } else { Err(format!("{:?}", names(&now))) }
        })
        .await;
    }

    /// All pods of the model that are not going, by name.
    pub async fn children(&self) -> BTreeMap<String, Child> {
        let pods = self.place.pods(&format!("app.kubernetes.io/instance={}", self.name)).await;
        pods.iter().map(|pod| (pod.metadata.name.clone().unwrap(), Child::of(pod))).collect()
    }
}

fn names(pods: &[Pod]) -> Vec<&str> {
    pods.iter().filter_map(|pod| pod.metadata.name.as_deref()).collect()
}

fn condition<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// One task, for [`sample_of`].
pub const ONE: &str = "  - {name: search, hardwareClass: small, timeout: {default: 3s, max: 5s}}";

/// The object `shop` over this store, with these tasks. Each should be of the class `small` or `other`: a pod that asks for
/// no processor at all gets none beside others that do.
pub fn sample_of(store: &Store, tasks: &str) -> String {
    format!(
        "\
apiVersion: unimodel.dev/v1alpha1
kind: UnifiedModel
metadata: {{name: shop}}
spec:
  model: {{source: {{uri: '{}', secretRef: {{name: store}}}}, channel: stable}}
  gateway: {{replicas: 1}}
  hardwareClasses:
  - {{name: small, resources: {{requests: {{cpu: 50m}}}}}}
  - {{name: other, resources: {{requests: {{cpu: 51m}}}}}}
  tasks:
{}
",
        store.uri,
        tasks.trim_matches('\n')
    )
}
