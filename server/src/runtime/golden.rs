//! Golden requests: whether a version scores here as it did where it was trained, and how fast.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Deserialize;
use unimodel_model::bundle::{LEFT_BEHIND, files};
use unimodel_model::context::Context;

use super::version::{LoadError, LoadedVersion, Parts};
use crate::compute::engine::Candidates;
use crate::compute::scratch::Scratch;

/// How far scores may be from the trainer's, as a share of the request's largest score. Both sides compute in single
/// precision and add in other orders.
pub const TOLERANCE: f32 = 1e-4;

/// How often the golden requests of a head are asked for their latency, after once for their scores.
const TIMED_ROUNDS: usize = 4;

/// What the golden requests of a head showed.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadCheck {
    /// The head.
    pub head: String,
    /// Golden requests; none where training had no validation events of the head.
    pub requests: usize,
    /// The largest difference from the trainer's scores, as a share of the request's largest score.
    pub largest_difference: f32,
    /// The largest that passes: [`TOLERANCE`].
    pub tolerance: f32,
    /// 99th percentile of the time to compute a request on one thread; `None` without requests.
    pub latency_p99: Option<Duration>,
}

/// One line of `golden/<head>.jsonl`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Golden {
    context: Context,
    candidates: Vec<String>,
    scores: Vec<f32>,
}

impl LoadedVersion {
    /// Asks the golden requests of some heads. Blocks and computes: call it on a thread of low priority.
    ///
    /// # Errors
    /// [`LoadError::UnknownHead`]; [`LoadError::Golden`] for a file that is not there or cannot be used;
    /// [`LoadError::Parity`] for the first score that is too far from the trainer's.
    pub fn check(&self, heads: &[&str]) -> Result<Vec<HeadCheck>, LoadError> {
        heads.iter().map(|head| self.check_head(head)).collect()
    }

    fn check_head(&self, name: &str) -> Result<HeadCheck, LoadError> {
        let head = self.head(name)?;
        let path = self.dir().join(files::GOLDEN).join(format!("{name}.jsonl"));
        let requests = read(&path, self.parts())?;
        let mut scratch = Scratch::default();
        let mut largest_difference: f32 = 0.0;
        for (line, request) in (1..).zip(&requests) {
            let scores = request.score(head, self.parts(), &mut scratch);
            let difference = compare(&request.scores, &scores).map_err(|Far { at, allowed }| LoadError::Parity {
                head: name.to_owned(),
                line,
                item: self.parts().catalogue.id(request.items[at]).to_owned(),
                expected: request.scores[at],
                got: scores[at],
                allowed,
            })?;
            largest_difference = largest_difference.max(difference);
        }
        let mut times = Vec::with_capacity(requests.len() * TIMED_ROUNDS);
        for _ in 0..TIMED_ROUNDS {
            for request in &requests {
                let start = Instant::now();
                std::hint::black_box(request.score(head, self.parts(), &mut scratch));
                times.push(start.elapsed());
            }
        }
        times.sort_unstable();
        let latency_p99 = times.get((times.len() * 99).div_ceil(100).saturating_sub(1)).copied();
        let head = name.to_owned();
        Ok(HeadCheck { head, requests: requests.len(), largest_difference, tolerance: TOLERANCE, latency_p99 })
    }
}

/// A golden request as the engine takes it.
struct Request {
    context: unimodel_model::features::EncodedContext,
    items: Vec<u32>,
    scores: Vec<f32>,
}

impl Request {
    /// The candidates' scores, in their order.
    fn score(&self, head: usize, parts: &Parts, scratch: &mut Scratch) -> Vec<f32> {
        let context = parts.engine.context(head, &self.context);
        let ranked =
            parts.engine.rank(&context, Candidates::Items(&self.items), self.items.len(), scratch, &mut || true);
        let mut places: Vec<(u32, usize)> = self.items.iter().copied().zip(0..).collect();
        places.sort_unstable();
        let mut scores = vec![f32::NAN; self.items.len()];
        for scored in ranked.into_iter().flatten() {
            if let Ok(place) = places.binary_search_by_key(&scored.item, |(item, _)| *item) {
                scores[places[place].1] = scored.score;
            }
        }
        scores
    }
}

fn read(path: &PathBuf, parts: &Parts) -> Result<Vec<Request>, LoadError> {
    let golden = |problem: String| LoadError::Golden { path: path.clone(), problem };
    let file = File::open(path).map_err(|error| golden(error.to_string()))?;
    let mut requests = Vec::new();
    for (number, line) in (1..).zip(BufReader::new(file).lines()) {
        let wrong = |problem: String| golden(format!("line {number}: {problem}"));
        let line = line.map_err(|error| wrong(error.to_string()))?;
        let Golden { context, candidates, scores } =
            serde_json::from_str(&line).map_err(|error| wrong(error.to_string()))?;
        if candidates.len() != scores.len() {
            return Err(wrong(format!("{} candidates and {} scores", candidates.len(), scores.len())));
        }
        let find = |id: &String| {
            parts.catalogue.find(id).ok_or_else(|| wrong(format!("candidate `{id}` is not in items.parquet")))
        };
        let items: Vec<u32> = candidates.iter().map(find).collect::<Result<_, _>>()?;
        let context = parts.encoder.encode(&context).map_err(|error| wrong(error.to_string()))?;
        requests.push(Request { context, items, scores });
    }
    Ok(requests)
}

/// A score that is too far from what was expected.
#[derive(Debug, PartialEq)]
struct Far {
    at: usize,
    allowed: f32,
}

/// The largest difference as a share of the largest expected score.
///
/// A ranker leaves all but the best of the dot product behind, by [`LEFT_BEHIND`]. Where two candidates are as good,
/// rounding says which of them is left: then it must be so on both sides, and no score can be compared.
fn compare(expected: &[f32], got: &[f32]) -> Result<f32, Far> {
    let left_behind = |score: f32| score < -LEFT_BEHIND / 2.0;
    let dot = |score: f32| score + LEFT_BEHIND;
    let scale = expected.iter().copied().filter(|s| !left_behind(*s)).fold(1.0, |a: f32, b| a.max(b.abs()));
    // What is left of a score once so much has been taken off and added again.
    let rounding = 2.0 * LEFT_BEHIND * f32::EPSILON;
    let best_left =
        |scores: &[f32]| scores.iter().copied().filter(|s| left_behind(*s)).map(dot).fold(f32::NEG_INFINITY, f32::max);
    let (expected_cut, got_cut) = (best_left(expected), best_left(got));
    let mut largest: f32 = 0.0;
    for (at, (&expected, &got)) in expected.iter().zip(got).enumerate() {
        let (difference, allowed) = match (left_behind(expected), left_behind(got)) {
            (false, false) => ((got - expected).abs(), TOLERANCE * scale),
            (true, true) => ((got - expected).abs(), TOLERANCE * scale + rounding),
            (true, false) => ((dot(expected) - got_cut).abs(), TOLERANCE * scale + rounding),
            (false, true) => ((dot(got) - expected_cut).abs(), TOLERANCE * scale + rounding),
        };
        // A score that is not a number is far from all.
        if difference.is_nan() || difference > allowed {
            return Err(Far { at, allowed });
        }
        largest = largest.max((difference - (allowed - TOLERANCE * scale)).max(0.0) / scale);
    }
    Ok(largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_count_against_the_largest_score() {
        let near = compare(&[10.0, 0.0], &[10.0005, 0.0005]);
        assert!(near.is_ok_and(|d| (4e-5..6e-5).contains(&d)));
        assert_eq!(compare(&[10.0, 0.0], &[10.0, 0.002]), Err(Far { at: 1, allowed: 10.0 * TOLERANCE }));
        assert!(compare(&[0.1], &[0.1 + 5e-5]).is_ok(), "a request of small scores counts as if its largest were 1");
    }

    #[test]
    fn what_is_not_a_number_is_far() {
        assert!(compare(&[1.0, 2.0], &[1.0, f32::NAN]).is_err());
        assert!(compare(&[1.0, 2.0], &[f32::INFINITY, 2.0]).is_err());
    }

    #[test]
    fn either_of_two_that_are_as_good_may_be_left_behind() {
        let behind = |dot: f32| dot - LEFT_BEHIND;
        // Dot products 3, 1, 1; the ranker gave the first 5 and one of the others 4.
        assert!(compare(&[5.0, 4.0, behind(1.0)], &[5.0, behind(1.0), 4.0]).is_ok());
        assert!(compare(&[5.0, 4.0, behind(1.0)], &[5.0, 4.0, behind(1.001)]).is_ok());
        assert!(compare(&[5.0, 4.0, behind(1.0)], &[5.0, behind(2.0), 4.0]).is_err());
        assert!(compare(&[5.0, 4.0], &[5.0, behind(4.0)]).is_err(), "nothing was to be left behind");
    }
}
