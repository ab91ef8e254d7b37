//! A task's response cache: one computation for all who ask the same at the same time.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures::FutureExt;
use futures::future::{Shared, WeakShared};
use moka::sync::Cache;
use prometheus_client::metrics::gauge::Gauge;
use unimodel_model::features::{Encoded, EncodedContext};

use super::prepare::Selection;
use crate::config::CacheConfig;
use crate::error::RankError;
use crate::metrics::TaskMetrics;
use crate::request::RankedItems;
use crate::timeout::Deadline;

/// What can be answered from memory.
pub(super) struct ResponseCache {
    config: CacheConfig,
    answers: Cache<Key, Arc<Kept>>,
    flights: Arc<Mutex<HashMap<Key, Flight>>>,
    metrics: TaskMetrics,
}

type Answer = Result<Arc<Kept>, RankError>;
type Computation = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// An answer, counted as long as it is kept.
pub(super) struct Kept {
    pub(super) items: RankedItems,
    entries: Gauge,
}

impl Kept {
    fn new(items: RankedItems, entries: Gauge) -> Self {
        entries.inc();
        Self { items, entries }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.entries.dec();
    }
}

/// A computation under way, as long as somebody waits for it.
struct Flight {
    number: u64,
    computation: WeakShared<Computation>,
}

/// Everything that an answer depends on, one byte string per answer: version, head, limit, the encoded context (where
/// absent, null and default are the same) and the candidates.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(Arc<[u8]>);

/// How a request came by its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It was there.
    Hit,
    /// It was computed, by this request or another that asked the same.
    Miss,
}

impl Key {
    pub(super) fn new(
        version: &str,
        head: usize,
        limit: usize,
        context: &EncodedContext,
        candidates: &Selection,
    ) -> Self {
        let mut key = Vec::with_capacity(256);
        let word = |key: &mut Vec<u8>, word: u32| key.extend_from_slice(&word.to_le_bytes());
        let words = |key: &mut Vec<u8>, words: &[u32]| {
            word(key, words.len() as u32);
            words.iter().for_each(|w| word(key, *w));
        };
        word(&mut key, version.len() as u32);
        key.extend_from_slice(version.as_bytes());
        word(&mut key, head as u32);
        key.extend_from_slice(&(limit as u64).to_le_bytes());
        for encoded in context {
            match encoded {
                Encoded::Masked => key.push(0),
                Encoded::Index(index) => {
                    key.push(1);
                    word(&mut key, *index);
                }
                Encoded::Number(number) => {
                    key.push(2);
                    word(&mut key, number.to_bits());
                }
                Encoded::Items(items) => {
                    key.push(3);
                    words(&mut key, items);
                }
                Encoded::Text(grams) => {
                    key.push(4);
                    word(&mut key, grams.len() as u32);
                    for (gram, count) in grams {
                        word(&mut key, *gram);
                        word(&mut key, count.to_bits());
                    }
                }
            }
        }
        match candidates {
            Selection::AllBut(excluded) => {
                key.push(0);
                words(&mut key, excluded);
            }
            Selection::Items(items) => {
                key.push(1);
                // The order of the candidates does not matter.
                let mut items = items.clone();
                items.sort_unstable();
                words(&mut key, &items);
            }
        }
        Self(key.into())
    }
}

impl ResponseCache {
    pub(super) fn new(config: CacheConfig, metrics: TaskMetrics) -> Self {
        let evictions = metrics.cache_evictions.clone();
        let answers = Cache::builder()
            .max_capacity(config.max_entries.get() as u64)
            .time_to_live(config.ttl)
            .eviction_listener(move |_, _, cause| {
                if cause.was_evicted() {
                    evictions.inc();
                }
            })
            .build();
        Self { config, answers, flights: Arc::default(), metrics }
    }

    pub(super) fn config(&self) -> CacheConfig {
        self.config
    }

    /// The answer of that key, from memory, or as `compute` gives it. Of many who ask for the same at the same time one
    /// computes; it goes on as long as one of them waits for it. Errors are not kept. A computation that ended at the
    /// deadline of another request is begun again.
    pub(super) async fn get_or_compute<F>(
        &self,
        key: Key,
        deadline: Deadline,
        compute: impl FnOnce() -> F + Clone,
    ) -> (Answer, Found)
    where
        F: Future<Output = Result<RankedItems, RankError>> + Send + 'static,
    {
        if let Some(answer) = self.answers.get(&key) {
            return (Ok(answer), Found::Hit);
        }
        loop {
            let (flight, own) = self.join(&key, compute.clone());
            let answer = flight.await;
            let late = matches!(answer, Err(RankError::DeadlineExceeded { .. }));
            if !late || own || Instant::now() >= deadline.at {
                return (answer, Found::Miss);
            }
        }
    }

    /// The computation under way, or a new one; and whether it is new.
    fn join<F>(&self, key: &Key, compute: impl FnOnce() -> F) -> (Shared<Computation>, bool)
    where
        F: Future<Output = Result<RankedItems, RankError>> + Send + 'static,
    {
        let mut flights = lock(&self.flights);
        if let Some(computation) = flights.get(key).and_then(|flight| flight.computation.upgrade()) {
            return (computation, false);
        }
        let number = flights.get(key).map_or(0, |flight| flight.number + 1);
        let landing = Landing { key: key.clone(), number, flights: self.flights.clone() };
        let (answers, entries, computing) = (self.answers.clone(), self.metrics.cache_entries.clone(), compute());
        let computation: Computation = Box::pin(async move {
            let answer = Arc::new(Kept::new(computing.await?, entries));
            answers.insert(landing.key.clone(), answer.clone());
            drop(landing);
            Ok(answer)
        });
        let computation = computation.shared();
        if let Some(weak) = computation.downgrade() {
            flights.insert(key.clone(), Flight { number, computation: weak });
        }
        (computation, true)
    }
}

/// Forgets a computation when it ends, however it ends.
struct Landing {
    key: Key,
    number: u64,
    flights: Arc<Mutex<HashMap<Key, Flight>>>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut flights = lock(&self.flights);
        if flights.get(&self.key).is_some_and(|flight| flight.number == self.number) {
            flights.remove(&self.key);
        }
    }
}

fn lock(flights: &Mutex<HashMap<Key, Flight>>) -> MutexGuard<'_, HashMap<Key, Flight>> {
    flights.lock().unwrap_or_else(PoisonError::into_inner)
}
