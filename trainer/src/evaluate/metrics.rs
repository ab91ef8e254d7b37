//! The rank of the one right item among its candidates, and the metrics made of it.

use crate::pipeline::Metric;

/// How many of the best candidates a cut-off metric looks at.
pub const CUTOFF: f32 = 10.0;

/// The target's rank, from 1: one more than the candidates with a greater score, and half a place for each candidate
/// that ties with it. That is the mean over all orders of the tied, so that a scorer neither gains nor loses by giving
/// many items one score; a scorer that knows nothing lands in the middle.
///
/// `candidates` says for each item whether it may be answered; the target always may. `None` if a candidate's score
/// is not a number.
pub fn rank(scores: &[f32], candidates: &[bool], target: u32) -> Option<f32> {
    let target = target as usize;
    let right = scores[target];
    if right.is_nan() {
        return None;
    }
    let (mut greater, mut tied) = (0u32, 0u32);
    for (item, (&score, &candidate)) in scores.iter().zip(candidates).enumerate() {
        if !candidate || item == target {
            continue;
        }
        if score.is_nan() {
            return None;
        }
        greater += u32::from(score > right);
        tied += u32::from(score == right);
    }
    Some(1.0 + greater as f32 + tied as f32 / 2.0)
}

impl Metric {
    /// The metric of one case whose target has that rank: 0 to 1, more is better.
    pub fn of_rank(self, rank: f32) -> f64 {
        let hit = rank <= CUTOFF;
        match self {
            Self::HitRateAt10 => f64::from(u8::from(hit)),
            Self::NdcgAt10 => {
                if hit {
                    1.0 / f64::from(1.0 + rank).log2()
                } else {
                    0.0
                }
            }
            Self::Mrr => 1.0 / f64::from(rank),
        }
    }

    /// The name that a pipeline file, a report and a table use.
    pub fn name(self) -> &'static str {
        match self {
            Self::HitRateAt10 => "hitRate@10",
            Self::NdcgAt10 => "ndcg@10",
            Self::Mrr => "mrr",
        }
    }

    /// The mean over cases; zero without any.
    pub fn mean(self, ranks: &[f32]) -> f64 {
        ranks.iter().map(|&r| self.of_rank(r)).sum::<f64>() / (ranks.len().max(1)) as f64
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Metric; 3] = [Metric::HitRateAt10, Metric::NdcgAt10, Metric::Mrr];

    #[test]
    fn a_rank_counts_what_is_greater_and_half_of_what_ties() {
        let scores = [0.5, 0.9, 0.5, 0.1, 0.5];
        assert_eq!(rank(&scores, &[true; 5], 0), Some(3.0));
        assert_eq!(rank(&scores, &[true; 5], 1), Some(1.0));
        assert_eq!(rank(&scores, &[true; 5], 3), Some(5.0));
        assert_eq!(rank(&scores, &[true, false, false, true, true], 0), Some(1.5));
    }

    #[test]
    fn the_target_is_a_candidate_even_when_the_mask_says_no() {
        assert_eq!(rank(&[0.2, 0.1], &[false, true], 0), Some(1.0));
        assert_eq!(rank(&[0.2, 0.3], &[false, true], 0), Some(2.0));
    }

    #[test]
    fn what_is_not_a_number_has_no_rank() {
        assert_eq!(rank(&[f32::NAN, 0.1], &[true; 2], 0), None);
        assert_eq!(rank(&[0.1, f32::NAN], &[true; 2], 0), None);
        assert_eq!(rank(&[0.1, f32::NAN], &[true, false], 0), Some(1.0));
        assert_eq!(rank(&[f32::NEG_INFINITY, f32::INFINITY], &[true; 2], 0), Some(2.0));
    }

    #[test]
    fn metrics_of_known_ranks() {
        assert_eq!(ALL.map(|m| m.of_rank(1.0)), [1.0, 1.0, 1.0]);
        assert_eq!(ALL.map(|m| m.of_rank(3.0)), [1.0, 0.5, 1.0 / 3.0]);
        assert_eq!(ALL.map(|m| m.of_rank(10.5)), [0.0, 0.0, 1.0 / 10.5]);
        assert_eq!(Metric::HitRateAt10.mean(&[1.0, 10.0, 11.0, 40.0]), 0.5);
        assert_eq!(Metric::Mrr.mean(&[]), 0.0);
    }

    proptest! {
        #[test]
        fn metrics_lie_in_0_to_1_and_never_rise_with_the_rank(rank in 2u32..4000) {
            let rank = rank as f32 / 2.0;
            for metric in ALL {
                let (here, below) = (metric.of_rank(rank), metric.of_rank(rank + 0.5));
                prop_assert!((0.0..=1.0).contains(&here));
                prop_assert!(below <= here);
            }
        }

        #[test]
        fn ranks_of_all_candidates_add_up_whatever_ties(
            items in proptest::collection::vec((0u8..6, any::<bool>()), 1..60),
        ) {
            let scores: Vec<f32> = items.iter().map(|i| f32::from(i.0)).collect();
            let candidates: Vec<bool> = items.iter().map(|i| i.1).collect();
            let n = candidates.iter().filter(|c| **c).count() as f32;
            let ranks = (0..items.len()).filter(|&i| candidates[i]).map(|i| rank(&scores, &candidates, i as u32).unwrap());
            prop_assert_eq!(ranks.sum::<f32>(), n * (n + 1.0) / 2.0);
        }

        #[test]
        fn a_scorer_that_knows_nothing_lands_in_the_middle(n in 1usize..500) {
            prop_assert_eq!(rank(&vec![0.0; n], &vec![true; n], 0), Some((n as f32 + 1.0) / 2.0));
        }
    }
}
