//! What can be wrong with a model's tables, schema and weights.

use std::path::PathBuf;

/// Why a model cannot be built or read.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file cannot be opened or read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A Parquet file cannot be decoded or encoded.
    #[error("{}: {source}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: parquet::errors::ParquetError,
    },
    /// A table lacks a column.
    #[error("table `{table}` has no column `{column}`")]
    MissingColumn {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// A column has another type than declared.
    #[error("table `{table}`: column `{column}` is {found}, expected {expected}")]
    ColumnType {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// Its type.
        found: String,
        /// The type that the declaration asks for.
        expected: String,
    },
    /// A value that may not be there.
    #[error("table `{table}`, row {row}: {problem}")]
    Value {
        /// The table.
        table: String,
        /// The row, from zero.
        row: usize,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// `schema.json` is not a schema that this program knows.
    #[error("schema.json: {0}")]
    Schema(String),
    /// The weights do not fit the schema.
    #[error("model.safetensors: {0}")]
    Weights(String),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}
