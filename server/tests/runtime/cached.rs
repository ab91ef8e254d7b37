//! The response cache.

use std::num::NonZeroUsize;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures::poll;
use unimodel_model::context::{Context, Value};
use unimodel_server::config::{CacheConfig, TaskConfig};
use unimodel_server::error::RankError;
use unimodel_server::ranking::Ranking;
use unimodel_server::request::{Candidates, RankRequest, RankResponse, Source};
use unimodel_server::timeout::Deadline;

use crate::fixture::{Fixture, Recipe, Served, ids, request, soon, tasks};

fn cached(ttl: Duration, max_entries: usize) -> Vec<TaskConfig> {
    let mut tasks = tasks();
    tasks[0].cache = Some(CacheConfig { ttl, max_entries: NonZeroUsize::new(max_entries).unwrap() });
    tasks
}

fn served(fixture: &Fixture) -> Served {
    let served = Served::new(fixture);
    served.runtime.apply(&cached(Duration::from_secs(600), 100)).unwrap();
    served
}

impl Served {
    async fn ask(&self, request: RankRequest) -> RankResponse {
        self.runtime.rank(request, soon()).await.unwrap()
    }

    /// Hits, misses, and computations.
    fn counts(&self) -> (u64, u64, u64) {
        let statistics = self.runtime.statistics("h0");
        let hits = self.metric("unimodel_cache_hits_total{task=\"h0\"}") as u64;
        let misses = self.metric("unimodel_cache_misses_total{task=\"h0\"}") as u64;
        assert_eq!((hits, misses), (statistics.cache_hit.count, statistics.cache_miss.count));
        (hits, misses, statistics.executions)
    }
}

fn context(fields: &[(&str, Value)]) -> Context {
    fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

#[tokio::test]
async fn the_same_question_is_computed_once() {
    let served = served(&Fixture::new(&Recipe::ranked()));
    let query = [("query", text("alien"))];
    let first = served.ask(request("h0", context(&query), Source::All, 10)).await;
    assert_eq!(served.counts(), (0, 1, 1));
    // Absent, null and the default are the same.
    for more in [("age", Value::Null), ("country", Value::Null), ("history", Value::List(vec![]))] {
        let response = served.ask(request("h0", context(&[query[0].clone(), more]), Source::All, 10)).await;
        assert_eq!(response.items, first.items);
    }
    assert_eq!(served.counts(), (3, 1, 1));
}

#[tokio::test]
async fn what_is_not_part_of_the_question_is_not_taken_from_the_cache() {
    let served = served(&Fixture::new(&Recipe::default()));
    let war = || context(&[("user", text("war"))]);
    let plain = context(&[("age", Value::Number(41.0)), ("country", text("comedy")), ("user", text("war"))]);
    let first = served.ask(request("h0", war(), ids(["i1", "i2", "nothing"]), 10)).await;
    let second = served.ask(request("h0", plain, ids(["i2", "i1", "nobody"]), 10)).await;
    assert_eq!(served.counts(), (1, 1, 1), "profile or request, in any order: the same question");
    assert_eq!(first.items, second.items);
    assert_eq!(first.unknown.get(0), Some("nothing"));
    assert_eq!(second.unknown.get(0), Some("nobody"));
    assert_eq!((first.imputed.len(), second.imputed.len()), (8, 6));
}

#[tokio::test]
async fn everything_that_changes_the_answer_is_part_of_the_question() {
    let served = served(&Fixture::new(&Recipe::default()));
    let base = || request("h0", context(&[("query", text("alien"))]), Source::All, 10);
    let with = |change: &dyn Fn(&mut RankRequest)| {
        let mut request = base();
        change(&mut request);
        request
    };
    let year = || context(&[("year", Value::Number(1951.0))]);
    let questions = [
        base(),
        with(&|r| r.limit = 11),
        with(&|r| r.context = context(&[("query", text("aliens"))])),
        with(&|r| r.context = context(&[("note", text("alien"))])),
        with(&|r| r.candidates.exclude = ["i7"].into_iter().collect()),
        with(&|r| r.candidates = Candidates { source: ids(["i1"]), exclude: Default::default() }),
        with(&|r| r.candidates = Candidates { source: ids(["i1", "i2"]), exclude: Default::default() }),
        with(&|r| r.candidates = Candidates { source: Source::Select(year()), exclude: Default::default() }),
    ];
    // The item of that year is `i1`: the same candidates, however they are named.
    let distinct = questions.len() as u64 - 1;
    for request in questions.clone() {
        served.ask(request).await;
    }
    assert_eq!(served.counts(), (1, distinct, distinct));
    for request in questions {
        served.ask(request).await;
    }
    assert_eq!(served.counts().2, distinct);
}

#[tokio::test]
async fn another_version_or_head_answers_for_itself() {
    let (old, new) = (Fixture::new(&Recipe::default()), Fixture::new(&Recipe { seed: 2, ..Recipe::default() }));
    let served = served(&old);
    let ask = || served.ask(request("h0", Context::new(), Source::All, 10));
    let before = ask().await;
    served.runtime.activate(new.load());
    let after = ask().await;
    assert_eq!(&*after.model_version, "20260101T000000Z-00000002");
    assert_ne!(before.items, after.items);
    assert_eq!(served.counts(), (0, 2, 2));
    let mut tasks = cached(Duration::from_secs(600), 100);
    tasks[0].head = "h1".into();
    served.runtime.apply(&tasks).unwrap();
    assert_ne!(ask().await.items, after.items);
    assert_eq!(served.counts(), (0, 3, 3));
}

#[tokio::test]
async fn those_who_ask_the_same_at_the_same_time_wait_for_one_computation() {
    let served = served(&Fixture::new(&Recipe::ranked()));
    let ask = |limit| served.runtime.rank(request("h0", Context::new(), Source::All, limit), soon());
    let mut shared = 0;
    for limit in 1..100 {
        let (hits, misses, executions) = served.counts();
        let mut waiting = [ask(limit), ask(limit), ask(limit), ask(limit)];
        let mut pending = 0;
        for one in &mut waiting {
            // A compute thread may be faster than this one: then there is nothing to share.
            match poll!(&mut *one) {
                Poll::Pending => pending += 1,
                Poll::Ready(_) => break,
            }
        }
        if pending < waiting.len() {
            continue;
        }
        let [leader, second, third, fourth] = waiting;
        // Whoever began it may go, and so may others.
        drop(leader);
        drop(third);
        let (second, fourth) = futures::join!(second, fourth);
        assert_eq!(second.unwrap(), fourth.unwrap());
        assert_eq!(served.counts(), (hits, misses + 2, executions + 1));
        ask(limit).await.unwrap();
        assert_eq!(served.counts(), (hits + 1, misses + 2, executions + 1));
        shared += 1;
    }
    assert!(shared > 0);
}

#[tokio::test]
async fn an_early_deadline_of_one_does_not_fail_the_others() {
    let served = served(&Fixture::new(&Recipe::ranked()));
    let timeout = Duration::from_millis(1);
    let ask = |limit, deadline| served.runtime.rank(request("h0", Context::new(), Source::All, limit), deadline);
    let mut followed = 0;
    for limit in 1..50 {
        let mut leader = ask(limit, Deadline { at: Instant::now(), timeout });
        // A compute thread may be faster than this one: then nobody follows.
        let led = match poll!(&mut leader) {
            Poll::Ready(led) => led,
            Poll::Pending => {
                let (follower, led) = futures::join!(ask(limit, soon()), leader);
                assert!(follower.is_ok());
                followed += 1;
                led
            }
        };
        assert_eq!(led, Err(RankError::DeadlineExceeded { timeout }));
    }
    assert!(followed > 0);
}

#[tokio::test]
async fn nobody_left_means_nothing_kept() {
    let served = served(&Fixture::new(&Recipe::ranked()));
    let ask = |limit| served.runtime.rank(request("h0", Context::new(), Source::All, limit), soon());
    let mut went = 0;
    for limit in 1..50 {
        let before = served.counts();
        let mut gone = ask(limit);
        let answered = poll!(&mut gone).is_ready();
        drop(gone);
        assert_eq!(served.runtime.in_flight(), 0);
        if !answered {
            assert_eq!(served.counts(), before);
            // Nothing of it is in the way of the next.
            ask(limit).await.unwrap();
            assert_eq!(served.counts(), (before.0, before.1 + 1, before.2 + 1));
            went += 1;
        }
    }
    assert!(went > 0);
}

/// Answers that left the cache, and that are in it. The cache tidies up when it is asked, and not each time.
async fn settled(served: &Served, ask: impl AsyncFn(), expected: impl Fn(f64, f64) -> bool) {
    let start = Instant::now();
    loop {
        ask().await;
        let evicted = served.metric("unimodel_cache_evictions_total{task=\"h0\"}");
        let entries = served.metric("unimodel_cache_entries{task=\"h0\"}");
        if expected(evicted, entries) {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{evicted} evicted, {entries} left");
    }
}

#[tokio::test]
async fn an_answer_is_kept_for_its_time_to_live() {
    let served = served(&Fixture::new(&Recipe::default()));
    let ttl = Duration::from_millis(20);
    served.runtime.apply(&cached(ttl, 100)).unwrap();
    let ask = async || drop(served.ask(request("h0", Context::new(), Source::All, 10)).await);
    let start = Instant::now();
    ask().await;
    assert_eq!(served.metric("unimodel_cache_entries{task=\"h0\"}"), 1.0);
    // The cache has a clock of its own.
    while served.counts().1 == 1 {
        ask().await;
    }
    assert!(start.elapsed() >= ttl);
    // Whatever has been answered meanwhile: at most one answer of the one question is kept, and each other one has left.
    settled(&served, ask, |evicted, entries| entries <= 1.0 && evicted >= 1.0).await;
}

#[tokio::test]
async fn no_more_answers_are_kept_than_may_be() {
    let served = served(&Fixture::new(&Recipe::default()));
    served.runtime.apply(&cached(Duration::from_secs(600), 1)).unwrap();
    for limit in 1..=5 {
        served.ask(request("h0", Context::new(), Source::All, limit)).await;
    }
    assert_eq!(served.counts(), (0, 5, 5));
    let ask = async |limit| drop(served.ask(request("h0", Context::new(), Source::All, limit)).await);
    settled(&served, async || ask(1).await, |evicted, entries| entries == 1.0 && evicted >= 4.0).await;
    let before = served.counts();
    for limit in 2..=5 {
        ask(limit).await;
    }
    assert!(served.counts().1 >= before.1 + 3, "what has left is computed again");
}

#[tokio::test]
async fn without_room_or_without_a_cache_all_is_computed() {
    let served = served(&Fixture::new(&Recipe::default()));
    let ask = |limit| served.ask(request("h0", Context::new(), Source::All, limit));
    ask(1).await;
    ask(1).await;
    assert_eq!(served.counts(), (1, 1, 1));
    // Other settings, another cache.
    served.runtime.apply(&cached(Duration::from_secs(60), 100)).unwrap();
    ask(1).await;
    assert_eq!(served.counts(), (1, 2, 2));
    served.runtime.apply(&tasks()).unwrap();
    ask(1).await;
    ask(1).await;
    assert_eq!(served.counts(), (1, 2, 4));
}
