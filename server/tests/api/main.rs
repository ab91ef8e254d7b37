//! The protocols in front of a `Ranking` on plain data: what they accept, what they refuse, and how they say so.

#![allow(clippy::unwrap_used)]

mod budget;
mod document;
mod documents;
#[path = "../../../protocol/tests/fuzz/mod.rs"]
mod fuzz;
mod grpc;
mod inference;
mod openapi;
mod plain;
mod properties;
mod rest;
mod transport;
