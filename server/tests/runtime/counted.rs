//! What is counted of requests that come through the protocols.

use axum::body::Body;
use http::Request;
use tower::ServiceExt;
use unimodel_server::front::{BodyLimits, Front};
use unimodel_server::http::service;
use unimodel_server::ranking::Ranking;

use crate::fixture::{Fixture, Recipe, Served};

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
