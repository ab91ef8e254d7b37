//! The pipeline file and how it is read.

mod check;
mod load;
mod types;

pub use unimodel_protocol::positions;

pub use load::{LoadedPipeline, PipelineError, Problem, json_schema};
pub use types::*;
