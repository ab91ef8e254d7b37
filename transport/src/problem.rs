//! Why a request gets no ranking, as callers see it: one problem type, one HTTP status and one gRPC code per reason. The
//! reasons that the model server and the gateway share are here.

use std::collections::HashMap;
use std::time::Duration;

use http::{HeaderValue, StatusCode as S};
use serde_json::{Map, Value, json};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// Where problem types begin. They are names: nothing needs to answer there.
const TYPES: &str = "https://unimodel.dev/problems/";

/// The domain of every `google.rpc.ErrorInfo`.
const DOMAIN: &str = "unimodel.dev";

/// What callers of all protocols see of a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Last segment of the problem type; also the reason in metrics.
    pub name: &'static str,
    /// Title of the problem document.
    pub title: &'static str,
    /// HTTP status.
    pub status: S,
    /// gRPC code.
    pub code: Code,
}

impl Kind {
    /// A reason.
    pub const fn new(name: &'static str, title: &'static str, status: S, code: Code) -> Self {
        Self { name, title, status, code }
    }
}

/// Unknown task.
pub const UNKNOWN_TASK: Kind = Kind::new("unknown-task", "Unknown task", S::NOT_FOUND, Code::NotFound);
/// No task.
pub const MISSING_TASK: Kind = Kind::new("missing-task", "No task", S::BAD_REQUEST, Code::InvalidArgument);
/// Two different tasks.
pub const CONFLICTING_TASK: Kind =
    Kind::new("conflicting-task", "Two different tasks", S::BAD_REQUEST, Code::InvalidArgument);
/// Invalid timeout.
pub const INVALID_TIMEOUT: Kind =
    Kind::new("invalid-timeout", "Invalid timeout", S::BAD_REQUEST, Code::InvalidArgument);
/// Invalid body.
pub const INVALID_BODY: Kind = Kind::new("invalid-body", "Invalid body", S::BAD_REQUEST, Code::InvalidArgument);
/// Compressed body.
pub const UNSUPPORTED_ENCODING: Kind =
    Kind::new("unsupported-encoding", "Compressed body", S::UNSUPPORTED_MEDIA_TYPE, Code::Unimplemented);
/// No such resource.
pub const NO_RESOURCE: Kind = Kind::new("no-resource", "No such resource", S::NOT_FOUND, Code::Unimplemented);
/// Method not allowed.
pub const METHOD_NOT_ALLOWED: Kind =
    Kind::new("method-not-allowed", "Method not allowed", S::METHOD_NOT_ALLOWED, Code::Unimplemented);
/// Body too large.
pub const BODY_TOO_LARGE: Kind =
    Kind::new("body-too-large", "Body too large", S::PAYLOAD_TOO_LARGE, Code::ResourceExhausted);
/// Body too slow.
pub const SLOW_BODY: Kind = Kind::new("slow-body", "Body too slow", S::REQUEST_TIMEOUT, Code::DeadlineExceeded);
/// Deadline exceeded.
pub const DEADLINE_EXCEEDED: Kind =
    Kind::new("deadline-exceeded", "Deadline exceeded", S::GATEWAY_TIMEOUT, Code::DeadlineExceeded);
/// Overloaded.
pub const OVERLOADED: Kind = Kind::new("overloaded", "Overloaded", S::TOO_MANY_REQUESTS, Code::ResourceExhausted);
/// Not ready.
pub const NOT_READY: Kind = Kind::new("not-ready", "Not ready", S::SERVICE_UNAVAILABLE, Code::Unavailable);

/// An error, whatever the protocol that tells it.
#[derive(Clone, Debug)]
pub struct Problem {
    /// The reason.
    pub kind: Kind,
    /// The sentence for people.
    pub detail: String,
    /// The field of the request that is wrong, as a path, where one is.
    pub field: Option<String>,
    /// What a program may want to know: the members of a problem document beyond those of RFC 9457.
    pub members: Map<String, Value>,
    /// When to try again, where that can help.
    pub retry_after: Option<Duration>,
}

impl Problem {
    /// The members of the problem document (RFC 9457).
    pub fn document(&self) -> Map<String, Value> {
        let mut document = Map::new();
        document.insert("type".into(), json!(format!("{TYPES}{}", self.kind.name)));
        document.insert("title".into(), json!(self.kind.title));
        document.insert("status".into(), json!(self.kind.status.as_u16()));
        document.insert("detail".into(), json!(self.detail));
        document.extend(self.members.clone());
        document
    }

    /// `Retry-After`. The header takes whole seconds; the member says it exactly.
    pub fn retry_after_header(&self) -> Option<HeaderValue> {
        let after = self.retry_after?;
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        Some(HeaderValue::from(seconds.max(1)))
    }

    /// The gRPC status with the details of `google.rpc`: `ErrorInfo` always, with the members of the problem document as
    /// metadata; `BadRequest` where a field is wrong; `RetryInfo` where trying again helps.
    pub fn status(self) -> Status {
        let reason = self.kind.name.replace('-', "_").to_uppercase();
        let metadata: HashMap<String, String> = self.members.into_iter().map(|(k, v)| (k, plain(&v))).collect();
        let mut details = ErrorDetails::with_error_info(reason, DOMAIN, metadata);
        if self.kind.code == Code::InvalidArgument {
            details.add_bad_request_violation(self.field.unwrap_or_default(), self.detail.clone());
        }
        if let Some(after) = self.retry_after {
            details.set_retry_info(Some(after));
        }
        Status::with_error_details(self.kind.code, self.detail, details)
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(", "),
        value => value.to_string(),
    }
}

/// A text of at most so many bytes, and a mark where it was longer: what callers gave may be, and an error fits a header
/// of gRPC.
pub fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}
