//! From sources to a published version: label preparation, training, evaluation, publishing and the advisor.

pub mod advise;
pub mod assemble;
pub mod evaluate;
pub mod folder;
pub mod label_table;
pub mod labels;
pub mod pipeline;
pub mod report;
pub mod run;
pub mod synthetic;
pub mod train;
