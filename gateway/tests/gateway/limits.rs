//! Bodies, headers and clients that are too much. Bytes on real sockets.

use std::time::Duration;

use http::Request;
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;

use crate::server::Server;
use crate::world::{ALL, Client, RANK, World, request, task};

async fn world() -> (Server, World) {
    let server = Server::start("search-server").await;
    let world = World::start(&task("search", &[server.address], "")).await;
    (server, world)
}

/// Sends bytes and reads until the gateway closes.
async fn exchange(world: &World, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    // The gateway may close before it has read all of a flood.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_announced_or_not() {
    let (server, world) = world().await;
    let large = "x".repeat(70 << 10);
    let answer = world.post("/v1/tasks/search:rank", large.clone()).await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (413, "body-too-large"));
    assert_eq!(answer.json()["max"], 64 << 10);

    let chunked = format!(
        "POST /v1/tasks/search:rank HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{large}\r\n0\r\n\r\n",
        large.len()
    );
    assert!(exchange(&world, chunked.as_bytes()).await.starts_with("HTTP/1.1 413 "));

    let mut message = request("search");
    message.candidates.as_mut().unwrap().all = false;
    message.candidates.as_mut().unwrap().ids = [large.as_str()].into_iter().collect();
    assert_eq!(world.client().await.rank(&message).await.code(), Code::ResourceExhausted);
    assert_eq!(server.count(), 0);
}

#[tokio::test]
async fn a_refusal_leaves_the_connection_to_the_next_request() {
    let (_server, world) = world().await;
    let ask = |task: &str, more: &str| {
        format!("POST /v1/tasks/{task}:rank HTTP/1.1\r\nhost: x\r\n{more}content-length: {}\r\n\r\n", ALL.len())
    };
    for (refused, status) in [(ask("serach", ""), "404"), (ask("search", "grpc-timeout: soon\r\n"), "400")] {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        // Header and body come one after the other, as many clients send them.
        stream.write_all(refused.as_bytes()).await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(50), stream.read_u8()).await;
        assert!(early.is_err(), "{status} was answered before its body came");
        stream.write_all(format!("{ALL}{}{ALL}", ask("search", "connection: close\r\n")).as_bytes()).await.unwrap();
        let mut answers = String::new();
        stream.read_to_string(&mut answers).await.unwrap();
        assert!(
            answers.starts_with(&format!("HTTP/1.1 {status} ")) && answers.contains("HTTP/1.1 200 OK"),
            "{answers}"
        );
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up() {
    let (server, world) = world().await;
    let begin = "POST /v1/tasks/search:rank HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 9\r\n\r\n{";
    let answer = exchange(&world, begin.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("/problems/slow-body"), "{answer}");
    assert_eq!(server.count(), 0);
}

#[tokio::test]
async fn a_flood_of_headers_is_refused_and_others_are_answered() {
    let (_server, world) = world().await;
    let many: String = (0..200).map(|i| format!("x-{i}: y\r\n")).collect();
    let flood = format!("POST /v1/tasks/search:rank HTTP/1.1\r\nhost: x\r\n{many}content-length: 0\r\n\r\n");
    assert!(exchange(&world, flood.as_bytes()).await.starts_with("HTTP/1.1 431 "));
    let client = world.client().await;
    let long = Request::post("/v1/tasks/search:rank").header("x", "y".repeat(40_000)).body(Full::from(ALL)).unwrap();
    let answer = client.try_send(long).await;
    assert!(answer.as_ref().map_or(true, |answer| answer.status == 431), "{answer:?}");
    assert_eq!(world.rank("search").await.status, 200);
}

#[tokio::test]
async fn what_is_compressed_is_refused() {
    let (server, world) = world().await;
    let client: Client = world.client().await;
    let zipped = Request::post("/v1/rank").header("content-encoding", "gzip").body(Full::from("x")).unwrap();
    assert_eq!(client.send(zipped).await.problem(), "unsupported-encoding");
    let zipped = || {
        let request = Request::post(RANK).header("content-type", "application/grpc").header("grpc-encoding", "gzip");
        (request, Full::from(&b"\x01\0\0\0\x01x"[..]))
    };
    let (request, body) = zipped();
    assert_eq!(client.send(request.body(body).unwrap()).await.code(), Code::Unimplemented);
    assert_eq!(server.count(), 0);
    // Where a header names the task the gateway need not look inside.
    server.set(crate::server::Behaviour::Refuse(400, 3));
    let (request, body) = zipped();
    let answer = client.send(request.header("x-unimodel-task", "search").body(body).unwrap()).await;
    assert_eq!((answer.code(), server.count()), (Code::InvalidArgument, 1));
}

#[tokio::test]
async fn frames_and_timeouts_that_are_none_are_refused() {
    let (server, world) = world().await;
    let client = world.client().await;
    for body in [&b""[..], b"\0\0", b"\0\0\0\0\x09abc"] {
        let request = Request::post(RANK).header("content-type", "application/grpc").body(Full::from(body)).unwrap();
        assert_eq!(client.send(request).await.code(), Code::InvalidArgument);
    }
    for (name, value) in [("x-unimodel-timeout", "soon"), ("grpc-timeout", "5ms")] {
        let request = Request::post("/v1/tasks/search:rank").header(name, value).body(Full::from(ALL)).unwrap();
        let answer = client.send(request).await;
        assert_eq!((answer.problem().as_str(), answer.json()["value"].as_str()), ("invalid-timeout", Some(value)));
    }
    assert_eq!(server.count(), 0);
}
