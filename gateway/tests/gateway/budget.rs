//! What the gateway holds of requests that are not answered yet is bounded, whatever the protocol.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, FuturesUnordered};
use http::Request;
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tonic::Code;
use tonic_types::StatusExt;
use unimodel_gateway::body::BodyLimits;
use unimodel_gateway::metrics;

use crate::server::{Behaviour, Server};
use crate::world::{ALL, Answer, INFER, RANK, World, routes, task};

const REST: &str = "/v1/tasks/search:rank";
const INFER_REST: &str = "/v2/models/search/infer";
const PATHS: [&str; 6] = [REST, INFER_REST, RANK, INFER, "/v2/repository/index", "/grpc.health.v1.Health/Check"];

async fn world(held_bytes: usize, tasks: &str) -> World {
    World::within(routes(tasks), BodyLimits { held_bytes, ..BodyLimits::default() }).await
}

/// A body of which 9 KiB come, and then nothing. As gRPC reads it, it announces a mebibyte.
fn half_sent() -> UnsyncBoxBody<Bytes, Infallible> {
    let mut some = vec![0; 9 << 10];
    some[2] = 0x10;
    let some = stream::once(async { Ok(Frame::data(some.into())) });
    StreamBody::new(some.chain(stream::pending())).boxed_unsync()
}

/// Asserts that an answer tells of an overload and when to try again.
fn is_refused(answer: &Answer) {
    if answer.headers.contains_key("grpc-status") {
        assert_eq!(answer.code(), Code::ResourceExhausted, "{answer:?}");
        let status = tonic::Status::from_header_map(&answer.headers).unwrap();
        assert!(status.get_details_retry_info().is_some());
        return;
    }
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, Some("1")), "{answer:?}");
    assert_eq!(answer.problem(), "overloaded");
}

/// Ranks again and again until what has gone is free: long before a body's or a task's time is over.
async fn until_answered(world: &World) {
    let client = world.client().await;
    let answered = async {
        loop {
            let answer = client.post(REST, ALL).await;
            if answer.status == 200 {
                return;
            }
            is_refused(&answer);
        }
    };
    tokio::time::timeout(Duration::from_secs(5), answered).await.expect("room in time");
}

#[tokio::test]
async fn many_half_sent_bodies_are_refused_at_once() {
    let server = Server::start("search-server").await;
    // 25 requests with a kibibyte each for themselves.
    let world = world(250 << 10, &task("search", &[server.address], "")).await;
    let stream = TcpStream::connect(world.address).await.unwrap();
    let (send, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut calls: FuturesUnordered<_> = PATHS
        .into_iter()
        .cycle()
        .take(120)
        .map(|path| {
            let mut send = send.clone();
            let request = Request::post(format!("http://gateway{path}")).header("content-type", "application/grpc");
            async move {
                let (parts, body) = send.send_request(request.body(half_sent()).unwrap()).await.unwrap().into_parts();
                let body = body.collect().await.unwrap();
                let trailers = body.trailers().cloned().unwrap_or_default();
                Answer { status: parts.status, headers: parts.headers, trailers, body: body.to_bytes() }
            }
        })
        .collect();
    // No more than fit wait for the rest of their bodies; how many it were depends on what came first.
    while calls.len() > 25 {
        is_refused(&calls.next().await.unwrap());
    }
    drop((calls, send));
    connection.abort();
    until_answered(&world).await;
    assert_eq!(server.count(), 1);
}

#[tokio::test]
async fn a_request_is_held_until_it_is_answered() {
    let server = Server::start("search-server").await;
    server.set(Behaviour::Hang);
    let world = world(2 << 10, &task("search", &[server.address], "")).await;
    let client = world.client().await;
    let first = tokio::spawn({
        let client = client.clone();
        async move { client.post(REST, ALL).await }
    });
    server.working(1).await;
    for path in PATHS {
        is_refused(&client.post(path, ALL).await);
    }
    assert_eq!(server.count(), 1);
    let counted = metrics::print(&world.gateway);
    for line in [
        "unimodel_gateway_requests_total{task=\"search\",protocol=\"rest\",outcome=\"overloaded\"} 1",
        "unimodel_gateway_requests_total{task=\"search\",protocol=\"inference_rest\",outcome=\"overloaded\"} 1",
        "unimodel_gateway_unrouted_requests_total{outcome=\"overloaded\"} 2",
    ] {
        assert!(counted.lines().any(|l| l == line), "{line} in {counted}");
    }
    server.set(Behaviour::Answer);
    first.abort();
    until_answered(&world).await;
}

#[tokio::test]
async fn a_mirrors_copy_is_held_as_well() {
    let (server, mirror) = (Server::start("search-server").await, Server::start("mirror").await);
    mirror.set(Behaviour::Hang);
    let mirrored = format!("mirror: {{percent: 100, endpoints: [{{address: '{}'}}]}}", mirror.address);
    let world = world(2 << 10, &task("search", &[server.address], &mirrored)).await;
    let client = world.client().await;
    assert_eq!(client.post(REST, ALL).await.status, 200);
    is_refused(&client.post(REST, ALL).await);
}
