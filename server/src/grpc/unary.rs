//! Calls of one message, which this server reads before tonic does: within the limits of all bodies, and with the errors
//! and counts of all protocols.

use std::convert::Infallible;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::Request;
use tower::Service;

use crate::error::RankError;
use crate::front::{Call, Front};
use crate::http::body;
use crate::ranking::Protocol;

/// Answers a call of a service in which `ranks` is the method that ranks: its requests are counted.
pub(super) async fn answer<S>(
    front: &Front,
    protocol: Protocol,
    ranks: &'static str,
    mut service: S,
    request: Request<Body>,
) -> Response
where
    S: Service<Request<Body>, Error = Infallible>,
    S::Response: IntoResponse,
{
    let call = Call::new(protocol);
    let is_ranking = request.uri().path().ends_with(ranks);
    let (parts, body) = request.into_parts();
    let (message, _held) = match body::read(front, &parts.headers, body).await {
        Ok(read) => read,
        Err(error) => return refuse(front, is_ranking.then_some(&call), error),
    };
    let Ok(response) = service.call(Request::from_parts(parts, Body::from(message))).await;
    response.into_response()
}

fn refuse(front: &Front, call: Option<&Call>, error: RankError) -> Response {
    let status = error.problem().status();
    if let Some(call) = call {
        front.done::<()>(call, &Err(error));
    }
    status.into_http()
}
