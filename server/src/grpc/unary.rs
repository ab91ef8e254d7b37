//! Calls of one message, which this server reads before tonic does: within the limits of all bodies, and with the errors
//! and counts of all protocols.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Request};
use http_body::{Frame, SizeHint};
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};
use tower::Service;
use unimodel_transport::budget::Held;

use crate::error::RankError;
use crate::front::{Call, Front};
use crate::ranking::Protocol;
use crate::request::RankResponse;

/// When a request's header was there, for those who see it once its message is.
#[derive(Clone, Copy)]
struct Received(Instant);

/// The call whose message this is.
pub(crate) fn call<T>(protocol: Protocol, request: &tonic::Request<T>) -> Call {
    let received = request.extensions().get().map_or_else(Instant::now, |Received(at)| *at);
    Call::received(protocol, received)
}

const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const ACCEPT_ENCODING: &str = "grpc-accept-encoding";

/// Answers a call of a service in which `ranks` is the method that ranks: its requests are counted.
pub(super) async fn answer<S>(
    front: &Arc<Front>,
    protocol: Protocol,
    ranks: &'static str,
    mut service: S,
    request: Request<Body>,
) -> Response
where
    S: Service<Request<Body>, Response = http::Response<tonic::body::Body>, Error = Infallible>,
{
    let call = Call::new(protocol);
    let uri = request.uri().clone();
    let refused = |error| refuse(front, uri.path().ends_with(ranks).then_some(&call), error);
    let (mut parts, body) = request.into_parts();
    parts.extensions.insert(Received(call.received));
    let (message, _held) = match read(front, &parts.headers, body).await {
        Ok(read) => read,
        Err(error) => return refused(error),
    };
    let Ok(mut response) = service.call(Request::from_parts(parts, Body::from(message))).await;
    if let Some(error) = fault(response.headers(), uri.path()) {
        return refused(error);
    }
    match response.extensions_mut().remove::<Begun>() {
        Some(begun) => response.map(|inner| Body::new(RankingBody { inner, front: front.clone(), begun: Some(begun) })),
        None => response.map(Body::new),
    }
}

/// A ranking that has been written as far as to protobuf, which tonic encodes once the answer is sent.
#[derive(Clone)]
struct Begun {
    task: Arc<str>,
    elapsed: Duration,
}

/// Answers with a ranking.
pub(crate) fn reply<T>(response: RankResponse, write: impl FnOnce(RankResponse) -> T) -> tonic::Response<T> {
    let (task, begun) = (response.task.clone(), Instant::now());
    let mut written = tonic::Response::new(write(response));
    written.extensions_mut().insert(Begun { task, elapsed: begun.elapsed() });
    written
}

/// A ranking's message, which is encoded when it is first asked for.
struct RankingBody {
    inner: tonic::body::Body,
    front: Arc<Front>,
    begun: Option<Begun>,
}

impl http_body::Body for RankingBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(Begun { task, elapsed }) = self.begun.take() else {
            return Pin::new(&mut self.inner).poll_frame(cx);
        };
        let begun = Instant::now();
        let frame = Pin::new(&mut self.inner).poll_frame(cx);
        self.front.ranking.written(&task, elapsed + begun.elapsed());
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

async fn read(front: &Front, headers: &HeaderMap, body: Body) -> Result<(Bytes, Held), RankError> {
    if let Some(encoding) = headers.get(ENCODING)
        && encoding != "identity"
    {
        return Err(RankError::UnsupportedEncoding { encoding: String::from_utf8_lossy(encoding.as_bytes()).into() });
    }
    let (body, held) = front.intake.read(headers, body).await?;
    check(&body, front.intake.limits.max_bytes)?;
    Ok((body, held))
}

/// Whether a body is one message: see the gRPC over HTTP/2 protocol, "Length-Prefixed-Message".
fn check(body: &[u8], max: usize) -> Result<(), RankError> {
    let Some((&[flag, a, b, c, d], message)) = body.split_first_chunk() else {
        return Err(RankError::invalid_body("there is no message"));
    };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if flag != 0 {
        return Err(RankError::invalid_body(format!("compressed flag {flag} without grpc-encoding")));
    }
    if length > max {
        return Err(RankError::BodyTooLarge { max });
    }
    if length != message.len() {
        return Err(RankError::invalid_body(format!("a message of {length} bytes has {}", message.len())));
    }
    Ok(())
}

/// What is wrong where tonic answers by itself: it says so without details, which every answer of a service has.
fn fault(headers: &HeaderMap, path: &str) -> Option<RankError> {
    if headers.contains_key(Status::GRPC_STATUS_DETAILS) {
        return None;
    }
    let status = Status::from_header_map(headers)?;
    Some(match status.code() {
        Code::Ok => return None,
        Code::Unimplemented => RankError::NoResource { method: Method::POST.to_string(), path: path.to_owned() },
        _ => RankError::invalid_body(status.message()),
    })
}

fn refuse(front: &Front, call: Option<&Call>, error: RankError) -> Response {
    let mut status = error.problem().status();
    if matches!(error, RankError::UnsupportedEncoding { .. }) {
        status.metadata_mut().insert(ACCEPT_ENCODING, MetadataValue::from_static("identity"));
    }
    if let Some(call) = call {
        front.done::<()>(call, &Err(error));
    }
    status.into_http()
}
