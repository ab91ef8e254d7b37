//! Which server a request comes to, and that it comes as it was sent.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use prost::Message;
use serde_json::json;
use unimodel_gateway::peek::grpc_frame;
use unimodel_protocol::inference as pb;
use unimodel_protocol::v1;

use crate::server::Server;
use crate::world::{ALL, Answer, INFER, RANK, World, request, send_http1, task};

async fn two() -> (Server, Server, World) {
    let (search, related) = (Server::start("search-server").await, Server::start("related-server").await);
    let tasks = [task("search", &[search.address], ""), task("related", &[related.address], "")];
    let world = World::start(&tasks.join(", ")).await;
    (search, related, world)
}

#[tokio::test]
async fn the_task_is_found_in_path_header_and_body() {
    let (search, related, world) = two().await;
    let client = world.client().await;
    let version = |answer: &Answer| answer.json()["modelVersion"].as_str().unwrap().to_owned();

    assert_eq!(version(&client.post("/v1/tasks/search:rank", ALL).await), "search-server");
    let body = r#"{"candidates": {"all": true}, "context": {"task": "search"}, "task": "related"}"#;
    assert_eq!(version(&client.post("/v1/rank", body).await), "related-server");
    let by_header = Request::post("/v1/rank").header("x-unimodel-task", "related").body(Full::from(ALL)).unwrap();
    let answer = client.send(by_header).await;
    assert_eq!((version(&answer), answer.json()["task"].clone()), ("related-server".into(), json!("related")));
    assert_eq!(related.seen().last().unwrap().path, "/v1/tasks/related:rank");

    let answer: v1::RankResponse = client.rank(&request("related")).await.message();
    assert_eq!((answer.task.as_str(), answer.model_version.as_str()), ("related", "related-server"));
    let by_header = client.call(RANK, &request("").encode_to_vec(), &[("x-unimodel-task", "search")]).await;
    assert_eq!(by_header.message::<v1::RankResponse>().model_version, "search-server");

    assert_eq!(client.post("/v2/models/related/infer", "{}").await.json()["model_version"], "related-server");
    let infer = pb::ModelInferRequest { model_name: "search".into(), ..Default::default() };
    let answer: pb::ModelInferResponse = client.call(INFER, &infer.encode_to_vec(), &[]).await.message();
    assert_eq!(answer.model_version, "search-server");
    assert_eq!((search.count(), related.count()), (3, 4));
}

#[tokio::test]
async fn requests_and_answers_pass_as_they_are() {
    let (search, _related, world) = two().await;
    // Spaces, order, unknown members and bytes that are no UTF-8 are the server's to judge.
    let body = b"\n{ \"zzz\":1,\"candidates\" :{\"all\":true},  \"x\": \"\xff\" }\n";
    let sent = Request::post("/v1/tasks/search:rank?debug=1&a=%2F")
        .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        .header("content-type", "text/plain")
        .header("connection", "x-hop")
        .header("x-hop", "1")
        .body(Full::new(Bytes::from_static(body)))
        .unwrap();
    let answer = send_http1(world.address, sent).await;
    assert_eq!(answer.status, 200);
    let seen = search.only();
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/v1/tasks/search:rank?debug=1&a=%2F"));
    assert_eq!(seen.body, &body[..]);
    assert_eq!(seen.header("traceparent"), Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
    assert_eq!((seen.header("content-type"), seen.header("x-hop")), (Some("text/plain"), None));
    assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()));
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn a_grpc_message_passes_as_it_is() {
    let (search, _related, world) = two().await;
    // A field that no version of the message has, and the task after it.
    let mut message = Vec::new();
    prost::encoding::string::encode(99, &"later".to_owned(), &mut message);
    message.extend(request("search").encode_to_vec());
    let headers = [("x-request-id", "7"), ("grpc-accept-encoding", "gzip"), ("user-agent", "a-client")];
    let answer = world.client().await.call(RANK, &message, &headers).await;
    assert_eq!(answer.code(), tonic::Code::Ok);
    let seen = search.only();
    assert_eq!(seen.body, grpc_frame(&message));
    assert_eq!((seen.header("te"), seen.header("content-type")), (Some("trailers"), Some("application/grpc")));
    for (name, value) in headers {
        assert_eq!(seen.header(name), Some(value));
    }
}

#[tokio::test]
async fn a_large_body_passes_and_a_large_answer_too() {
    let (search, _related, world) = two().await;
    let ids: Vec<String> = (0..4000).map(|i| format!("item-{i}")).collect();
    let body = json!({ "candidates": { "ids": ids } }).to_string();
    let answer = world.post("/v1/tasks/search:rank", body.clone()).await;
    assert_eq!(answer.status, 200);
    assert_eq!(search.only().body, body);
}

#[tokio::test]
async fn unknown_tasks_are_named_with_the_known_ones_in_every_protocol() {
    let (search, related, world) = two().await;
    let client = world.client().await;
    let sentence = "unknown task `serach`; known are related, search";
    for answer in [
        client.post("/v1/tasks/serach:rank", ALL).await,
        client.post("/v1/rank", r#"{"task": "serach"}"#).await,
        client.post("/v2/models/serach/infer", "{}").await,
        client.send(Request::get("/v2/models/serach/ready").body(Full::default()).unwrap()).await,
        client.send(Request::get("/v1/tasks/serach:resolve").body(Full::default()).unwrap()).await,
    ] {
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (404, "unknown-task"), "{answer:?}");
        let document = answer.json();
        assert_eq!(document["detail"], sentence);
        assert_eq!((&document["task"], &document["known"]), (&json!("serach"), &json!(["related", "search"])));
        assert_eq!(document.get("error").is_some(), answer.header("content-type") == Some("application/json"));
    }
    let infer = pb::ModelInferRequest { model_name: "serach".into(), ..Default::default() };
    for answer in [client.rank(&request("serach")).await, client.call(INFER, &infer.encode_to_vec(), &[]).await] {
        assert_eq!(answer.code(), tonic::Code::NotFound);
        let status = tonic::Status::from_header_map(&answer.headers).unwrap();
        assert_eq!(status.message(), sentence);
        let details = tonic_types::StatusExt::get_error_details(&status);
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("UNKNOWN_TASK", "unimodel.dev"));
        assert_eq!(info.metadata["known"], "related, search");
    }
    assert_eq!((search.count(), related.count()), (0, 0));
}

#[tokio::test]
async fn a_request_without_a_task_and_one_with_two_are_refused() {
    let (_search, _related, world) = two().await;
    let client = world.client().await;
    let answer = client.post("/v1/rank", ALL).await;
    assert_eq!(
        (answer.problem().as_str(), answer.json()["known"].clone()),
        ("missing-task", json!(["related", "search"]))
    );
    assert_eq!(client.rank(&request("")).await.code(), tonic::Code::InvalidArgument);

    let both = Request::post("/v1/tasks/search:rank").header("x-unimodel-task", "related");
    let answer = client.send(both.body(Full::from(ALL)).unwrap()).await;
    assert_eq!(answer.problem(), "conflicting-task");

    let broken = client.post("/v1/rank", "{\"task\": \"search\",\n oops").await;
    assert_eq!(broken.problem(), "invalid-body");
    assert_eq!((broken.json()["line"].clone(), broken.json()["column"].clone()), (json!(2), json!(2)));

    let strange = Request::post("/v1/rank").header("x-unimodel-task", &[0xff_u8][..]).body(Full::from(ALL)).unwrap();
    assert_eq!(client.send(strange).await.problem(), "unknown-task");
}
