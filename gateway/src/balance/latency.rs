//! Quantiles of recent latencies, for hedging and for retry hints.

use std::time::Duration;

/// Buckets per doubling.
const STEPS: f64 = 4.0;
/// From 1 µs to about 70 s.
const BUCKETS: usize = 105;
/// When so many are counted, all counts are halved: what is old fades.
const ENOUGH: u32 = 4096;
/// With fewer, a quantile says nothing.
const FEW: u32 = 50;

/// A histogram of recent latencies, exact to a quarter of a doubling.
#[derive(Clone, Debug)]
pub struct Latencies {
    counts: [u16; BUCKETS],
    total: u32,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], total: 0 }
    }
}

impl Latencies {
    /// Counts one.
    pub fn observe(&mut self, latency: Duration) {
        if self.total >= ENOUGH {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().map(|count| u32::from(*count)).sum();
        }
        self.counts[bucket(latency)] += 1;
        self.total += 1;
    }

    /// The latency that a share of the recent ones does not exceed; None while there are too few.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        if self.total < FEW {
            return None;
        }
        let wanted = (share * f64::from(self.total)).ceil() as u32;
        let mut seen = 0;
        let bucket = self.counts.iter().position(|count| {
            seen += u32::from(*count);
            seen >= wanted
        })?;
        // The upper end of the bucket.
        Some(Duration::from_secs_f64(1e-6 * ((bucket + 1) as f64 / STEPS).exp2()))
    }
}

fn bucket(latency: Duration) -> usize {
    let micros = latency.as_secs_f64() * 1e6;
    ((micros.max(1.0).log2() * STEPS) as usize).min(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn few_say_nothing_and_old_ones_fade() {
        let mut latencies = Latencies::default();
        (0..49).for_each(|_| latencies.observe(Duration::from_millis(100)));
        assert_eq!(latencies.quantile(0.95), None);
        (0..40_000).for_each(|_| latencies.observe(Duration::from_millis(1)));
        assert!(latencies.quantile(0.999).is_some_and(|p| p < Duration::from_millis(2)));
    }

    proptest! {
        #[test]
        fn a_quantile_is_near_the_exact_one(mut micros in prop::collection::vec(1_u64..50_000_000, 50..500), share in 0.01_f64..1.0) {
            let mut latencies = Latencies::default();
            micros.iter().for_each(|m| latencies.observe(Duration::from_micros(*m)));
            micros.sort_unstable();
            let exact = micros[((share * micros.len() as f64).ceil() as usize).max(1) - 1] as f64 * 1e-6;
            let found = latencies.quantile(share).map_or(0.0, |found| found.as_secs_f64());
            prop_assert!(found >= exact * 0.999 && found <= exact * 1.2, "{found} for {exact}");
        }
    }
}
