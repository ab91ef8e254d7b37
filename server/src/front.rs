//! What all protocols do with a request once they have read it.

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use unimodel_transport::body::BodyLimits;
use unimodel_transport::body::Intake;
use unimodel_transport::telemetry;

use crate::error::RankError;
use crate::ranking::{Exchange, Protocol, Ranking};
use crate::request::{Asked, RankResponse, Task};
use crate::timeout::Deadline;

/// The protocols' side of the server.
pub struct Front {
    pub(crate) ranking: Arc<dyn Ranking>,
    pub(crate) intake: Intake,
}

/// One request on its way through the front.
pub(crate) struct Call {
    protocol: Protocol,
    pub(crate) received: Instant,
    task: Option<Arc<Task>>,
}

impl Call {
    pub(crate) fn new(protocol: Protocol) -> Self {
        Self::received(protocol, Instant::now())
    }

    /// A request that has been received before.
    pub(crate) fn received(protocol: Protocol, received: Instant) -> Self {
        Self { protocol, received, task: None }
    }
}

impl Front {
    /// The protocols in front of what answers.
    pub fn new(ranking: Arc<dyn Ranking>, body: BodyLimits) -> Self {
        Self { ranking, intake: Intake::new(body) }
    }

    /// The names of all tasks.
    pub(crate) fn task_names(&self) -> Vec<String> {
        self.ranking.tasks().iter().map(|task| task.name.to_string()).collect()
    }

    /// The task of that name.
    pub(crate) fn task(&self, call: &mut Call, name: &str) -> Result<Arc<Task>, RankError> {
        let task = self
            .ranking
            .task(name)
            .ok_or_else(|| RankError::UnknownTask { task: name.to_owned(), known: self.task_names() })?;
        call.task = Some(task.clone());
        Ok(task)
    }

    /// Checks and ranks. `transport` are the timeouts that the transport's headers ask for.
    pub(crate) async fn rank(
        &self,
        call: &Call,
        task: &Task,
        asked: Asked,
        transport: [Option<Duration>; 2],
    ) -> Result<RankResponse, RankError> {
        let deadline = Deadline::new(call.received, [transport[0], transport[1], asked.timeout], task.timeout);
        let request = asked.check(task)?;
        if deadline.at <= Instant::now() {
            return Err(RankError::DeadlineExceeded { timeout: deadline.timeout });
        }
        // The runtime drops what is late as well, but a caller is answered in time whatever it does.
        tokio::time::timeout_at(deadline.at.into(), self.ranking.rank(request, deadline))
            .await
            .unwrap_or(Err(RankError::DeadlineExceeded { timeout: deadline.timeout }))
    }

    /// Writes a ranking as a protocol has it, and tells the runtime how long that took.
    pub(crate) fn write<T>(&self, response: RankResponse, write: impl FnOnce(RankResponse) -> T) -> T {
        let (task, begun) = (response.task.clone(), Instant::now());
        let written = write(response);
        self.ranking.written(&task, begun.elapsed());
        written
    }

    /// Tells the runtime that the answer is made.
    pub(crate) fn done<T>(&self, call: &Call, result: &Result<T, RankError>) {
        let task = call.task.as_ref().map(|task| &*task.name);
        let error = result.as_ref().err().map(|error| error.kind().name);
        telemetry::record(task.unwrap_or_default(), error.unwrap_or("ok"));
        self.ranking.observe(&Exchange { protocol: call.protocol, task, error, elapsed: call.received.elapsed() });
    }
}
