//! A gateway on a port of its own, and clients.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use unimodel_gateway::body::BodyLimits;
use unimodel_gateway::front::Front;
use unimodel_gateway::gateway::{Gateway, Settings};
use unimodel_gateway::peek::{grpc_frame, grpc_message};
use unimodel_gateway::routes::{self, Routes};
use unimodel_protocol::v1;
use unimodel_transport::listener::{ConnectionLimits, serve};

/// Routes with those tasks, in YAML's flow form.
pub(crate) fn routes(tasks: &str) -> Routes {
    routes::parse("routes.yaml", &file(tasks)).unwrap()
}

/// A version with lists, and those tasks.
pub(crate) fn file(tasks: &str) -> String {
    format!(
        "{{apiVersion: unimodel.dev/v1alpha1, kind: Routes,
          versions: [{{
            name: v7, dataTime: 1998-04-23T00:10:38Z, items: 1682,
            context: [{{name: query, type: text, description: What is sought, default: ''}}, {{name: user_id, type: id}}],
            attributes: [{{name: genres, type: list<category>}}],
            heads: [{{name: search, description: Finds, elements: [query]}}],
            popularity: {{all: ['50', '100', '181'], by: {{genres: {{Comedy: ['100', '204'], Drama: ['318']}}}}}},
          }}],
          tasks: [{tasks}]}}"
    )
}

/// A task with those servers and further members.
pub(crate) fn task(name: &str, endpoints: &[SocketAddr], more: &str) -> String {
    let endpoints: Vec<String> = endpoints.iter().map(|address| format!("{{address: '{address}'}}")).collect();
    let more = if more.is_empty() { String::new() } else { format!(", {more}") };
    format!("{{name: {name}, timeout: {{default: 10s, max: 20s}}, endpoints: [{}]{more}}}", endpoints.join(", "))
}

/// A port that nobody listens on.
pub(crate) async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) gateway: Arc<Gateway>,
    served: JoinHandle<usize>,
}

impl World {
    pub(crate) async fn start(tasks: &str) -> Self {
        Self::with(routes(tasks)).await
    }

    pub(crate) async fn with(routes: Routes) -> Self {
        let timeout = Duration::from_secs(2);
        Self::within(routes, BodyLimits { max_bytes: 64 << 10, timeout, ..BodyLimits::default() }).await
    }

    pub(crate) async fn within(routes: Routes, body: BodyLimits) -> Self {
        let gateway = Gateway::new(routes, Settings { body, ..Settings::default() });
        let limits = ConnectionLimits { header_timeout: Duration::from_secs(10), ..Default::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let front = Front::new(gateway.clone());
        let served = tokio::spawn(serve(listener, front, limits, std::future::pending(), Duration::ZERO));
        Self { address, gateway, served }
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.client().await.post(path, body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.client().await.send(Request::get(path).body(Full::default()).unwrap()).await
    }

    /// Ranks all for a task by REST.
    pub(crate) async fn rank(&self, task: &str) -> Answer {
        self.post(&format!("/v1/tasks/{task}:rank"), ALL).await
    }

    pub(crate) async fn channel(&self) -> tonic::transport::Channel {
        tonic::transport::Endpoint::new(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    pub(crate) fn task(&self, name: &str) -> Arc<unimodel_gateway::table::Task> {
        self.gateway.table().task(name).unwrap().clone()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.served.abort();
    }
}

pub(crate) const ALL: &str = r#"{"candidates": {"all": true}}"#;

/// A client with one HTTP/2 connection.
#[derive(Clone)]
pub(crate) struct Client(http2::SendRequest<Full<Bytes>>);

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (send, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self(send)
    }

    /// Sends, or says why there is no answer.
    pub(crate) async fn try_send(&self, mut request: Request<Full<Bytes>>) -> Result<Answer, hyper::Error> {
        let path = request.uri().clone();
        *request.uri_mut() = format!("http://gateway{path}").parse().unwrap();
        let (parts, body) = self.0.clone().send_request(request).await?.into_parts();
        let body = body.collect().await?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        Ok(Answer { status: parts.status, headers: parts.headers, trailers, body: body.to_bytes() })
    }

    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        self.try_send(request).await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.send(Request::post(path).body(Full::new(body.into())).unwrap()).await
    }

    /// Calls a method of gRPC with an encoded message and further headers.
    pub(crate) async fn call(&self, path: &str, message: &[u8], headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::post(path).header("content-type", "application/grpc").header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Full::new(grpc_frame(message))).unwrap()).await
    }

    /// Ranks by gRPC.
    pub(crate) async fn rank(&self, request: &v1::RankRequest) -> Answer {
        self.call(RANK, &request.encode_to_vec(), &[]).await
    }
}

pub(crate) const RANK: &str = "/unimodel.v1.RankingService/Rank";
pub(crate) const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

/// Sends by HTTP/1.1.
pub(crate) async fn send_http1(address: SocketAddr, request: Request<Full<Bytes>>) -> Answer {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut send, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let (parts, body) = send.send_request(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer { status: parts.status, headers: parts.headers, trailers: HeaderMap::new(), body }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) trailers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The code of gRPC.
    pub(crate) fn code(&self) -> tonic::Code {
        let code = self.trailers.get("grpc-status").or(self.headers.get("grpc-status")).expect("a gRPC status");
        tonic::Code::from_bytes(code.as_bytes())
    }

    /// The message of gRPC.
    pub(crate) fn message<T: Message + Default>(&self) -> T {
        assert_eq!(self.code(), tonic::Code::Ok, "{self:?}");
        T::decode(grpc_message(&self.body).unwrap().unwrap()).unwrap()
    }

    /// The last part of the problem type.
    pub(crate) fn problem(&self) -> String {
        let document = self.json();
        assert_eq!(document["status"].as_u64(), Some(u64::from(self.status.as_u16())), "{document}");
        let name = document["type"].as_str().unwrap().strip_prefix("https://unimodel.dev/problems/");
        name.unwrap().to_owned()
    }
}

/// A request for all items of a task.
pub(crate) fn request(task: &str) -> v1::RankRequest {
    let candidates = Some(v1::Candidates { all: true, ..Default::default() });
    v1::RankRequest { task: task.into(), candidates, ..Default::default() }
}
