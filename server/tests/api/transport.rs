//! The port: protocols, limits, slow and flooding clients, and stopping. Bytes on real sockets.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use unimodel_protocol::v1::ranking_service_client::RankingServiceClient;
use unimodel_protocol::v1::{Candidates, RankRequest};
use unimodel_server::http::listener::ConnectionLimits;

use crate::plain::{Plain, Server};

/// Sends bytes and reads until the server closes.
async fn exchange(server: &Server, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    // The server may close before it has read all of a flood.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn http1(body: &str) -> String {
    format!(
        "POST /v1/tasks/search:rank HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

const ALL: &str = r#"{"candidates": {"all": true}}"#;

async fn curl(arguments: &[&str]) -> String {
    let output = tokio::process::Command::new("curl").arg("-s").args(arguments).output().await.unwrap();
    assert!(output.status.success(), "curl {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn http1_and_http2_answer_on_one_port() {
    let server = Server::start().await;
    assert!(exchange(&server, http1(ALL).as_bytes()).await.starts_with("HTTP/1.1 200 OK\r\n"));
    let url = format!("{}/v1/tasks/search:rank", server.url());
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let answer = curl(&[version, "-d", ALL, "-w", " %{http_version} %{http_code}", &url]).await;
        let expected = if version == "--http1.1" { " 1.1 200" } else { " 2 200" };
        assert!(answer.starts_with("{\"items\":") && answer.ends_with(expected), "{answer}");
    }
    let mut client = RankingServiceClient::new(server.channel().await);
    let candidates = Some(Candidates { all: true, ..Default::default() });
    let response = client.rank(RankRequest { task: "search".into(), candidates, ..Default::default() }).await.unwrap();
    assert_eq!(response.into_inner().items.ids.len(), 4);
}

#[tokio::test]
async fn a_refusal_leaves_the_connection_to_the_next_request() {
    let server = Server::start().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let refused = http1(ALL).replace("search", "serach").replace("connection: close\r\n", "");
    let (head, body) = refused.split_at(refused.len() - ALL.len());
    // Header and body come one after the other, as many clients send them.
    stream.write_all(head.as_bytes()).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(50), stream.read_u8()).await;
    assert!(early.is_err(), "it was answered before its body came");
    stream.write_all(format!("{body}{}", http1(ALL)).as_bytes()).await.unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).await.unwrap();
    assert!(answers.starts_with("HTTP/1.1 404 ") && answers.contains("HTTP/1.1 200 OK"), "{answers}");
}

#[tokio::test]
async fn a_flood_of_headers_is_refused() {
    let server = Server::start().await;
    let many: String = (0..200).map(|i| format!("x-{i}: y\r\n")).collect();
    let answer = exchange(&server, format!("GET /v1/tasks HTTP/1.1\r\nhost: x\r\n{many}\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");

    let long = "y".repeat(1 << 20);
    let answer = exchange(&server, format!("GET /v1/tasks HTTP/1.1\r\nhost: x\r\nx: {long}\r\n\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431 ") || answer.is_empty(), "{answer}");

    // On HTTP/2 a list of headers over the limit ends the request.
    let header = format!("x: {}", "y".repeat(40_000));
    let url = format!("{}/v1/tasks", server.url());
    let output = tokio::process::Command::new("curl")
        .args(["-s", "--http2-prior-knowledge", "-H", &header, "-w", "%{http_code}", &url])
        .output()
        .await
        .unwrap();
    let answer = String::from_utf8(output.stdout).unwrap();
    assert!(answer.ends_with("431") || answer.ends_with("000"), "{answer}");
    // The server still answers others.
    assert!(exchange(&server, http1(ALL).as_bytes()).await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn a_slow_client_is_cut() {
    let server = Server::start().await;
    // Nothing; the begin of either protocol; a header without an end. The server closes each by itself.
    for begin in ["", "P", "PRI * HTTP/2.0\r\n", "GET /v1/tasks HTTP/1.1\r\nhost: x\r\n"] {
        let answer = exchange(&server, begin.as_bytes()).await;
        assert!(!answer.contains("200 OK"), "{begin:?}: {answer}");
    }
    // A body that does not come.
    let begin = "POST /v1/tasks/search:rank HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 9\r\n\r\n{";
    let answer = exchange(&server, begin.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
    assert!(answer.contains("/problems/slow-body"));
}

#[tokio::test]
async fn a_client_that_takes_no_answer_is_cut() {
    let write_timeout = Duration::from_millis(100);
    let server =
        Server::with(Plain::new(), ConnectionLimits { connections: 1, write_timeout, ..Default::default() }).await;
    let mut deaf = TcpStream::connect(server.address).await.unwrap();
    // Until the buffers of both sides are full of answers and requests, and then until the server closes.
    let asking = async { while deaf.write_all(b"GET /v1/tasks HTTP/1.1\r\nhost: x\r\n\r\n").await.is_ok() {} };
    let cut = tokio::time::timeout(Duration::from_secs(30), asking).await;
    assert!(cut.is_ok(), "the connection is held");
    assert!(exchange(&server, http1(ALL).as_bytes()).await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn a_client_that_opens_no_window_for_its_answer_is_cut() {
    let answer_timeout = Duration::from_millis(100);
    let server =
        Server::with(Plain::new(), ConnectionLimits { connections: 1, answer_timeout, ..Default::default() }).await;
    let connect = async |window: u32| {
        let stream = TcpStream::connect(server.address).await.unwrap();
        let mut builder = h2::client::Builder::new();
        let (client, connection) =
            builder.initial_window_size(window).handshake::<_, bytes::Bytes>(stream).await.unwrap();
        (client, tokio::spawn(connection))
    };
    let ask = async |client: &mut h2::client::SendRequest<bytes::Bytes>| {
        let request = http::Request::get("http://x/v1/tasks").body(()).unwrap();
        client.send_request(request, true).unwrap().0.await.unwrap().into_body()
    };
    // None at all, and less than there is: the rest is held behind the first byte.
    for window in [0, 1] {
        let (mut client, connection) = connect(window).await;
        let answer = ask(&mut client).await;
        let ended = tokio::time::timeout(Duration::from_secs(30), connection).await;
        assert!(ended.is_ok(), "window {window}: the connection is held");
        drop(answer);
    }
    // Who takes answers keeps the connection.
    let (mut client, _connection) = connect(65_535).await;
    let begin = std::time::Instant::now();
    while begin.elapsed() < 4 * answer_timeout {
        let mut answer = ask(&mut client).await;
        while let Some(data) = answer.data().await {
            let count = data.unwrap().len();
            answer.flow_control().release_capacity(count).unwrap();
        }
    }
}

#[tokio::test]
async fn connections_over_the_limit_wait() {
    let limits = ConnectionLimits { connections: 1, ..Default::default() };
    let server = Server::with(Plain::new(), limits).await;
    let mut first = TcpStream::connect(server.address).await.unwrap();
    first.write_all(b"GET /v1/tasks HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut some = [0; 12];
    first.read_exact(&mut some).await.unwrap();
    assert_eq!(&some, b"HTTP/1.1 200");
    let request = http1(ALL);
    let second = exchange(&server, request.as_bytes());
    let mut second = std::pin::pin!(second);
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut second).await.is_err());
    drop(first);
    assert!(second.await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn requests_in_flight_finish_when_the_server_stops() {
    let server = Server::start().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let (head, tail) = ALL.split_at(10);
    let request = http1(ALL);
    stream.write_all(request.strip_suffix(tail).unwrap().as_bytes()).await.unwrap();
    assert!(request.contains(head));
    // The request has begun when the server has read its header: a second connection is answered after it.
    assert!(exchange(&server, http1(ALL).as_bytes()).await.starts_with("HTTP/1.1 200 OK\r\n"));
    let address = server.address;
    let stopping = tokio::spawn(server.stop());
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    stream.write_all(tail.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(stopping.await.unwrap(), 0);
}

#[tokio::test]
async fn a_client_that_goes_gives_its_request_up() {
    let server = Server::start().await;
    let body = r#"{"context": {"user_id": "slow"}, "candidates": {"all": true}}"#;
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(http1(body).as_bytes()).await.unwrap();
        streams.push(stream);
    }
    server.ranking.slow(20).await;
    drop(streams);
    server.ranking.slow(0).await;

    // A gRPC client resets the stream and keeps its connection.
    let channel = server.channel().await;
    let slow = prost_types::Value { kind: Some(prost_types::value::Kind::StringValue("slow".into())) };
    let context = Some(prost_types::Struct { fields: [("user_id".to_owned(), slow)].into() });
    let candidates = Some(Candidates { all: true, ..Default::default() });
    let request = RankRequest { task: "search".into(), context, candidates, ..Default::default() };
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let (mut client, request) = (RankingServiceClient::new(channel.clone()), request.clone());
            tokio::spawn(async move { client.rank(request).await })
        })
        .collect();
    server.ranking.slow(20).await;
    calls.iter().for_each(tokio::task::JoinHandle::abort);
    server.ranking.slow(0).await;
    // Neither answered nor late: nobody was there to be told.
    assert!(server.ranking.exchanges().is_empty());
    drop(channel);
    assert_eq!(server.stop().await, 0);
}
