//! `evaluation.json`: what an evaluation found, as a version carries it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::bootstrap::{Bootstrap, CONFIDENCE, Estimate, RESAMPLES};
use super::cases::Split;
use super::scorer::{Kind, Ranks, SystemRanks};
use crate::advise::Relations;
use crate::pipeline::{Loss, Metric};

/// The form of `evaluation.json` that this program writes.
pub const FORMAT: u32 = 1;

/// The evaluation of a version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evaluation {
    /// [`FORMAT`].
    pub format: u32,
    /// The version of `unimodel` that made it.
    pub program: String,
    /// The seed of training, typing errors and bootstrap.
    pub seed: u64,
    /// Which held-out events.
    pub split: Split,
    /// The latest event that training saw.
    pub data_time: Timestamp,
    /// A sequence without an event before this moment is in the cold-start slice.
    pub cold_start_cut: Timestamp,
    /// Draws of the bootstrap.
    pub resamples: usize,
    /// Share of the draws that an interval holds.
    pub confidence: f64,
    /// The tasks, in the order of the pipeline file.
    pub tasks: Vec<TaskEvaluation>,
    /// What the tasks have in common: what `unimodel advise` goes by, besides the comparisons.
    pub relations: Relations,
}

/// One task's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskEvaluation {
    /// The task.
    pub name: String,
    /// Its loss.
    pub loss: Loss,
    /// Its metrics in declaration order; the first steers.
    pub metrics: Vec<Metric>,
    /// Its slices: the requests as they are come first.
    pub slices: Vec<SliceEvaluation>,
}

/// Which of a task's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Slice {
    /// All, as they are.
    All,
    /// All, as they are, of a task that has a misspelt slice too.
    Clean,
    /// All, with typing errors.
    Misspelt,
    /// Those of sequences that began after the global time cut, as they are.
    ColdStart,
}

impl Slice {
    /// The name that the JSON and a table use.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Clean => "clean",
            Self::Misspelt => "misspelt",
            Self::ColdStart => "coldStart",
        }
    }
}

/// One slice of one task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SliceEvaluation {
    /// Which requests.
    pub name: Slice,
    /// How many.
    pub cases: usize,
    /// The systems, the unified model first.
    pub systems: Vec<SystemEvaluation>,
}

/// One system on one slice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SystemEvaluation {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Its metrics.
    pub metrics: BTreeMap<Metric, Estimate>,
    /// The unified model against it; absent for the unified model itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comparison: Option<BTreeMap<Metric, Comparison>>,
}

/// The unified model against another system, over the same cases.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// Unified ÷ other; absent where the other is at zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// Unified − other.
    pub difference: f64,
    /// Lower end of the difference's interval (paired bootstrap).
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Whether the interval leaves out zero.
    pub significant: bool,
}

impl TaskEvaluation {
    /// Makes a task's report out of its ranks. A slice without cases is left out.
    pub fn new(name: &str, loss: &Loss, metrics: &[Metric], ranks: &Ranks, seed: u64) -> Self {
        let all = vec![true; ranks.cold.len()];
        let misspelt = ranks.systems.iter().any(|s| !s.misspelt.is_empty());
        let slice = |name: Slice, of: fn(&SystemRanks) -> &Vec<f32>, which: &[bool]| {
            let sequences = renumber(&ranks.sequences, which);
            (!sequences.is_empty()).then(|| slice_evaluation(name, ranks, of, which, &sequences, metrics, seed))
        };
        let slices = [
            slice(if misspelt { Slice::Clean } else { Slice::All }, |s| &s.clean, &all),
            misspelt.then(|| slice(Slice::Misspelt, |s| &s.misspelt, &all)).flatten(),
            slice(Slice::ColdStart, |s| &s.clean, &ranks.cold),
        ];
        Self {
            name: name.to_owned(),
            loss: loss.clone(),
            metrics: metrics.to_vec(),
            slices: slices.into_iter().flatten().collect(),
        }
    }

    /// The slice of that name.
    pub fn slice(&self, name: Slice) -> Option<&SliceEvaluation> {
        self.slices.iter().find(|s| s.name == name)
    }
}

impl SliceEvaluation {
    /// The first system of that kind.
    pub fn system(&self, kind: Kind) -> Option<&SystemEvaluation> {
        self.systems.iter().find(|s| s.kind == kind)
    }
}

fn slice_evaluation(
    name: Slice,
    ranks: &Ranks,
    of: fn(&SystemRanks) -> &Vec<f32>,
    which: &[bool],
    sequences: &[u32],
    metrics: &[Metric],
    seed: u64,
) -> SliceEvaluation {
    let chosen = |system: &SystemRanks, metric: Metric| -> Vec<f64> {
        of(system).iter().zip(which).filter(|(_, w)| **w).map(|(&rank, _)| metric.of_rank(rank)).collect()
    };
    // One column for each metric of each system, all drawn together.
    let columns: Vec<Vec<f64>> =
        ranks.systems.iter().flat_map(|system| metrics.iter().map(|&metric| chosen(system, metric))).collect();
    let bootstrap = Bootstrap::new(sequences, &columns, seed);
    let column = |system: usize, metric: usize| system * metrics.len() + metric;
    let unified = ranks.systems.iter().position(|s| s.kind == Kind::Unified);
    let compare = |system: usize, metric: usize| {
        let unified = unified.filter(|&u| u != system)?;
        let (ours, theirs) = (column(unified, metric), column(system, metric));
        let difference = bootstrap.difference(ours, theirs);
        let base = bootstrap.mean(theirs).value;
        Some(Comparison {
            ratio: (base > 0.0).then(|| bootstrap.mean(ours).value / base),
            difference: difference.value,
            low: difference.low,
            high: difference.high,
            significant: difference.differs_from_zero(),
        })
    };
    let systems = ranks.systems.iter().enumerate().map(|(number, system)| SystemEvaluation {
        kind: system.kind,
        name: system.name.clone(),
        metrics: metrics.iter().enumerate().map(|(m, &metric)| (metric, bootstrap.mean(column(number, m)))).collect(),
        comparison: metrics.iter().enumerate().map(|(m, &metric)| Some((metric, compare(number, m)?))).collect(),
    });
    SliceEvaluation { name, cases: sequences.len(), systems: systems.collect() }
}

/// The sequences of the chosen cases, numbered anew without gaps.
fn renumber(sequences: &[u32], which: &[bool]) -> Vec<u32> {
    let mut numbers = BTreeMap::new();
    let chosen = sequences.iter().zip(which).filter(|(_, w)| **w).map(|(s, _)| s);
    chosen
        .map(|s| {
            let next = numbers.len() as u32;
            *numbers.entry(*s).or_insert(next)
        })
        .collect()
}

impl Evaluation {
    /// Puts the tasks' reports together.
    pub fn new(
        seed: u64,
        split: Split,
        data_time: Timestamp,
        cold_start_cut: Timestamp,
        tasks: Vec<TaskEvaluation>,
        relations: Relations,
    ) -> Self {
        Self {
            format: FORMAT,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            seed,
            split,
            data_time,
            cold_start_cut,
            resamples: RESAMPLES,
            confidence: CONFIDENCE,
            tasks,
            relations,
        }
    }

    /// The task of that name.
    pub fn task(&self, name: &str) -> Option<&TaskEvaluation> {
        self.tasks.iter().find(|t| t.name == name)
    }
}
