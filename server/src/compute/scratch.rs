//! Memory that a compute thread keeps from one request to the next.

use super::aligned::AlignedVec;
use super::packed::Packed;

/// Memory that a compute thread keeps from one request to the next: it grows to what the largest request needs, and from
/// then on scoring allocates nothing.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Outputs of every other layer.
    pub(super) layers: (AlignedVec, AlignedVec),
    /// Outputs of a pairwise first layer.
    pub(super) first: AlignedVec,
    /// The weights of a pairwise first layer, folded for one context; none before the first.
    pub(super) folded: Option<Packed>,
    /// Scores of a chunk.
    pub(super) scores: Vec<f32>,
    /// Items of a chunk.
    pub(super) items: Vec<u32>,
}
