//! HTTP.
pub mod json;
