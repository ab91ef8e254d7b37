//! Whatever comes in, the answer is a ranking or says what is wrong with the request: never a fault of the server.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::body::Body;
use http::Request;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use prost::Message;
use serde_json::{Value, json};
use tonic::Code;
use unimodel_protocol::{inference, v1};

use crate::fuzz::fuzz;
use crate::plain::{Answer, Plain, router, send};

static ROUTER: LazyLock<Router> = LazyLock::new(|| router(Arc::new(Plain::new())));

fn answer(request: Request<Body>) -> Answer {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(send(&ROUTER, request))
}

fn rest(path: &str, json_length: Option<usize>, body: Vec<u8>) -> Result<(), TestCaseError> {
    let mut request = Request::post(path);
    if let Some(length) = json_length {
        request = request.header("inference-header-content-length", length);
    }
    let answer = answer(request.body(Body::from(body)).unwrap());
    let status = answer.status.as_u16();
    prop_assert!(matches!(status, 200 | 400..=499 | 504), "{answer:?}");
    if status != 200 {
        prop_assert_eq!(answer.json()["status"].as_u64(), Some(u64::from(status)));
    }
    Ok(())
}

fn grpc(path: &str, message: &[u8]) -> Result<(), TestCaseError> {
    let frame = [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat();
    let request = Request::post(path).header("content-type", "application/grpc").body(Body::from(frame)).unwrap();
    let answer = answer(request);
    // A status that is not OK may come without a body, in the headers.
    let code = answer.header("grpc-status").map_or(Code::Ok, |code| Code::from(code.parse::<i32>().unwrap()));
    let fine = [Code::Ok, Code::InvalidArgument, Code::NotFound, Code::DeadlineExceeded, Code::ResourceExhausted];
    prop_assert!(fine.contains(&code), "{answer:?}");
    Ok(())
}

const RANK: &str = "/unimodel.v1.RankingService/Rank";
const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

/// Any JSON, with names that requests have among others.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
        select(vec!["50", "search", "50ms", "0s", "BYTES", "INT64", "FP32", "star"]).prop_map(Value::from),
    ];
    let names = prop_oneof![
        select(vec![
            "task",
            "context",
            "candidates",
            "limit",
            "timeout",
            "ids",
            "select",
            "all",
            "exclude",
            "query",
            "age",
            "history",
            "genres",
            "year",
            "inputs",
            "outputs",
            "name",
            "shape",
            "datatype",
            "data",
            "parameters",
        ])
        .prop_map(str::to_owned),
        ".{0,6}",
    ];
    leaf.prop_recursive(4, 32, 5, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            btree_map(names.clone(), inner, 0..5).prop_map(|map| json!(map))
        ]
    })
}

/// A request with the right members and any values.
fn any_rank() -> impl Strategy<Value = Value> {
    (any_json(), any_json(), any_json(), any_json(), vec(any_json(), 0..6)).prop_map(|(a, b, c, d, list)| {
        json!({
            "context": { "query": a, "history": list, "age": b },
            "candidates": { "ids": list, "select": { "year": c }, "all": d },
        })
    })
}

fn any_infer() -> impl Strategy<Value = Value> {
    let name = select(vec!["query", "age", "history", "item_ids", "exclude_ids", "nothing"]);
    let datatype = select(vec!["BYTES", "INT64", "INT32", "FP32", "FP64", "BOOL"]);
    let input = (name, datatype, vec(-1_i64..4, 0..3), any_json()).prop_map(
        |(name, datatype, shape, data)| json!({ "name": name, "datatype": datatype, "shape": shape, "data": data }),
    );
    (vec(input, 0..4), any_json(), any_json()).prop_map(
        |(inputs, limit, timeout)| json!({ "inputs": inputs, "parameters": { "limit": limit, "timeout": timeout } }),
    )
}

/// A valid body, damaged.
fn damaged(bodies: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let damage = (0..4_u8, any::<Index>(), any::<Index>(), any::<u8>());
    (select(bodies), vec(damage, 1..5)).prop_map(|(mut body, damages)| {
        for (kind, from, to, byte) in damages {
            if body.is_empty() {
                break;
            }
            let (from, to) = (from.index(body.len()), to.index(body.len()));
            let (from, to) = (from.min(to), from.max(to));
            match kind {
                0 => body[from] = byte,
                1 => body.insert(from, byte),
                2 => drop(body.drain(from..to)),
                _ => body.extend_from_within(from..to),
            }
        }
        body
    })
}

fn ranks() -> Vec<Vec<u8>> {
    [
        json!({ "context": { "query": "star wars", "age": 33 }, "candidates": { "ids": ["50", "172"] }, "limit": 10 }),
        json!({ "context": { "history": ["50", "172"] }, "candidates": { "select": { "genres": ["Drama"] } } }),
        json!({ "task": "search", "candidates": { "all": true, "exclude": ["50"] }, "timeout": "0.050s" }),
    ]
    .map(|body| body.to_string().into_bytes())
    .to_vec()
}

fn infers() -> Vec<Vec<u8>> {
    [
        json!({ "inputs": [{ "name": "query", "shape": [1], "datatype": "BYTES", "data": ["star"] }] }),
        json!({ "inputs": [{ "name": "item_ids", "shape": [1, 2], "datatype": "INT64", "data": [[50, 172]] }],
                "outputs": [{ "name": "scores", "parameters": { "binary_data": true } }] }),
        json!({ "inputs": [{ "name": "age", "shape": [1], "datatype": "FP32",
                             "parameters": { "binary_data_size": 4 } }] }),
    ]
    .map(|body| [body.to_string().as_bytes(), &[0, 0, 4, 66]].concat())
    .to_vec()
}

fn messages() -> Vec<Vec<u8>> {
    let text = |text: &str| prost_types::Value { kind: Some(prost_types::value::Kind::StringValue(text.into())) };
    let context = Some(prost_types::Struct { fields: [("query".to_owned(), text("star"))].into() });
    let candidates = |all| {
        let ids = if all { vec![] } else { vec!["50", "172"] };
        Some(v1::Candidates { ids: ids.into_iter().collect(), all, ..Default::default() })
    };
    [true, false]
        .map(|all| v1::RankRequest {
            task: "search".into(),
            context: context.clone(),
            candidates: candidates(all),
            limit: Some(3),
            timeout: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        })
        .map(|request| request.encode_to_vec())
        .to_vec()
}

fn infer_messages() -> Vec<Vec<u8>> {
    let input = |name: &str, datatype: &str, contents| inference::model_infer_request::InferInputTensor {
        name: name.into(),
        datatype: datatype.into(),
        shape: vec![1],
        contents,
        ..Default::default()
    };
    let age = inference::InferTensorContents { fp32_contents: vec![33.0], ..Default::default() };
    let typed = inference::ModelInferRequest {
        model_name: "search".into(),
        inputs: vec![input("age", "FP32", Some(age))],
        ..Default::default()
    };
    let raw = inference::ModelInferRequest {
        model_name: "search".into(),
        inputs: vec![input("query", "BYTES", None)],
        raw_input_contents: vec![[&[4, 0, 0, 0][..], b"star"].concat().into()],
        ..Default::default()
    };
    vec![typed.encode_to_vec(), raw.encode_to_vec()]
}

#[test]
fn any_bytes_by_rest() {
    fuzz((vec(any::<u8>(), 0..200), prop::option::of(0..250_usize)), |(body, length)| {
        rest("/v1/tasks/search:rank", None, body.clone())?;
        rest("/v1/rank", None, body.clone())?;
        rest("/v2/models/search/infer", length, body)
    });
}

#[test]
fn any_json_by_rest() {
    fuzz(any_json(), |body| {
        let body = body.to_string().into_bytes();
        rest("/v1/tasks/search:rank", None, body.clone())?;
        rest("/v2/models/search/infer", None, body)
    });
}

#[test]
fn any_values_in_a_ranking() {
    fuzz(any_rank(), |body| rest("/v1/tasks/search:rank", None, body.to_string().into_bytes()));
}

#[test]
fn any_values_in_an_inference() {
    fuzz(any_infer(), |body| rest("/v2/models/search/infer", None, body.to_string().into_bytes()));
}

#[test]
fn a_damaged_ranking() {
    fuzz(damaged(ranks()), |body| {
        rest("/v1/tasks/search:rank", None, body.clone())?;
        rest("/v1/rank", None, body)
    });
}

#[test]
fn a_damaged_inference() {
    fuzz((damaged(infers()), 0..8_usize), |(body, raw)| {
        let length = body.len().saturating_sub(raw);
        rest("/v2/models/search/infer", Some(length), body)
    });
}

#[test]
fn any_raw_tensor_by_rest() {
    let datatype = select(vec!["BYTES", "INT64", "INT32", "FP32", "FP64", "BOOL"]);
    let name = select(vec!["query", "age", "history", "item_ids", "exclude_ids"]);
    fuzz((name, datatype, -1_i64..4, vec(any::<u8>(), 0..64)), |(name, datatype, size, raw)| {
        let parameters = json!({ "binary_data_size": raw.len() });
        let input = json!({ "name": name, "datatype": datatype, "shape": [size], "parameters": parameters });
        let head = json!({ "inputs": [input] }).to_string();
        rest("/v2/models/search/infer", Some(head.len()), [head.as_bytes(), &raw].concat())
    });
}

#[test]
fn any_bytes_by_grpc() {
    fuzz(vec(any::<u8>(), 0..200), |message| {
        grpc(RANK, &message)?;
        grpc(INFER, &message)
    });
}

#[test]
fn a_damaged_ranking_by_grpc() {
    fuzz(damaged(messages()), |message| grpc(RANK, &message));
}

#[test]
fn a_damaged_inference_by_grpc() {
    fuzz(damaged(infer_messages()), |message| grpc(INFER, &message));
}

#[test]
fn any_frames_by_grpc() {
    fuzz(vec(any::<u8>(), 0..100), |body| {
        let request = Request::post(RANK).header("content-type", "application/grpc").body(Body::from(body)).unwrap();
        prop_assert_eq!(answer(request).status, 200);
        Ok(())
    });
}

#[test]
fn any_path() {
    fuzz("/v[12]/[a-z0-9:/%]{0,30}", |path| {
        if let Ok(request) = Request::post(&path).body(Body::empty()) {
            let status = answer(request).status.as_u16();
            prop_assert!(matches!(status, 200 | 400..=499), "{path}: {status}");
        }
        Ok(())
    });
}

#[test]
fn any_timeout_header() {
    fuzz((".{0,12}", ".{0,12}"), |(grpc, other)| {
        let request =
            Request::post("/v1/tasks/search:rank").header("grpc-timeout", grpc).header("x-unimodel-timeout", other);
        if let Ok(request) = request.body(Body::from(r#"{"candidates": {"all": true}}"#)) {
            let status = answer(request).status.as_u16();
            prop_assert!(matches!(status, 200 | 400 | 504), "{status}");
        }
        Ok(())
    });
}
