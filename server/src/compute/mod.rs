//! From a loaded version to scores on a CPU: single-threaded, no IO, no knowledge of requests.

pub mod aligned;
pub mod kernels;
pub mod packed;
