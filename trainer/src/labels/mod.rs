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

use std::path::{Path, PathBuf};

use tempfile::TempDir;

pub use error::{LabelError, SqlProblem};
pub use summary::{LabelsSummary, SplitRows, Splits, TableSummary};

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
    let spill = tempfile::tempdir().map_err(|source| LabelError::Write { path: std::env::temp_dir(), source })?;
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
    let target = Target::new(out)?;
    let spill = target.work.path().join("spill");
    std::fs::create_dir(&spill).map_err(|source| LabelError::Write { path: spill.clone(), source })?;
    let context = session::context(&spill)?;
    sources::register(&context, pipeline).await?;
    let plan = plan::plan(&context, pipeline).await?;
    let tables = write::write(&context, pipeline, &plan, &target.tables, progress).await?;
    drop(context);
    target.complete()?;
    Ok(LabelsSummary { out: out.to_owned(), tables })
}

/// Where the tables are written before they take the place of `out`.
struct Target {
    out: PathBuf,
    /// A folder beside `out`, removed with all that is in it however the run ends.
    work: TempDir,
    tables: PathBuf,
}

impl Target {
    fn new(out: &Path) -> Result<Self, LabelError> {
        let write = |path: &Path, source| LabelError::Write { path: path.to_owned(), source };
        let out = std::path::absolute(out).map_err(|source| write(out, source))?;
        let occupied = out.is_file()
            || (out.is_dir()
                && !out.join("events.parquet").exists()
                && out.read_dir().map_err(|source| write(&out, source))?.next().is_some());
        if occupied {
            return Err(LabelError::Occupied { path: out });
        }
        let parent = out.parent().unwrap_or(&out).to_owned();
        std::fs::create_dir_all(&parent).map_err(|source| write(&parent, source))?;
        let work =
            tempfile::Builder::new().prefix(".labels-").tempdir_in(&parent).map_err(|source| write(&parent, source))?;
        let tables = work.path().join("tables");
        std::fs::create_dir_all(tables.join("tasks")).map_err(|source| write(&tables, source))?;
        Ok(Self { out, work, tables })
    }

    fn complete(self) -> Result<(), LabelError> {
        let write = |source| LabelError::Write { path: self.out.clone(), source };
        if self.out.exists() {
            std::fs::rename(&self.out, self.work.path().join("old")).map_err(write)?;
        }
        std::fs::rename(&self.tables, &self.out).map_err(write)
    }
}
