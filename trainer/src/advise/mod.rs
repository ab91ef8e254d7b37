//! Whether a task belongs into the shared model: consolidate, or keep separate, and why.
//!
//! A pure function of what a version's evaluation carries. The thresholds are constants with their reasons below.

pub mod overlap;
mod rules;
mod text;

pub use overlap::{ItemOverlap, Relations, TaskLabels, relations};
pub use rules::{
    AGREEMENT, CONFLICT, Decision, Finding, Rule, SHARED_CONTEXT, SHARED_ITEMS, SMALL_TASK, SMALLEST_RATIO,
    UNSHARED_ITEMS, Weight,
};

use std::collections::BTreeMap;

use serde::Serialize;

use crate::evaluate::report::{Comparison, Evaluation, Slice};
use crate::evaluate::scorer::Kind;
use crate::pipeline::{Loss, Metric};

/// What an advice goes by.
#[derive(Clone, Debug, PartialEq)]
pub struct AdviseInput {
    /// The tasks.
    pub tasks: Vec<TaskInput>,
    /// What they have in common.
    pub relations: Relations,
}

/// What an advice knows of one task by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskInput {
    /// Its name.
    pub name: String,
    /// What a label says.
    pub label_kind: LabelKind,
    /// The unified model against the single-task model by the task's first metric, a slice each; empty where no
    /// single-task model was trained.
    pub comparisons: Vec<SliceComparison>,
}

/// The unified model against the single-task model on one slice.
#[derive(Clone, Debug, PartialEq)]
pub struct SliceComparison {
    /// The slice.
    pub slice: Slice,
    /// The metric.
    pub metric: Metric,
    /// The outcome.
    pub comparison: Comparison,
}

/// What a label says: one network can serve both kinds, but they pull its vectors in different directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum LabelKind {
    /// Which item was chosen out of all: softmax losses.
    Choice,
    /// How good the shown item was: binary cross entropy.
    Graded,
}

impl From<&Loss> for LabelKind {
    fn from(loss: &Loss) -> Self {
        match loss {
            Loss::Softmax { .. } | Loss::SampledSoftmax { .. } => Self::Choice,
            Loss::Bce {} => Self::Graded,
        }
    }
}

impl From<&Evaluation> for AdviseInput {
    fn from(evaluation: &Evaluation) -> Self {
        let tasks = evaluation.tasks.iter().map(|task| {
            // Cold start is a part of the cases that are in another slice already.
            let slices = task.slices.iter().filter(|s| s.name != Slice::ColdStart);
            let comparisons = slices.filter_map(|slice| {
                let metric = *task.metrics.first()?;
                let comparison = *slice.system(Kind::SingleTask)?.comparison.as_ref()?.get(&metric)?;
                Some(SliceComparison { slice: slice.name, metric, comparison })
            });
            TaskInput {
                name: task.name.clone(),
                label_kind: LabelKind::from(&task.loss),
                comparisons: comparisons.collect(),
            }
        });
        Self { tasks: tasks.collect(), relations: evaluation.relations.clone() }
    }
}

/// The advice for all tasks.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Advice {
    /// A task each, in the order of the evaluation.
    pub tasks: Vec<TaskAdvice>,
}

/// The advice for one task.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskAdvice {
    /// The task.
    pub task: String,
    /// What to do.
    pub decision: Decision,
    /// What decided, in one sentence.
    pub because: String,
    /// Everything that was looked at.
    pub findings: Vec<Finding>,
}

/// Advises on every task.
pub fn advise(input: &AdviseInput) -> Advice {
    Advice { tasks: input.tasks.iter().map(|task| rules::advise_task(input, task)).collect() }
}

/// Numbers by name.
type Numbers = BTreeMap<String, f64>;
