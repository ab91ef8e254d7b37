//! One environment's turn: choosing an endpoint, asking it, and asking another one where that is safe and in budget.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::{Either, select};
use futures::stream::FuturesUnordered;
use rand::Rng;

use crate::backend::{Backend, Lease, Link};
use crate::exchange::{self, Answer, Failure, FailureKind, Outgoing};
use crate::limiter::Refusal;
use crate::pool::{Chosen, Endpoint, Pool, Visit};
use crate::table::{Split, Task};

/// Endpoints that one request asks at most.
const ATTEMPTS: usize = 3;

/// Connections that one request may find closing, beside its attempts.
const MOVES: usize = 8;

/// The share of recent answers that a hedged request waits for before it asks a second endpoint.
const HEDGED_AFTER: f64 = 0.95;

/// One environment's turn with a request.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// When it ends.
    pub until: Instant,
    /// Whether nothing comes after it: then an endpoint that rests is better than none.
    pub is_last: bool,
    /// Whether the canary is asked first.
    pub canary: bool,
}

/// Waits for a place in the task's concurrency, and asks.
///
/// # Errors
/// No place, no endpoint, or no answer.
pub async fn rank(task: &Task, outgoing: &Outgoing, turn: Turn) -> Result<Answer, Failure> {
    let limiter = &task.state.limiter;
    let _permit = limiter.acquire(turn.until.into()).await.map_err(|refusal| match refusal {
        Refusal::Full { waiting } => {
            let reason = format!("{} requests of `{}` in flight and {waiting} waiting", limiter.limit(), task.name);
            Failure::new(FailureKind::Overloaded, reason)
        }
        Refusal::Late => Failure::new(FailureKind::DeadlineExceeded, "it waited until its deadline"),
    })?;
    ask(task, outgoing, turn).await
}

/// Asks endpoints until one answers.
///
/// # Errors
/// No endpoint, or no answer: the first failure that says something.
pub async fn ask(task: &Task, outgoing: &Outgoing, turn: Turn) -> Result<Answer, Failure> {
    task.state.deposit(Instant::now());
    let mut pool = match &task.canary {
        Some(Split { pool, .. }) if turn.canary => {
            task.state.metrics.canary.fetch_add(1, Ordering::Relaxed);
            pool
        }
        _ => &task.pool,
    };
    let mut tried: Vec<Arc<Endpoint>> = Vec::new();
    let mut before: Option<Failure> = None;
    let (mut attempts, mut moves) = (0, 0);
    loop {
        let is_canary = !std::ptr::eq(pool, &task.pool);
        let ready = ready(task, pool, &tried, turn, !is_canary).await;
        let (visit, lease) = match (ready, before.take()) {
            (Ok(ready), _) => ready,
            // What the first endpoint said tells more than that no other one is there.
            (Err(_), Some(failure)) => return Err(failure),
            (Err(_), None) if is_canary => {
                pool = &task.pool;
                continue;
            }
            (Err(failure), None) => return Err(failure),
        };
        let endpoint = visit.endpoint.clone();
        let failure = match hedged(task, pool, visit, lease, outgoing, turn).await {
            Ok(answer) => return Ok(answer),
            Err(failure) => failure,
        };
        let now = Instant::now();
        if failure.kind == FailureKind::Closing && moves < MOVES && now < turn.until {
            // That connection is not chosen again, and no server has worked for it: this was no attempt.
            moves += 1;
            continue;
        }
        attempts += 1;
        if !failure.kind.is_retryable() || attempts >= ATTEMPTS || now >= turn.until {
            return Err(failure);
        }
        tried.push(endpoint);
        pool = &task.pool;
        if !pool.has_other(&tried) {
            if !failure.kind.is_of_connection() {
                return Err(failure);
            }
            // Another connection to the same endpoint may do.
            tried.clear();
        }
        if !task.state.withdraw(now) {
            task.state.metrics.over_budget.fetch_add(1, Ordering::Relaxed);
            return Err(failure);
        }
        task.state.metrics.retries.add(failure.kind.name());
        before = Some(failure);
    }
}

/// An endpoint and a connection to it. Where no endpoint is connected it waits, if it may.
async fn ready(
    task: &Task,
    pool: &Pool,
    tried: &[Arc<Endpoint>],
    turn: Turn,
    may_wait: bool,
) -> Result<(Visit, Lease), Failure> {
    loop {
        let chosen = pool.choose(Instant::now(), tried, turn.is_last, &mut rand::rng());
        let backends = match chosen {
            Chosen::Ready(visit, lease) => return Ok((visit, lease)),
            Chosen::None { reason } => {
                let reason = format!("no endpoint of `{}` answers: {reason}", task.name);
                return Err(Failure::new(FailureKind::Connect, reason));
            }
            Chosen::Wait(_) if !may_wait => {
                return Err(Failure::new(FailureKind::Connect, "no endpoint is connected yet"));
            }
            Chosen::Wait(backends) => backends,
        };
        if tokio::time::timeout_at(turn.until.into(), any_up(&backends)).await.is_err() {
            let reason = format!("no connection to an endpoint of `{}` in time", task.name);
            return Err(Failure::new(FailureKind::DeadlineExceeded, reason));
        }
    }
}

/// Waits until one of the servers is up, or all are down.
async fn any_up(backends: &[Arc<Backend>]) {
    let mut links: FuturesUnordered<_> = backends
        .iter()
        .map(|backend| {
            let mut links = backend.links();
            async move {
                let end = links.wait_for(|link| matches!(link, Link::Up | Link::Down(_))).await;
                end.is_ok_and(|link| *link == Link::Up)
            }
        })
        .collect();
    while let Some(is_up) = links.next().await {
        if is_up {
            return;
        }
    }
}

/// Asks an endpoint; and a second one where the task hedges and the first is slower than most answers are.
async fn hedged(
    task: &Task,
    pool: &Pool,
    visit: Visit,
    lease: Lease,
    outgoing: &Outgoing,
    turn: Turn,
) -> Result<Answer, Failure> {
    let tried = [visit.endpoint.clone()];
    let first = attempt(task, visit, lease, outgoing, turn.until);
    let delay = task.facts.hedging.as_ref().and_then(|hedging| {
        let usual = task.state.quantile(HEDGED_AFTER)?;
        Some(usual.max(hedging.min_delay.0))
    });
    let Some(delay) = delay else { return first.await };
    let mut first = std::pin::pin!(first);
    tokio::select! {
        biased;
        answer = &mut first => return answer,
        () = tokio::time::sleep(delay) => {}
    }
    let now = Instant::now();
    let chosen = match pool.has_other(&tried) {
        true => pool.choose(now, &tried, false, &mut rand::rng()),
        false => return first.await,
    };
    let Chosen::Ready(visit, lease) = chosen else { return first.await };
    if !task.state.withdraw(now) {
        drop((visit, lease));
        return first.await;
    }
    task.state.metrics.hedges.fetch_add(1, Ordering::Relaxed);
    let second = std::pin::pin!(attempt(task, visit, lease, outgoing, turn.until));
    match select(first, second).await {
        Either::Left((Ok(answer), _)) | Either::Right((Ok(answer), _)) => Ok(answer),
        Either::Left((Err(failure), other)) => other.await.map_err(|_| failure),
        Either::Right((Err(_), other)) => other.await,
    }
}

async fn attempt(
    task: &Task,
    visit: Visit,
    mut lease: Lease,
    outgoing: &Outgoing,
    until: Instant,
) -> Result<Answer, Failure> {
    let backend = visit.endpoint.backend.clone();
    let sent = exchange::send(&mut lease, backend.address(), outgoing, until);
    let sent = tokio::time::timeout_at(until.into(), sent).await;
    let now = Instant::now();
    let waited = now - visit.begun;
    let failure = match sent {
        Ok(Ok(answer)) => {
            visit.succeed(now);
            task.state.observe(waited);
            return Ok(answer);
        }
        Ok(Err(failure)) => failure,
        Err(_) => Failure::new(FailureKind::DeadlineExceeded, format!("no answer within {waited:?}")),
    };
    let rest = match failure.kind {
        FailureKind::Closing | FailureKind::RefusedStream | FailureKind::Connect => {
            backend.retire(&lease);
            None
        }
        FailureKind::ConnectionLost => {
            backend.retire(&lease);
            visit.fail(now)
        }
        FailureKind::Overloaded => {
            visit.push_back(now);
            None
        }
        // A caller in a hurry must not get an endpoint ejected.
        FailureKind::DeadlineExceeded if waited < task.timeout.default / 2 => {
            visit.run_late(now);
            None
        }
        FailureKind::DeadlineExceeded | FailureKind::NotReady | FailureKind::Internal | FailureKind::BadGateway => {
            visit.fail(now)
        }
    };
    if let Some(rest) = rest {
        task.state.metrics.ejections.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(task = &*task.name, endpoint = &**backend.address(), reason = failure.reason, ?rest, "ejected");
    }
    Err(failure)
}

/// Sends a copy to the task's mirror. Nobody waits for it; where too many copies are in flight it is not sent.
pub fn mirror(task: &Arc<Task>, outgoing: &Outgoing, timeout: Duration) {
    if task.mirror.is_none() {
        return;
    }
    let Ok(room) = task.state.mirrored.clone().try_acquire_owned() else {
        task.state.metrics.mirrored[1].fetch_add(1, Ordering::Relaxed);
        return;
    };
    task.state.metrics.mirrored[0].fetch_add(1, Ordering::Relaxed);
    let (task, outgoing) = (task.clone(), outgoing.clone());
    tokio::spawn(async move {
        let Some(Split { pool, .. }) = &task.mirror else { return };
        let until = Instant::now() + timeout;
        let turn = Turn { until, is_last: true, canary: false };
        if let Ok((visit, mut lease)) = ready(&task, pool, &[], turn, true).await {
            let address = visit.endpoint.backend.address().clone();
            let sent = exchange::send(&mut lease, &address, &outgoing, until);
            // Its latency is for its own choice of endpoints, never for the task's.
            match tokio::time::timeout_at(until.into(), sent).await {
                Ok(Ok(_)) => visit.succeed(Instant::now()),
                Ok(Err(_)) | Err(_) => drop(visit.fail(Instant::now())),
            }
        }
        drop(room);
    });
}

/// Whether a request falls into a split's share.
pub fn falls_into(task: &Task, split: Option<&Split>, key: Option<&[u8]>, rng: &mut impl Rng) -> bool {
    split.is_some_and(|split| crate::balance::share::falls_into(split.percent, &task.name, key, rng))
}
