//! What hosts a [`UnifiedModel`](unimodel_crds::UnifiedModel). Its core is pure functions from what is observed to what is
//! to be done. One machine and a cluster differ in the shell around it, which observes, starts servers and calls them.
//!
//! A shell makes a [`Snapshot`], asks [`plan`], and does what the [`Plan`] says: start, change and stop servers
//! ([`Workload`]), call their control ports ([`Call`]), write the gateway's routes ([`Route`]) and the status. Then it
//! does so again. Nothing is remembered between two rounds but the status, so a shell may end at any point.
//!
//! [`cluster`] is the shell of a cluster, and what the program `unimodel-operator` runs.

pub mod cluster;
mod conditions;
pub mod control;
mod plan;
pub mod rbac;
mod refresh;
pub mod roll;
mod routes;
mod snapshot;
mod status;

pub use conditions::{ready_reason, set_condition};
pub use plan::{Plan, Route, Share, Start, Workload, plan, server_config};
pub use refresh::{Call, Operation, Step, Watch, step};
pub use routes::routes_document;
pub use snapshot::{Answer, Facts, Held, Phase, Replica, Snapshot, Trouble};
pub use status::rejected;
