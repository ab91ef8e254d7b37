//! A task's own concurrency limit and its bounded queue: one task's overload leaves the others their share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Requests of a task at a time, and those that wait. Both bounds can change while requests are in flight.
#[derive(Debug)]
pub struct Limiter {
    semaphore: Arc<Semaphore>,
    limit: AtomicUsize,
    depth: AtomicUsize,
    waiting: AtomicUsize,
    in_flight: AtomicUsize,
    /// Permits that a lower limit has yet to take back.
    debt: AtomicUsize,
}

/// Why a request may not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The queue is full.
    Full {
        /// Requests that wait.
        waiting: usize,
    },
    /// Its time was over before its turn came.
    Late,
}

/// One request's place; dropping it lets the next one in.
#[derive(Debug)]
pub struct Permit {
    limiter: Arc<Limiter>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Limiter {
    /// At most `limit` requests at a time, and `depth` that wait.
    pub fn new(limit: usize, depth: usize) -> Self {
        Self {
            semaphore: Arc::new(Semaphore::new(limit)),
            limit: AtomicUsize::new(limit),
            depth: AtomicUsize::new(depth),
            waiting: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            debt: AtomicUsize::new(0),
        }
    }

    /// Waits for a place, first come first served.
    ///
    /// # Errors
    /// At once where the queue is full; at `until` where no place came free.
    pub async fn acquire(self: &Arc<Self>, until: Instant) -> Result<Permit, Refusal> {
        if let Ok(permit) = self.semaphore.clone().try_acquire_owned() {
            return Ok(self.permit(permit));
        }
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _leave = Leave(&self.waiting);
        if waiting >= self.depth.load(Ordering::Relaxed) {
            return Err(Refusal::Full { waiting });
        }
        match tokio::time::timeout_at(until, self.semaphore.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(self.permit(permit)),
            Ok(Err(_)) | Err(_) => Err(Refusal::Late),
        }
    }

    /// Whether a further request would be refused now.
    pub fn is_full(&self) -> bool {
        self.semaphore.available_permits() == 0 && self.waiting() >= self.depth.load(Ordering::Relaxed)
    }

    /// Changes both bounds. What is in flight over a lower limit finishes.
    pub fn resize(&self, limit: usize, depth: usize) {
        self.depth.store(depth, Ordering::Relaxed);
        let before = self.limit.swap(limit, Ordering::Relaxed);
        if limit >= before {
            let mut more = limit - before;
            let pay = |debt: usize| Some(debt - debt.min(more));
            if let Ok(debt) = self.debt.fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay) {
                more -= debt.min(more);
            }
            self.semaphore.add_permits(more);
        } else {
            let fewer = before - limit;
            let taken = self.semaphore.forget_permits(fewer);
            self.debt.fetch_add(fewer - taken, Ordering::Relaxed);
        }
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Requests that have a place.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// The most requests at a time.
    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    fn permit(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Permit {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Permit { limiter: self.clone(), permit: Some(permit) }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.limiter.in_flight.fetch_sub(1, Ordering::Relaxed);
        let owes = self.limiter.debt.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |debt| debt.checked_sub(1));
        if owes.is_ok()
            && let Some(permit) = self.permit.take()
        {
            permit.forget();
        }
    }
}

struct Leave<'a>(&'a AtomicUsize);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;
    use proptest::prelude::*;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[tokio::test]
    async fn what_does_not_fit_waits_and_what_does_not_fit_there_is_refused_at_once() {
        let limiter = Arc::new(Limiter::new(1, 1));
        let first = limiter.acquire(soon()).await.unwrap();
        let mut second = Box::pin(limiter.acquire(soon()));
        assert!(second.as_mut().now_or_never().is_none());
        assert!(limiter.is_full());
        assert_eq!(limiter.acquire(soon()).now_or_never().unwrap().unwrap_err(), Refusal::Full { waiting: 1 });
        drop(first);
        second.await.unwrap();
        assert_eq!((limiter.in_flight(), limiter.waiting()), (0, 0));
    }

    #[tokio::test]
    async fn a_wait_ends_with_the_deadline() {
        let limiter = Arc::new(Limiter::new(1, 9));
        let _first = limiter.acquire(soon()).await.unwrap();
        assert_eq!(limiter.acquire(Instant::now()).await.unwrap_err(), Refusal::Late);
        assert_eq!(limiter.waiting(), 0);
    }

    proptest! {
        #[test]
        fn the_limit_holds_through_changes(steps in prop::collection::vec((0..3, 1_usize..6), 1..60)) {
            let limiter = Arc::new(Limiter::new(3, 0));
            let mut held = Vec::new();
            for (step, size) in steps {
                match step {
                    0 => {
                        let got = limiter.acquire(soon()).now_or_never().unwrap();
                        prop_assert_eq!(got.is_ok(), held.len() < limiter.limit(), "{} of {}", held.len(), limiter.limit());
                        held.extend(got);
                    }
                    1 => drop(held.pop()),
                    _ => limiter.resize(size, 0),
                }
                prop_assert_eq!(limiter.in_flight(), held.len());
            }
        }
    }
}
