//! Why the gateway itself gives no ranking: problem documents and gRPC statuses in the form of a model server's
//! (`docs/api.md`, "Errors").

use std::time::Duration;

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Map, Value, json};
use tonic::Code;
use unimodel_protocol::duration;
use unimodel_transport::body::BodyError;
use unimodel_transport::budget::{self, Full};
use unimodel_transport::problem::{self, Kind, Problem, cut};
use unimodel_transport::timeout::InvalidTimeout;

use crate::body::Body;

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
    /// More requests than the task may have at a time, or than the gateway can hold.
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

impl From<InvalidTimeout> for GatewayError {
    fn from(InvalidTimeout { value, problem }: InvalidTimeout) -> Self {
        Self::InvalidTimeout { value, problem }
    }
}

impl From<BodyError> for GatewayError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Encoding { encoding } => Self::UnsupportedEncoding { encoding },
            BodyError::TooLarge { max } => Self::BodyTooLarge { max },
            BodyError::Slow { timeout } => Self::SlowBody { timeout },
            BodyError::Broken { .. } => Self::InvalidBody { message: error.to_string(), position: None },
            BodyError::Full(full) => full.into(),
        }
    }
}

impl From<Full> for GatewayError {
    fn from(full: Full) -> Self {
        Self::Overloaded { reason: full.to_string(), retry_after: budget::RETRY_AFTER }
    }
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
        match self {
            Self::UnknownTask { .. } => problem::UNKNOWN_TASK,
            Self::MissingTask { .. } => problem::MISSING_TASK,
            Self::ConflictingTask { .. } => problem::CONFLICTING_TASK,
            Self::InvalidTimeout { .. } => problem::INVALID_TIMEOUT,
            Self::InvalidBody { .. } => problem::INVALID_BODY,
            Self::UnsupportedEncoding { .. } => problem::UNSUPPORTED_ENCODING,
            Self::NoResource { .. } => problem::NO_RESOURCE,
            Self::MethodNotAllowed { .. } => problem::METHOD_NOT_ALLOWED,
            Self::BodyTooLarge { .. } => problem::BODY_TOO_LARGE,
            Self::SlowBody { .. } => problem::SLOW_BODY,
            Self::DeadlineExceeded { .. } => problem::DEADLINE_EXCEEDED,
            Self::Overloaded { .. } => problem::OVERLOADED,
            Self::NotReady { .. } => problem::NOT_READY,
            Self::BadGateway { .. } => Kind::new("bad-gateway", "Bad gateway", S::BAD_GATEWAY, Code::Internal),
        }
    }

    /// The error of a body that is not JSON or not a request.
    pub fn syntax(error: &serde_json::Error) -> Self {
        Self::InvalidBody { message: error.to_string(), position: Some((error.line(), error.column())) }
    }

    /// The response that says it.
    pub fn response(&self, form: Form) -> Response<Body> {
        match form {
            Form::Grpc => self.problem().status().into_http(),
            Form::Rest => self.document(false, "application/problem+json"),
            Form::InferenceRest => self.document(true, "application/json"),
        }
    }

    fn document(&self, with_error: bool, content_type: &'static str) -> Response<Body> {
        let problem = self.problem();
        let mut document = problem.document();
        if with_error {
            document.insert("error".into(), json!(problem.detail));
        }
        let mut response = Response::new(Body::from(Value::Object(document).to_string()));
        *response.status_mut() = problem.kind.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some(after) = problem.retry_after_header() {
            headers.insert(RETRY_AFTER, after);
        }
        if let Self::MethodNotAllowed { allow, .. } = self {
            headers.insert(http::header::ALLOW, HeaderValue::from_static(allow));
        }
        response
    }

    pub(crate) fn problem(&self) -> Problem {
        let (kind, detail, field) = (self.kind(), self.detail(), self.field().map(str::to_owned));
        Problem { kind, detail, field, members: self.members(), retry_after: self.retry_after() }
    }

    /// The sentence for people. What callers gave is cut where it is long: an error fits a header of gRPC.
    fn detail(&self) -> String {
        cut(self.to_string(), 1000)
    }

    fn field(&self) -> Option<&'static str> {
        match self {
            Self::UnknownTask { .. } | Self::MissingTask { .. } | Self::ConflictingTask { .. } => Some("task"),
            Self::InvalidTimeout { .. } => Some("timeout"),
            _ => None,
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
                json!({ "timeout": duration::print(*timeout) })
            }
            Self::Overloaded { retry_after, .. } => json!({ "retryAfter": duration::print(*retry_after) }),
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
