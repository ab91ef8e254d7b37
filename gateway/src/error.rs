//! Why the gateway itself gives no ranking: problem documents and gRPC statuses in the form of a model server's
//! (`docs/api.md`, "Errors").

use std::collections::HashMap;
use std::time::Duration;

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Map, Value, json};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::body::Body;
use crate::timeout;

/// Where problem types begin. They are names: nothing needs to answer there.
const PROBLEM_TYPES: &str = "https://unimodel.dev/problems/";
/// The domain of every `google.rpc.ErrorInfo`.
const DOMAIN: &str = "unimodel.dev";

/// Why the gateway itself gives no ranking.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GatewayError {
    /// No such task.
    #[error("unknown task `{task}`; known are {}", list(.known))]
    UnknownTask {
        /// As asked.
        task: String,
        /// All tasks.
        known: Vec<String>,
    },
    /// No task in the request.
    #[error("the request names no task; known are {}", list(.known))]
    MissingTask {
        /// All tasks.
        known: Vec<String>,
    },
    /// One task in the path, another in the header.
    #[error("the path names the task `{path}` and the header x-unimodel-task `{header}`; leave the header out")]
    ConflictingTask {
        /// Task in the path.
        path: String,
        /// Task in the header.
        header: String,
    },
    /// A timeout that is none.
    #[error("timeout `{value}` {problem}; give a duration such as \"50ms\" or \"0.050s\"")]
    InvalidTimeout {
        /// As given.
        value: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A body that is not what the protocol takes.
    #[error("invalid body: {message}")]
    InvalidBody {
        /// What is wrong, with the place where one is known.
        message: String,
        /// Line and column of a JSON body, from 1.
        position: Option<(usize, usize)>,
    },
    /// A compressed body.
    #[error("content encoding `{encoding}` is not accepted; send the body as it is")]
    UnsupportedEncoding {
        /// As sent.
        encoding: String,
    },
    /// No such address.
    #[error("no resource {method} {path}")]
    NoResource {
        /// HTTP method.
        method: String,
        /// Path.
        path: String,
    },
    /// The address exists, with another method.
    #[error("{path} does not take {method}; it takes {allow}")]
    MethodNotAllowed {
        /// HTTP method.
        method: String,
        /// Path.
        path: String,
        /// What it takes.
        allow: &'static str,
    },
    /// A body over the limit.
    #[error("the body is larger than {max} bytes")]
    BodyTooLarge {
        /// The limit.
        max: usize,
    },
    /// A body that did not come in time.
    #[error("the body did not arrive within {timeout:?}")]
    SlowBody {
        /// How long the gateway waited.
        timeout: Duration,
    },
    /// The deadline passed before the answer was there.
    #[error("the deadline of {timeout:?} has passed")]
    DeadlineExceeded {
        /// From the request's arrival to its deadline.
        timeout: Duration,
    },
    /// More requests than the task may have at a time.
    #[error("overloaded: {reason}")]
    Overloaded {
        /// Which limit is reached.
        reason: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// No endpoint of the task answers, or the gateway stops.
    #[error("not ready: {reason}")]
    NotReady {
        /// Why.
        reason: String,
    },
    /// An endpoint answered with something that is no answer.
    #[error("bad gateway: {reason}")]
    BadGateway {
        /// What was wrong with it.
        reason: String,
    },
}

/// What callers of all protocols see of a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Last segment of the problem type; also the reason in metrics.
    pub name: &'static str,
    /// Title of the problem document.
    pub title: &'static str,
    /// HTTP status.
    pub status: StatusCode,
    /// gRPC code.
    pub code: Code,
}

/// The form that an answer of the gateway's own takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A problem document.
    Rest,
    /// A problem document with the `error` that Open Inference asks for.
    InferenceRest,
    /// A gRPC status.
    Grpc,
}

impl GatewayError {
    /// How callers see this.
    pub fn kind(&self) -> Kind {
        use StatusCode as S;
        let (name, title, status, code) = match self {
            Self::UnknownTask { .. } => ("unknown-task", "Unknown task", S::NOT_FOUND, Code::NotFound),
            Self::MissingTask { .. } => ("missing-task", "No task", S::BAD_REQUEST, Code::InvalidArgument),
            Self::ConflictingTask { .. } => {
                ("conflicting-task", "Two different tasks", S::BAD_REQUEST, Code::InvalidArgument)
            }
            Self::InvalidTimeout { .. } => {
                ("invalid-timeout", "Invalid timeout", S::BAD_REQUEST, Code::InvalidArgument)
            }
            Self::InvalidBody { .. } => ("invalid-body", "Invalid body", S::BAD_REQUEST, Code::InvalidArgument),
            Self::UnsupportedEncoding { .. } => {
                ("unsupported-encoding", "Compressed body", S::UNSUPPORTED_MEDIA_TYPE, Code::Unimplemented)
            }
            Self::NoResource { .. } => ("no-resource", "No such resource", S::NOT_FOUND, Code::Unimplemented),
            Self::MethodNotAllowed { .. } => {
                ("method-not-allowed", "Method not allowed", S::METHOD_NOT_ALLOWED, Code::Unimplemented)
            }
            Self::BodyTooLarge { .. } => {
                ("body-too-large", "Body too large", S::PAYLOAD_TOO_LARGE, Code::ResourceExhausted)
            }
            Self::SlowBody { .. } => ("slow-body", "Body too slow", S::REQUEST_TIMEOUT, Code::DeadlineExceeded),
            Self::DeadlineExceeded { .. } => {
                ("deadline-exceeded", "Deadline exceeded", S::GATEWAY_TIMEOUT, Code::DeadlineExceeded)
            }
            Self::Overloaded { .. } => ("overloaded", "Overloaded", S::TOO_MANY_REQUESTS, Code::ResourceExhausted),
            Self::NotReady { .. } => ("not-ready", "Not ready", S::SERVICE_UNAVAILABLE, Code::Unavailable),
            Self::BadGateway { .. } => ("bad-gateway", "Bad gateway", S::BAD_GATEWAY, Code::Internal),
        };
        Kind { name, title, status, code }
    }

    /// The error of a body that is not JSON or not a request.
    pub fn syntax(error: &serde_json::Error) -> Self {
        Self::InvalidBody { message: error.to_string(), position: Some((error.line(), error.column())) }
    }

    /// The response that says it.
    pub fn response(&self, form: Form) -> Response<Body> {
        match form {
            Form::Grpc => self.grpc().into_http(),
            Form::Rest => self.document(false, "application/problem+json"),
            Form::InferenceRest => self.document(true, "application/json"),
        }
    }

    fn document(&self, with_error: bool, content_type: &'static str) -> Response<Body> {
        let kind = self.kind();
        let mut document = json!({
            "type": format!("{PROBLEM_TYPES}{}", kind.name),
            "title": kind.title,
            "status": kind.status.as_u16(),
            "detail": self.detail(),
        });
        if let Some(document) = document.as_object_mut() {
            document.extend(self.members());
            if with_error {
                document.insert("error".into(), json!(self.detail()));
            }
        }
        let mut response = Response::new(Body::from(document.to_string()));
        *response.status_mut() = kind.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some(after) = self.retry_after() {
            // The header takes whole seconds; the member says it exactly.
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if let Self::MethodNotAllowed { allow, .. } = self {
            headers.insert(http::header::ALLOW, HeaderValue::from_static(allow));
        }
        response
    }

    /// `ErrorInfo` always, with the members of the problem document as metadata; `BadRequest` where a field is wrong;
    /// `RetryInfo` where trying again helps.
    fn grpc(&self) -> Status {
        let kind = self.kind();
        let detail = self.detail();
        let reason = kind.name.replace('-', "_").to_uppercase();
        let metadata: HashMap<String, String> = self.members().into_iter().map(|(k, v)| (k, plain(&v))).collect();
        let mut details = ErrorDetails::with_error_info(reason, DOMAIN, metadata);
        if kind.code == Code::InvalidArgument {
            details.add_bad_request_violation(self.field(), detail.clone());
        }
        if let Some(after) = self.retry_after() {
            details.set_retry_info(Some(after));
        }
        Status::with_error_details(kind.code, detail, details)
    }

    /// The sentence for people. What callers gave is cut where it is long: an error fits a header of gRPC.
    fn detail(&self) -> String {
        cut(self.to_string(), 1000)
    }

    fn field(&self) -> &'static str {
        match self {
            Self::UnknownTask { .. } | Self::MissingTask { .. } | Self::ConflictingTask { .. } => "task",
            Self::InvalidTimeout { .. } => "timeout",
            _ => "",
        }
    }

    /// What a program may want to know: the members of a problem document beyond those of RFC 9457.
    fn members(&self) -> Map<String, Value> {
        let members = match self {
            Self::UnknownTask { task, known } => json!({ "task": cut(task.clone(), 200), "known": some(known) }),
            Self::MissingTask { known } => json!({ "known": some(known) }),
            Self::ConflictingTask { path, header } => {
                json!({ "path": cut(path.clone(), 200), "header": cut(header.clone(), 200) })
            }
            Self::InvalidTimeout { value, .. } => json!({ "value": value }),
            Self::InvalidBody { position: Some((line, column)), .. } => json!({ "line": line, "column": column }),
            Self::UnsupportedEncoding { encoding } => json!({ "encoding": cut(encoding.clone(), 200) }),
            Self::BodyTooLarge { max } => json!({ "max": max }),
            Self::SlowBody { timeout } | Self::DeadlineExceeded { timeout } => {
                json!({ "timeout": timeout::print(*timeout) })
            }
            Self::Overloaded { retry_after, .. } => json!({ "retryAfter": timeout::print(*retry_after) }),
            Self::InvalidBody { position: None, .. }
            | Self::NoResource { .. }
            | Self::MethodNotAllowed { .. }
            | Self::NotReady { .. }
            | Self::BadGateway { .. } => json!({}),
        };
        match members {
            Value::Object(members) => members,
            _ => Map::new(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded { retry_after, .. } => Some(*retry_after),
            Self::NotReady { .. } => Some(Duration::from_secs(1)),
            _ => None,
        }
    }
}

/// The most names that an error carries: a routes file may have thousands.
const NAMES: usize = 64;

fn some(names: &[String]) -> &[String] {
    &names[..names.len().min(NAMES)]
}

fn list(names: &[String]) -> String {
    match names.len() {
        0 => "none".into(),
        count if count > NAMES => format!("{} and {} more", some(names).join(", "), count - NAMES),
        _ => names.join(", "),
    }
}

fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(", "),
        value => value.to_string(),
    }
}
