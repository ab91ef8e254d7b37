//! A ranking that panics fails alone.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use prost::Message;
use serde_json::{Value, json};
use tower::ServiceExt;
use unimodel_model::bundle::Model;
use unimodel_protocol::v1;
use unimodel_server::compute::engine::Engine;
use unimodel_server::compute::kernels::Kernels;
use unimodel_server::front::{BodyLimits, Front};
use unimodel_server::http::service;

use crate::fixture::{Fixture, Recipe, Served};

/// Items of the catalogue, and of the engine that computes: it panics over the others.
const ITEMS: usize = 2000;
const KNOWN: usize = 1900;

fn served() -> Served {
    let of = |items| Fixture::new(&Recipe { items, ..Recipe::default() });
    let (fixture, smaller) = (of(ITEMS), of(KNOWN));
    let Model { schema, catalogue, weights, .. } = Model::open(smaller.dir.path()).unwrap();
    let threads = std::num::NonZeroUsize::MIN;
    let engine = Engine::new(Kernels::detect(), &schema, &catalogue, &weights, threads).unwrap();
    let served = Served::new(&fixture);
    served.runtime.activate(Arc::new(fixture.open(Kernels::detect()).with_engine(engine)));
    served
}

fn ids(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|item| format!("i{item}")).collect()
}

async fn rank(router: &Router, ids: Vec<String>) -> (u16, Value) {
    let body = json!({ "candidates": { "ids": ids } }).to_string();
    let request = Request::post("/v1/tasks/h0:rank").body(Body::from(body)).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap())
}

async fn grpc_status(router: &Router, ids: Vec<String>) -> String {
    let candidates = Some(v1::Candidates { ids: ids.iter().collect(), ..Default::default() });
    let message = v1::RankRequest { task: "h0".into(), candidates, ..Default::default() }.encode_to_vec();
    let frame = [&[0][..], &(message.len() as u32).to_be_bytes(), &message].concat();
    let request = Request::post("/unimodel.v1.RankingService/Rank").header("content-type", "application/grpc");
    let response = router.clone().oneshot(request.body(Body::from(frame)).unwrap()).await.unwrap();
    let in_head = response.headers().get("grpc-status").cloned();
    let body = response.into_body().collect().await.unwrap();
    let status = in_head.or_else(|| body.trailers()?.get("grpc-status").cloned());
    status.unwrap().to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_ranking_that_panics_is_answered_and_so_is_the_next() {
    let served = served();
    let router = service(Front::new(served.runtime.clone(), BodyLimits::default()));
    let panics = || served.metric("unimodel_worker_panics_total");
    // One that may be computed where it was read, and one of two pieces, which two threads may be at.
    for (at_most, bad, good) in [(1.0, 1999..2000, 0..1), (2.0, 0..2000, 0..1900)] {
        let before = panics();
        let (status, problem) = rank(&router, ids(bad)).await;
        assert_eq!(status, 500, "{problem}");
        assert_eq!(problem["type"], "https://unimodel.dev/problems/internal");
        assert!((1.0..=at_most).contains(&(panics() - before)), "{before} and {}", panics());
        let (status, answer) = rank(&router, ids(good.clone())).await;
        assert_eq!((status, answer["items"].as_array().map(Vec::len)), (200, Some(good.len())), "{answer}");
    }
    assert_eq!(grpc_status(&router, ids(1999..2000)).await, (tonic::Code::Internal as i32).to_string());
    assert_eq!(served.runtime.in_flight(), 0);
    assert_eq!(grpc_status(&router, ids(0..3)).await, "0");
}
