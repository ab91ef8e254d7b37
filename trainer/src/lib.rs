//! From sources to a published version: label preparation, training, evaluation, publishing and the advisor.

pub mod advise;
pub mod evaluate;
pub mod label_table;
pub mod labels;
pub mod pipeline;
pub mod train;
