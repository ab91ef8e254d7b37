//! What a preparation made.

use std::path::PathBuf;

use serde::Serialize;

/// What a preparation made.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LabelsSummary {
    /// The folder.
    pub out: PathBuf,
    /// Its tables, in the order in which they were written.
    pub tables: Vec<TableSummary>,
}

/// One table.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TableSummary {
    /// `events`, `items`, `users` or the task's name.
    pub table: String,
    /// The file, relative to the folder.
    pub file: PathBuf,
    /// Rows written.
    pub rows: u64,
    /// Rows by split, for events and tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub splits: Option<Splits>,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// Time it took, in seconds.
    pub seconds: f64,
}

/// Rows by split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Splits {
    /// Trained on.
    pub train: SplitRows,
    /// Chosen on.
    pub validation: SplitRows,
    /// Reported.
    pub test: SplitRows,
    /// In no split; label tables do not keep these.
    pub none: SplitRows,
}

/// Rows of one split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SplitRows {
    /// Rows.
    pub rows: u64,
    /// Those with a label of at least 0.5.
    pub positives: u64,
}
