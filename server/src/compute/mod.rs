//! From a loaded version to scores: single-threaded, no IO, no knowledge of requests.

pub mod aligned;
mod context;
pub mod device;
pub mod engine;
pub mod items;
pub mod kernels;
pub mod mlp;
pub mod packed;
pub mod pair;
pub mod scratch;
mod text;
pub mod threads;
pub mod top;
mod tower;
mod vector;
