//! What answers when a task's servers do not, and how the answer says so.

use std::time::{Duration, Instant};

use http::Request;
use http_body_util::Full;
use prost::Message;
use serde_json::json;
use tonic::Code;
use unimodel_protocol::inference as pb;
use unimodel_protocol::inference::model_infer_request::InferInputTensor;
use unimodel_protocol::v1;
use unimodel_protocol::v1::fallback::Kind;

use crate::server::{Behaviour, Server};
use crate::world::{ALL, INFER, World, nobody, request, task};

const CHAIN: &str = "version: v7, fallback: [{task: search-cpu}, {static: Popularity}]";

/// `search`, whose only server refuses, in front of `search-cpu`.
async fn world() -> (Server, Server, World) {
    let (search, cpu) = (Server::start("gpu").await, Server::start("cpu").await);
    search.set(Behaviour::Refuse(503, 14));
    let tasks = [task("search", &[search.address], CHAIN), task("search-cpu", &[cpu.address], "")];
    let world = World::start(&tasks.join(", ")).await;
    (search, cpu, world)
}

#[tokio::test]
async fn another_environment_answers_json_and_the_answer_says_so() {
    let (search, cpu, world) = world().await;
    let by_path = world.post("/v1/tasks/search:rank?x=1", r#"{"task": "search", "candidates": {"all": true}}"#).await;
    let by_body = world.post("/v1/rank", r#"{"candidates": {"all": true}, "task": "search"}"#).await;
    for answer in [by_path, by_body] {
        assert_eq!(answer.status, 200);
        let body = answer.json();
        assert_eq!((&body["task"], &body["modelVersion"]), (&json!("search-cpu"), &json!("cpu")));
        assert_eq!(body["fallback"], json!({ "task": "search-cpu", "reason": "not-ready" }));
        assert_eq!(answer.header("x-unimodel-fallback"), Some("task=search-cpu; reason=not-ready"));
    }
    let seen = cpu.seen();
    assert_eq!((seen[0].path.as_str(), seen[1].path.as_str()), ("/v1/tasks/search-cpu:rank?x=1", "/v1/rank"));
    assert_eq!(seen[0].body, r#"{"task": "search-cpu", "candidates": {"all": true}}"#);
    assert_eq!(seen[1].body, r#"{"candidates": {"all": true}, "task": "search-cpu"}"#);
    assert_eq!(world.task("search").state.metrics.by_task.get("not-ready"), 2);

    // With its own servers back nothing is said.
    search.set(Behaviour::Answer);
    let answer = world.rank("search").await;
    assert_eq!((answer.json()["fallback"].clone(), answer.header("x-unimodel-fallback")), (json!(null), None));
}

#[tokio::test]
async fn another_environment_answers_grpc_and_the_answer_says_so() {
    let (_search, cpu, world) = world().await;
    let client = world.client().await;
    let answer = client.rank(&request("search")).await;
    assert_eq!(answer.header("x-unimodel-fallback"), Some("task=search-cpu; reason=not-ready"));
    let response: v1::RankResponse = answer.message();
    assert_eq!((response.task.as_str(), response.model_version.as_str()), ("search-cpu", "cpu"));
    assert_eq!(response.items.ids.len(), 1);
    let fallback = response.fallback.unwrap();
    assert_eq!((fallback.kind, fallback.reason.as_str()), (Some(Kind::Task("search-cpu".into())), "not-ready"));
    let seen = v1::RankRequest::decode(&cpu.only().body[5..]).unwrap();
    assert_eq!(seen, v1::RankRequest { task: "search-cpu".into(), ..request("search") });

    let infer = pb::ModelInferRequest { model_name: "search".into(), ..Default::default() };
    let answer = client.call(INFER, &infer.encode_to_vec(), &[]).await;
    assert_eq!(answer.header("x-unimodel-fallback"), Some("task=search-cpu; reason=not-ready"));
    assert_eq!(answer.message::<pb::ModelInferResponse>().model_name, "search-cpu");
    let answer = client.post("/v2/models/search/infer", r#"{"inputs": []}"#).await;
    assert_eq!(answer.json()["model_name"], "search-cpu");
    assert_eq!(answer.header("x-unimodel-fallback"), Some("task=search-cpu; reason=not-ready"));
}

#[tokio::test]
async fn the_static_list_answers_when_no_server_does() {
    let (_search, cpu, world) = world().await;
    cpu.set(Behaviour::Refuse(429, 8));
    let items = |body: &serde_json::Value| {
        let items = body["items"].as_array().unwrap();
        items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let asked = json!({ "candidates": { "select": { "genres": "Comedy" } }, "limit": 1 }).to_string();
    let answer = world.post("/v1/tasks/search:rank", asked).await;
    let body = answer.json();
    assert_eq!((answer.status.as_u16(), items(&body)), (200, vec!["100".to_owned()]));
    assert_eq!(body["fallback"], json!({ "static": "Popularity", "reason": "not-ready" }));
    assert_eq!((&body["task"], &body["modelVersion"]), (&json!("search"), &json!("v7")));
    assert_eq!((&body["dataTime"], &body["unknown"]), (&json!("1998-04-23T00:10:38Z"), &json!([])));
    assert_eq!(answer.header("x-unimodel-fallback"), Some("static=Popularity; reason=not-ready"));

    let asked = json!({ "candidates": { "all": true, "exclude": ["50"] }, "limit": "9" }).to_string();
    assert_eq!(items(&world.post("/v1/tasks/search:rank", asked).await.json()), ["100", "181"]);

    // gRPC and Open Inference: ids in the list's order.
    let mut message = request("search");
    message.candidates = Some(v1::Candidates { ids: ["x", "181", "50"].into_iter().collect(), ..Default::default() });
    let client = world.client().await;
    let response: v1::RankResponse = client.rank(&message).await.message();
    assert_eq!(response.items.ids.iter().collect::<Vec<_>>(), ["50", "181", "x"]);
    assert!(response.items.scores.is_sorted_by(|a, b| a > b));
    assert_eq!(response.fallback.unwrap().kind, Some(Kind::Static("Popularity".into())));
    let input = InferInputTensor {
        name: "item_ids".into(),
        datatype: "INT64".into(),
        shape: vec![2],
        contents: Some(pb::InferTensorContents { int64_contents: vec![181, 50], ..Default::default() }),
        ..Default::default()
    };
    let infer = pb::ModelInferRequest { model_name: "search".into(), inputs: vec![input], ..Default::default() };
    let response: pb::ModelInferResponse = client.call(INFER, &infer.encode_to_vec(), &[]).await.message();
    assert_eq!(&response.raw_output_contents[1][..], b"\x02\0\0\x0050\x03\0\0\x00181");
    assert_eq!(world.task("search").state.metrics.by_list.get("not-ready"), 4);
}

#[tokio::test]
async fn what_a_list_cannot_answer_is_the_servers_error() {
    let (_search, cpu, world) = world().await;
    cpu.set(Behaviour::Refuse(429, 8));
    let by_year = json!({ "candidates": { "select": { "year": 1997 } } }).to_string();
    let answer = world.post("/v1/tasks/search:rank", by_year).await;
    assert_eq!((answer.status.as_u16(), answer.json()["detail"].as_str()), (503, Some("as told")));
    for wrong in [
        "{oops",
        "{}",
        r#"{"candidates": {"all": true, "ids": ["1"]}}"#,
        r#"{"candidates": {"all": true}, "limit": 0}"#,
    ] {
        assert_eq!(world.post("/v1/tasks/search:rank", wrong).await.problem(), "invalid-body", "{wrong}");
    }
    let answer = world.client().await.rank(&v1::RankRequest { task: "search".into(), ..Default::default() }).await;
    assert_eq!(answer.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn nobody_overloaded_and_faults_are_reasons_and_a_callers_error_is_none() {
    let cpu = Server::start("cpu").await;
    let search = Server::start("gpu").await;
    let endpoints = [search.address];
    let tasks = |endpoints: &[std::net::SocketAddr], limit: &str| {
        [task("search", endpoints, &format!("{CHAIN}{limit}")), task("search-cpu", &[cpu.address], "")].join(", ")
    };
    let reason = |answer: &crate::world::Answer| answer.json()["fallback"]["reason"].clone();

    let world = World::start(&tasks(&[nobody().await], "")).await;
    assert_eq!(reason(&world.rank("search").await), "connect");

    let world = World::start(&tasks(&endpoints, "")).await;
    search.set(Behaviour::Refuse(500, 13));
    assert_eq!(reason(&world.rank("search").await), "internal");
    search.set(Behaviour::Refuse(404, 5));
    assert_eq!(world.rank("search").await.status, 404);

    let world = World::start(&tasks(&endpoints, ", maxConcurrency: 1, queueDepth: 0")).await;
    search.set(Behaviour::Hang);
    let client = world.client().await;
    let waiting = tokio::spawn(async move { client.post("/v1/tasks/search:rank", ALL).await });
    search.working(1).await;
    assert_eq!(reason(&world.rank("search").await), "overloaded");
    waiting.abort();
}

#[tokio::test]
async fn a_server_that_hangs_leaves_time_for_the_next() {
    let (search, _cpu, world) = world().await;
    search.set(Behaviour::Hang);
    let begun = Instant::now();
    let hurried =
        Request::post("/v1/tasks/search:rank").header("x-unimodel-timeout", "2s").body(Full::from(ALL)).unwrap();
    let answer = world.client().await.send(hurried).await;
    assert_eq!(answer.json()["fallback"], json!({ "task": "search-cpu", "reason": "deadline-exceeded" }));
    assert!(begun.elapsed() < Duration::from_secs(2));
}
