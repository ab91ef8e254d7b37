//! gRPC: ranking, health and reflection, on a port.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::Request;
use prost::Message;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use serde_json::json;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;
use unimodel_protocol::inference::ModelInferRequest;
use unimodel_protocol::v1::ranking_service_client::RankingServiceClient;
use unimodel_protocol::v1::{Candidates, RankRequest, RankResponse};
use unimodel_server::http::listener::ConnectionLimits;
use unimodel_server::ranking::Readiness;

use crate::plain::{Plain, Server, get, post, router, send};

fn text(text: &str) -> Kind {
    Kind::StringValue(text.to_owned())
}

fn context(elements: &[(&str, Kind)]) -> Option<Struct> {
    let fields = elements.iter().map(|(name, kind)| ((*name).to_owned(), Value { kind: Some(kind.clone()) })).collect();
    Some(Struct { fields })
}

fn all() -> Option<Candidates> {
    Some(Candidates { all: true, ..Default::default() })
}

fn ids(ids: &[&str]) -> Option<Candidates> {
    Some(Candidates { ids: ids.iter().collect(), ..Default::default() })
}

fn request() -> RankRequest {
    RankRequest { task: "search".into(), candidates: all(), ..Default::default() }
}

async fn rank(server: &Server, request: RankRequest) -> Result<RankResponse, Status> {
    let mut client = RankingServiceClient::new(server.channel().await);
    client.rank(request).await.map(tonic::Response::into_inner)
}

/// The status of a request that must fail.
async fn refused(server: &Server, request: RankRequest, code: Code, reason: &str) -> Status {
    let status = rank(server, request).await.unwrap_err();
    assert_eq!(status.code(), code, "{status:?}");
    let info = status.get_details_error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason, "unimodel.dev"));
    status
}

#[tokio::test]
async fn a_task_ranks_ids() {
    let server = Server::start().await;
    let history = ListValue { values: vec![Value { kind: Some(text("258")) }] };
    let response = rank(
        &server,
        RankRequest {
            context: context(&[("query", text("contact")), ("history", Kind::ListValue(history))]),
            candidates: ids(&["258", "50", "nope"]),
            limit: Some(1),
            timeout: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
            ..request()
        },
    )
    .await
    .unwrap();
    assert_eq!(response.items.iter().map(|(id, _)| id).collect::<Vec<_>>(), ["258"]);
    assert_eq!(response.task, "search");
    assert_eq!(response.model_version, "20260101T000000Z-1a2b3c4d");
    assert_eq!(response.data_time.unwrap().to_string(), "1998-04-23T00:10:38Z");
    assert_eq!(response.unknown.iter().collect::<Vec<_>>(), ["nope"]);
    let imputed: Vec<_> = response.imputed.iter().map(|i| (i.element.as_str(), i.source.as_str())).collect();
    assert_eq!(imputed[..2], [("user_id", "default"), ("age", "default")]);
    assert!(imputed.iter().all(|(element, _)| !["query", "history"].contains(element)));
    assert_eq!(server.ranking.exchanges(), [("grpc".to_owned(), None)]);
}

#[tokio::test]
async fn errors_carry_details() {
    let server = Server::start().await;
    let status = refused(
        &server,
        RankRequest { context: context(&[("genr", text("Action"))]), ..request() },
        Code::InvalidArgument,
        "UNKNOWN_ELEMENT",
    )
    .await;
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.metadata["nearest"], "genre");
    assert!(info.metadata["known"].starts_with("user_id, age, gender, "));
    let violations = status.get_details_bad_request().unwrap().field_violations;
    assert_eq!(violations[0].field, "context.genr");
    assert_eq!(violations[0].description, status.message());

    let overload = RankRequest { context: context(&[("user_id", text("overload"))]), ..request() };
    let status = refused(&server, overload, Code::ResourceExhausted, "OVERLOADED").await;
    assert_eq!(status.get_details_retry_info().unwrap().retry_delay, Some(Duration::from_millis(50)));
}

#[tokio::test]
async fn bad_requests_are_refused() {
    let server = Server::start().await;
    let with = |element: &str, kind: Kind| RankRequest { context: context(&[(element, kind)]), ..request() };
    let of = |candidates| RankRequest { candidates, ..request() };
    let nan = Kind::NumberValue(f64::NAN);
    let infinite = Kind::NumberValue(f64::INFINITY);
    let mixed = Kind::ListValue(ListValue { values: vec![Value { kind: Some(Kind::NumberValue(1.0)) }] });
    let select = |name, kind| Some(Candidates { select: context(&[(name, kind)]), ..Default::default() });
    let timeout = |seconds, nanos| RankRequest { timeout: Some(prost_types::Duration { seconds, nanos }), ..request() };
    let many = Some(Candidates { ids: (0..1001).map(|i| i.to_string()).collect(), ..Default::default() });
    for (request, code, reason) in [
        (RankRequest { task: "serach".into(), ..request() }, Code::NotFound, "UNKNOWN_TASK"),
        (RankRequest { task: String::new(), ..request() }, Code::InvalidArgument, "MISSING_TASK"),
        (with("age", nan.clone()), Code::InvalidArgument, "NOT_FINITE"),
        (with("age", infinite), Code::InvalidArgument, "NOT_FINITE"),
        (with("age", Kind::BoolValue(true)), Code::InvalidArgument, "WRONG_TYPE"),
        (with("age", Kind::StructValue(Struct::default())), Code::InvalidArgument, "WRONG_TYPE"),
        (with("history", mixed), Code::InvalidArgument, "WRONG_TYPE"),
        (of(None), Code::InvalidArgument, "EMPTY_CANDIDATES"),
        (of(ids(&[])), Code::InvalidArgument, "EMPTY_CANDIDATES"),
        (of(ids(&["50", "50"])), Code::InvalidArgument, "DUPLICATE_CANDIDATE"),
        (of(many), Code::InvalidArgument, "TOO_MANY_CANDIDATES"),
        (of(select("year", nan)), Code::InvalidArgument, "ATTRIBUTE_TYPE"),
        (of(select("genre", text("x"))), Code::InvalidArgument, "UNKNOWN_ATTRIBUTE"),
        (RankRequest { limit: Some(0), ..request() }, Code::InvalidArgument, "INVALID_LIMIT"),
        (timeout(0, 0), Code::InvalidArgument, "INVALID_TIMEOUT"),
        (timeout(-1, 0), Code::InvalidArgument, "INVALID_TIMEOUT"),
        (timeout(0, i32::MIN), Code::InvalidArgument, "INVALID_TIMEOUT"),
    ] {
        refused(&server, request, code, reason).await;
    }
}

#[tokio::test]
async fn an_error_fits_its_header_whatever_the_caller_gave() {
    let server = Server::start().await;
    let long = "é".repeat(20_000);
    let request = RankRequest { context: context(&[(&long, text("x"))]), ..request() };
    let status = refused(&server, request, Code::InvalidArgument, "UNKNOWN_ELEMENT").await;
    assert!(status.message().ends_with('…'));
}

#[tokio::test]
async fn the_grpc_timeout_is_the_deadline() {
    let slow = || RankRequest { context: context(&[("user_id", text("slow"))]), ..request() };
    // Bytes, since a client would end the call by its own clock.
    let message = slow().encode_to_vec();
    for (name, value, code) in [
        ("grpc-timeout", "10m", Code::DeadlineExceeded),
        ("grpc-timeout", "0m", Code::DeadlineExceeded),
        ("x-unimodel-timeout", "10ms", Code::DeadlineExceeded),
        ("grpc-timeout", "soon", Code::InvalidArgument),
    ] {
        let plain = Arc::new(Plain::new());
        let status = call(&plain, RANK, frame(0, message.len() as u32, &message), &[(name, value)]).await;
        assert_eq!(status.code(), code, "{name}: {value}: {status:?}");
    }
    let server = Server::start().await;
    let shortest = RankRequest { timeout: Some(prost_types::Duration { seconds: 0, nanos: 5_000_000 }), ..slow() };
    refused(&server, shortest, Code::DeadlineExceeded, "DEADLINE_EXCEEDED").await;
}

#[tokio::test]
async fn the_deadline_runs_from_the_arrival_of_the_header() {
    let rank = request().encode_to_vec();
    let infer = ModelInferRequest { model_name: "search".into(), ..Default::default() }.encode_to_vec();
    for (path, message) in [(RANK, rank), (INFER, infer)] {
        let body = frame(0, message.len() as u32, &message);
        let (begin, end) = (body[..7].to_vec(), body[7..].to_vec());
        // The rest comes when the deadline has passed.
        let late = async {
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(2) {
                tokio::task::yield_now().await;
            }
            Ok(end)
        };
        let pieces = stream::once(async { Ok::<_, std::io::Error>(begin) }).chain(stream::once(late));
        let status = call(&Arc::new(Plain::new()), path, Body::from_stream(pieces), &[("grpc-timeout", "1m")]).await;
        assert_eq!(status.get_details_error_info().unwrap().reason, "DEADLINE_EXCEEDED", "{status:?}");
    }
}

/// Posts a body to a method of gRPC, as bytes.
async fn call(plain: &Arc<Plain>, path: &str, body: impl Into<Body>, headers: &[(&str, &str)]) -> Status {
    let mut request = Request::post(path).header("content-type", "application/grpc").header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = send(&router(plain.clone()), request.body(body.into()).unwrap()).await;
    Status::from_header_map(&answer.headers).unwrap_or_else(|| panic!("{answer:?}"))
}

fn frame(flag: u8, length: u32, message: &[u8]) -> Vec<u8> {
    let mut frame = vec![flag];
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(message);
    frame
}

const RANK: &str = "/unimodel.v1.RankingService/Rank";

const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

#[tokio::test]
async fn what_is_wrong_with_a_message_is_told_and_counted_as_by_rest() {
    let never = || {
        let some = stream::once(async { Ok::<_, std::io::Error>(Bytes::from_static(&[0, 0, 0, 0, 4, 1])) });
        Body::from_stream(some.chain(stream::pending()))
    };
    let gzip: &[(&str, &str)] = &[("grpc-encoding", "gzip")];
    for (path, protocol) in [(RANK, "grpc"), (INFER, "inference_grpc")] {
        for (body, headers, code, kind, part) in [
            (frame(0, 3, &[0x0a, 0x7f, b'x']).into(), &[][..], Code::InvalidArgument, "invalid-body", "protobuf"),
            (frame(1, 4, b"bomb").into(), gzip, Code::Unimplemented, "unsupported-encoding", "gzip"),
            (frame(1, 4, b"bomb").into(), &[], Code::InvalidArgument, "invalid-body", "flag 1"),
            (frame(0, 4, b"bom").into(), &[], Code::InvalidArgument, "invalid-body", "has 3"),
            (frame(0, 4, b"bombs").into(), &[], Code::InvalidArgument, "invalid-body", "has 5"),
            (Body::empty(), &[], Code::InvalidArgument, "invalid-body", "no message"),
            (frame(0, u32::MAX, b"").into(), &[], Code::ResourceExhausted, "body-too-large", "65536"),
            (vec![0; 70_000].into(), &[], Code::ResourceExhausted, "body-too-large", "65536"),
            (never(), &[], Code::DeadlineExceeded, "slow-body", "arrive"),
        ] {
            let plain = Arc::new(Plain::new());
            let status = call(&plain, path, body, headers).await;
            assert_eq!(status.code(), code, "{status:?}");
            assert!(status.message().contains(part), "{status:?}");
            let info = status.get_details_error_info().unwrap();
            assert_eq!(info.reason, kind.replace('-', "_").to_uppercase());
            assert_eq!(status.get_details_bad_request().is_some(), code == Code::InvalidArgument);
            assert_eq!(plain.exchanges(), [(protocol.to_owned(), Some(kind))]);
        }
    }
}

#[tokio::test]
async fn an_unknown_method_is_unimplemented() {
    let plain = Arc::new(Plain::new());
    for path in ["/unimodel.v1.RankingService/Sort", "/unimodel.v2.RankingService/Rank", "/nothing"] {
        let status = call(&plain, path, frame(0, 0, b""), &[]).await;
        assert_eq!(status.code(), Code::Unimplemented, "{path}");
        assert_eq!(status.get_details_error_info().unwrap().reason, "NO_RESOURCE");
        assert!(status.message().contains(path), "{status:?}");
    }
    assert!(plain.exchanges().is_empty());
}

#[tokio::test]
async fn health_follows_readiness() {
    let server = Server::start().await;
    let mut client = HealthClient::new(server.channel().await);
    let ask = |service: &str| HealthCheckRequest { service: service.to_owned() };
    for service in ["", "unimodel.v1.RankingService", "inference.GRPCInferenceService", "search"] {
        let status = client.check(ask(service)).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{service}");
    }
    assert_eq!(client.check(ask("nothing")).await.unwrap_err().code(), Code::NotFound);

    let mut changes = client.watch(ask("search")).await.unwrap().into_inner();
    assert_eq!(changes.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    server.ranking.set(Readiness::NotReady { reason: "no version".into() });
    assert_eq!(changes.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert_eq!(client.check(ask("")).await.unwrap().into_inner().status(), ServingStatus::NotServing);

    let mut unknown = client.watch(ask("nothing")).await.unwrap().into_inner();
    assert_eq!(unknown.message().await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);

    // A stream that is watched does not hold up a server that stops.
    server.ranking.set(Readiness::Stopping);
    assert_eq!(changes.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert!(changes.message().await.unwrap().is_none());
    drop((client, changes, unknown));
    assert_eq!(server.stop().await, 0);
}

#[tokio::test]
async fn a_task_that_does_not_answer_is_not_serving() {
    let server = Server::with(Plain::lacking("related"), ConnectionLimits::default()).await;
    let mut client = HealthClient::new(server.channel().await);
    let ask = |service: &str| HealthCheckRequest { service: service.to_owned() };
    for (service, expected) in
        [("", ServingStatus::Serving), ("search", ServingStatus::Serving), ("related", ServingStatus::NotServing)]
    {
        assert_eq!(client.check(ask(service)).await.unwrap().into_inner().status(), expected, "{service}");
        let mut changes = client.watch(ask(service)).await.unwrap().into_inner();
        assert_eq!(changes.message().await.unwrap().unwrap().status(), expected, "{service}");
    }
}

#[tokio::test]
async fn one_port_speaks_all() {
    let server = Server::start().await;
    assert!(rank(&server, request()).await.is_ok());
    let router = router(server.ranking.clone());
    assert_eq!(get(&router, "/v1/tasks").await.status, 200);
    assert_eq!(
        post(&router, "/v1/rank", json!({"task": "search", "candidates": {"all": true}}).to_string()).await.status,
        200
    );
}
