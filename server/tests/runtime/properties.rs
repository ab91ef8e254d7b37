//! Whatever is asked, by any protocol: a ranking, or what is wrong with the request. Never a fault of the server.

use std::sync::LazyLock;

use axum::Router;
use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use prost::Message;
use serde_json::{Value, json};
use tonic::Code;
use tower::ServiceExt;
use unimodel_protocol::v1;
use unimodel_server::front::{BodyLimits, Front};
use unimodel_server::http::service;

use crate::fixture::{Fixture, Recipe, Served, tasks};

struct World {
    router: Router,
    served: Served,
    io: tokio::runtime::Runtime,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let served = Served::new(&Fixture::new(&Recipe { items: 2500, ..Recipe::ranked() }));
    let mut tasks = tasks();
    tasks[0].cache = Some(unimodel_server::config::CacheConfig {
        ttl: std::time::Duration::from_secs(60),
        max_entries: std::num::NonZeroUsize::new(50).unwrap(),
    });
    tasks[2].context.required = vec!["query".into()];
    served.runtime.apply(&tasks).unwrap();
    let front = Front::new(served.runtime.clone(), BodyLimits::default());
    let io = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    World { router: service(front), served, io }
});

fn send(request: Request<Body>) -> (u16, Option<Code>, Vec<u8>) {
    let answer = async {
        let response = WORLD.router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let code = response.headers().get("grpc-status").map(|code| Code::from_bytes(code.as_bytes()));
        let body = response.into_body().collect().await.unwrap();
        let trailer = body.trailers().and_then(|t| t.get("grpc-status")).map(|code| Code::from_bytes(code.as_bytes()));
        (status, code.or(trailer), body.to_bytes().to_vec())
    };
    let io = &WORLD.io;
    io.block_on(answer)
}

/// Values of elements and attributes, right and wrong.
fn value() -> impl Strategy<Value = Value> {
    let id = (0..2600).prop_map(|i| format!("i{i}"));
    let words = select(vec!["matrix", "toy story", "drama", "comedy", "war", "drama ", "1984 §", ""]);
    prop_oneof![
        4 => words.clone().prop_map(Value::from),
        2 => id.clone().prop_map(Value::from),
        2 => ".{0,12}".prop_map(Value::from),
        2 => any::<i32>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        3 => vec(id, 0..30).prop_map(Value::from),
        2 => vec(words, 0..4).prop_map(Value::from),
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
    ]
}

fn fields(names: &'static [&'static str]) -> impl Strategy<Value = Value> {
    btree_map(select(names), value(), 0..6).prop_map(|fields| json!(fields))
}

const ELEMENTS: &[&str] = &["age", "country", "user", "source", "history", "tags", "query", "note", "qeury"];
const ATTRIBUTES: &[&str] = &["title", "genre", "genres", "year", "yaer"];

fn body() -> impl Strategy<Value = Value> {
    let ids = || vec((0..2600).prop_map(|i| format!("i{i}")), 0..1500);
    let candidates = prop_oneof![
        3 => ids().prop_map(|ids| json!({ "ids": ids })),
        2 => Just(json!({ "all": true })),
        2 => fields(ATTRIBUTES).prop_map(|fields| json!({ "select": fields })),
        1 => (ids(), fields(ATTRIBUTES)).prop_map(|(ids, fields)| json!({ "ids": ids, "select": fields })),
    ];
    let exclude = vec((0..2600).prop_map(|i| format!("i{i}")), 0..20);
    let limit = prop_oneof![3 => (0..2600_u64).prop_map(Some), 1 => any::<u64>().prop_map(Some), 3 => Just(None)];
    let timeout = prop_oneof![
        4 => Just(json!("5s")),
        1 => select(vec![json!("0s"), json!("1us"), json!("-1s"), json!("1ms"), json!(""), json!(5)]),
    ];
    (fields(ELEMENTS), candidates, exclude, limit, timeout).prop_map(
        |(context, mut candidates, exclude, limit, timeout)| {
            candidates["exclude"] = json!(exclude);
            json!({ "context": context, "candidates": candidates, "limit": limit, "timeout": timeout })
        },
    )
}

fn task() -> impl Strategy<Value = &'static str> {
    select(vec!["h0", "h1", "h2", "h3"])
}

fn proto(value: &Value) -> prost_types::Value {
    use prost_types::value::Kind;
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Number(value) => Kind::NumberValue(value.as_f64().unwrap_or(f64::NAN)),
        Value::String(value) => Kind::StringValue(value.clone()),
        Value::Array(values) => Kind::ListValue(prost_types::ListValue { values: values.iter().map(proto).collect() }),
        Value::Object(_) => Kind::StructValue(structure(value)),
    };
    prost_types::Value { kind: Some(kind) }
}

fn structure(value: &Value) -> prost_types::Struct {
    let fields = value.as_object().into_iter().flatten();
    prost_types::Struct { fields: fields.map(|(name, value)| (name.clone(), proto(value))).collect() }
}

fn list(value: &Value) -> unimodel_protocol::Ids {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The same request as tensors; a selector has none.
fn inference(body: &Value) -> Value {
    let candidates = [("item_ids", &body["candidates"]["ids"]), ("exclude_ids", &body["candidates"]["exclude"])];
    let context = body["context"].as_object().unwrap().iter().map(|(name, value)| (name.as_str(), value));
    let inputs = context.chain(candidates).filter_map(|(name, value)| {
        let (datatype, data) = match value {
            Value::Null => return None,
            Value::Array(values) => ("BYTES", values.clone()),
            Value::String(_) => ("BYTES", vec![value.clone()]),
            Value::Bool(_) => ("BOOL", vec![value.clone()]),
            _ => ("FP64", vec![value.clone()]),
        };
        Some(json!({ "name": name, "shape": [data.len()], "datatype": datatype, "data": data }))
    });
    let parameters: serde_json::Map<String, Value> = ["limit", "timeout"]
        .into_iter()
        .filter(|name| !body[*name].is_null())
        .map(|name| (name.to_owned(), body[name].clone()))
        .collect();
    json!({ "inputs": inputs.collect::<Vec<_>>(), "parameters": parameters })
}

fn healthy() -> Result<(), TestCaseError> {
    prop_assert_eq!(WORLD.served.metric("unimodel_worker_panics_total"), 0.0);
    prop_assert_eq!(WORLD.served.runtime.in_flight(), 0);
    Ok(())
}

/// One at a time: they share a server.
static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn by_rest(task in task(), body in body()) {
        let _one = ONE.lock().unwrap();
        let request = Request::post(format!("/v1/tasks/{task}:rank")).body(Body::from(body.to_string())).unwrap();
        let (status, _, answer) = send(request);
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        prop_assert!(matches!(status, 200 | 400..=499 | 504), "{status} {answer}");
        if status == 200 {
            let items = answer["items"].as_array().unwrap();
            let scores: Vec<f64> = items.iter().map(|item| item["score"].as_f64().unwrap()).collect();
            prop_assert!(scores.is_sorted_by(|a, b| a >= b));
            let excluded = body["candidates"]["exclude"].as_array().unwrap();
            prop_assert!(items.iter().all(|item| !excluded.contains(&item["id"])));
            if let Some(limit) = body["limit"].as_u64() {
                prop_assert!(items.len() as u64 <= limit);
            }
        }
        healthy()?;
    }

    #[test]
    fn by_open_inference(task in task(), body in body()) {
        let _one = ONE.lock().unwrap();
        let request = Request::post(format!("/v2/models/{task}/infer")).body(Body::from(inference(&body).to_string()));
        let (status, _, answer) = send(request.unwrap());
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        prop_assert!(matches!(status, 200 | 400..=499 | 504), "{status} {answer}");
        if status == 200 {
            let output = |name: &str| {
                let outputs = answer["outputs"].as_array().unwrap();
                outputs.iter().find(|output| output["name"] == name).unwrap()["data"].as_array().unwrap().clone()
            };
            let scores: Vec<f64> = output("scores").iter().map(|score| score.as_f64().unwrap()).collect();
            prop_assert!(scores.is_sorted_by(|a, b| a >= b));
            let (ids, excluded) = (output("item_ids"), body["candidates"]["exclude"].as_array().unwrap());
            prop_assert_eq!(ids.len(), scores.len());
            prop_assert!(ids.iter().all(|id| !excluded.contains(id)));
        }
        healthy()?;
    }

    #[test]
    fn by_grpc(task in task(), body in body(), deadline in select(vec!["5S", "1n", "0m", "10m"])) {
        let _one = ONE.lock().unwrap();
        let candidates = &body["candidates"];
        let message = v1::RankRequest {
            task: task.into(),
            context: Some(structure(&body["context"])),
            candidates: Some(v1::Candidates {
                ids: list(&candidates["ids"]),
                select: candidates.get("select").map(structure),
                all: candidates["all"] == true,
                exclude: list(&candidates["exclude"]),
            }),
            limit: body["limit"].as_u64().and_then(|limit| u32::try_from(limit).ok()),
            timeout: None,
        }
        .encode_to_vec();
        let frame = [&[0][..], &(message.len() as u32).to_be_bytes(), &message].concat();
        let request = Request::post("/unimodel.v1.RankingService/Rank")
            .header("content-type", "application/grpc")
            .header("grpc-timeout", deadline)
            .body(Body::from(frame))
            .unwrap();
        let (status, code, _) = send(request);
        let fine = [
            Code::Ok,
            Code::InvalidArgument,
            Code::NotFound,
            Code::DeadlineExceeded,
            Code::ResourceExhausted,
        ];
        prop_assert!(status == 200 && code.is_some_and(|code| fine.contains(&code)), "{status} {code:?}");
        healthy()?;
    }
}
