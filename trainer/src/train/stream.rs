//! Training requests of one task in random order, from one row group at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use unimodel_model::catalogue::Catalogue;
use unimodel_model::context::Value;
use unimodel_model::error::ModelError;
use unimodel_model::features::{Encoded, EncodedContext, Encoder};
use unimodel_model::schema::Schema;

use super::augment::misspell;
use super::loss::Goal;
use crate::label_table::{LabelTable, POSITIVE, Part, Rows};
use crate::pipeline::{Loss, SoftTargets, Task};

/// Edits per character in a query that is misspelt.
const TYPOS_PER_CHARACTER: f64 = 0.2;

/// One training request.
pub(super) struct Sample {
    /// What is asked.
    pub context: EncodedContext,
    /// What the scores are to become, with columns as item indexes.
    pub goal: Goal,
    /// Weight of the row.
    pub weight: f32,
}

/// An endless, seeded stream of a task's training requests.
pub(super) struct TaskStream<'a> {
    task: &'a Task,
    schema: &'a Schema,
    catalogue: &'a Catalogue,
    encoder: &'a Encoder,
    table: LabelTable,
    rng: ChaCha8Rng,
    /// Row groups that this epoch has still to read.
    pending: Vec<usize>,
    /// Requests of the row group in memory, in reverse order of use.
    ready: Vec<Sample>,
    within: BTreeMap<String, Arc<Vec<bool>>>,
}

impl<'a> TaskStream<'a> {
    /// A stream that depends on nothing but its arguments and the table.
    pub(super) fn new(
        task: &'a Task,
        schema: &'a Schema,
        catalogue: &'a Catalogue,
        encoder: &'a Encoder,
        table: LabelTable,
        seed: u64,
    ) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(seed);
        Self { task, schema, catalogue, encoder, table, rng, pending: vec![], ready: vec![], within: BTreeMap::new() }
    }

    /// The next request.
    pub(super) fn next_sample(&mut self) -> Result<Sample, ModelError> {
        loop {
            if let Some(sample) = self.ready.pop() {
                return Ok(sample);
            }
            if self.pending.is_empty() {
                self.pending = (0..self.table.chunks().len()).collect();
                self.pending.shuffle(&mut self.rng);
            }
            if let Some(chunk) = self.pending.pop() {
                let rows = self.table.read(&self.table.chunks()[chunk].clone(), self.catalogue)?;
                self.ready = self.samples(&rows)?;
                self.ready.shuffle(&mut self.rng);
            }
        }
    }

    fn samples(&mut self, rows: &Rows) -> Result<Vec<Sample>, ModelError> {
        let train: Vec<usize> = (0..rows.len()).filter(|&r| rows.part(r) == Some(Part::Train)).collect();
        let mut samples = Vec::with_capacity(train.len());
        for (position, &row) in train.iter().enumerate() {
            let positive = rows.label(row) >= POSITIVE;
            let goal = match &self.task.loss {
                Loss::Bce {} => Goal::Binary { column: rows.item(row), label: rows.label(row) as f32 },
                _ if !positive => continue,
                Loss::Softmax { soft_targets } | Loss::SampledSoftmax { soft_targets, .. } => {
                    let later = &train[position..];
                    let targets = match soft_targets {
                        Some(soft) => soft_targets_of(rows, later, soft),
                        None => vec![(rows.item(row), 1.0)],
                    };
                    Goal::Softmax { targets, excluded: Vec::new(), within: None }
                }
            };
            let mut context = rows.context(row);
            if let Some(element) = &self.task.augmentation.element
                && let Some(Value::Text(text)) = context.get_mut(element)
                && self.rng.random_bool(self.task.augmentation.typos.clamp(0.0, 1.0))
            {
                *text = misspell(text, TYPOS_PER_CHARACTER, &mut self.rng);
            }
            let goal = self.narrowed(goal, &context);
            let mut encoded = self.encoder.encode(&context).map_err(|e| ModelError::Value {
                table: self.task.name.clone(),
                row,
                problem: e.to_string(),
            })?;
            let goal = self.without_excluded(goal, &encoded);
            for (value, element) in encoded.iter_mut().zip(&self.schema.context) {
                if element.dropout > 0.0 && self.rng.random_bool(element.dropout.min(1.0)) {
                    *value = Encoded::Masked;
                }
            }
            samples.push(Sample { context: encoded, goal, weight: rows.weight(row) as f32 });
        }
        Ok(samples)
    }

    /// The candidates that evaluation has are the ones to learn among: `within` first.
    fn narrowed(&mut self, goal: Goal, context: &unimodel_model::context::Context) -> Goal {
        let Goal::Softmax { targets, excluded, .. } = goal else { return goal };
        let mut within = None;
        for (attribute, element) in &self.task.evaluation.within {
            let Some(Value::Text(value)) = context.get(element) else { continue };
            let inside = self.within.entry(format!("{attribute}={value}")).or_insert_with(|| {
                let mut inside = vec![false; self.catalogue.len()];
                let items = self.catalogue.with_category(attribute, value).unwrap_or_default();
                items.iter().for_each(|&i| inside[i as usize] = true);
                Arc::new(inside)
            });
            within = Some(inside.clone());
        }
        Goal::Softmax { targets, excluded, within }
    }

    /// And without what evaluation excludes, except the targets.
    fn without_excluded(&self, goal: Goal, encoded: &EncodedContext) -> Goal {
        let Goal::Softmax { targets, within, .. } = goal else { return goal };
        let mut excluded = Vec::new();
        for (value, element) in encoded.iter().zip(&self.schema.context) {
            if !self.task.evaluation.exclude.contains(&element.name) {
                continue;
            }
            match value {
                Encoded::Items(items) => excluded.extend(items),
                Encoded::Index(item) => excluded.push(*item),
                _ => {}
            }
        }
        excluded.retain(|&i| (i as usize) < self.catalogue.len() && targets.iter().all(|t| t.0 != i));
        Goal::Softmax { targets, excluded, within }
    }
}

/// The row's own item and, with falling share, what its sequence chose next; shares sum to one.
fn soft_targets_of(rows: &Rows, later: &[usize], soft: &SoftTargets) -> Vec<(u32, f32)> {
    let sequence = rows.sequence(later[0]);
    let mut targets: Vec<(u32, f32)> = Vec::new();
    for (gap, &row) in later.iter().take(soft.window + 1).enumerate() {
        if gap > 0 && (sequence.is_none() || rows.sequence(row) != sequence) {
            break;
        }
        let factor = if rows.label(row) >= POSITIVE { 1.0 } else { soft.below_half };
        let share = (factor * (-(gap as f64) / soft.decay).exp()) as f32;
        if share <= 0.0 {
            continue;
        }
        match targets.iter_mut().find(|t| t.0 == rows.item(row)) {
            Some(target) => target.1 += share,
            None => targets.push((rows.item(row), share)),
        }
    }
    let total: f32 = targets.iter().map(|t| t.1).sum();
    targets.iter_mut().for_each(|t| t.1 /= total);
    targets
}
