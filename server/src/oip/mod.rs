//! Open Inference Protocol v2 by REST and gRPC: a task is a model, context elements and candidates are tensors.

pub(crate) mod describe;
pub(crate) mod grpc;
pub(crate) mod infer;
mod json;
pub(crate) mod rest;
pub(crate) mod tensor;

/// Input: candidates. Absent: the whole catalogue.
pub(crate) const ITEM_IDS: &str = "item_ids";
/// Input: items to leave out.
pub(crate) const EXCLUDE_IDS: &str = "exclude_ids";
/// Output: scores of the items in `item_ids`, the best first.
pub(crate) const SCORES: &str = "scores";
/// Output: candidates that the version does not know.
pub(crate) const UNKNOWN_IDS: &str = "unknown_ids";
