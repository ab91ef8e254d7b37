//! The pipeline file and how it is read.

mod types;

pub use types::*;
