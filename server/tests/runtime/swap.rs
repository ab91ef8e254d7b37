//! Versions that change under load.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures::poll;
use unimodel_model::context::Context;
use unimodel_server::error::RankError;
use unimodel_server::ranking::Ranking;
use unimodel_server::request::{RankResponse, Source};
use unimodel_server::runtime::{LoadedVersion, Runtime};

use crate::fixture::{Fixture, Recipe, Served, is_near, request, soon, tasks};

/// A compute thread lets go of a request a moment after it has answered.
fn wait_until_freed(version: &Weak<LoadedVersion>) {
    let start = Instant::now();
    while version.strong_count() > 0 {
        assert!(start.elapsed() < Duration::from_secs(30), "{} still use the version", version.strong_count());
        std::thread::yield_now();
    }
}

/// A request that has the version it began with and waits for its answer.
async fn in_flight<'a>(runtime: &'a Runtime, task: &str) -> impl Future<Output = Result<RankResponse, RankError>> + 'a {
    loop {
        let mut asked = runtime.rank(request(task, Context::new(), Source::All, 5), soon());
        // A compute thread may have been faster than this one.
        if poll!(&mut asked).is_pending() {
            return asked;
        }
    }
}

#[test]
fn no_request_fails_while_versions_change() {
    let fixtures: Vec<Fixture> =
        [1, 2].map(|seed| Fixture::new(&Recipe { seed, items: 2000, ..Recipe::ranked() })).into();
    let served = Arc::new(Served::new(&fixtures[0]));
    let items: Vec<u32> = (0..2000).collect();
    let expected: Vec<_> = fixtures.iter().map(|f| f.expected(1, &Context::new(), &items, 20)).collect();
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let io = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let load: Vec<_> = (0..8)
        .map(|_| {
            let (served, stop, answered, expected) = (served.clone(), stop.clone(), answered.clone(), expected.clone());
            io.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let response =
                        served.runtime.rank(request("h1", Context::new(), Source::All, 20), soon()).await.unwrap();
                    // The version that is named is the one that has answered.
                    let of = usize::from(response.model_version.ends_with('2'));
                    assert!(is_near(&response, &expected[of]), "{}", response.model_version);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let mut before = Vec::new();
    for swap in 0..20 {
        // Each is under load for a while before the next takes its place.
        let seen = answered.load(Ordering::Relaxed);
        while answered.load(Ordering::Relaxed) < seen + 20 && !load.iter().any(|task| task.is_finished()) {
            std::thread::yield_now();
        }
        let old = served.runtime.activate(fixtures[(swap + 1) % 2].load()).unwrap();
        before.push(Arc::downgrade(&old));
    }
    stop.store(true, Ordering::Relaxed);
    for task in load {
        io.block_on(task).unwrap();
    }
    before.iter().for_each(wait_until_freed);
    assert_eq!(served.runtime.in_flight(), 0);
    assert_eq!(served.runtime.active().unwrap().name(), &"20260101T000000Z-00000001".into());
    let series = "unimodel_active_version{version=\"20260101T000000Z-00000001\",schema_hash=";
    let mut labels = fixtures[0].model.schema.hash();
    labels.insert(0, '"');
    assert_eq!(served.metric(&format!("{series}{labels}\"}}")), 1.0);
    assert_eq!(served.metric("unimodel_data_time_timestamp_seconds"), 1_767_139_200.0);
}

#[tokio::test]
async fn a_version_lives_as_long_as_its_last_request() {
    let fixtures = [1, 2].map(|seed| Fixture::new(&Recipe { seed, ..Recipe::default() }));
    let served = Served::start(&tasks(), Default::default());
    let runtime = &*served.runtime;
    assert!(runtime.activate(fixtures[0].load()).is_none());
    let first = Arc::downgrade(&runtime.active().unwrap());
    let asked = in_flight(runtime, "h0").await;
    drop(runtime.activate(fixtures[1].load()));
    assert!(first.strong_count() > 0);
    assert_eq!(&*asked.await.unwrap().model_version, "20260101T000000Z-00000001");
    wait_until_freed(&first);
    let after = runtime.rank(request("h0", Context::new(), Source::All, 5), soon()).await.unwrap();
    assert_eq!(&*after.model_version, "20260101T000000Z-00000002");
}

#[tokio::test]
async fn settings_change_while_requests_are_in_flight() {
    let served = Served::new(&Fixture::new(&Recipe::default()));
    let runtime = &*served.runtime;
    let asked = in_flight(runtime, "h2").await;
    runtime.apply(&tasks()[..2]).unwrap();
    assert!(runtime.task("h2").is_none());
    assert_eq!(&*asked.await.unwrap().task, "h2");
    assert_eq!(runtime.tasks().iter().map(|task| &*task.name).collect::<Vec<_>>(), ["h0", "h1"]);
    let error = runtime.rank(request("h2", Context::new(), Source::All, 5), soon()).await.unwrap_err();
    assert_eq!(error.kind().name, "unknown-task");
}
