//! The runtime on real versions, against plain candle.

#![allow(clippy::unwrap_used)]

mod admission;
mod answers;
mod cached;
mod counted;
mod fixture;
mod golden;
mod panics;
mod properties;
mod swap;
#[path = "../compute_engine/world.rs"]
mod world;
