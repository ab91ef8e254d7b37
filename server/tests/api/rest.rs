//! REST.

use std::sync::Arc;

use axum::body::Body;
use http::{Request, StatusCode};
use serde_json::{Value, json};

use crate::plain::{Answer, Plain, get, post, router, send};

async fn rank(body: Value) -> Answer {
    post(&router(Arc::new(Plain::new())), "/v1/tasks/search:rank", body.to_string()).await
}

/// Asserts a problem document and returns it.
fn problem(answer: &Answer, status: u16, name: &str) -> Value {
    let document = answer.json();
    assert_eq!(answer.status, status, "{document}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    assert_eq!(document["type"], format!("https://unimodel.dev/problems/{name}"), "{document}");
    assert_eq!(document["status"], status);
    assert!(!document["title"].as_str().unwrap().is_empty());
    assert!(!document["detail"].as_str().unwrap().is_empty());
    document
}

#[tokio::test]
async fn a_task_ranks_ids() {
    let answer = rank(json!({
        "context": { "query": "star wars", "genre": "Action", "time": 881250949, "gender": "F", "occupation": "other" },
        "candidates": { "ids": ["258", "50", "nope"] },
        "limit": 10,
        "timeout": "500ms",
    }))
    .await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(
        answer.json(),
        json!({
            "items": [{ "id": "50", "score": 2.077 }, { "id": "258", "score": 0.097 }],
            "task": "search",
            "modelVersion": "20260101T000000Z-1a2b3c4d",
            "dataTime": "1998-04-23T00:10:38Z",
            "imputed": [
                { "element": "user_id", "source": "default" },
                { "element": "age", "source": "default" },
                { "element": "history", "source": "default" },
                { "element": "source_item", "source": "default" },
            ],
            "unknown": ["nope"],
            "fallback": null,
        })
    );
}

#[tokio::test]
async fn selectors_fit_attributes() {
    let ids = async |select: Value| {
        let answer = rank(json!({ "candidates": { "select": select } })).await.json();
        let ids = answer["items"].as_array().unwrap_or_else(|| panic!("{answer}")).iter();
        ids.map(|item| item["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids(json!({ "genres": ["Comedy"] })).await, ["255"]);
    assert_eq!(ids(json!({ "genres": ["Comedy", "Action"], "year": 1977 })).await, ["50"]);
    assert_eq!(ids(json!({ "title": "Contact" })).await, ["258"]);
    assert_eq!(ids(json!({})).await.len(), 4);
    assert!(ids(json!({ "genres": "Western" })).await.is_empty());
}

#[tokio::test]
async fn all_ranks_the_catalogue_without_what_is_excluded() {
    let answer = rank(json!({ "candidates": { "all": true, "exclude": ["50", "nope"] }, "limit": 2 })).await.json();
    assert_eq!(answer["items"].as_array().unwrap().len(), 2);
    assert!(!answer.to_string().contains("\"50\""));
}

#[tokio::test]
async fn the_task_may_be_in_the_body() {
    let router = router(Arc::new(Plain::new()));
    let body = json!({ "task": "search", "candidates": { "all": true } }).to_string();
    assert_eq!(post(&router, "/v1/rank", body.clone()).await.json()["task"], "search");
    assert_eq!(post(&router, "/v1/tasks/search:rank", body.clone()).await.status, StatusCode::OK);

    let document = problem(&post(&router, "/v1/tasks/notifications:rank", body).await, 400, "conflicting-task");
    assert_eq!((&document["path"], &document["body"]), (&json!("notifications"), &json!("search")));
    let document = problem(&post(&router, "/v1/rank", "{}").await, 400, "missing-task");
    assert_eq!(document["known"], json!(["category", "notifications", "related", "search"]));
}

#[tokio::test]
async fn canonical_json_is_understood() {
    // Null is absent, numbers may be strings, durations are seconds.
    let answer = rank(json!({
        "task": null, "context": { "age": null }, "candidates": { "ids": null, "select": null, "all": true },
        "limit": "2", "timeout": "0.500s",
    }))
    .await;
    assert_eq!(answer.json()["items"].as_array().unwrap().len(), 2);
    assert_eq!(rank(json!({ "candidates": { "all": true }, "limit": 1.0 })).await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_unknown_task_lists_the_known_ones() {
    let router = router(Arc::new(Plain::new()));
    // Before the body is looked at: it may be anything.
    let document = problem(&post(&router, "/v1/tasks/serach:rank", "nonsense").await, 404, "unknown-task");
    assert_eq!(document["known"], json!(["category", "notifications", "related", "search"]));
    assert_eq!(document["task"], "serach");
}

#[tokio::test]
async fn an_unknown_element_suggests_the_nearest() {
    let answer = rank(json!({ "context": { "genr": "Action" }, "candidates": { "all": true } })).await;
    let document = problem(&answer, 400, "unknown-element");
    assert_eq!((&document["element"], &document["nearest"]), (&json!("genr"), &json!("genre")));
    assert_eq!(document["known"].as_array().unwrap().len(), 9);
}

#[tokio::test]
async fn a_wrong_type_names_element_expected_and_got() {
    for (value, got) in [
        (json!(true), "a boolean"),
        (json!({ "a": [1, { "b": null }] }), "an object"),
        (json!([1, 2]), "a list with something else than strings"),
        (json!(["a", null]), "a list with something else than strings"),
        (json!(42), "a number"),
        (json!(["a"]), "a list"),
    ] {
        let answer = rank(json!({ "context": { "query": value }, "candidates": { "all": true } })).await;
        let document = problem(&answer, 400, "wrong-type");
        assert_eq!(document["element"], "query");
        assert_eq!(document["expected"], "text");
        assert_eq!(document["got"], got);
    }
}

#[tokio::test]
async fn a_required_element_must_be_there() {
    let router = router(Arc::new(Plain::new()));
    let answer = post(&router, "/v1/tasks/notifications:rank", r#"{"candidates": {"all": true}}"#).await;
    assert_eq!(problem(&answer, 400, "missing-element")["element"], "user_id");
}

#[tokio::test]
async fn candidates_are_one_of_three() {
    for body in [json!({}), json!({ "candidates": {} }), json!({ "candidates": { "ids": [] } })] {
        problem(&rank(body).await, 400, "empty-candidates");
    }
    let document =
        problem(&rank(json!({ "candidates": { "ids": ["50"], "all": true } })).await, 400, "conflicting-candidates");
    assert_eq!(document["given"], json!(["ids", "all"]));

    let ids: Vec<String> = (0..1001).map(|i| i.to_string()).collect();
    let document = problem(&rank(json!({ "candidates": { "ids": ids } })).await, 400, "too-many-candidates");
    assert_eq!((&document["count"], &document["max"]), (&json!(1001), &json!(1000)));
    let exclude = json!({ "candidates": { "all": true, "exclude": ids } });
    assert_eq!(problem(&rank(exclude).await, 400, "too-many-candidates")["field"], "candidates.exclude");

    let twice = json!({ "candidates": { "ids": ["50", "172", "50"] } });
    assert_eq!(problem(&rank(twice).await, 400, "duplicate-candidate")["id"], "50");
}

#[tokio::test]
async fn selectors_name_attributes_of_their_type() {
    let select = async |select: Value| rank(json!({ "candidates": { "select": select } })).await;
    let document = problem(&select(json!({ "genre": "Comedy" })).await, 400, "unknown-attribute");
    assert_eq!((&document["attribute"], &document["nearest"]), (&json!("genre"), &json!("genres")));
    for (value, got) in [(json!("1977"), "a string"), (json!(null), "null"), (json!(true), "a boolean")] {
        let document = problem(&select(json!({ "year": value })).await, 400, "attribute-type");
        assert_eq!((&document["expected"], &document["got"]), (&json!("a number"), &json!(got)));
    }
}

#[tokio::test]
async fn a_limit_is_at_least_one() {
    for limit in [0, 1001, u64::MAX] {
        let answer = rank(json!({ "candidates": { "all": true }, "limit": limit })).await;
        assert_eq!(problem(&answer, 400, "invalid-limit")["max"], 1000);
    }
    for limit in [json!(-1), json!(1.5), json!("many"), json!([1])] {
        problem(&rank(json!({ "candidates": { "all": true }, "limit": limit })).await, 400, "invalid-body");
    }
}

#[tokio::test]
async fn a_timeout_is_a_duration_above_zero() {
    for timeout in ["0s", "-50ms", "soon", ""] {
        let answer = rank(json!({ "candidates": { "all": true }, "timeout": timeout })).await;
        problem(&answer, 400, "invalid-timeout");
    }
    problem(&rank(json!({ "candidates": { "all": true }, "timeout": 50 })).await, 400, "invalid-body");
}

#[tokio::test]
async fn the_smallest_timeout_is_the_deadline() {
    let router = router(Arc::new(Plain::new()));
    let slow = async |headers: &[(&str, &str)], body: &str| {
        let mut request = Request::post("/v1/tasks/search:rank");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        send(&router, request.body(Body::from(body.to_owned())).unwrap()).await
    };
    let body = r#"{"context": {"user_id": "slow"}, "candidates": {"all": true}, "timeout": "20ms"}"#;
    let document = problem(&slow(&[], body).await, 504, "deadline-exceeded");
    assert_eq!(document["timeout"], "0.020s");
    for headers in [[("grpc-timeout", "5m")], [("x-unimodel-timeout", "5ms")]] {
        assert_eq!(problem(&slow(&headers, body).await, 504, "deadline-exceeded")["timeout"], "0.005s");
    }
    let quick = r#"{"candidates": {"all": true}}"#;
    for headers in [[("grpc-timeout", "0m")], [("x-unimodel-timeout", "0s")]] {
        problem(&slow(&headers, quick).await, 504, "deadline-exceeded");
    }
    for headers in [[("grpc-timeout", "5ms")], [("x-unimodel-timeout", "x")]] {
        problem(&slow(&headers, quick).await, 400, "invalid-timeout");
    }
}

#[tokio::test]
async fn overload_says_when_to_try_again() {
    let answer = rank(json!({ "context": { "user_id": "overload" }, "candidates": { "all": true } })).await;
    assert_eq!(problem(&answer, 429, "overloaded")["retryAfter"], "0.050s");
    assert_eq!(answer.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn a_fault_of_the_server_is_said_to_be_one() {
    let answer = rank(json!({ "context": { "user_id": "broken" }, "candidates": { "all": true } })).await;
    problem(&answer, 500, "internal");
}

#[tokio::test]
async fn a_server_without_a_version_is_not_ready() {
    let router = router(Arc::new(Plain::without_version()));
    let answer = post(&router, "/v1/tasks/search:rank", r#"{"candidates": {"all": true}}"#).await;
    problem(&answer, 503, "not-ready");
    assert_eq!(answer.header("retry-after"), Some("1"));
    let tasks = get(&router, "/v1/tasks").await.json();
    assert_eq!(tasks["tasks"][1]["modelVersion"], Value::Null);
}

#[tokio::test]
async fn invalid_json_says_where() {
    let router = router(Arc::new(Plain::new()));
    for (body, line, column) in [
        ("", 1, 0),
        ("{\n  \"limit\": ,", 2, 12),
        ("{\"candidates\": {\"ids\": [\"50\", 172]}}", 1, 33),
        ("{\"limits\": 3}", 1, 9),
        ("{\"candidates\": {\"id\": []}}", 1, 20),
        ("{\"context\": {\"age\": 1, \"age\": 2}}", 1, 32),
        ("{\"context\": {\"age\": 1e999}}", 1, 25),
        ("{\"context\": {\"age\": NaN}}", 1, 21),
        ("{\"limit\": 1} x", 1, 14),
        ("[\"search\", {}, {\"all\": true}]", 1, 0),
        ("{\"candidates\": [[\"50\"]]}", 1, 15),
        ("\"\u{1}\"", 1, 2),
    ] {
        let document = problem(&post(&router, "/v1/tasks/search:rank", body).await, 400, "invalid-body");
        assert_eq!((&document["line"], &document["column"]), (&json!(line), &json!(column)), "{body}: {document}");
    }
    let deep = format!("{{\"context\": {{\"query\": {}", "[".repeat(10_000));
    problem(&post(&router, "/v1/tasks/search:rank", deep).await, 400, "invalid-body");
    problem(&post(&router, "/v1/tasks/search:rank", vec![b'"', 0xff, b'"']).await, 400, "invalid-body");
}

#[tokio::test]
async fn a_body_has_limits() {
    let router = router(Arc::new(Plain::new()));
    let large = vec![b' '; (64 << 10) + 1];
    let document = problem(&post(&router, "/v1/tasks/search:rank", large.clone()).await, 413, "body-too-large");
    assert_eq!(document["max"], 64 << 10);
    // Without a length announced, too.
    let chunks =
        futures::stream::iter(large.chunks(1000).map(|c| Ok::<_, std::io::Error>(c.to_vec())).collect::<Vec<_>>());
    let answer = post(&router, "/v1/tasks/search:rank", Body::from_stream(chunks)).await;
    problem(&answer, 413, "body-too-large");

    let never = futures::stream::pending::<Result<Vec<u8>, std::io::Error>>();
    problem(&post(&router, "/v1/tasks/search:rank", Body::from_stream(never)).await, 408, "slow-body");
}

#[tokio::test]
async fn a_compressed_body_is_refused() {
    let router = router(Arc::new(Plain::new()));
    let request =
        Request::post("/v1/tasks/search:rank").header("content-encoding", "gzip").body(Body::empty()).unwrap();
    assert_eq!(problem(&send(&router, request).await, 415, "unsupported-encoding")["encoding"], "gzip");
    let request = Request::post("/v1/tasks/search:rank").header("content-encoding", "identity");
    let request = request.body(Body::from(r#"{"candidates": {"all": true}}"#)).unwrap();
    assert_eq!(send(&router, request).await.status, StatusCode::OK);
}

#[tokio::test]
async fn what_a_caller_gave_is_cut_in_an_error() {
    let long = "é".repeat(20_000);
    let answer = rank(json!({ "context": { long.clone(): 1 }, "candidates": { "all": true } })).await;
    problem(&answer, 400, "unknown-element");
    assert!(answer.body.len() < 3000, "{}", answer.body.len());
}

#[tokio::test]
async fn other_addresses_and_methods_are_problems() {
    let router = router(Arc::new(Plain::new()));
    problem(&get(&router, "/v1/nothing").await, 404, "no-resource");
    problem(&post(&router, "/v1/tasks/search:resolve", "").await, 404, "no-resource");
    problem(&post(&router, "/v1/tasks/search", "").await, 404, "no-resource");
    let answer = get(&router, "/v1/rank").await;
    problem(&answer, 405, "method-not-allowed");
    assert_eq!(answer.header("allow"), Some("POST"));
}

#[tokio::test]
async fn tasks_are_described() {
    let tasks = get(&router(Arc::new(Plain::new())), "/v1/tasks").await.json();
    let search = &tasks["tasks"][3];
    assert_eq!(search["name"], "search");
    assert_eq!(search["description"], "What was meant by a query");
    assert_eq!(search["modelVersion"], "20260101T000000Z-1a2b3c4d");
    assert_eq!(search["dataTime"], "1998-04-23T00:10:38Z");
    assert_eq!(search["items"], 4);
    assert_eq!(search["timeout"], json!({ "default": "5s", "max": "10s" }));
    assert_eq!(
        search["context"][6],
        json!({
            "name": "query", "type": "text", "description": "What was typed", "default": "", "required": false,
            "trained": true,
        })
    );
    assert_eq!(search["context"][7]["trained"], false);
    assert_eq!(tasks["tasks"][1]["context"][0]["required"], true);
    assert_eq!(search["attributes"][1], json!({ "name": "genres", "type": "list<category>" }));
}

#[tokio::test]
async fn every_exchange_is_observed() {
    let plain = Arc::new(Plain::new());
    let router = router(plain.clone());
    post(&router, "/v1/tasks/search:rank", r#"{"candidates": {"all": true}}"#).await;
    post(&router, "/v1/tasks/nope:rank", "").await;
    post(&router, "/v2/models/search/infer", "{").await;
    assert_eq!(
        plain.exchanges(),
        [
            ("rest".to_owned(), None),
            ("rest".to_owned(), Some("unknown-task")),
            ("inference_rest".to_owned(), Some("invalid-body")),
        ]
    );
}
