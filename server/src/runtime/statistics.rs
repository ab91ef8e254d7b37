//! Counts and times of a task since the server started.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::ranking::{Statistics, Timing};

#[derive(Debug, Default)]
pub(super) struct TaskStatistics {
    pub(super) success: Timer,
    pub(super) failure: Timer,
    pub(super) queue: Timer,
    pub(super) encode: Timer,
    pub(super) compute: Timer,
    pub(super) serialise: Timer,
    pub(super) cache_hit: Timer,
    pub(super) cache_miss: Timer,
    /// Milliseconds since 1970; 0 before the first answer.
    last: AtomicU64,
}

#[derive(Debug, Default)]
pub(super) struct Timer {
    count: AtomicU64,
    nanos: AtomicU64,
}

impl Timer {
    pub(super) fn add(&self, elapsed: Duration) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(elapsed.as_nanos() as u64, Ordering::Relaxed);
    }

    fn read(&self) -> Timing {
        let total = Duration::from_nanos(self.nanos.load(Ordering::Relaxed));
        Timing { count: self.count.load(Ordering::Relaxed), total }
    }
}

impl TaskStatistics {
    /// A request was answered, by a ranking or an error.
    pub(super) fn answered(&self, success: bool, elapsed: Duration) {
        if success { &self.success } else { &self.failure }.add(elapsed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last.store(now.as_millis() as u64, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Statistics {
        let last = self.last.load(Ordering::Relaxed);
        Statistics {
            success: self.success.read(),
            failure: self.failure.read(),
            queue: self.queue.read(),
            encode: self.encode.read(),
            compute: self.compute.read(),
            serialise: self.serialise.read(),
            cache_hit: self.cache_hit.read(),
            cache_miss: self.cache_miss.read(),
            executions: self.compute.read().count,
            last: (last > 0).then(|| UNIX_EPOCH + Duration::from_millis(last)),
        }
    }
}
