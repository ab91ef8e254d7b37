//! Why a request gets no ranking: one problem type, one HTTP status and one gRPC code per reason.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Map, Value, json};
use tonic::Code;
use unimodel_model::features::ContextError;
use unimodel_protocol::duration;
use unimodel_transport::body::BodyError;
use unimodel_transport::budget::{self, Full};
use unimodel_transport::problem::{self, Kind, Problem, cut};
use unimodel_transport::timeout::InvalidTimeout;

/// Why a request gets no ranking.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RankError {
    /// No such task.
    #[error("unknown task `{task}`; known are {}", list(.known))]
    UnknownTask {
        /// As asked.
        task: String,
        /// All tasks of the server.
        known: Vec<String>,
    },
    /// No task in the request.
    #[error("the request names no task; known are {}", list(.known))]
    MissingTask {
        /// All tasks of the server.
        known: Vec<String>,
    },
    /// One task in the path, another in the body.
    #[error("the path names the task `{path}` and the body `{body}`; leave it out of the body")]
    ConflictingTask {
        /// Task in the path.
        path: String,
        /// Task in the body.
        body: String,
    },
    /// The context does not fit the schema.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// The task requires an element that the request does not give.
    #[error("the task `{task}` requires the context element `{element}`")]
    MissingElement {
        /// The task.
        task: String,
        /// The element.
        element: String,
    },
    /// No candidates, or an empty list of them.
    #[error("no candidates; give `candidates.ids` with at least one id, `candidates.select`, or `candidates.all`")]
    EmptyCandidates,
    /// More than one of `ids`, `select` and `all`.
    #[error("candidates by {}; give one of them", .given.join(" and "))]
    ConflictingCandidates {
        /// The members given.
        given: Vec<&'static str>,
    },
    /// More candidates or excluded ids than the task takes.
    #[error("{count} ids in `{field}`; the task takes at most {max}")]
    TooManyCandidates {
        /// Which list.
        field: &'static str,
        /// As given.
        count: usize,
        /// The most that the task takes.
        max: usize,
    },
    /// An id twice in `candidates.ids`.
    #[error("candidate `{id}` comes twice")]
    DuplicateCandidate {
        /// The id.
        id: String,
    },
    /// A selector over an attribute that items do not have.
    #[error("unknown item attribute `{attribute}`{}; known are {}", suggestion(.nearest), list(.known))]
    UnknownAttribute {
        /// As given.
        attribute: String,
        /// The most similar known one, if any is similar.
        nearest: Option<String>,
        /// All attributes.
        known: Vec<String>,
    },
    /// A selector with a value of the wrong type.
    #[error("item attribute `{attribute}` is selected by {expected}, got {got}")]
    AttributeType {
        /// The attribute.
        attribute: String,
        /// What would be right.
        expected: &'static str,
        /// The type of what was given.
        got: &'static str,
    },
    /// A limit of zero, or above what the task takes.
    #[error("limit {limit}; give 1 to {max}")]
    InvalidLimit {
        /// As given.
        limit: u64,
        /// The most that the task takes.
        max: usize,
    },
    /// A timeout that is none.
    #[error("timeout `{value}` {problem}; give a duration above zero such as \"50ms\" or \"0.050s\"")]
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
    /// A tensor that does not say what it should.
    #[error("tensor `{tensor}`: {problem}")]
    InvalidTensor {
        /// Name of the input or output.
        tensor: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A version that does not answer now.
    #[error("version `{version}` of `{task}` does not answer; `{active}` does")]
    UnknownVersion {
        /// The task.
        task: String,
        /// As asked.
        version: String,
        /// The version that answers.
        active: String,
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
    /// The address exists, with other methods.
    #[error("{path} does not take {method}")]
    MethodNotAllowed {
        /// HTTP method.
        method: String,
        /// Path.
        path: String,
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
        /// How long the server waited.
        timeout: Duration,
    },
    /// The deadline passed before the answer was there.
    #[error("the deadline of {timeout:?} has passed")]
    DeadlineExceeded {
        /// From the request's arrival to its deadline.
        timeout: Duration,
    },
    /// More work than the server can do now.
    #[error("overloaded: {reason}")]
    Overloaded {
        /// Which limit is reached.
        reason: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// No version answers yet, or the server stops.
    #[error("not ready: {reason}")]
    NotReady {
        /// Why.
        reason: String,
    },
    /// A fault of the server.
    #[error("internal error: {message}")]
    Internal {
        /// What failed.
        message: String,
    },
}

impl From<InvalidTimeout> for RankError {
    fn from(InvalidTimeout { value, problem }: InvalidTimeout) -> Self {
        Self::InvalidTimeout { value, problem }
    }
}

impl From<BodyError> for RankError {
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

impl From<Full> for RankError {
    fn from(full: Full) -> Self {
        Self::Overloaded { reason: full.to_string(), retry_after: budget::RETRY_AFTER }
    }
}

impl RankError {
    /// A body that is not what the protocol takes, where no line is known.
    pub fn invalid_body(message: impl Into<String>) -> Self {
        Self::InvalidBody { message: message.into(), position: None }
    }

    /// How callers see this.
    pub fn kind(&self) -> Kind {
        use ContextError as C;
        use StatusCode as S;
        match self {
            Self::UnknownTask { .. } => problem::UNKNOWN_TASK,
            Self::MissingTask { .. } => problem::MISSING_TASK,
            Self::ConflictingTask { .. } => problem::CONFLICTING_TASK,
            Self::Context(C::UnknownElement { .. }) => {
                Kind::new("unknown-element", "Unknown context element", S::BAD_REQUEST, Code::InvalidArgument)
            }
            Self::Context(C::WrongType { .. }) => {
                Kind::new("wrong-type", "Context element of the wrong type", S::BAD_REQUEST, Code::InvalidArgument)
            }
            Self::Context(C::NotFinite { .. }) => {
                Kind::new("not-finite", "Number that is not finite", S::BAD_REQUEST, Code::InvalidArgument)
            }
            Self::MissingElement { .. } => {
                Kind::new("missing-element", "Required context element missing", S::BAD_REQUEST, Code::InvalidArgument)
            }
            Self::EmptyCandidates => {
                Kind::new("empty-candidates", "No candidates", S::BAD_REQUEST, Code::InvalidArgument)
            }
            Self::ConflictingCandidates { .. } => Kind::new(
                "conflicting-candidates",
                "Several kinds of candidates",
                S::BAD_REQUEST,
                Code::InvalidArgument,
            ),
            Self::TooManyCandidates { .. } => {
                Kind::new("too-many-candidates", "Too many candidates", S::BAD_REQUEST, Code::InvalidArgument)
            }
            Self::DuplicateCandidate { .. } => {
                Kind::new("duplicate-candidate", "Candidate given twice", S::BAD_REQUEST, Code::InvalidArgument)
            }
            Self::UnknownAttribute { .. } => {
                Kind::new("unknown-attribute", "Unknown item attribute", S::BAD_REQUEST, Code::InvalidArgument)
            }
            Self::AttributeType { .. } => {
                Kind::new("attribute-type", "Item attribute of the wrong type", S::BAD_REQUEST, Code::InvalidArgument)
            }
            Self::InvalidLimit { .. } => {
                Kind::new("invalid-limit", "Invalid limit", S::BAD_REQUEST, Code::InvalidArgument)
            }
            Self::InvalidTimeout { .. } => problem::INVALID_TIMEOUT,
            Self::InvalidBody { .. } => problem::INVALID_BODY,
            Self::InvalidTensor { .. } => {
                Kind::new("invalid-tensor", "Invalid tensor", S::BAD_REQUEST, Code::InvalidArgument)
            }
            Self::UnknownVersion { .. } => {
                Kind::new("unknown-version", "Unknown version", S::NOT_FOUND, Code::NotFound)
            }
            Self::UnsupportedEncoding { .. } => problem::UNSUPPORTED_ENCODING,
            Self::NoResource { .. } => problem::NO_RESOURCE,
            Self::MethodNotAllowed { .. } => problem::METHOD_NOT_ALLOWED,
            Self::BodyTooLarge { .. } => problem::BODY_TOO_LARGE,
            Self::SlowBody { .. } => problem::SLOW_BODY,
            Self::DeadlineExceeded { .. } => problem::DEADLINE_EXCEEDED,
            Self::Overloaded { .. } => problem::OVERLOADED,
            Self::NotReady { .. } => problem::NOT_READY,
            Self::Internal { .. } => Kind::new("internal", "Internal error", S::INTERNAL_SERVER_ERROR, Code::Internal),
        }
    }

    /// What every protocol tells of it.
    pub fn problem(&self) -> Problem {
        let (kind, detail, field) = (self.kind(), self.detail(), self.field());
        Problem { kind, detail, field, members: self.members(), retry_after: self.retry_after() }
    }

    /// The sentence for people. What callers gave is cut where it is long: an error fits a header of gRPC.
    pub fn detail(&self) -> String {
        cut(self.to_string(), 1000)
    }

    /// The field of the request that is wrong, as a path, where one is.
    pub fn field(&self) -> Option<String> {
        use ContextError as C;
        let field = match self {
            Self::UnknownTask { .. } | Self::MissingTask { .. } | Self::ConflictingTask { .. } => "task".into(),
            Self::Context(
                C::UnknownElement { element, .. } | C::WrongType { element, .. } | C::NotFinite { element, .. },
            )
            | Self::MissingElement { element, .. } => format!("context.{element}"),
            Self::EmptyCandidates | Self::ConflictingCandidates { .. } => "candidates".into(),
            Self::TooManyCandidates { field, .. } => (*field).into(),
            Self::DuplicateCandidate { .. } => "candidates.ids".into(),
            Self::UnknownAttribute { attribute, .. } | Self::AttributeType { attribute, .. } => {
                format!("candidates.select.{attribute}")
            }
            Self::InvalidLimit { .. } => "limit".into(),
            Self::InvalidTimeout { .. } => "timeout".into(),
            Self::InvalidTensor { tensor, .. } => tensor.clone(),
            _ => return None,
        };
        Some(cut(field, 200))
    }

    /// What a program may want to know: the members of a problem document beyond those of RFC 9457.
    pub fn members(&self) -> Map<String, Value> {
        use ContextError as C;
        let members = match self {
            Self::UnknownTask { task, known } => json!({ "task": task, "known": known }),
            Self::MissingTask { known } => json!({ "known": known }),
            Self::ConflictingTask { path, body } => json!({ "path": path, "body": body }),
            Self::Context(C::UnknownElement { element, nearest, known }) => {
                json!({ "element": element, "nearest": nearest, "known": known })
            }
            Self::Context(C::WrongType { element, expected, got }) => {
                json!({ "element": element, "expected": expected, "got": got })
            }
            Self::Context(C::NotFinite { element, value }) => json!({ "element": element, "got": value.to_string() }),
            Self::MissingElement { element, .. } => json!({ "element": element }),
            Self::ConflictingCandidates { given } => json!({ "given": given }),
            Self::TooManyCandidates { field, count, max } => json!({ "field": field, "count": count, "max": max }),
            Self::DuplicateCandidate { id } => json!({ "id": id }),
            Self::UnknownAttribute { attribute, nearest, known } => {
                json!({ "attribute": attribute, "nearest": nearest, "known": known })
            }
            Self::AttributeType { attribute, expected, got } => {
                json!({ "attribute": attribute, "expected": expected, "got": got })
            }
            Self::InvalidLimit { limit, max } => json!({ "limit": limit, "max": max }),
            Self::InvalidTimeout { value, .. } => json!({ "value": value }),
            Self::InvalidBody { position: Some((line, column)), .. } => json!({ "line": line, "column": column }),
            Self::InvalidTensor { tensor, .. } => json!({ "tensor": tensor }),
            Self::UnknownVersion { version, active, .. } => json!({ "version": version, "active": active }),
            Self::UnsupportedEncoding { encoding } => json!({ "encoding": encoding }),
            Self::BodyTooLarge { max } => json!({ "max": max }),
            Self::SlowBody { timeout } | Self::DeadlineExceeded { timeout } => {
                json!({ "timeout": duration::print(*timeout) })
            }
            Self::Overloaded { retry_after, .. } => json!({ "retryAfter": duration::print(*retry_after) }),
            Self::EmptyCandidates
            | Self::InvalidBody { position: None, .. }
            | Self::NoResource { .. }
            | Self::MethodNotAllowed { .. }
            | Self::NotReady { .. }
            | Self::Internal { .. } => Value::Null,
        };
        match members {
            Value::Object(members) => members
                .into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(name, value)| match value {
                    Value::String(text) => (name, Value::String(cut(text, 200))),
                    value => (name, value),
                })
                .collect(),
            _ => Map::new(),
        }
    }

    /// When to try again, where that can help.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded { retry_after, .. } => Some(*retry_after),
            Self::NotReady { .. } => Some(Duration::from_secs(1)),
            _ => None,
        }
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

fn suggestion(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or(String::new(), |name| format!(" (did you mean `{name}`?)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_leave_out_what_is_not_known() {
        let error = RankError::UnknownAttribute { attribute: "x".into(), nearest: None, known: vec!["genres".into()] };
        assert_eq!(Value::Object(error.members()), json!({ "attribute": "x", "known": ["genres"] }));
    }
}
