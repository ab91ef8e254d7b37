//! The wire contracts of unimodel: ranking, control, and Open Inference Protocol v2. `README.md` says what may change.
//! What all files that people write have in common, durations and the place of a mistake, is here too ([`duration`],
//! [`positions`]).

pub mod codec;
pub mod duration;
mod ids;
pub mod positions;
mod rank;

pub use ids::Ids;
pub use rank::first_task;

/// Encoded `FileDescriptorSet` of every contract and what they import, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Ranking: `unimodel.v1`.
#[allow(missing_docs)]
pub mod v1 {
    tonic::include_proto!("unimodel.v1");

    pub use crate::rank::{Candidates, RankResponse, RankedItems};
}

/// Control of a model server: `unimodel.control.v1`.
#[allow(missing_docs)]
pub mod control {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("unimodel.control.v1");
    }
}

/// Open Inference Protocol v2: `inference`.
#[allow(missing_docs)]
pub mod inference {
    tonic::include_proto!("inference");
}
