//! How much time a request has, and what becomes of it when nobody waits any more.

use std::time::Duration;

use http::Request;
use http_body_util::Full;
use prost::Message;
use tonic::Code;
use unimodel_gateway::timeout;

use crate::server::{Behaviour, Seen, Server};
use crate::world::{ALL, INFER, RANK, World, request, task};

/// The remaining time that a server was told.
fn told(seen: &Seen) -> Duration {
    let headers = &seen.headers;
    assert!(headers.contains_key("grpc-timeout") != headers.contains_key("x-unimodel-timeout"), "{headers:?}");
    timeout::from_headers(headers).unwrap().into_iter().flatten().min().unwrap()
}

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test]
async fn the_remaining_time_travels_on_in_every_protocol() {
    let server = Server::start("search-server").await;
    let world = World::start(&task("search", &[server.address], "")).await;
    let client = world.client().await;
    let rest = |headers: &[(&'static str, &'static str)], body: &'static str| {
        let mut request = Request::post("/v1/tasks/search:rank");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        client.send(request.body(Full::from(body)).unwrap())
    };
    rest(&[], ALL).await;
    rest(&[("x-unimodel-timeout", "3s")], ALL).await;
    rest(&[("x-unimodel-timeout", "90s")], ALL).await;
    rest(&[("x-unimodel-timeout", "5s"), ("grpc-timeout", "4S")], ALL).await;
    rest(&[("x-unimodel-timeout", "5s")], r#"{"candidates": {"all": true}, "timeout": "2s"}"#).await;
    // What the body says is more than the default, and the server would obey it.
    rest(&[], r#"{"timeout": "15s"}"#).await;
    let message = request("search").encode_to_vec();
    client.call(RANK, &message, &[]).await;
    client.call(RANK, &message, &[("grpc-timeout", "3S"), ("x-unimodel-timeout", "6s")]).await;
    let mut with_timeout = request("search");
    with_timeout.timeout = Some(prost_types::Duration { seconds: 7, nanos: 0 });
    client.rank(&with_timeout).await;
    let infer = client.post("/v2/models/search/infer", r#"{"parameters": {"timeout": "6s"}, "inputs": []}"#);
    assert_eq!(infer.await.status, 200);

    let told: Vec<Duration> = server.seen().iter().map(told).collect();
    let asked = [10, 3, 20, 4, 2, 15, 10, 3, 7, 6];
    assert_eq!(told.len(), asked.len());
    for (told, asked) in told.into_iter().zip(asked) {
        assert!(told <= s(asked) && told > s(asked) - Duration::from_millis(900), "{told:?} of {asked} s");
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up_and_told_so() {
    let server = Server::start("search-server").await;
    let world = World::start(&task("search", &[server.address], "")).await;
    assert_eq!(world.rank("search").await.status, 200);
    server.set(Behaviour::Hang);
    let client = world.client().await;
    let late = Request::post("/v1/tasks/search:rank").header("x-unimodel-timeout", "1s").body(Full::from(ALL)).unwrap();
    let answer = client.send(late).await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (504, "deadline-exceeded"));
    assert_eq!(answer.json()["timeout"], "1s");
    let infer = unimodel_protocol::inference::ModelInferRequest { model_name: "search".into(), ..Default::default() };
    let answer = client.call(INFER, &infer.encode_to_vec(), &[("grpc-timeout", "1S")]).await;
    assert_eq!(answer.code(), Code::DeadlineExceeded);
    assert_eq!(server.count(), 3);
    server.working(0).await;

    let passed =
        Request::post("/v1/tasks/search:rank").header("x-unimodel-timeout", "0s").body(Full::from(ALL)).unwrap();
    assert_eq!(client.send(passed).await.problem(), "deadline-exceeded");
    assert_eq!(server.count(), 3);
}

#[tokio::test]
async fn a_caller_who_goes_takes_its_request_along() {
    let server = Server::start("search-server").await;
    server.set(Behaviour::Hang);
    let world = World::start(&task("search", &[server.address], "")).await;
    // Over HTTP/2 a stream is reset; over HTTP/1.1 the connection ends.
    let client = world.client().await;
    let waiting = tokio::spawn(async move { client.post("/v1/tasks/search:rank", ALL).await });
    server.working(1).await;
    waiting.abort();
    server.working(0).await;

    let request = Request::post("/v1/tasks/search:rank").header("host", "x").body(Full::from(ALL)).unwrap();
    let waiting = tokio::spawn(crate::world::send_http1(world.address, request));
    server.working(1).await;
    waiting.abort();
    server.working(0).await;

    let task = world.task("search");
    assert_eq!((task.state.limiter.in_flight(), task.state.metrics.answered()), (0, [0, 2]));
    let (endpoint, _) = task.pool.iter().next().unwrap();
    assert_eq!(endpoint.load(std::time::Instant::now()).1, 0);
}
