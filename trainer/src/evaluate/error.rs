//! Why an evaluation cannot be made.

use std::path::PathBuf;

use unimodel_model::error::ModelError;

/// Why an evaluation cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// A table, the catalogue or the network.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A value of a label table that an evaluation cannot use.
    #[error("{}, row {row} of split `{split}`: {problem}", path.display())]
    Case {
        /// The label table.
        path: PathBuf,
        /// The split that was read.
        split: &'static str,
        /// The row among the positives of that split, from zero.
        row: usize,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// A task has nothing to be evaluated on.
    #[error("task `{task}`: its label table has no row of split `{split}` with a label of at least 0.5")]
    NoCases {
        /// The task.
        task: String,
        /// The split.
        split: &'static str,
    },
    /// `within` names an attribute without categories.
    #[error(
        "task `{task}`: evaluation.within names `{attribute}`, expected an attribute of type category or list<category>"
    )]
    Within {
        /// The task.
        task: String,
        /// The attribute.
        attribute: String,
    },
    /// A baseline that this catalogue or declaration does not allow.
    #[error("baseline {baseline}: {problem}")]
    Baseline {
        /// The baseline.
        baseline: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// A scorer gave something that is not a number, which no order can be made from.
    #[error("{scorer}: the score of item `{item}` is not a number")]
    NotANumber {
        /// The scorer.
        scorer: String,
        /// The item's id.
        item: String,
    },
}
