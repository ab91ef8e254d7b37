//! What is let in, and what becomes of it when its caller goes.

use std::num::NonZeroUsize;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use futures::future::FusedFuture;
use futures::{FutureExt, poll};
use unimodel_model::context::Context;
use unimodel_server::config::AdmissionConfig;
use unimodel_server::error::RankError;
use unimodel_server::ranking::Ranking;
use unimodel_server::request::{RankResponse, Source};
use unimodel_server::runtime::Runtime;

use crate::fixture::{Fixture, Recipe, Served, ids, request, soon, tasks};

type Asked<'a> = Pin<Box<dyn FusedFuture<Output = Result<RankResponse, RankError>> + Send + 'a>>;

fn ask<'a>(runtime: &'a Runtime, task: &str, source: Source) -> Asked<'a> {
    Box::pin(runtime.rank(request(task, Context::new(), source, 10), soon()).fuse())
}

/// A request that was let in and waits for its answer. The compute threads may be done with it; it is in flight until it
/// is polled again.
async fn asked<'a>(runtime: &'a Runtime, task: &str) -> Asked<'a> {
    loop {
        let mut future = ask(runtime, task, Source::All);
        // A compute thread may have been faster than this one.
        match poll!(&mut future) {
            Poll::Pending => return future,
            Poll::Ready(answer) => drop(answer.unwrap()),
        }
    }
}

fn refused(result: Result<RankResponse, RankError>) -> (String, Duration) {
    match result {
        Err(RankError::Overloaded { reason, retry_after }) => (reason, retry_after),
        other => panic!("{other:?}"),
    }
}

fn limits(max_in_flight: usize) -> AdmissionConfig {
    AdmissionConfig { max_in_flight: NonZeroUsize::new(max_in_flight).unwrap(), ..AdmissionConfig::default() }
}

#[tokio::test]
async fn what_is_over_a_limit_is_refused_at_once() {
    let served = Served::start(&tasks(), limits(3));
    let runtime = &*served.runtime;
    runtime.activate(Fixture::new(&Recipe::default()).load());
    let mut tasks = tasks();
    tasks[0].max_concurrency = NonZeroUsize::new(2).unwrap();
    runtime.apply(&tasks).unwrap();

    let first = asked(runtime, "h0").await;
    let second = asked(runtime, "h0").await;
    let more = |task: &str| ask(runtime, task, Source::All).now_or_never().unwrap();
    let (reason, retry_after) = refused(more("h0"));
    assert_eq!(reason, "2 requests of `h0` are in flight");
    assert!(retry_after >= Duration::from_millis(10));

    let third = asked(runtime, "h1").await;
    assert_eq!(refused(more("h1")).0, "3 requests are in flight");
    assert_eq!(runtime.in_flight(), 3);
    for admitted in [first, second, third] {
        admitted.await.unwrap();
    }
    assert_eq!(runtime.in_flight(), 0);
    assert!(runtime.rank(request("h0", Context::new(), Source::All, 1), soon()).await.is_ok());
}

#[tokio::test]
async fn a_higher_limit_holds_at_once() {
    let served = Served::new(&Fixture::new(&Recipe::default()));
    let runtime = &*served.runtime;
    let mut tasks = tasks();
    tasks[0].max_concurrency = NonZeroUsize::MIN;
    runtime.apply(&tasks).unwrap();
    let first = asked(runtime, "h0").await;
    let again = || runtime.rank(request("h0", Context::new(), Source::All, 1), soon());
    refused(again().await);
    tasks[0].max_concurrency = NonZeroUsize::new(2).unwrap();
    runtime.apply(&tasks).unwrap();
    again().await.unwrap();
    first.await.unwrap();
}

#[tokio::test]
async fn a_thousand_callers_that_go_leave_nothing_behind() {
    let fixture = Fixture::new(&Recipe { items: 5000, ..Recipe::ranked() });
    let mut tasks = tasks();
    tasks.iter_mut().for_each(|task| task.max_concurrency = NonZeroUsize::new(2000).unwrap());
    let served = Served::start(&tasks, AdmissionConfig { max_queued_rows: NonZeroUsize::MAX, ..limits(2000) });
    let runtime = &*served.runtime;
    runtime.activate(fixture.load());
    let total = |served: &Served| {
        (0..3).map(|h| served.metric(&format!("unimodel_in_flight{{task=\"h{h}\"}}"))).sum::<f64>() as usize
    };
    let mut gone = 0;
    for round in 0..10 {
        let mut callers = Vec::new();
        for caller in 0..1000 {
            let source = if caller % 3 == 0 { Source::All } else { ids((0..=caller % 50).map(|i| format!("i{i}"))) };
            let mut caller = ask(runtime, &format!("h{}", caller % 3), source);
            if poll!(&mut caller).is_pending() {
                callers.push(caller);
            }
        }
        assert_eq!((runtime.in_flight(), total(&served)), (callers.len(), callers.len()));
        // One of them waits for its answer.
        let stays = callers.swap_remove(callers.len() * round / 10);
        gone += callers.len();
        drop(callers);
        stays.await.unwrap();
        assert_eq!((runtime.in_flight(), total(&served)), (0, 0));
        for gauge in ["unimodel_queue_depth", "unimodel_queued_rows"] {
            assert_eq!(served.metric(gauge), 0.0, "{gauge}");
        }
    }
    assert!(gone > 1000, "{gone} of 10,000 were still waiting when they went");
    assert_eq!(served.metric("unimodel_worker_panics_total"), 0.0);
    assert!(runtime.rank(request("h0", Context::new(), Source::All, 1), soon()).await.is_ok());
}

#[tokio::test]
async fn a_server_that_stops_answers_what_it_has_let_in() {
    let served = Served::new(&Fixture::new(&Recipe::default()));
    let runtime = &*served.runtime;
    runtime.drained().await;
    let first = asked(runtime, "h0").await;
    runtime.stop();
    let refused = runtime.rank(request("h0", Context::new(), Source::All, 1), soon()).await.unwrap_err();
    assert_eq!(refused.kind().name, "not-ready");
    let mut drained = Box::pin(runtime.drained());
    assert!(poll!(&mut drained).is_pending());
    let (answer, ()) = futures::join!(first, drained);
    answer.unwrap();
}
