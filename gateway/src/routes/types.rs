//! What a routes file says.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use unimodel_protocol::duration;

/// A routes file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Routes {
    /// `unimodel.dev/v1alpha1`.
    pub api_version: String,
    /// `Routes`.
    pub kind: String,
    /// Facts of the versions that tasks serve, each once however many tasks serve it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<Version>,
    /// Tasks.
    pub tasks: Vec<Task>,
}

/// What callers may know of a version, and what the gateway answers when no server does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Version {
    /// Its name in the store.
    pub name: String,
    /// The newest event that it has learned from.
    #[schemars(with = "String")]
    pub data_time: jiff::Timestamp,
    /// Items in its catalogue.
    pub items: u64,
    /// Context elements, for `GET /v1/tasks`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub context: Vec<Element>,
    /// Item attributes, for `GET /v1/tasks`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<Attribute>,
    /// Heads, for `GET /v1/tasks`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heads: Vec<Head>,
    /// The version's `popularity.json`: the static answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub popularity: Option<Popularity>,
}

/// A context element as callers see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Element {
    /// Name.
    pub name: String,
    /// Type, such as `id` or `list<id>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What an absent one counts as.
    #[serde(default)]
    pub default: serde_json::Value,
}

/// An item attribute as callers see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Attribute {
    /// Name.
    pub name: String,
    /// Type, such as `text` or `list<category>`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// A head as callers see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Head {
    /// Name.
    pub name: String,
    /// What it ranks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Context elements that its labels carried.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elements: Vec<String>,
}

/// Static lists of items, the most popular first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Popularity {
    /// Of the whole catalogue.
    pub all: Vec<String>,
    /// By attribute and value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by: BTreeMap<String, BTreeMap<String, Vec<String>>>,
}

/// A task: a head in an environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Task {
    /// Name, as callers ask for it and as the servers know it.
    pub name: String,
    /// The head that answers; the task's name where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// The version that its servers have active, one of `versions`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Context elements that a request must give, for `GET /v1/tasks`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required: Vec<String>,
    /// The most candidates that a request may give, for `GET /v1/tasks`.
    #[serde(default = "max_candidates")]
    pub max_candidates: usize,
    /// How long an answer may take.
    #[serde(default)]
    pub timeout: Timeout,
    /// Requests at a time in each endpoint of the task: with more endpoints there may be more.
    #[serde(default = "max_concurrency")]
    pub max_concurrency: usize,
    /// Requests that wait when all endpoints have as many. More are refused at once.
    #[serde(default = "queue_depth")]
    pub queue_depth: usize,
    /// The servers that answer. None: the task has no server now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint>,
    /// In place of `endpoints`, in a cluster: the Service whose pods answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
    /// What answers when the task's servers do not, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallback: Vec<Fallback>,
    /// Other servers that get a share of the requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Share>,
    /// Other servers that get a copy of a share of the requests, whose answers nobody sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<Share>,
    /// Ask a second endpoint where the first is unusually slow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hedging: Option<Hedging>,
}

fn max_candidates() -> usize {
    1000
}

fn max_concurrency() -> usize {
    256
}

fn queue_depth() -> usize {
    256
}

/// How long an answer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Timeout {
    /// When the caller asks for nothing.
    pub default: Span,
    /// Whatever the caller asks for.
    pub max: Span,
}

impl Default for Timeout {
    fn default() -> Self {
        Self { default: Span(Duration::from_millis(500)), max: Span(Duration::from_secs(2)) }
    }
}

/// A server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Endpoint {
    /// Host and port of its data port, such as `10.0.0.7:8080` or `[::1]:8080`.
    pub address: String,
    /// How much it bears beside the others.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub weight: f64,
}

/// A Service in a cluster: its pods that are ready answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Service {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The name of its port.
    pub port: String,
}

fn one() -> f64 {
    1.0
}

fn is_one(weight: &f64) -> bool {
    *weight == 1.0
}

/// One step of a fallback chain: exactly one of both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fallback {
    /// The environment of another task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// A static list of the version.
    #[serde(default, rename = "static", skip_serializing_if = "Option::is_none")]
    pub list: Option<StaticList>,
}

/// A static list of the version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StaticList {
    /// The most popular items.
    Popularity,
}

/// Servers with a share of the requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Share {
    /// Percent of the requests, from 0 to 100.
    pub percent: f64,
    /// The servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint>,
    /// In place of `endpoints`, in a cluster: the Service whose pods answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
}

/// When a second endpoint is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hedging {
    /// Not before this, however quick 95 % of the recent answers were.
    #[serde(default = "min_delay")]
    pub min_delay: Span,
}

fn min_delay() -> Span {
    Span(Duration::from_millis(2))
}

/// A duration, such as `50ms` or `1.5s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&duration::print(self.0))
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SpanVisitor;
        impl Visitor<'_> for SpanVisitor {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as 50ms")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Span, E> {
                duration::parse(text).map(Span).map_err(|_| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(SpanVisitor)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "A duration, such as 50ms or 1.5s.", "examples": ["50ms"] })
    }
}
