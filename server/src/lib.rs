//! The model server: one version of a model on one device, asked by REST, gRPC and Open Inference Protocol v2.

pub mod compute;
pub mod config;
pub mod control;
pub mod error;
pub mod front;
pub mod grpc;
pub mod http;
pub mod metrics;
mod oip;
pub mod operations;
pub mod ranking;
pub mod request;
pub mod runtime;
pub mod serve;

pub use unimodel_transport::timeout;
