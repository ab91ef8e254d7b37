//! Decisions about endpoints, as values: time and chance are arguments.

pub mod budget;
pub mod choice;
pub mod ejection;
pub mod ewma;
pub mod latency;
pub mod share;
