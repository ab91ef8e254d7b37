//! Tests that share a cluster and its operator, side by side, each in a namespace of its own.
#![allow(clippy::unwrap_used)]

mod autoscaling;
mod credentials;
mod definition;
mod edits;
mod failures;
mod hands;
mod rights;
mod sample;
mod trouble;
mod versions;
mod volumes;
mod web;
mod webhook;
