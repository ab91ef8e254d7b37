//! A small server that speaks all protocols of a model server, writes down what it was asked, and can misbehave.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use prost::Message;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use unimodel_gateway::body::Body;
use unimodel_gateway::peek::grpc_frame;
use unimodel_protocol::inference as pb;
use unimodel_protocol::v1;
use unimodel_transport::listener::{ConnectionLimits, serve};

/// What a server does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Behaviour {
    /// Ranks.
    Answer,
    /// Ranks after so long.
    Slow(Duration),
    /// Says that it cannot, by that status of HTTP and code of gRPC.
    Refuse(u16, u8),
    /// Never answers.
    Hang,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

struct State {
    name: String,
    behaviour: Mutex<Behaviour>,
    seen: Mutex<Vec<Seen>>,
    /// Requests being worked on; one that is cancelled leaves.
    working: watch::Sender<usize>,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<usize>,
}

#[derive(Clone)]
struct Answering(Arc<State>);

impl hyper::service::Service<Request<Incoming>> for Answering {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let state = self.0.clone();
        Box::pin(async move { Ok(answer(&state, request).await) })
    }
}

struct Working<'a>(&'a watch::Sender<usize>);

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

async fn answer(state: &State, request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let path = parts.uri.path_and_query().unwrap().to_string();
    let seen = Seen { method: parts.method, path, headers: parts.headers, body };
    state.seen.lock().unwrap().push(seen.clone());
    state.working.send_modify(|count| *count += 1);
    let _working = Working(&state.working);
    let behaviour = state.behaviour.lock().unwrap().clone();
    match behaviour {
        Behaviour::Answer => ranked(&state.name, &seen),
        Behaviour::Slow(delay) => {
            tokio::time::sleep(delay).await;
            ranked(&state.name, &seen)
        }
        Behaviour::Refuse(status, code) => refused(&seen, status, code),
        Behaviour::Hang => std::future::pending().await,
    }
}

fn with(status: u16, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response.headers_mut().insert("content-type", HeaderValue::from_static(content_type));
    response
}

fn refused(seen: &Seen, status: u16, code: u8) -> Response<Body> {
    if is_grpc(seen) {
        let mut response = with(200, "application/grpc", Body::Empty);
        response.headers_mut().insert("grpc-status", HeaderValue::from(u16::from(code)));
        response.headers_mut().insert("grpc-message", HeaderValue::from_static("as told"));
        return response;
    }
    with(status, "application/problem+json", json!({ "status": status, "detail": "as told" }).to_string().into())
}

fn is_grpc(seen: &Seen) -> bool {
    seen.header("content-type").is_some_and(|t| t.starts_with("application/grpc"))
}

fn grpc(message: &[u8]) -> Response<Body> {
    let trailers = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    with(200, "application/grpc", Body::Whole { bytes: grpc_frame(message), trailers: Some(trailers) })
}

/// The model version names the server, so that a caller sees who answered.
fn ranked(name: &str, seen: &Seen) -> Response<Body> {
    let message = || &seen.body[5..];
    match seen.path.as_str() {
        "/unimodel.v1.RankingService/Rank" => {
            let request = v1::RankRequest::decode(message()).unwrap();
            let mut items = v1::RankedItems::default();
            items.push("50", 0.5);
            let (task, model_version) = (request.task, name.to_owned());
            grpc(&v1::RankResponse { items, task, model_version, ..Default::default() }.encode_to_vec())
        }
        "/inference.GRPCInferenceService/ModelInfer" => {
            let request = pb::ModelInferRequest::decode(message()).unwrap();
            let (model_name, model_version) = (request.model_name, name.to_owned());
            grpc(&pb::ModelInferResponse { model_name, model_version, ..Default::default() }.encode_to_vec())
        }
        "/inference.GRPCInferenceService/ModelReady" => grpc(&pb::ModelReadyResponse { ready: true }.encode_to_vec()),
        path if path.starts_with("/v2/") => {
            let body = json!({ "model_name": path.split('/').nth(3), "model_version": name }).to_string();
            with(200, "application/json", body.into())
        }
        path => {
            let in_body = serde_json::from_slice::<serde_json::Value>(&seen.body).unwrap_or_default();
            let in_path = path.strip_prefix("/v1/tasks/").and_then(|p| p.strip_suffix(":rank"));
            let body = json!({
                "items": [{ "id": "50", "score": 0.5 }],
                "task": in_path.or(in_body["task"].as_str()),
                "modelVersion": name,
                "dataTime": "1998-04-23T00:10:38Z",
                "imputed": [],
                "unknown": [],
                "fallback": null,
            });
            with(200, "application/json", body.to_string().into())
        }
    }
}

impl Server {
    pub(crate) async fn start(name: &str) -> Self {
        Self::at(name, "127.0.0.1:0".parse().unwrap()).await
    }

    pub(crate) async fn at(name: &str, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let state = Arc::new(State {
            name: name.to_owned(),
            behaviour: Mutex::new(Behaviour::Answer),
            seen: Mutex::default(),
            working: watch::Sender::new(0),
        });
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            let _ = stopped.await;
        };
        let answering = Answering(state.clone());
        let limits = ConnectionLimits::default();
        let served = tokio::spawn(serve(listener, answering, limits, stopped, Duration::from_secs(5)));
        Self { address, state, stop: Some(stop), served }
    }

    pub(crate) fn set(&self, behaviour: Behaviour) {
        *self.state.behaviour.lock().unwrap() = behaviour;
    }

    /// Requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.state.seen.lock().unwrap().len()
    }

    /// The only request so far.
    pub(crate) fn only(&self) -> Seen {
        let seen = self.seen();
        let [one] = seen.as_slice() else { panic!("{} requests: {seen:?}", seen.len()) };
        one.clone()
    }

    /// Waits until so many requests are being worked on.
    pub(crate) async fn working(&self, count: usize) {
        let mut working = self.state.working.subscribe();
        let reached = working.wait_for(|now| *now == count);
        tokio::time::timeout(Duration::from_secs(20), reached).await.expect("requests in time").unwrap();
    }

    /// Finishes what it works on, and stops.
    pub(crate) async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        (&mut self.served).await.unwrap();
    }
}

impl Drop for Server {
    /// Its connections break off.
    fn drop(&mut self) {
        self.served.abort();
    }
}
