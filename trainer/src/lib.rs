//! From sources to a published version: label preparation, training, evaluation, publishing and the advisor.

pub mod pipeline;
