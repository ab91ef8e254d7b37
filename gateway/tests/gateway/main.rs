//! The gateway in front of servers on real sockets: what it passes on, what it refuses, and what it does when servers
//! fail.

#![allow(clippy::unwrap_used)]

mod budget;
// It shares the collector of traces with the server's tests.
#[path = "../../../server/tests/serving/collector.rs"]
mod collector;
mod deadlines;
mod fallback;
mod isolation;
mod limits;
mod own;
mod page;
mod process;
mod reload;
mod resilience;
mod routing;
mod server;
mod shares;
mod traces;
mod world;
