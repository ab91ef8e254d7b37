//! The pipeline file, label preparation and synthetic data.

#![allow(unreachable_pub)]
#![allow(clippy::unwrap_used)]

mod bad_input;
mod fixture;
mod formats;
mod leaks;
mod pipeline_file;
mod synthetic_data;
