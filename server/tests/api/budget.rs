//! What the server holds of requests that are not answered yet is bounded, whatever the protocol.

use std::sync::Arc;

use axum::body::Body;
use futures::{StreamExt, poll, stream};
use http::Request;
use unimodel_server::front::{BodyLimits, Front};
use unimodel_server::http::service;

use crate::plain::{Answer, Plain, limits, post, send};

const PATHS: [&str; 4] = [
    "/v1/tasks/search:rank",
    "/v2/models/search/infer",
    "/unimodel.v1.RankingService/Rank",
    "/inference.GRPCInferenceService/ModelInfer",
];

/// A body of which 9 KiB come, and then nothing.
fn half_sent() -> Body {
    let some = stream::once(async { Ok::<_, std::io::Error>(vec![b' '; 9 << 10]) });
    Body::from_stream(some.chain(stream::pending()))
}

/// Asserts that an answer tells of an overload and when to try again.
fn is_refused(answer: &Answer) {
    match answer.header("grpc-status") {
        Some(status) => {
            assert_eq!(status, "8", "{answer:?}");
            assert!(answer.header("grpc-status-details-bin").is_some());
        }
        None => {
            assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, Some("1")), "{answer:?}");
            assert!(answer.json()["type"].as_str().unwrap().ends_with("/overloaded"));
        }
    }
}

#[tokio::test]
async fn many_half_sent_bodies_are_refused_at_once() {
    let plain = Arc::new(Plain::new());
    // 25 requests with a kibibyte each for themselves.
    let router = service(Front::new(plain.clone(), BodyLimits { held_bytes: 250 << 10, ..BodyLimits::default() }));
    let mut waiting = Vec::new();
    for path in PATHS.iter().cycle().take(100) {
        let request = Request::post(*path).header("content-type", "application/grpc").body(half_sent()).unwrap();
        let mut call = Box::pin(send(&router, request));
        match poll!(&mut call) {
            std::task::Poll::Pending => waiting.push(call),
            std::task::Poll::Ready(answer) => is_refused(&answer),
        }
    }
    assert_eq!(waiting.len(), 25);
    let exchanges = plain.exchanges();
    for protocol in ["rest", "inference_rest", "grpc", "inference_grpc"] {
        let counted = exchanges.iter().filter(|exchange| **exchange == (protocol.to_owned(), Some("overloaded")));
        assert!([18, 19].contains(&counted.count()), "{exchanges:?}");
    }
    assert_eq!(exchanges.len(), 75);

    // What has gone is free again.
    drop(waiting);
    let answer = post(&router, PATHS[0], r#"{"candidates": {"all": true}}"#).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_request_is_held_until_it_is_answered() {
    let plain = Arc::new(Plain::new());
    let router = service(Front::new(plain.clone(), BodyLimits { held_bytes: 2 << 10, ..limits() }));
    let slow = r#"{"context": {"user_id": "slow"}, "candidates": {"all": true}}"#;
    let mut first = Box::pin(post(&router, PATHS[0], slow));
    assert!(poll!(&mut first).is_pending());
    is_refused(&post(&router, PATHS[0], slow).await);
    drop(first);
    let answer = post(&router, PATHS[0], r#"{"candidates": {"all": true}}"#).await;
    assert_eq!(answer.status, 200);
}
