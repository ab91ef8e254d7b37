//! What an object has in a cluster, without one.
#![allow(clippy::unwrap_used)]

mod children;
mod image;
mod rules;
