//! HTTP: the REST API, and one port for HTTP/1.1, HTTP/2 without TLS, and gRPC.

pub(crate) mod body;
pub(crate) mod budget;
mod json;
pub mod listener;
pub(crate) mod problem;
mod rank;
mod tasks;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::header::CONTENT_TYPE;

use crate::error::RankError;
use crate::front::Front;
use crate::grpc;
pub(crate) use crate::http::json::{Object, syntax};
use crate::oip;

/// Everything that the data port answers.
pub fn service(front: Front) -> Router {
    let front = Arc::new(front);
    Router::new()
        .route("/v1/rank", post(rank::rank))
        .route("/v1/tasks", get(tasks::list))
        .route("/v1/tasks/{call}", post(rank::rank_task))
        .merge(oip::rest::routes())
        .fallback(no_resource)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(front.clone())
        .merge(grpc::routes(front))
}

async fn no_resource(State(_): State<Arc<Front>>, request: Request) -> Response {
    let error = RankError::NoResource { method: request.method().to_string(), path: request.uri().path().to_owned() };
    let is_grpc = request.headers().get(CONTENT_TYPE).is_some_and(|t| t.as_bytes().starts_with(b"application/grpc"));
    if is_grpc { error.problem().status().into_http() } else { error.into_response() }
}

async fn method_not_allowed(request: Request) -> Response {
    RankError::MethodNotAllowed { method: request.method().to_string(), path: request.uri().path().to_owned() }
        .into_response()
}
