//! Paired bootstrap: how far a mean over cases, or a difference of two, could have come out otherwise.
//!
//! Percentile bootstrap (Efron 1979). What is drawn again is the sequence with all its cases, since the cases of one
//! sequence are not independent; all systems are measured on the same draws, so that a difference between two is not
//! blurred by cases that are easy or hard for both.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// How often the cases are drawn again.
pub const RESAMPLES: usize = 2000;

/// The share of the draws that an interval holds.
pub const CONFIDENCE: f64 = 0.95;

/// A number with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Over the cases as they are.
    pub value: f64,
    /// 2.5th percentile of the draws.
    pub low: f64,
    /// 97.5th percentile of the draws.
    pub high: f64,
}

impl Estimate {
    /// Whether the interval leaves out zero.
    pub fn differs_from_zero(&self) -> bool {
        self.low > 0.0 || self.high < 0.0
    }
}

/// Means of several columns over the same cases, with the means that each draw of the cases gives.
pub struct Bootstrap {
    /// The mean of each column.
    means: Vec<f64>,
    /// `RESAMPLES` rows of the columns' means.
    draws: Vec<f64>,
}

impl Bootstrap {
    /// Draws the clusters again, with replacement, [`RESAMPLES`] times.
    ///
    /// `clusters` gives each case's cluster, numbered from zero without gaps; `columns` give one value a case each.
    pub fn new(clusters: &[u32], columns: &[Vec<f64>], seed: u64) -> Self {
        let width = columns.len() + 1;
        let n = clusters.iter().max().map_or(0, |&c| c as usize + 1);
        // Per cluster: how many cases, and each column's sum.
        let mut sums = vec![0.0; n * width];
        for (case, &cluster) in clusters.iter().enumerate() {
            let row = &mut sums[cluster as usize * width..][..width];
            row[0] += 1.0;
            row[1..].iter_mut().zip(columns).for_each(|(sum, column)| *sum += column[case]);
        }
        let means_of = |picked: &mut dyn Iterator<Item = usize>| -> Vec<f64> {
            let mut total = vec![0.0; width];
            for cluster in picked {
                total.iter_mut().zip(&sums[cluster * width..][..width]).for_each(|(t, s)| *t += s);
            }
            total[1..].iter().map(|sum| sum / total[0].max(1.0)).collect()
        };
        let means = means_of(&mut (0..n));
        let draws = (0..RESAMPLES as u64)
            .into_par_iter()
            .flat_map_iter(|draw| {
                // A stream a draw: the result depends neither on the order of the draws nor on the number of threads.
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                rng.set_stream(draw);
                means_of(&mut (0..n).map(|_| rng.random_range(0..n)))
            })
            .collect();
        Self { means, draws }
    }

    /// The mean of a column.
    pub fn mean(&self, column: usize) -> Estimate {
        self.estimate(|means| means[column])
    }

    /// The mean of one column less that of another.
    pub fn difference(&self, column: usize, other: usize) -> Estimate {
        self.estimate(|means| means[column] - means[other])
    }

    fn estimate(&self, of: impl Fn(&[f64]) -> f64) -> Estimate {
        let value = of(&self.means);
        let mut drawn: Vec<f64> = self.draws.chunks(self.means.len()).map(&of).collect();
        drawn.sort_unstable_by(f64::total_cmp);
        let tail = (1.0 - CONFIDENCE) / 2.0;
        Estimate { value, low: percentile(&drawn, tail), high: percentile(&drawn, 1.0 - tail) }
    }
}

/// Linear between the two nearest of the sorted values.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let at = share * (sorted.len() - 1) as f64;
    let below = sorted[at.floor() as usize];
    below + (sorted[at.ceil() as usize] - below) * at.fract()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn each_its_own(n: u32) -> Vec<u32> {
        (0..n).collect()
    }

    #[test]
    fn a_constant_has_no_spread() {
        let bootstrap = Bootstrap::new(&each_its_own(20), &[vec![0.25; 20]], 1);
        assert_eq!(bootstrap.mean(0), Estimate { value: 0.25, low: 0.25, high: 0.25 });
    }

    #[test]
    fn the_interval_of_a_share_is_the_binomial_one() {
        // 400 cases, half of them hits: 1.96 × sqrt(0.25 / 400) = 0.049.
        let hits: Vec<f64> = (0..400).map(|i| f64::from(i % 2)).collect();
        let mean = Bootstrap::new(&each_its_own(400), &[hits], 1).mean(0);
        assert_eq!(mean.value, 0.5);
        assert!((mean.low - 0.451).abs() < 0.005 && (mean.high - 0.549).abs() < 0.005, "{mean:?}");
    }

    #[test]
    fn a_paired_difference_is_sharper_than_its_parts() {
        // The second system hits whatever the first does, and 20 cases of 400 more.
        let first: Vec<f64> = (0..400).map(|i| f64::from(i % 2)).collect();
        let second: Vec<f64> = (0..400).map(|i| if i % 20 == 0 { 1.0 } else { first[i as usize] }).collect();
        let bootstrap = Bootstrap::new(&each_its_own(400), &[first, second], 1);
        let gain = bootstrap.difference(1, 0);
        assert!((gain.value - 0.05).abs() < 1e-12);
        assert!(gain.differs_from_zero());
        assert!(bootstrap.mean(1).low < bootstrap.mean(0).high, "the unpaired intervals overlap");
        assert!(!bootstrap.difference(0, 0).differs_from_zero());
    }

    #[test]
    fn cases_of_one_sequence_are_drawn_together() {
        // 100 sequences with four equal cases each: 100 independent observations, not 400.
        let clusters: Vec<u32> = (0..400).map(|i| i / 4).collect();
        let hits: Vec<f64> = (0..400).map(|i| f64::from(i / 4 % 2)).collect();
        let mean = Bootstrap::new(&clusters, &[hits], 1).mean(0);
        // 1.96 × sqrt(0.25 / 100) = 0.098.
        assert!((mean.high - 0.598).abs() < 0.01, "{mean:?}");
    }

    #[test]
    fn percentiles_lie_between_values() {
        assert_eq!(percentile(&[1.0, 2.0, 4.0], 0.5), 2.0);
        assert_eq!(percentile(&[1.0, 2.0, 4.0], 0.75), 3.0);
        assert_eq!(percentile(&[7.0], 0.975), 7.0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn an_interval_holds_its_mean_and_is_the_seed_s(
            values in proptest::collection::vec(0.0f64..1.0, 2..40), seed: u64,
        ) {
            let clusters = each_its_own(values.len() as u32);
            let one = Bootstrap::new(&clusters, std::slice::from_ref(&values), seed).mean(0);
            prop_assert!(one.low <= one.value + 1e-9 && one.value <= one.high + 1e-9);
            prop_assert_eq!(one, Bootstrap::new(&clusters, &[values], seed).mean(0));
        }
    }
}
