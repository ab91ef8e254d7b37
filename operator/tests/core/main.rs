//! The core against a small world: servers that prepare, fail, restart and forget as real ones do.
#![allow(clippy::unwrap_used)]

mod plans;
mod refreshes;
mod world;
