//! Tests that end operators or the API server: each has an operator of its own, installed in its namespace with Roles only,
//! and they run one after another.
#![allow(clippy::unwrap_used)]

mod apiserver;
mod certificates;
mod namespaces;
mod operator;
mod steady;
