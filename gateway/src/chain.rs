//! A request's way through its task's chain: its own servers, other tasks' servers, a static list, an error.

use std::sync::Arc;
use std::time::Instant;

use crate::error::GatewayError;
use crate::exchange::{Answer, Failure, FailureKind, Outgoing};
use crate::fallback;
use crate::gateway::Gateway;
use crate::metrics::Protocol;
use crate::relay::{self, Turn};
use crate::table::Task;
use crate::timeout::{self, Deadline};

/// A request whose task is known.
pub struct Call {
    /// The task.
    pub task: Arc<Task>,
    /// How it was asked.
    pub protocol: Protocol,
    /// What goes to a server.
    pub outgoing: Outgoing,
    /// When an answer is wanted.
    pub deadline: Deadline,
    /// Who asks, as far as shares are concerned.
    pub key: Option<http::HeaderValue>,
}

/// Answers.
///
/// # Errors
/// Nothing in the chain does, and no server said why.
pub async fn answer(gateway: &Gateway, call: &Call) -> Result<Answer, GatewayError> {
    let task = &call.task;
    let key = call.key.as_ref().map(|key| key.as_bytes());
    let (canary, mirrored) = {
        let mut rng = rand::rng();
        // Apart from the canary's share, so that those who are in one are not always in the other.
        let mirror_key = key.map(|key| [key, b"/mirror"].concat());
        let mirrored = relay::falls_into(task, task.mirror.as_ref(), mirror_key.as_deref(), &mut rng);
        (relay::falls_into(task, task.canary.as_ref(), key, &mut rng), mirrored)
    };
    if mirrored {
        relay::mirror(task, &call.outgoing, call.deadline.timeout);
    }
    let chain = &task.facts.fallback;
    let turn = |is_last, canary| Turn { until: timeout::turn(call.deadline, Instant::now(), is_last), is_last, canary };
    let failure = match relay::rank(task, &call.outgoing, turn(chain.is_empty(), canary)).await {
        Ok(answer) => return Ok(answer),
        Err(failure) => failure,
    };
    let reason = failure.kind.name();
    for (index, step) in chain.iter().enumerate() {
        let is_last = index + 1 == chain.len();
        if let Some(name) = &step.task {
            // A file that was read in between may no longer have the task.
            let Some(other) = gateway.table().task(name).cloned() else { continue };
            if Instant::now() >= call.deadline.at {
                continue;
            }
            let renamed = fallback::renamed(&call.outgoing, call.protocol, &task.name, name);
            if let Ok(mut answer) = relay::rank(&other, &renamed, turn(is_last, false)).await {
                fallback::mark(&mut answer, call.protocol, name, reason);
                task.state.metrics.by_task.add(reason);
                return Ok(answer);
            }
        } else if let Some(answer) = fallback::popular(task, call.protocol, &call.outgoing, reason)? {
            task.state.metrics.by_list.add(reason);
            return Ok(answer);
        }
    }
    give_up(call, failure)
}

/// The server's own words where it had some.
pub fn give_up(call: &Call, failure: Failure) -> Result<Answer, GatewayError> {
    let Failure { kind, reason, answer } = failure;
    if let Some(answer) = answer {
        return Ok(*answer);
    }
    Err(match kind {
        FailureKind::Overloaded => GatewayError::Overloaded { reason, retry_after: call.task.state.retry_after() },
        FailureKind::DeadlineExceeded => GatewayError::DeadlineExceeded { timeout: call.deadline.timeout },
        FailureKind::Connect | FailureKind::NotReady => GatewayError::NotReady { reason },
        FailureKind::Closing | FailureKind::RefusedStream | FailureKind::ConnectionLost => {
            GatewayError::NotReady { reason: format!("an endpoint of `{}` went away: {reason}", call.task.name) }
        }
        FailureKind::Internal | FailureKind::BadGateway => {
            GatewayError::BadGateway { reason: format!("an endpoint of `{}`: {reason}", call.task.name) }
        }
    })
}
