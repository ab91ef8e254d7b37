//! The pipeline file and how it is read.

mod check;
mod load;
pub mod positions;
mod types;

pub use load::{LoadedPipeline, PipelineError, Problem, json_schema};
pub use types::*;
