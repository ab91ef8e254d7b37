//! The network: shared context encoder, shared item tower, light heads and an optional pairwise ranker.

pub mod bag;
mod config;
mod forward;
mod item_inputs;
mod parameters;

pub use config::{LinearConfig, NetworkConfig, RankerConfig};
pub use forward::{ContextSide, DropoutMask, ItemSide, Network};
pub use item_inputs::{Categories, ItemReader, Numbers};
pub(crate) use parameters::check_shapes;
pub use parameters::{
    Axis, ITEM_BIAS, LINEAR_CONTEXT, LINEAR_ITEM, LOG_POPULARITY, Parameter, Start, Tensors, parameters,
};
