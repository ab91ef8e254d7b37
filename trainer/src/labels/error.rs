//! Why labels cannot be prepared.

use std::fmt;
use std::path::PathBuf;

use datafusion::error::DataFusionError;

use crate::folder::FolderError;
use crate::pipeline::PipelineError;

/// Why labels cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum LabelError {
    /// The pipeline file asks for something that the SQL does not do.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// A source is missing, cannot be read, or is not what the pipeline file says.
    #[error("source `{name}`, {path}: {problem}")]
    Source {
        /// Name in the pipeline file.
        name: String,
        /// Path or URL as resolved.
        path: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// SQL that cannot be run, or whose result is not the table that it has to be.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Sql(Vec<SqlProblem>),
    /// SQL that failed while it ran.
    #[error("{file}: table `{table}`: {problem}")]
    Run {
        /// The table.
        table: String,
        /// The SQL file.
        file: String,
        /// What the engine says.
        problem: String,
    },
    /// A row that breaks the contract of its table.
    #[error("{file}: table `{table}`, row {row}: {problem}")]
    Row {
        /// The table.
        table: String,
        /// The SQL file.
        file: String,
        /// The row of the SQL's result, from one.
        row: u64,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// A table that cannot be trained on as a whole.
    #[error("{file}: table `{table}`: {problem}")]
    Table {
        /// The table.
        table: String,
        /// The SQL file.
        file: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// The folder for the tables, or a file in it.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A Parquet file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: parquet::errors::ParquetError,
    },
    /// The engine cannot be set up.
    #[error("the SQL engine: {}", first_line(.0))]
    Engine(#[from] DataFusionError),
}

/// Something wrong with a SQL file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlProblem {
    /// The SQL file, as the pipeline file names it.
    pub file: String,
    /// Line and column, where the engine knows them.
    pub position: Option<(u64, u64)>,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl fmt::Display for SqlProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some((line, column)) => write!(f, "{}:{line}:{column}: {}", self.file, self.problem),
            None => write!(f, "{}: {}", self.file, self.problem),
        }
    }
}

impl SqlProblem {
    /// What the planner says, with the place that it says it of.
    pub(super) fn new(file: &str, error: &DataFusionError) -> Self {
        let mut problem = first_line(error);
        let mut position = error.diagnostic().and_then(|d| d.span).map(|s| (s.start.line, s.start.column));
        if let Some(start) = problem.rfind(" at Line: ") {
            let numbers = problem[start..].replace([',', ')', '"'], " ");
            let numbers: Vec<u64> = numbers.split_whitespace().filter_map(|w| w.parse().ok()).collect();
            if let [line, column, ..] = numbers[..] {
                position = Some((line, column));
                problem.truncate(start);
            }
        }
        Self { file: file.to_owned(), position, problem }
    }
}

/// What the engine says, in one line and without its own frames and backtraces.
pub(super) fn first_line(error: &DataFusionError) -> String {
    let error = error.find_root();
    let said = match error {
        DataFusionError::SQL(e, _) => e.to_string(),
        other => other.to_string(),
    };
    let said = ["sql parser error: ", "Error during planning: ", "This feature is not implemented: "]
        .iter()
        .find_map(|prefix| said.strip_prefix(prefix))
        .unwrap_or(&said);
    let said = said.split("\nbacktrace:").next().unwrap_or_default();
    let line = said.split_whitespace().collect::<Vec<_>>().join(" ");
    match error {
        DataFusionError::ResourcesExhausted(_) if line.contains("Join") => {
            format!("{line}; a join holds its first table in memory, so put the short one first: FROM short JOIN long")
        }
        _ => line,
    }
}
