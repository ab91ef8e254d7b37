//! Sizes of the network: what `model` in a pipeline file declares.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Sizes of the network. Every field has a default that suits catalogues of thousands of items.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NetworkConfig {
    /// Width of the shared vectors of context and item.
    pub width: usize,
    /// Width of the hidden layer of the shared residual block over the context.
    pub hidden: usize,
    /// Width of an item's embedding as an element of a history.
    pub history_width: usize,
    /// Starting decay rates of the history channels, per step of age; each is learned from there.
    pub history_decay: Vec<f64>,
    /// Buckets of the hashed character n-grams, shared by query text and text attributes.
    pub text_buckets: usize,
    /// Width of a text vector.
    pub text_width: usize,
    /// Dropout before the shared block, 0 to below 1.
    pub dropout: f64,
    /// The linear item–item term, or none.
    pub linear: Option<LinearConfig>,
    /// The pairwise ranker above the heads, or none.
    pub ranker: Option<RankerConfig>,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            width: 128,
            hidden: 256,
            history_width: 64,
            history_decay: vec![0.3, 0.1, 0.02],
            text_buckets: 4096,
            text_width: 192,
            dropout: 0.5,
            linear: Some(LinearConfig::default()),
            ranker: None,
        }
    }
}

/// The linear item–item term: EASE (Steck 2019) in closed form over the training events, cut to its leading
/// eigenvectors, so that it stays a dot product.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LinearConfig {
    /// How many eigenvectors are kept.
    pub width: usize,
    /// L2 regularisation. Eigenvalues far below it hardly count, which is why few eigenvectors are enough.
    pub regularisation: f64,
    /// Starting decay rate of a history item per step of age; learned from there.
    pub decay: f64,
}

impl Default for LinearConfig {
    fn default() -> Self {
        Self { width: 128, regularisation: 800.0, decay: 0.22 }
    }
}

/// Sizes of the pairwise ranker: a trunk over context, item and their product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RankerConfig {
    /// Widths of the hidden layers.
    pub hidden: Vec<usize>,
    /// How many of the best by dot product are ranked again.
    pub candidates: usize,
}
