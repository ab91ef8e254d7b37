//! What is counted of requests that come through the protocols.

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use prost::Message;
use tower::ServiceExt;
use unimodel_model::context::Context;
use unimodel_protocol::{inference as pb, v1};
use unimodel_server::front::{BodyLimits, Front};
use unimodel_server::http::service;
use unimodel_server::ranking::Ranking;
use unimodel_server::request::Source;

use crate::fixture::{Fixture, Recipe, Served, request, soon};

#[tokio::test]
async fn requests_are_counted_by_task_protocol_and_reason() {
    let served = Served::new(&Fixture::new(&Recipe::default()));
    let router = service(Front::new(served.runtime.clone(), BodyLimits::default()));
    let post = async |path: &str, body: &'static str| {
        let request = Request::post(path).body(Body::from(body)).unwrap();
        router.clone().oneshot(request).await.unwrap().status().as_u16()
    };
    let ids = r#"{"candidates": {"ids": ["i1", "i2", "nothing"]}}"#;
    assert_eq!(post("/v1/tasks/h0:rank", ids).await, 200);
    assert_eq!(post("/v1/tasks/h0:rank", ids).await, 200);
    assert_eq!(post("/v1/tasks/h0:rank", r#"{"context": {"qeury": "x"}, "candidates": {"all": true}}"#).await, 400);
    assert_eq!(post("/v1/tasks/h0:rank", "{").await, 400);
    assert_eq!(post("/v1/tasks/nothing:rank", ids).await, 404);
    assert_eq!(post("/v2/models/h0/infer", r#"{"inputs": [], "parameters": {"limit": 1}}"#).await, 200);

    let requests = |task: &str, protocol: &str| {
        served.metric(&format!("unimodel_requests_total{{task=\"{task}\",protocol=\"{protocol}\"}}"))
    };
    let errors = |task: &str, reason: &str| {
        let labels = format!("task=\"{task}\",protocol=\"rest\",reason=\"{reason}\"");
        served.metric(&format!("unimodel_request_errors_total{{{labels}}}"))
    };
    assert_eq!((requests("h0", "rest"), requests("h0", "inference_rest"), requests("", "rest")), (4.0, 1.0, 1.0));
    assert_eq!((errors("h0", "unknown-element"), errors("h0", "invalid-body")), (1.0, 1.0));
    assert_eq!(errors("", "unknown-task"), 1.0);
    assert_eq!(served.metric("unimodel_rows_total{task=\"h0\"}"), 2.0 + 2.0 + 300.0);
    assert_eq!(served.metric("unimodel_request_duration_seconds_count{task=\"h0\"}"), 5.0);
    for stage in ["queue", "compute", "serialise"] {
        let series = format!("unimodel_stage_duration_seconds_count{{task=\"h0\",stage=\"{stage}\"}}");
        assert_eq!(served.metric(&series), 3.0, "{stage}");
    }
    let statistics = served.runtime.statistics("h0");
    assert_eq!((statistics.success.count, statistics.failure.count, statistics.executions), (3, 2, 3));
    assert!(statistics.last.is_some());
}

/// A message in a frame of gRPC.
fn framed(message: &impl Message) -> Body {
    let message = message.encode_to_vec();
    Body::from([&[0][..], &(message.len() as u32).to_be_bytes(), &message].concat())
}

#[tokio::test]
async fn the_stage_that_writes_is_measured_where_an_answer_is_written() {
    let served = Served::new(&Fixture::new(&Recipe::default()));
    let router = service(Front::new(served.runtime.clone(), BodyLimits::default()));
    let written = || {
        let written = served.metric("unimodel_stage_duration_seconds_count{task=\"h0\",stage=\"serialise\"}");
        assert_eq!(served.runtime.statistics("h0").serialise.count as f64, written);
        written
    };
    // Ranked, and not written.
    let asked = request("h0", Context::new(), Source::All, 5);
    served.runtime.rank(asked, soon()).await.unwrap();
    assert_eq!(written(), 0.0);

    let candidates = Some(v1::Candidates { all: true, ..Default::default() });
    let rank = v1::RankRequest { task: "h0".into(), candidates, ..Default::default() };
    let infer = pb::ModelInferRequest { model_name: "h0".into(), ..Default::default() };
    let ready = pb::ModelReadyRequest { name: "h0".into(), version: String::new() };
    for (path, body, count) in [
        ("/v1/tasks/h0:rank", Body::from(r#"{"candidates": {"all": true}}"#), 1.0),
        ("/v2/models/h0/infer", Body::from(r#"{"inputs": []}"#), 2.0),
        ("/unimodel.v1.RankingService/Rank", framed(&rank), 3.0),
        ("/inference.GRPCInferenceService/ModelInfer", framed(&infer), 4.0),
        // Neither what is no ranking nor what is refused.
        ("/inference.GRPCInferenceService/ModelReady", framed(&ready), 4.0),
        ("/v1/tasks/h0:rank", Body::from("{}"), 4.0),
        ("/unimodel.v1.RankingService/Rank", framed(&v1::RankRequest { task: "h0".into(), ..Default::default() }), 4.0),
    ] {
        let response = router.clone().oneshot(Request::post(path).body(body).unwrap()).await.unwrap();
        response.into_body().collect().await.unwrap();
        assert_eq!(written(), count, "{path}");
    }
}
