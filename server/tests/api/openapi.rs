//! `docs/openapi.yaml` describes what the server does: what it answers is documented, every request that is shown is sent,
//! and every answer fits its schema.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use http::Request;
use unimodel_server::http::addresses;

use crate::document::Document;
use crate::plain::{Plain, router, send};

#[tokio::test]
async fn documented_requests_are_answered_as_documented() {
    let document = Document::read();
    let router = router(Arc::new(Plain::new()));
    let mut statuses = BTreeSet::new();
    for operation in document.operations() {
        for shown in document.shown(&operation) {
            let mut request = Request::builder().method(shown.method).uri(shown.url);
            for (name, value) in &shown.headers {
                request = request.header(*name, *value);
            }
            let answer = send(&router, request.body(Body::from(shown.body.clone())).unwrap()).await;
            document.check_answer(&shown, &answer);
            statuses.insert(shown.status);
        }
    }
    assert_eq!(statuses.into_iter().collect::<Vec<_>>(), [200, 400, 404, 429, 504]);
}

#[test]
fn documented_answers_fit_their_schemas() {
    assert!(Document::read().check_shown_answers() > 0);
}

#[test]
fn what_is_served_is_documented() {
    let document = Document::read();
    let operations = document.operations();
    let documented: BTreeSet<(&str, String)> =
        operations.iter().map(|operation| (operation.method.as_str(), operation.path.to_owned())).collect();
    // A router's parameter is a whole segment. `/v2/` is `/v2`.
    let in_words = |path: &str| {
        path.replace("{call}", "{task}:rank").replace("{model}", "{task}").trim_end_matches('/').to_owned()
    };
    let addresses = addresses();
    let served: BTreeSet<_> = addresses.iter().map(|(method, path)| (method.as_str(), in_words(path))).collect();
    assert_eq!(served, documented);
}

#[tokio::test]
async fn undocumented_methods_do_not_answer() {
    let document = Document::read();
    let router = router(Arc::new(Plain::new()));
    for operation in document.operations() {
        let other = if operation.method == "GET" { "POST" } else { "GET" };
        let request = Request::builder().method(other).uri(&operation.url);
        assert_eq!(send(&router, request.body(Body::empty()).unwrap()).await.status, 405, "{}", operation.path);
    }
}
