//! How well the averaged weights do on the validation events while training goes on.

use std::path::Path;

use unimodel_model::bundle::Oracle;
use unimodel_model::catalogue::Catalogue;
use unimodel_model::features::{EncodedContext, Encoder};
use unimodel_model::network::{LOG_POPULARITY, Network};

use super::TrainError;
use crate::evaluate::{Candidates, Case, Cases, Split, metrics};
use crate::pipeline::{Pipeline, Task};

/// Validation cases of one task, encoded once.
pub(super) struct Validation<'a> {
    task: &'a Task,
    candidates: Candidates<'a>,
    cases: Vec<(Case, EncodedContext)>,
}

impl<'a> Validation<'a> {
    /// Reads at most `most` cases of the task.
    pub(super) fn read(
        pipeline: &'a Pipeline,
        task: &'a Task,
        labels: &Path,
        catalogue: &'a Catalogue,
        encoder: &Encoder,
        most: usize,
    ) -> Result<Self, TrainError> {
        let table = labels.join("tasks").join(format!("{}.parquet", task.name));
        let mut cases = Vec::new();
        for chunk in Cases::read(&table, Split::Validation, &pipeline.context, catalogue)? {
            for case in chunk? {
                let encoded = encoder.encode(&case.context)?;
                cases.push((case, encoded));
            }
            if cases.len() >= most {
                cases.truncate(most);
                break;
            }
        }
        Ok(Self { task, candidates: Candidates::new(&task.name, &task.evaluation, catalogue)?, cases })
    }

    /// Mean of the task's first metric under that head; `None` without cases.
    pub(super) fn score(&self, network: &Network, head: usize) -> Result<Option<f64>, TrainError> {
        let oracle = Oracle::new(network)?;
        let items = network.tensor(LOG_POPULARITY).dims()[0];
        let mut ranks = Vec::with_capacity(self.cases.len());
        for chunk in self.cases.chunks(crate::evaluate::CHUNK) {
            let mut masks = vec![vec![true; items]; chunk.len()];
            chunk.iter().zip(&mut masks).for_each(|((case, _), mask)| self.candidates.of(case, mask));
            let batch: Vec<(&EncodedContext, usize)> = chunk.iter().map(|(_, e)| (e, head)).collect();
            let scores = oracle.score(&batch, |row, item| masks[row][item as usize])?;
            for (((case, _), mask), scores) in chunk.iter().zip(&masks).zip(&scores) {
                let rank = metrics::rank(scores, mask, case.target);
                ranks.push(rank.ok_or(TrainError::Diverged { task: self.task.name.clone() })?);
            }
        }
        let metric = self.task.evaluation.metrics.first();
        Ok(metric.filter(|_| !ranks.is_empty()).map(|m| m.mean(&ranks)))
    }
}
