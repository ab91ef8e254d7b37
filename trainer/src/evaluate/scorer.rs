//! What is evaluated, and the ranks that it gives a task's cases.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use unimodel_model::catalogue::Catalogue;
use unimodel_model::context::Value;

use super::cases::{Candidates, Case, Split};
use super::error::EvaluateError;
use super::events::Arrivals;
use super::{metrics, typos};
use crate::pipeline::Task;

/// Whatever gives scores to the items of the catalogue: the network, or a baseline.
pub trait Scorer {
    /// Its name in a report and a table.
    fn name(&self) -> String;

    /// Scores of all items for each case, `out[cases × items]`, a row a case; more is better, and minus infinity is a
    /// score.
    ///
    /// `candidates[cases × items]` says which items may be answered. The scores of the others do not matter; a ranker
    /// has to know them, since it looks only at the best of the candidates.
    ///
    /// # Errors
    /// Whatever keeps it from giving scores.
    fn score(&self, cases: &[Case], candidates: &[bool], out: &mut [f32]) -> Result<(), EvaluateError>;
}

/// What a system is in a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// The model of all tasks: what all others are compared with.
    Unified,
    /// The same network trained on this task alone.
    SingleTask,
    /// A named baseline.
    Baseline,
}

/// One system that a task is evaluated with.
#[derive(Clone, Copy)]
pub struct System<'a> {
    /// What it is.
    pub kind: Kind,
    /// Its scores.
    pub scorer: &'a dyn Scorer,
}

/// The ranks of a task's cases under several systems, all over the same cases in the same order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranks {
    /// Each case's sequence of events, numbered from zero by first appearance; a case without one is a sequence of its
    /// own.
    pub sequences: Vec<u32>,
    /// Whether the case's sequence began after the global time cut.
    pub cold: Vec<bool>,
    /// Each system's.
    pub systems: Vec<SystemRanks>,
}

/// The ranks under one system, a case each.
#[derive(Clone, Debug, PartialEq)]
pub struct SystemRanks {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// The requests as they are.
    pub clean: Vec<f32>,
    /// The requests with the task's `misspell` element misspelt; empty where the task declares none.
    pub misspelt: Vec<f32>,
}

/// How the cases of one task are ranked.
pub struct Ranking<'a> {
    task: &'a Task,
    catalogue: &'a Catalogue,
    candidates: Candidates<'a>,
    arrivals: &'a Arrivals,
    seed: u64,
}

impl<'a> Ranking<'a> {
    /// Prepares a task's candidates. The seed is that of the typing errors.
    ///
    /// # Errors
    /// See [`Candidates::new`].
    pub fn new(
        task: &'a Task,
        catalogue: &'a Catalogue,
        arrivals: &'a Arrivals,
        seed: u64,
    ) -> Result<Self, EvaluateError> {
        let candidates = Candidates::new(&task.name, &task.evaluation, catalogue)?;
        Ok(Self { task, catalogue, candidates, arrivals, seed })
    }

    /// Ranks the cases, a chunk at a time, under each system.
    ///
    /// # Errors
    /// There are no cases; a case cannot be read; a system fails or gives a score that is not a number.
    pub fn rank(
        &self,
        split: Split,
        chunks: impl Iterator<Item = Result<Vec<Case>, EvaluateError>>,
        systems: &[System],
    ) -> Result<Ranks, EvaluateError> {
        let empty =
            |s: &System| SystemRanks { kind: s.kind, name: s.scorer.name(), clean: Vec::new(), misspelt: Vec::new() };
        let mut ranks = Ranks { systems: systems.iter().map(empty).collect(), ..Ranks::default() };
        let mut sequences = std::collections::HashMap::new();
        let mut next = 0;
        for chunk in chunks {
            let chunk = chunk?;
            let misspelt = self.misspelt(&chunk, ranks.sequences.len());
            for case in &chunk {
                let mut fresh = || {
                    next += 1;
                    next - 1
                };
                ranks.sequences.push(match &case.sequence {
                    Some(s) => *sequences.entry(self.arrivals.owner(s).to_owned()).or_insert_with(fresh),
                    None => fresh(),
                });
                ranks.cold.push(case.sequence.as_ref().is_some_and(|s| self.arrivals.is_cold(s)));
            }
            let mask = self.mask(&chunk);
            for (system, of) in systems.iter().zip(&mut ranks.systems) {
                of.clean.extend(self.ranks(system.scorer, &chunk, &mask)?);
                of.misspelt.extend(self.ranks(system.scorer, &misspelt, &mask)?);
            }
        }
        if ranks.sequences.is_empty() {
            return Err(EvaluateError::NoCases { task: self.task.name.clone(), split: split.name() });
        }
        Ok(ranks)
    }

    /// The same cases with typing errors; none where the task declares no element to misspell.
    fn misspelt(&self, cases: &[Case], first: usize) -> Vec<Case> {
        let Some(element) = &self.task.evaluation.misspell else { return Vec::new() };
        let misspell = |(case, number): (&Case, u64)| {
            let mut case = case.clone();
            if let Some(Value::Text(text)) = case.context.get_mut(element) {
                *text = typos::misspell(text, self.seed.rotate_left(32) ^ number);
            }
            case
        };
        cases.iter().zip(first as u64..).map(misspell).collect()
    }

    fn mask(&self, cases: &[Case]) -> Vec<bool> {
        let items = self.catalogue.len();
        let mut mask = vec![true; cases.len() * items];
        mask.par_chunks_mut(items).zip(cases).for_each(|(mask, case)| self.candidates.of(case, mask));
        mask
    }

    fn ranks(&self, scorer: &dyn Scorer, cases: &[Case], mask: &[bool]) -> Result<Vec<f32>, EvaluateError> {
        let items = self.catalogue.len();
        let mut scores = vec![0f32; cases.len() * items];
        if cases.is_empty() {
            return Ok(Vec::new());
        }
        scorer.score(cases, mask, &mut scores)?;
        let rows = scores.par_chunks(items).zip(mask.par_chunks(items)).zip(cases);
        let ranks: Vec<Option<f32>> =
            rows.map(|((scores, mask), case)| metrics::rank(scores, mask, case.target)).collect();
        ranks.into_iter().collect::<Option<_>>().ok_or_else(|| {
            let item = scores.iter().position(|s| s.is_nan()).unwrap_or_default() % items;
            EvaluateError::NotANumber { scorer: scorer.name(), item: self.catalogue.id(item as u32).to_owned() }
        })
    }
}
