//! The model server: one version of a model on one device, asked by REST, gRPC and Open Inference Protocol v2.

pub mod compute;
pub mod error;
pub mod front;
pub mod grpc;
pub mod http;
mod oip;
pub mod ranking;
pub mod request;
pub mod timeout;
