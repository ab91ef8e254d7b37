//! The network: shared context encoder, shared item tower, light heads and an optional pairwise ranker.

pub mod bag;
mod config;
mod forward;
mod parameters;

pub use config::{LinearConfig, NetworkConfig, RankerConfig};
pub use forward::{ContextSide, DropoutMask, ItemSide, Network};
pub use parameters::{Axis, LINEAR_CONTEXT, LINEAR_ITEM, LOG_POPULARITY, Parameter, Start, Tensors, parameters};
