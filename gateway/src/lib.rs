//! The gateway: one address for all tasks of a model, wherever each is hosted. `docs/gateway.md` says what it does.
//!
//! [`balance`], [`peek`], [`routes`], [`popularity`] and [`address`] decide as functions of values; [`backend`],
//! [`exchange`], [`listen`], [`watch`] and [`cluster`] do the IO; [`front`], [`chain`] and [`relay`] bring both together.

pub mod address;
pub mod admin;
pub mod backend;
pub mod balance;
pub mod body;
pub mod chain;
pub mod cluster;
pub mod describe;
pub mod error;
pub mod exchange;
pub mod fallback;
pub mod front;
pub mod gateway;
pub mod limiter;
pub mod metrics;
pub mod peek;
pub mod pool;
pub mod popularity;
pub mod relay;
pub mod routes;
pub mod services;
pub mod table;
pub mod timeout;
pub mod watch;
