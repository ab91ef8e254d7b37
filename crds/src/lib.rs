//! The UnifiedModel: what a person writes to host one model's tasks, on one machine or in a cluster.
//!
//! [`UnifiedModel`] is the object as it is written, [`crd_yaml`] what Kubernetes is told about it, [`check()`] what
//! `unimodel validate` and `unimodel up` say about a file, and [`Model`] the same object with every value understood.

mod check;
mod crd;
mod model;
mod schedule;
mod spec;
mod status;
mod structure;

pub use check::{CheckError, Checked, Problem, check};
pub use crd::crd_yaml;
pub use model::{
    Cache, Complaint, Device, Fallback, Gateway, HardwareClass, Inference, Model, Refresh, Rollout, Task, Timeout,
    Want, resolve,
};
pub use schedule::{Schedule, ScheduleError};
pub use spec::*;
pub use status::*;

/// API version of the UnifiedModel.
pub const API_VERSION: &str = "unimodel.dev/v1alpha1";

/// The hardware class that is there without being declared: a processor, and nothing asked of the machine.
pub const CPU_CLASS: &str = "cpu";
