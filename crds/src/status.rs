//! What is so: written by whoever hosts the object, read by people and by the next reconciliation.
//!
//! Everything that a refresh needs to go on after a restart stands here. Times are points in time, never ages: an age
//! would change, and be written, all the time.

// The derive makes copies of the types, as public as they are, that nothing outside can reach.
#![allow(unreachable_pub)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is so.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnifiedModelStatus {
    /// The generation of the object that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`: it makes sense. `Available`: every task has a server that answers. `Progressing`: something is being
    /// changed. `Ready`: all is as it was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Tasks that are ready of all tasks, such as `3/4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub ready_tasks: Option<String>,
    /// The versions in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelStatus>,
    /// The tasks, in the order in which they were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub tasks: Vec<TaskStatus>,
}

/// The versions in use.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelStatus {
    /// The version with the newest data of those that tasks serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub latest: Option<String>,
    /// The version with the oldest data of those that tasks serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub oldest_served: Option<String>,
    /// The newest event that the oldest served version has learned from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_data_time: Option<Time>,
    /// How many versions tasks serve beside the latest one.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub skew: i32,
}

/// One task.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskStatus {
    /// Its name.
    #[schemars(length(max = 40))]
    pub name: String,
    /// Servers that are asked for.
    #[serde(default)]
    pub replicas: i32,
    /// Servers that answer.
    #[serde(default)]
    pub ready_replicas: i32,
    /// The version that every server of the task starts with. It moves when a refresh has been prepared in all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub active_version: Option<String>,
    /// The newest event that the active version has learned from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_time: Option<Time>,
    /// When a refresh last ended well, with or without a newer version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_refresh: Option<Time>,
    /// When the next one begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_refresh: Option<Time>,
    /// The refresh that is on its way, or the last one.
    #[serde(default)]
    pub refresh: RefreshStatus,
    /// `Ready`: the task answers as it was asked for, or why not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// A refresh that is on its way, or the last one.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RefreshStatus {
    /// How far it is.
    #[serde(default)]
    pub phase: RefreshPhase,
    /// The version that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub target: Option<String>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Time>,
    /// The last request for a refresh that was taken up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub request: Option<String>,
    /// Why it failed, in one word, such as `DigestMismatch`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,
    /// Why it failed, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub message: Option<String>,
}

/// How far a refresh is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RefreshPhase {
    /// None is on its way.
    #[default]
    Idle,
    /// The store is asked which version the channel names.
    Resolving,
    /// The servers fetch, verify, load, warm and check the version beside the active one.
    Preparing,
    /// The servers begin to answer by it.
    Activating,
    /// It did not end well. The version before serves on.
    Failed,
}
