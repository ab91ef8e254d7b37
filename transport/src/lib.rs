//! What a data port does whatever is behind it, the model server or the gateway: connections, bodies, deadlines, logs
//! and traces, and errors as callers see them.

pub mod bind;
pub mod body;
pub mod budget;
pub mod listener;
mod owner;
pub mod problem;
pub mod statistics;
mod taken;
pub mod telemetry;
mod timed;
pub mod timeout;
