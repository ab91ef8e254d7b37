//! Label preparation: sources and SQL files to the label tables that training reads (`docs/labels.md`).
//!
//! The engine is DataFusion with bounded memory: sorts and joins spill to disk, and results go to Parquet batch by
//! batch. The SQL is portable, so that Spark and Trino give the same tables from the same files.

mod columns;
mod error;
mod plan;
mod rows;
mod session;
mod sources;
mod summary;
mod write;

use std::path::Path;

pub use error::{LabelError, SqlProblem};
pub use summary::{LabelsSummary, SplitRows, Splits, TableSummary};

use crate::folder::{NewFolder, write_error};
use crate::pipeline::LoadedPipeline;

/// How far a preparation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The table that is being written.
    pub table: &'a str,
    /// Its number, from zero.
    pub number: usize,
    /// How many tables there are.
    pub tables: usize,
    /// Rows of it so far.
    pub rows: u64,
}

/// Checks the SQL files against the sources without running them.
///
/// # Errors
/// A source is missing or lacks a declared column; SQL is wrong; a result lacks a column or has one of another type;
/// no task selects a context element.
pub async fn check(pipeline: &LoadedPipeline) -> Result<(), LabelError> {
    let spill = tempfile::tempdir().map_err(write_error(&std::env::temp_dir()))?;
    let context = session::context(spill.path())?;
    sources::register(&context, pipeline).await?;
    plan::plan(&context, pipeline).await.map(drop)
}

/// Writes the label tables into the folder `out`, which they replace as a whole when all of them are complete: a run
/// that fails or is killed leaves `out` as it was.
///
/// # Errors
/// What [`check`] finds; a row that breaks the contract of its table; a task without a positive to train on; `out`
/// cannot be written, or is a folder of something else.
pub async fn prepare(
    pipeline: &LoadedPipeline,
    out: &Path,
    progress: &(dyn Fn(Progress<'_>) + Sync),
) -> Result<LabelsSummary, LabelError> {
    let folder = NewFolder::new(out, "label tables", "events.parquet")?;
    let tasks = folder.content().join("tasks");
    std::fs::create_dir(&tasks).map_err(write_error(&tasks))?;
    let context = session::context(&folder.scratch()?)?;
    sources::register(&context, pipeline).await?;
    let plan = plan::plan(&context, pipeline).await?;
    let tables = write::write(&context, pipeline, &plan, folder.content(), progress).await?;
    drop(context);
    folder.complete()?;
    Ok(LabelsSummary { out: out.to_owned(), tables })
}
