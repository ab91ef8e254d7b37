//! The object as it is written. Durations, schedules and quantities are text here; [`crate::Model`] understands them.
//!
//! Doc comments are what `kubectl explain` prints. Every list, map and text that a rule reads has a bound, or the API
//! server would refuse the rules for what they may cost.

// The derive makes copies of the types, as public as they are, that nothing outside can reach.
#![allow(unreachable_pub)]
// Two printer columns of one type are no duplicate.
#![allow(clippy::duplicated_attributes)]

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Toleration;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::core::Rule;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::status::UnifiedModelStatus;

/// One model, and the tasks that it answers, each in the environment that suits it.
// Clippy takes the columns' members for those of one attribute.
#[allow(clippy::duplicated_attributes)]
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "unimodel.dev",
    version = "v1alpha1",
    kind = "UnifiedModel",
    plural = "unifiedmodels",
    singular = "unifiedmodel",
    shortname = "um",
    category = "all",
    namespaced,
    derive = "PartialEq",
    status = "UnifiedModelStatus",
    validation = Rule::new("self.metadata.name.matches('^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$')")
        .message("it must be 1 to 40 of a-z, 0-9 and `-`, with a letter first and no `-` last"),
    doc = "Hosts the tasks of one ranking model, each in the environment that suits it, behind one gateway.",
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Tasks", type_ = "string", json_path = ".status.readyTasks"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.model.latest"),
    printcolumn(name = "Skew", type_ = "integer", json_path = ".status.model.skew"),
    printcolumn(name = "Oldest", type_ = "date", json_path = ".status.model.oldestDataTime"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "self.tasks.all(t, !has(t.hardwareClass) || t.hardwareClass == 'cpu' || \
         (has(self.hardwareClasses) && self.hardwareClasses.exists(c, c.name == t.hardwareClass)))"
    ).message("a task's hardwareClass must be `cpu` or the name of one of spec.hardwareClasses"),
    validation = Rule::new(
        "self.tasks.all(t, !has(t.fallback) || t.fallback.all(f, !has(f.task) || \
         self.tasks.exists(o, o.name == f.task)))"
    ).message("a fallback's task must be the name of one of spec.tasks"),
    validation = Rule::new(
        "self.tasks.all(t, !has(t.rollout) || self.tasks.exists(o, o.name == t.rollout.to && \
         (has(o.head) ? o.head : o.name) == (has(t.head) ? t.head : t.name)))"
    ).message("rollout.to must be the name of one of spec.tasks that has the same head")
)]
pub struct UnifiedModelSpec {
    /// Where versions of the model come from, and which one to serve.
    pub model: ModelSource,
    /// Kinds of machines that tasks may ask for by name. One named `cpu` exists without being declared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub hardware_classes: Vec<HardwareClassSpec>,
    /// The tasks: 1 to 64, each with a name of its own. Several teams may each own one of them.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub tasks: Vec<TaskSpec>,
    /// The one address of all tasks. One machine runs one gateway.
    #[serde(default)]
    pub gateway: GatewaySpec,
}

/// The one address of all tasks.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewaySpec {
    /// How many gateways share the requests.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 100))]
    pub replicas: i32,
    /// How callers reach it.
    #[serde(default)]
    pub service: GatewayService,
}

impl Default for GatewaySpec {
    fn default() -> Self {
        Self { replicas: two(), service: GatewayService::default() }
    }
}

fn two() -> i32 {
    2
}

/// How callers reach the gateway.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayService {
    /// Where its address is known: in the cluster, at a port of every node, or outside by a load balancer.
    #[serde(default, rename = "type")]
    pub kind: ServiceType,
}

/// Where a Service's address is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    /// In the cluster.
    #[default]
    ClusterIP,
    /// At a port of every node.
    NodePort,
    /// Outside, by a load balancer.
    LoadBalancer,
}

/// Where versions of the model come from, and which one to serve.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.channel) && has(self.version))")
    .message("give channel or version, not both: a channel is followed, a version is pinned"))]
pub struct ModelSource {
    /// The store of versions.
    pub source: Source,
    /// The channel to follow, such as `stable`. That is what is followed where neither a channel nor a version is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$')")
        .message("a channel has letters, digits, `-`, `_` and `.`, a letter or digit first and last"))]
    pub channel: Option<String>,
    /// The one version to serve, whatever channels say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$')")
        .message("a version has letters, digits, `-`, `_` and `.`, a letter or digit first and last"))]
    pub version: Option<String>,
}

/// A store of versions.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// URL of the store: s3://, gs://, az://, https://, file:// or pvc://. `pvc://CLAIM/PATH` is a directory of a
    /// PersistentVolumeClaim of the namespace, `file:///PATH` a directory of the node, mounted for reading; on one machine
    /// `file://./…` is relative to where `unimodel up` runs.
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^(file|pvc|s3|gs|az|https)://.+')")
        .message("give the URL of a store: file://, pvc://, s3://, gs://, az:// or https:// and a path"))]
    pub uri: String,
    /// The ServiceAccount that servers run as, for stores that know workloads by it. One machine has none, and says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = object_name_rule())]
    pub service_account_name: Option<String>,
    /// A Secret of the namespace whose keys become environment variables of the servers, such as `AWS_ACCESS_KEY_ID`. What
    /// changes in it servers take while they run. One machine has none, and says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
}

/// A Secret of the namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = object_name_rule())]
    pub name: String,
}

/// A kind of machine.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HardwareClassSpec {
    /// The name by which tasks ask for it.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(
        validation = Rule::new("self.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')")
            .message("a name has a-z, 0-9 and `-`, with no `-` at either end"),
        validation = Rule::new("self != 'cpu'")
            .message("`cpu` is built in; give a class of your own another name")
    )]
    pub name: String,
    /// What computes.
    #[serde(default)]
    pub device: DeviceSpec,
    /// What each server asks of its machine. The processors that it asks for are its compute threads, also on one machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Labels that a node must have. One machine has none, and says so.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that servers may run on all the same. One machine has none, and says so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// The RuntimeClass of its pods, such as `nvidia`. One machine has none, and says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = object_name_rule())]
    pub runtime_class_name: Option<String>,
    /// Where its servers keep the versions that they have fetched, so that a pod that starts finds them there. Without it
    /// each pod has an empty directory of its own. One machine has a cache of its own, and says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_volume: Option<CacheVolume>,
}

/// A directory that outlives pods. Servers may share it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.hostPath) != has(self.persistentVolumeClaim)")
    .message("a cacheVolume is either hostPath or persistentVolumeClaim; give exactly one of them"))]
pub struct CacheVolume {
    /// A directory that is there on each node, and that the user 65532 may write to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 255))]
    #[x_kube(validation = Rule::new("self.matches('^(/[^/.][^/]*)+$')")
        .message("give the path of a directory from the root, such as /var/cache/unimodel"))]
    pub host_path: Option<String>,
    /// A claim in the object's namespace. For servers on more than one node it must be ReadWriteMany.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = object_name_rule())]
    pub persistent_volume_claim: Option<String>,
}

/// What computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeviceSpec {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
}

/// What a server asks of its machine, as containers ask: quantities by resource.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What is set aside for a server, such as `cpu: "2"` and `memory: 4Gi`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub requests: BTreeMap<String, IntOrString>,
    /// The most that a server may use, such as `nvidia.com/gpu: 1`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub limits: BTreeMap<String, IntOrString>,
}

/// A task: a head of the model in an environment of its own. Only the name is required.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.fallback) || self.fallback.all(f, !has(f.task) || f.task != self.name)")
        .message("a task cannot fall back to itself; name another task"),
    validation = Rule::new("!has(self.rollout) || self.rollout.to != self.name")
        .message("rollout.to is the task itself; name another task with the same head")
)]
pub struct TaskSpec {
    /// The name by which callers ask.
    #[schemars(length(min = 1, max = 40))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')")
        .message("a name has a-z, 0-9 and `-`, with no `-` at either end"))]
    pub name: String,
    /// Who answers for the task, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub owner: Option<String>,
    /// The head of the model that answers. The task's name where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub head: Option<String>,
    /// The hardware class that its servers run on. Changing it replaces them one by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub hardware_class: Option<String>,
    /// How many servers answer.
    #[serde(default)]
    pub replicas: Replicas,
    /// What each server does at a time. Changing `workers` replaces the servers one by one; the rest applies at once.
    #[serde(default)]
    pub inference: InferenceSpec,
    /// Keeps answers for a while. None are kept where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheSpec>,
    /// What requests must say, and what counts where they do not.
    #[serde(default)]
    pub context: ContextSpec,
    /// How long an answer may take.
    #[serde(default)]
    pub timeout: TimeoutSpec,
    /// When a newer version is taken. Without a schedule only on request.
    #[serde(default)]
    pub refresh: RefreshSpec,
    /// What answers where the task's servers do not, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub fallback: Vec<FallbackSpec>,
    /// Sends a share of the task's requests to the servers of another task, to try an environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutSpec>,
    /// Asks a second server where the first is slower than 95 % of recent answers. Never where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hedging: Option<HedgingSpec>,
}

/// How many servers answer.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.max) || self.min <= self.max")
    .message("replicas.max must be at least replicas.min"))]
pub struct Replicas {
    /// As many at least.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1000))]
    pub min: i32,
    /// As many at most, by load. `min` where absent. One machine runs `min`, and says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub max: Option<i32>,
}

impl Default for Replicas {
    fn default() -> Self {
        Self { min: one(), max: None }
    }
}

fn one() -> i32 {
    1
}

/// What each server does at a time.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InferenceSpec {
    /// Compute threads of a server. Without it the whole processors that its hardware class requests, at least one; where
    /// that requests none, one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 256))]
    pub workers: Option<i32>,
    /// The most requests that a server works on at a time.
    #[serde(default = "max_concurrency")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max_concurrency: i32,
    /// The most requests that wait at the gateway. More are refused at once.
    #[serde(default = "queue_depth")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub queue_depth: i32,
    /// The most candidates that a request may name, and the most items that it may ask for.
    #[serde(default = "max_candidates")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_candidates: i32,
}

impl Default for InferenceSpec {
    fn default() -> Self {
        Self {
            workers: None,
            max_concurrency: max_concurrency(),
            queue_depth: queue_depth(),
            max_candidates: max_candidates(),
        }
    }
}

fn max_concurrency() -> i32 {
    256
}

fn queue_depth() -> i32 {
    256
}

fn max_candidates() -> i32 {
    10_000
}

/// Keeps answers for a while.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CacheSpec {
    /// How long an answer is kept, such as `30s`.
    #[schemars(length(min = 1, max = 20))]
    #[x_kube(validation = duration_rule())]
    pub ttl: String,
    /// The most answers that a server keeps.
    #[serde(default = "max_entries")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_entries: i32,
}

fn max_entries() -> i32 {
    10_000
}

/// What requests must say, and what counts where they do not.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContextSpec {
    /// Elements of the context that every request must give.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)))]
    pub required: Vec<String>,
    /// What elements count as where a request does not give them, in place of the model's own defaults.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "any_values")]
    pub defaults: BTreeMap<String, serde_json::Value>,
}

/// A map to values of any type, as Kubernetes wants it said.
fn any_values(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": {"x-kubernetes-preserve-unknown-fields": true},
    })
}

/// How long an answer may take.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "!self.default.matches('^([0-9]+(ms|s|m|h))+$') || !self.max.matches('^([0-9]+(ms|s|m|h))+$') || \
     duration(self.default) <= duration(self.max)"
).message("timeout.default must be at most timeout.max; without one they are 500ms and 2s"))]
pub struct TimeoutSpec {
    /// When the caller asks for nothing, such as `50ms`.
    #[serde(default = "default_timeout")]
    #[schemars(length(min = 1, max = 20))]
    #[x_kube(validation = duration_rule())]
    pub default: String,
    /// Whatever the caller asks for.
    #[serde(default = "max_timeout")]
    #[schemars(length(min = 1, max = 20))]
    #[x_kube(validation = duration_rule())]
    pub max: String,
}

impl Default for TimeoutSpec {
    fn default() -> Self {
        Self { default: default_timeout(), max: max_timeout() }
    }
}

fn default_timeout() -> String {
    "500ms".into()
}

fn max_timeout() -> String {
    "2s".into()
}

/// When a newer version is taken: all servers of the task prepare it, and then all of them answer by it, or none.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.timeZone) || has(self.schedule)")
        .message("refresh.timeZone says nothing without refresh.schedule; give a schedule or remove it"),
    validation = Rule::new("!has(self.jitter) || has(self.schedule)")
        .message("refresh.jitter says nothing without refresh.schedule; give a schedule or remove it")
)]
pub struct RefreshSpec {
    /// When to look for a newer version, as a cron line of five fields: minute, hour, day of month, month, day of week.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    #[x_kube(validation = Rule::new(r"self.matches('^(@(yearly|annually|monthly|weekly|daily|hourly)|[^ @]+( [^ ]+){4})$')")
        .message("a schedule has five fields, such as `*/15 * * * *`, or is one of @hourly, @daily, @weekly, @monthly, @yearly"))]
    pub schedule: Option<String>,
    /// Time zone of the schedule, such as `America/Los_Angeles`. UTC where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z][A-Za-z0-9_+/-]*$')")
        .message("give a time zone by its name in the IANA database, such as `Europe/Berlin`"))]
    pub time_zone: Option<String>,
    /// The most by which the schedule is put off, by a share that is the same each time and another for each task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 20))]
    #[x_kube(validation = duration_rule())]
    pub jitter: Option<String>,
    /// How long all servers together may take to prepare a version. After that the refresh has failed.
    #[serde(default = "load_timeout")]
    #[schemars(length(min = 1, max = 20))]
    #[x_kube(validation = duration_rule())]
    pub load_timeout: String,
}

impl Default for RefreshSpec {
    fn default() -> Self {
        Self { schedule: None, time_zone: None, jitter: None, load_timeout: load_timeout() }
    }
}

fn load_timeout() -> String {
    "5m".into()
}

/// One step of a fallback chain: a task, or a static list.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.task) != has(self.static)")
    .message("a step of a fallback is either task or static; give exactly one of them"))]
pub struct FallbackSpec {
    /// The task whose servers answer instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40))]
    pub task: Option<String>,
    /// The list of the version that answers instead.
    #[serde(default, rename = "static", skip_serializing_if = "Option::is_none")]
    pub list: Option<StaticList>,
}

/// A list that comes with a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StaticList {
    /// The most popular items.
    Popularity,
}

/// Sends a share of a task's requests to the servers of another task.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutSpec {
    /// The task whose servers get the share. It must have the same head.
    #[schemars(length(min = 1, max = 40))]
    pub to: String,
    /// Percent of the requests that its servers answer. The same request key is always in or always out.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100))]
    pub canary_percent: i32,
    /// Percent of the requests that its servers get a copy of. Nobody waits for their answers.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100))]
    pub mirror_percent: i32,
}

/// Asks a second server where the first is unusually slow.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HedgingSpec {
    /// Not before this, however quick other answers were.
    #[serde(default = "min_delay")]
    #[schemars(length(min = 1, max = 20))]
    #[x_kube(validation = duration_rule())]
    pub min_delay: String,
}

fn min_delay() -> String {
    "2ms".into()
}

/// What names of objects in a cluster must be.
fn object_name_rule() -> Rule {
    Rule::new("self.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')")
        .message("a name has a-z, 0-9, `-` and `.`, with a letter or digit first and last")
}

/// What every duration must be.
fn duration_rule() -> Rule {
    Rule::new("self.matches('^([0-9]+(ms|s|m|h))+$') && self.matches('[1-9]')")
        .message("give a duration above zero such as 50ms, 30s or 1m30s")
}
