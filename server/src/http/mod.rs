//! HTTP: the REST API, and one port for HTTP/1.1, HTTP/2 without TLS, and gRPC.

mod json;
pub mod listener;
pub(crate) mod problem;
mod rank;
pub(crate) mod route;
mod tasks;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::Method;
use http::header::CONTENT_TYPE;

use crate::error::RankError;
use crate::front::Front;
use crate::grpc;
pub(crate) use crate::http::json::{Object, syntax};
use crate::http::route::Route;
use crate::oip;

fn routes() -> Vec<Route> {
    let mut routes = vec![
        route::post("/v1/rank", rank::rank),
        route::get("/v1/tasks", tasks::list),
        route::post("/v1/tasks/{call}", rank::rank_task),
    ];
    routes.extend(oip::rest::routes());
    routes
}

/// Method and path of everything that the data port answers by REST, in the router's form.
pub fn addresses() -> Vec<(Method, String)> {
    routes().into_iter().map(|route| (route.method, route.path)).collect()
}

/// Everything that the data port answers.
pub fn service(front: Front) -> Router {
    let front = Arc::new(front);
    route::router(routes())
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
