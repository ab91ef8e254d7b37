//! The data port: from a request to its answer.

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use prost::Message;
use rand::Rng;
use serde_json::json;
use tonic::service::Routes as Services;
use tower::Service;
use unimodel_protocol::inference as pb;
use unimodel_transport::telemetry;

use crate::address::{self, Address, Own, Readiness};
use crate::body::{self, Body};
use crate::chain::{self, Call};
use crate::describe;
use crate::error::{Form, GatewayError};
use crate::exchange::{Answer, Outgoing, forwarded};
use crate::fallback;
use crate::gateway::Gateway;
use crate::metrics::Protocol;
use crate::peek::{self, Peeked};
use crate::relay::{self, Turn};
use crate::table::Task;
use crate::timeout::{self, Deadline};

/// The task, where neither path nor body shall be looked at.
pub const TASK: HeaderName = HeaderName::from_static("x-unimodel-task");
/// Who asks, as far as canary and mirror are concerned: a user or a session.
pub const REQUEST_KEY: HeaderName = HeaderName::from_static("x-unimodel-request-key");
/// Where a body's JSON ends and its tensors' bytes begin.
const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// Everything that the data port answers.
#[derive(Clone)]
pub struct Front {
    gateway: Arc<Gateway>,
    services: Services,
}

impl Front {
    /// The data port of a gateway.
    pub fn new(gateway: Arc<Gateway>) -> Self {
        Self { services: gateway.services(), gateway }
    }

    /// Answers.
    pub async fn handle(self, request: Request<Incoming>) -> Response<Body> {
        let gateway = &self.gateway;
        let path = request.uri().path().to_owned();
        let address = match address::find(request.method(), &path) {
            Ok(address) => address,
            Err((form, error)) => return error.response(form),
        };
        match address {
            Address::Rank(task) => rank(gateway, Protocol::Rest, task, request).await,
            Address::Infer(task) => rank(gateway, Protocol::InferenceRest, Some(task), request).await,
            Address::GrpcRank => rank(gateway, Protocol::Grpc, None, request).await,
            Address::GrpcInfer => rank(gateway, Protocol::InferenceGrpc, None, request).await,
            Address::Describe(task, readiness) => {
                let described = describe_task(gateway, Protocol::InferenceRest, Some(&task), readiness, request).await;
                described.unwrap_or_else(|error| error.response(Form::InferenceRest))
            }
            Address::GrpcDescribe(readiness) => {
                let described = describe_task(gateway, Protocol::InferenceGrpc, None, readiness, request).await;
                described.unwrap_or_else(|error| error.response(Form::Grpc))
            }
            Address::Index => index(gateway, request).await.unwrap_or_else(|error| error.response(Form::InferenceRest)),
            Address::GrpcOwn(method) => {
                let described = own_grpc(gateway, method, request).await;
                described.unwrap_or_else(|error| error.response(Form::Grpc))
            }
            Address::Own(own) => {
                let form = if path.starts_with("/v2") { Form::InferenceRest } else { Form::Rest };
                describe::respond(gateway, &own).unwrap_or_else(|error| error.response(form))
            }
            Address::Service => {
                let (parts, incoming) = request.into_parts();
                let body = match gateway.intake.bound(incoming) {
                    // tonic answers with the status that it finds in a body's error.
                    Ok(body) => body.map_err(|error| GatewayError::from(error).problem().status()),
                    Err(full) => return GatewayError::from(full).response(Form::Grpc),
                };
                let mut services = self.services.clone();
                body::never(services.call(Request::from_parts(parts, body)).await).map(Body::Service)
            }
        }
    }
}

impl hyper::service::Service<Request<Incoming>> for Front {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let front = self.clone();
        Box::pin(async move { Ok(front.handle(request).await) })
    }
}

fn form_of(protocol: Protocol) -> Form {
    match protocol {
        Protocol::Rest => Form::Rest,
        Protocol::InferenceRest => Form::InferenceRest,
        Protocol::Grpc | Protocol::InferenceGrpc => Form::Grpc,
    }
}

/// A request that is counted however it ends: a caller that goes drops it.
struct Observed<'a> {
    gateway: &'a Gateway,
    protocol: Protocol,
    received: Instant,
    task: Option<Arc<Task>>,
    is_done: bool,
}

impl Observed<'_> {
    fn done(&mut self, outcome: &'static str) {
        self.is_done = true;
        let took = self.received.elapsed();
        match &self.task {
            Some(task) => task.state.metrics.done(self.protocol, outcome, took),
            None => self.gateway.metrics.unrouted.add(outcome),
        }
        telemetry::record(self.task.as_ref().map_or("", |task| &*task.name), outcome);
        let share = self.gateway.settings.access_log;
        if share > 0.0 && rand::rng().random_bool(share.min(1.0)) {
            let task = self.task.as_ref().map_or("", |task| &*task.name);
            tracing::info!(target: "access", task, protocol = self.protocol.name(), outcome, ?took);
        }
    }
}

impl Drop for Observed<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.done("canceled");
        }
    }
}

async fn rank(
    gateway: &Gateway,
    protocol: Protocol,
    path_task: Option<Cow<'_, str>>,
    request: Request<Incoming>,
) -> Response<Body> {
    let mut observed = Observed { gateway, protocol, received: Instant::now(), task: None, is_done: false };
    match ranked(&mut observed, path_task, request).await {
        Ok(answer) => {
            observed.done(outcome(&answer, protocol));
            answer.into_response()
        }
        Err(error) => {
            observed.done(error.kind().name);
            error.response(form_of(protocol))
        }
    }
}

/// What an answer means, as metrics name it.
fn outcome(answer: &Answer, protocol: Protocol) -> &'static str {
    use tonic::Code;
    if matches!(protocol, Protocol::Grpc | Protocol::InferenceGrpc) {
        return match answer.code() {
            Some(Code::Ok) => "ok",
            Some(Code::ResourceExhausted) => "overloaded",
            Some(Code::Unavailable) => "not-ready",
            Some(Code::DeadlineExceeded) => "deadline-exceeded",
            Some(Code::Internal | Code::Unknown) => "internal",
            Some(_) => "refused",
            // It passes on as it comes.
            None => "ok",
        };
    }
    match answer.status {
        status if status.is_success() => "ok",
        StatusCode::TOO_MANY_REQUESTS => "overloaded",
        StatusCode::SERVICE_UNAVAILABLE => "not-ready",
        StatusCode::GATEWAY_TIMEOUT => "deadline-exceeded",
        status if status.is_client_error() => "refused",
        status if status.is_server_error() => "internal",
        _ => "other",
    }
}

/// The task that path or header name.
fn named<'a>(path: Option<Cow<'a, str>>, headers: &'a HeaderMap) -> Result<(Option<Cow<'a, str>>, bool), GatewayError> {
    let header = headers.get(TASK).map(|task| String::from_utf8_lossy(task.as_bytes()));
    match (path, header) {
        (Some(path), Some(header)) if path != header => {
            Err(GatewayError::ConflictingTask { path: path.into_owned(), header: header.into_owned() })
        }
        (Some(path), _) => Ok((Some(path), false)),
        (None, Some(header)) => Ok((Some(header), true)),
        (None, None) => Ok((None, false)),
    }
}

/// What is known before there is a body: whether the task is, and by a header. The task first: a caller who mistypes it
/// learns that, whatever else is wrong. No body is needed to refuse.
fn begin(
    observed: &mut Observed<'_>,
    path_task: Option<Cow<'_, str>>,
    headers: &HeaderMap,
) -> Result<(bool, bool), GatewayError> {
    let (name, by_header) = named(path_task, headers)?;
    let Some(name) = name else { return Ok((false, by_header)) };
    let task = describe::known(&observed.gateway.table(), &name)?.clone();
    observed.task = Some(task.clone());
    let limiter = &task.state.limiter;
    if limiter.is_full() && task.facts.fallback.is_empty() {
        let reason =
            format!("{} requests of `{}` in flight and {} waiting", limiter.limit(), task.name, limiter.waiting());
        return Err(GatewayError::Overloaded { reason, retry_after: task.state.retry_after() });
    }
    Ok((true, by_header))
}

async fn ranked(
    observed: &mut Observed<'_>,
    path_task: Option<Cow<'_, str>>,
    request: Request<Incoming>,
) -> Result<Answer, GatewayError> {
    let (gateway, protocol) = (observed.gateway, observed.protocol);
    let (parts, incoming) = request.into_parts();
    let begun = begin(observed, path_task, &parts.headers)
        .and_then(|begun| Ok((begun, timeout::from_headers(&parts.headers)?)));
    let ((is_named, by_header), asked) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            // HTTP/1.1 ends a connection with a body that nobody has read, and the caller's next request with it.
            if parts.version < Version::HTTP_2 {
                let _ = read(gateway, &parts.headers, incoming).await;
            }
            return Err(error);
        }
    };
    let body = read(gateway, &parts.headers, incoming).await?;
    let peeked = peek(protocol, &parts.headers, &body, is_named)?;
    let task = match (&observed.task, peeked.task) {
        (Some(task), _) => task.clone(),
        (None, Some(name)) => {
            let task = describe::known(&gateway.table(), &name)?.clone();
            observed.task = Some(task.clone());
            task
        }
        (None, None) => return Err(GatewayError::MissingTask { known: gateway.table().names() }),
    };
    let deadline = Deadline::new(observed.received, asked.into_iter().chain([peeked.timeout]), task.timeout);
    if deadline.at <= Instant::now() {
        return Err(GatewayError::DeadlineExceeded { timeout: deadline.timeout });
    }
    let mut path = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    if by_header && protocol == Protocol::Rest {
        // The body need not name the task again.
        path = format!("/v1/tasks/{}:rank", task.name).parse().unwrap_or(path);
    }
    let key = parts.headers.get(REQUEST_KEY).cloned();
    let outgoing = Outgoing {
        method: parts.method,
        path,
        headers: forwarded(parts.headers),
        body,
        is_grpc: form_of(protocol) == Form::Grpc,
    };
    chain::answer(gateway, &Call { task, protocol, outgoing, deadline, key }).await
}

/// The whole body: buffered, so that a retry can send it again. It takes its part of what the gateway holds as long as
/// anything has it: the request, an attempt, a mirror's copy.
async fn read(gateway: &Gateway, headers: &HeaderMap, incoming: Incoming) -> Result<Bytes, GatewayError> {
    let (body, held) = gateway.intake.read(headers, incoming).await?;
    Ok(held.within(body))
}

/// The task, where it is not known yet, and the timeout.
fn peek(protocol: Protocol, headers: &HeaderMap, body: &Bytes, is_named: bool) -> Result<Peeked, GatewayError> {
    match protocol {
        Protocol::Rest => {
            let peeked = peek::rank_json(body);
            if !is_named && peeked.task.is_none() {
                // It may be no JSON at all.
                serde_json::from_slice::<serde::de::IgnoredAny>(body).map_err(|error| GatewayError::syntax(&error))?;
            }
            Ok(peeked)
        }
        Protocol::InferenceRest => {
            let length = headers.get(JSON_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
            Ok(peek::infer_json(body, length))
        }
        Protocol::Grpc | Protocol::InferenceGrpc => match peek::grpc_message(body)? {
            Some(message) if protocol == Protocol::Grpc => Ok(peek::rank_protobuf(&message)),
            Some(message) => Ok(peek::infer_protobuf(&message)),
            None if is_named => Ok(Peeked::default()),
            None => Err(GatewayError::UnsupportedEncoding {
                encoding: headers
                    .get("grpc-encoding")
                    .map_or("of gRPC".into(), |encoding| String::from_utf8_lossy(encoding.as_bytes()).into()),
            }),
        },
    }
}

/// Passes a question about a task to one of its servers. Neither its concurrency nor its fallback has to do with it.
async fn describe_task(
    gateway: &Gateway,
    protocol: Protocol,
    path_task: Option<&str>,
    readiness: Readiness,
    request: Request<Incoming>,
) -> Result<Response<Body>, GatewayError> {
    let received = Instant::now();
    let (parts, incoming) = request.into_parts();
    let asked = timeout::from_headers(&parts.headers)?;
    let body = read(gateway, &parts.headers, incoming).await?;
    let (name, _) = named(path_task.map(Cow::Borrowed), &parts.headers)?;
    let name = match name {
        Some(name) => name.into_owned(),
        None => peek(protocol, &parts.headers, &body, false)?
            .task
            .ok_or_else(|| GatewayError::MissingTask { known: gateway.table().names() })?,
    };
    let task = describe::known(&gateway.table(), &name)?.clone();
    let deadline = Deadline::new(received, asked, task.timeout);
    let outgoing = Outgoing {
        method: parts.method,
        path: parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")),
        headers: forwarded(parts.headers),
        body,
        is_grpc: protocol == Protocol::InferenceGrpc,
    };
    let turn = Turn { until: deadline.at, is_last: true, canary: false };
    let failure = match relay::ask(&task, &outgoing, turn).await {
        Ok(answer) => return Ok(answer.into_response()),
        Err(failure) => failure,
    };
    if readiness == Readiness::Asked && failure.answer.is_none() {
        return Ok(match protocol {
            Protocol::InferenceGrpc => grpc_answer(&pb::ModelReadyResponse { ready: false }.encode_to_vec()),
            _ => body::json(StatusCode::BAD_REQUEST, &json!({ "name": name, "ready": false })),
        });
    }
    let call = Call { task, protocol, outgoing, deadline, key: None };
    chain::give_up(&call, failure).map(Answer::into_response)
}

async fn index(gateway: &Gateway, request: Request<Incoming>) -> Result<Response<Body>, GatewayError> {
    #[derive(Default, serde::Deserialize)]
    struct Asked {
        #[serde(default)]
        ready: bool,
    }
    let (parts, incoming) = request.into_parts();
    let body = read(gateway, &parts.headers, incoming).await?;
    let asked: Asked = match body.is_empty() {
        true => Asked::default(),
        false => serde_json::from_slice(&body).map_err(|error| GatewayError::syntax(&error))?,
    };
    describe::respond(gateway, &Own::Index { ready_only: asked.ready })
}

async fn own_grpc(gateway: &Gateway, method: &str, request: Request<Incoming>) -> Result<Response<Body>, GatewayError> {
    let (parts, incoming) = request.into_parts();
    let body = read(gateway, &parts.headers, incoming).await?;
    let unsupported = || GatewayError::UnsupportedEncoding { encoding: "of gRPC".into() };
    let message = peek::grpc_message(&body)?.ok_or_else(unsupported)?;
    describe::encoded(gateway, method, &message).map(|message| grpc_answer(&message))
}

fn grpc_answer(message: &[u8]) -> Response<Body> {
    let body = Body::Whole { bytes: peek::grpc_frame(message), trailers: Some(fallback::ok()) };
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}
