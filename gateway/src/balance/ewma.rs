//! PeakEWMA: an endpoint's latency that rises at once and falls slowly, times what it has in flight.
//!
//! From Finagle's `PeakEwma` load metric; it sees a slow endpoint with its first slow answer, where a mean needs many.

use std::time::{Duration, Instant};

/// How fast an old latency is forgotten.
const DECAY: Duration = Duration::from_secs(10);

/// Where an endpoint begins that has no peers to compare with.
const SEED: Duration = Duration::from_millis(1);

/// An endpoint's load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PeakEwma {
    /// Seconds, at `at`.
    latency: f64,
    at: Instant,
    pending: u32,
}

impl PeakEwma {
    /// An endpoint that has answered nothing yet. It begins at half of its fastest peer's latency, so that it is tried
    /// soon and yet gets at most twice that peer's requests before its first answer.
    pub fn new(now: Instant, peers: impl Iterator<Item = f64>) -> Self {
        let fastest = peers.min_by(f64::total_cmp);
        let latency = fastest.map_or(SEED.as_secs_f64(), |fastest| fastest / 2.0).max(1e-6);
        Self { latency, at: now, pending: 0 }
    }

    /// Latency in seconds as known now: without answers it falls towards zero, so that a slow endpoint is tried again.
    pub fn latency(&self, now: Instant) -> f64 {
        let age = now.saturating_duration_since(self.at).as_secs_f64();
        self.latency * (-age / DECAY.as_secs_f64()).exp()
    }

    /// Requests without an answer.
    pub fn pending(&self) -> u32 {
        self.pending
    }

    /// What a further request would wait for; comparable between endpoints. A heavier endpoint bears more.
    pub fn load(&self, now: Instant, weight: f64) -> f64 {
        // Never zero: with nothing known, what is in flight decides.
        self.latency(now).max(1e-9) * f64::from(self.pending + 1) / weight
    }

    /// A request goes out.
    pub fn begin(&mut self) {
        self.pending += 1;
    }

    /// A request that went out has come to its end, without saying anything about latency.
    pub fn end(&mut self) {
        self.pending = self.pending.saturating_sub(1);
    }

    /// An answer came after so long.
    pub fn observe(&mut self, now: Instant, took: Duration) {
        let took = took.as_secs_f64();
        if took >= self.latency(now) {
            self.latency = took;
        } else {
            let age = now.saturating_duration_since(self.at).as_secs_f64();
            let keep = (-age / DECAY.as_secs_f64()).exp();
            self.latency = self.latency * keep + took * (1.0 - keep);
        }
        self.at = self.at.max(now);
    }

    /// It failed after so long. A quick failure must not look like a quick answer.
    pub fn penalise(&mut self, now: Instant, took: Duration) {
        let doubled = Duration::from_secs_f64((self.latency(now) * 2.0).min(60.0));
        self.observe(now, took.max(doubled));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_slow_answer_counts_at_once_and_is_forgotten_slowly() {
        let start = Instant::now();
        let mut ewma = PeakEwma::new(start, std::iter::empty());
        ewma.observe(start, ms(100));
        assert_eq!(ewma.latency(start), 0.1);
        ewma.observe(start + ms(1), ms(1));
        assert!(ewma.latency(start + ms(1)) > 0.099);
        assert!(ewma.latency(start + DECAY) < 0.04);
    }

    #[test]
    fn a_new_endpoint_is_tried_soon_and_not_flooded() {
        let start = Instant::now();
        let mut old = PeakEwma::new(start, std::iter::empty());
        old.observe(start, ms(30));
        old.begin();
        let mut new = PeakEwma::new(start, [old.latency(start)].into_iter());
        let mut given = 0;
        while new.load(start, 1.0) <= old.load(start, 1.0) {
            new.begin();
            given += 1;
        }
        assert_eq!(given, 4);
    }

    proptest! {
        #[test]
        fn load_is_positive_and_rises_with_what_is_in_flight(
            answers in prop::collection::vec((0_u64..10_000, 0_u64..5_000, any::<bool>()), 0..20), weight in 0.1_f64..10.0
        ) {
            let mut now = Instant::now();
            let mut ewma = PeakEwma::new(now, std::iter::empty());
            let mut longest = SEED;
            for (after, took, failed) in answers {
                now += ms(after);
                longest = longest.max(ms(took));
                if failed {
                    longest = longest.max(Duration::from_secs_f64(ewma.latency(now) * 2.0));
                    ewma.penalise(now, ms(took));
                } else {
                    ewma.observe(now, ms(took));
                }
                prop_assert!(ewma.latency(now) <= longest.as_secs_f64() + 1e-9);
            }
            let before = ewma.load(now, weight);
            prop_assert!(before > 0.0 && before.is_finite());
            ewma.begin();
            prop_assert!(ewma.load(now, weight) > before);
            prop_assert!(ewma.load(now, weight * 2.0) < ewma.load(now, weight));
            ewma.end();
            prop_assert_eq!(ewma.load(now, weight), before);
            ewma.end();
            prop_assert_eq!(ewma.pending(), 0);
        }
    }
}
