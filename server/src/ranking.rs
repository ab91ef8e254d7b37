//! The seam between the protocols and the model: they know nothing of threads, it knows nothing of protocols.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::error::RankError;
use crate::request::{RankRequest, RankResponse, Task};
use crate::timeout::Deadline;

/// What answers requests.
#[async_trait]
pub trait Ranking: Send + Sync + 'static {
    /// The task of that name.
    fn task(&self, name: &str) -> Option<Arc<Task>>;

    /// All tasks, by name.
    fn tasks(&self) -> Vec<Arc<Task>>;

    /// Whether requests are answered, now and from now on. It counts as changed too when tasks or their version change.
    fn readiness(&self) -> watch::Receiver<Readiness>;

    /// What has been answered for a task since the server started.
    fn statistics(&self, task: &str) -> Statistics;

    /// Ranks. Dropping the future gives the request up.
    ///
    /// # Errors
    /// What is wrong with the context or the selector, an overload, a passed deadline, or a fault of the server.
    async fn rank(&self, request: RankRequest, deadline: Deadline) -> Result<RankResponse, RankError>;

    /// Told how long it took to write a ranking of the task as its protocol has it.
    fn written(&self, task: &str, elapsed: Duration);

    /// Told of every request once its answer is made, of those too that never came to [`Ranking::rank`].
    fn observe(&self, exchange: &Exchange<'_>);
}

/// Whether requests are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// They are.
    Ready,
    /// They are not.
    NotReady {
        /// Why.
        reason: String,
    },
    /// The server stops: they will not be again.
    Stopping,
}

impl Readiness {
    /// Why a task is not answered for, where it is not.
    pub fn problem(&self, task: &Task) -> Option<String> {
        match self {
            Self::Ready => task.version.as_ref().err().cloned(),
            Self::NotReady { reason } => Some(reason.clone()),
            Self::Stopping => Some("the server stops".to_owned()),
        }
    }
}

/// Counts and times of a task since the server started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Answered.
    pub success: Timing,
    /// Not answered.
    pub failure: Timing,
    /// Waiting for a compute thread.
    pub queue: Timing,
    /// Encoding the context and finding the candidates.
    pub encode: Timing,
    /// Scoring, on all threads together.
    pub compute: Timing,
    /// Writing the answer.
    pub serialise: Timing,
    /// Answered from the cache.
    pub cache_hit: Timing,
    /// Not found in the cache.
    pub cache_miss: Timing,
    /// Batches computed.
    pub executions: u64,
    /// When the last request was answered.
    pub last: Option<SystemTime>,
}

/// How often and how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// How often.
    pub count: u64,
    /// How long in all.
    pub total: Duration,
}

/// A request and its answer, for metrics.
#[derive(Clone, Copy, Debug)]
pub struct Exchange<'a> {
    /// How it was asked.
    pub protocol: Protocol,
    /// The task, where there is one of that name.
    pub task: Option<&'a str>,
    /// Name of the reason ([`crate::error::Kind::name`]) where there was no answer.
    pub error: Option<&'static str>,
    /// From its arrival to its answer.
    pub elapsed: Duration,
}

/// How a request was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// `/v1` by HTTP.
    Rest,
    /// `unimodel.v1.RankingService`.
    Grpc,
    /// `/v2` by HTTP.
    InferenceRest,
    /// `inference.GRPCInferenceService`.
    InferenceGrpc,
}

impl Protocol {
    /// All, in order.
    pub const ALL: [Self; 4] = [Self::Rest, Self::Grpc, Self::InferenceRest, Self::InferenceGrpc];

    /// As metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rest => "rest",
            Self::Grpc => "grpc",
            Self::InferenceRest => "inference_rest",
            Self::InferenceGrpc => "inference_grpc",
        }
    }
}
