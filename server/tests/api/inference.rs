//! Open Inference Protocol v2, by REST and gRPC.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};
use tonic::{Code, Status};
use unimodel_protocol::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use unimodel_protocol::inference::infer_parameter::ParameterChoice;
use unimodel_protocol::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use unimodel_protocol::inference::{
    InferParameter, InferTensorContents, ModelConfigRequest, ModelInferRequest, ModelInferResponse,
    ModelMetadataRequest, ModelReadyRequest, ModelStatisticsRequest, RepositoryIndexRequest, ServerReadyRequest,
};
use unimodel_server::ranking::Readiness;

use crate::plain::{Answer, Plain, SWAPPED, Server, get, post, router, send};

const INFER: &str = "/v2/models/search/infer";

async fn infer(body: Value) -> Answer {
    post(&router(Arc::new(Plain::new())), INFER, body.to_string()).await
}

fn refused(answer: &Answer, status: u16, name: &str) -> String {
    let document = answer.json();
    assert_eq!(answer.status, status, "{document}");
    // Clients of the protocol read JSON's `error`, and only of this type.
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(document["type"], format!("https://unimodel.dev/problems/{name}"), "{document}");
    document["error"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn tensors_ask_and_answer() {
    let answer = infer(json!({
        "id": "42",
        "parameters": { "limit": 2, "timeout": "500ms", "priority": 1 },
        "inputs": [
            { "name": "query", "shape": [1], "datatype": "BYTES", "data": ["contact"] },
            { "name": "age", "shape": [1, 1], "datatype": "FP32", "data": [[33]] },
            { "name": "history", "shape": [2], "datatype": "INT64", "data": [50, 172] },
            { "name": "item_ids", "shape": [1, 4], "datatype": "INT64", "data": [[50, 172, 258, 1]] },
            { "name": "exclude_ids", "shape": [1], "datatype": "BYTES", "data": ["172"] },
        ],
    }))
    .await;
    assert_eq!(
        answer.json(),
        json!({
            "model_name": "search",
            "model_version": "20260101T000000Z-1a2b3c4d",
            "id": "42",
            "outputs": [
                { "name": "scores", "datatype": "FP32", "shape": [2], "data": [1.097, -0.423] },
                { "name": "item_ids", "datatype": "BYTES", "shape": [2], "data": ["258", "50"] },
                { "name": "unknown_ids", "datatype": "BYTES", "shape": [1], "data": ["1"] },
            ],
        })
    );
}

#[tokio::test]
async fn without_item_ids_the_catalogue_is_ranked() {
    let answer = infer(json!({ "inputs": [], "outputs": [{ "name": "item_ids" }] })).await.json();
    assert_eq!(
        answer["outputs"],
        json!([{
            "name": "item_ids", "datatype": "BYTES", "shape": [4], "data": ["258", "255", "172", "50"],
        }])
    );
}

/// A REST request with tensors' bytes after its JSON.
fn binary(json: &Value, raw: &[u8]) -> Request<Body> {
    let json = json.to_string();
    let request = Request::post(INFER).header("inference-header-content-length", json.len());
    request.body(Body::from([json.as_bytes(), raw].concat())).unwrap()
}

#[tokio::test]
async fn binary_tensors_ask_and_answer() {
    let raw = [&[2, 0, 0, 0][..], b"50", &[3, 0, 0, 0], b"258", &33_f32.to_le_bytes()].concat();
    let request = json!({
        "inputs": [
            { "name": "item_ids", "shape": [2], "datatype": "BYTES", "parameters": { "binary_data_size": 13 } },
            { "name": "age", "shape": [1], "datatype": "FP32", "parameters": { "binary_data_size": 4 } },
        ],
        "outputs": [
            { "name": "item_ids", "parameters": { "binary_data": true } },
            { "name": "scores", "parameters": { "binary_data": false } },
        ],
    });
    let answer = send(&router(Arc::new(Plain::new())), binary(&request, &raw)).await;
    let length: usize = answer.header("inference-header-content-length").unwrap().parse().unwrap();
    let (json, raw) = answer.body.split_at(length);
    let json: Value = serde_json::from_slice(json).unwrap();
    assert_eq!(json["outputs"][0]["parameters"], json!({ "binary_data_size": 13 }));
    assert_eq!(json["outputs"][1]["data"], json!([0.097, 0.077]));
    assert_eq!(raw, [&[3, 0, 0, 0][..], b"258", &[2, 0, 0, 0], b"50"].concat());
}

#[tokio::test]
async fn bad_tensors_are_refused() {
    let with = |input: Value| infer(json!({ "inputs": [input] }));
    let tensor = |name: &str, shape: Value, datatype: &str, data: Value| {
        with(json!({ "name": name, "shape": shape, "datatype": datatype, "data": data }))
    };
    for (answer, name, part) in [
        (tensor("item_ids", json!([2]), "BYTES", json!(["50"])).await, "invalid-tensor", "give [1]"),
        (tensor("item_ids", json!([-1]), "BYTES", json!(["50"])).await, "invalid-tensor", "give [1]"),
        (tensor("item_ids", json!([1]), "FP32", json!([50])).await, "invalid-tensor", "BYTES or INT64"),
        (tensor("item_ids", json!([0]), "BYTES", json!([])).await, "empty-candidates", "no candidates"),
        (tensor("item_ids", json!([2]), "BYTES", json!(["50", "50"])).await, "duplicate-candidate", "twice"),
        (tensor("item_ids", json!([2]), "BYTES", json!(["50", 50])).await, "invalid-body", "mixes"),
        (tensor("item_ids", json!([1]), "BYTES", json!([50])).await, "invalid-tensor", "BYTES data of integers"),
        (tensor("item_ids", json!([1]), "INT64", json!([0.5])).await, "invalid-tensor", "INT64 data of"),
        (tensor("item_ids", json!([1]), "INT64", json!([true])).await, "invalid-body", "boolean"),
        (tensor("queri", json!([1]), "BYTES", json!(["x"])).await, "unknown-element", "`query`"),
        (tensor("query", json!([1]), "INT64", json!([1])).await, "wrong-type", "takes text, got integers"),
        (tensor("query", json!([2]), "BYTES", json!(["x", "y"])).await, "invalid-tensor", "one text, got 2"),
        (tensor("age", json!([1]), "BYTES", json!(["33"])).await, "wrong-type", "takes number, got BYTES"),
        (tensor("age", json!([1]), "UINT8", json!([33])).await, "invalid-tensor", "UINT8"),
        (tensor("history", json!([1]), "FP64", json!([1.5])).await, "wrong-type", "list<id>"),
        (with(json!({ "name": "age", "shape": [1], "datatype": "FP32" })).await, "invalid-tensor", "neither"),
        (with(json!({ "name": "age" })).await, "invalid-body", "missing field `shape`"),
        (infer(json!({ "inputs": [], "outputs": [{ "name": "score" }] })).await, "invalid-tensor", "scores"),
        (infer(json!({ "inputs": [], "parameters": { "limit": "2" } })).await, "invalid-body", "`limit`"),
        (infer(json!({ "inputs": [], "parameters": { "limit": -2 } })).await, "invalid-body", "`limit`"),
        (infer(json!({ "inputs": [], "parameters": { "limit": 0 } })).await, "invalid-limit", "1 to 1000"),
        (infer(json!({ "inputs": [], "parameters": { "timeout": "x" } })).await, "invalid-timeout", "`x`"),
        (infer(json!({ "inputs": [], "parameters": { "timeout": -5 } })).await, "invalid-body", "`timeout`"),
        (infer(json!({ "inputs": [], "parameters": { "timeout": 0 } })).await, "invalid-timeout", "0s"),
        (infer(json!({})).await, "invalid-body", "missing field `inputs`"),
    ] {
        let error = refused(&answer, 400, name);
        assert!(error.contains(part), "{error}: {part}");
    }
    let memory = json!({ "name": "age", "shape": [1], "datatype": "FP32",
                         "parameters": { "shared_memory_region": "x", "shared_memory_byte_size": 4 } });
    assert!(refused(&with(memory).await, 400, "invalid-tensor").contains("shared memory"));
    let age = json!({ "name": "age", "shape": [1], "datatype": "FP32", "data": [1] });
    assert!(refused(&infer(json!({ "inputs": [age, age] })).await, 400, "invalid-tensor").contains("twice"));
}

#[tokio::test]
async fn bad_binary_bodies_are_refused() {
    let router = router(Arc::new(Plain::new()));
    let input = |size: Value| {
        json!({ "inputs": [
            { "name": "age", "shape": [1], "datatype": "FP32", "parameters": { "binary_data_size": size } },
        ] })
    };
    for (size, raw, part) in [
        (json!(4), &[0; 3][..], "with 3 bytes left"),
        (json!(4), &[0; 5], "1 bytes after the last tensor"),
        (json!(3), &[0; 3], "no whole number"),
        (json!(-4), &[0; 4], "binary_data_size -4"),
        (json!("4"), &[0; 4], "no whole number"),
        (json!(8), &[0; 8], "shape [1] with 2 elements"),
    ] {
        let answer = send(&router, binary(&input(size), raw)).await;
        let error = answer.json()["error"].as_str().unwrap().to_owned();
        assert_eq!(answer.status, 400);
        assert!(error.contains(part), "{error}: {part}");
    }
    for length in ["x", "-1", "999999", "3"] {
        let request = Request::post(INFER).header("inference-header-content-length", length);
        let answer = send(&router, request.body(Body::from("{\"inputs\": []}")).unwrap()).await;
        refused(&answer, 400, "invalid-body");
    }
}

#[tokio::test]
async fn a_model_is_described_by_rest() {
    let router = router(Arc::new(Plain::new()));
    assert_eq!(get(&router, "/v2/health/live").await.json(), json!({ "live": true }));
    assert_eq!(get(&router, "/v2/health/ready").await.json(), json!({ "ready": true }));
    assert_eq!(get(&router, "/v2").await.json()["name"], "unimodel");
    let version = "20260101T000000Z-1a2b3c4d";
    for path in ["/v2/models/search".to_owned(), format!("/v2/models/search/versions/{version}")] {
        assert_eq!(get(&router, &format!("{path}/ready")).await.json(), json!({ "name": "search", "ready": true }));
        let metadata = get(&router, &path).await.json();
        assert_eq!((&metadata["platform"], &metadata["versions"]), (&json!("unimodel"), &json!([version])));
        let inputs = metadata["inputs"].as_array().unwrap();
        assert_eq!(inputs[1], json!({ "name": "age", "datatype": "FP32", "shape": [1] }));
        assert_eq!(inputs[4], json!({ "name": "history", "datatype": "BYTES", "shape": [-1] }));
        assert_eq!(inputs[9], json!({ "name": "item_ids", "datatype": "BYTES", "shape": [-1] }));
        let config = get(&router, &format!("{path}/config")).await.json();
        assert_eq!(config["max_batch_size"], 0);
        assert_eq!(config["output"][0], json!({ "name": "scores", "data_type": "TYPE_FP32", "dims": [-1] }));
        let statistics = get(&router, &format!("{path}/stats")).await.json();
        assert_eq!(statistics["model_stats"][0]["inference_stats"]["success"]["ns"], 1_000_000);
        let answer = post(&router, &format!("{path}/infer"), r#"{"inputs": []}"#).await;
        assert_eq!(answer.json()["model_version"], version);
    }
    let config = get(&router, "/v2/models/notifications/config").await.json();
    assert_eq!(
        config["input"][0],
        json!({ "name": "user_id", "data_type": "TYPE_STRING", "dims": [1], "optional": false })
    );
    assert_eq!(get(&router, "/v2/models/stats").await.json()["model_stats"].as_array().unwrap().len(), 4);
    let index = json!([
        { "name": "category", "version": version, "state": "READY", "reason": "" },
        { "name": "notifications", "version": version, "state": "READY", "reason": "" },
        { "name": "related", "version": version, "state": "READY", "reason": "" },
        { "name": "search", "version": version, "state": "READY", "reason": "" },
    ]);
    assert_eq!(post(&router, "/v2/repository/index", "").await.json(), index);

    refused(&get(&router, "/v2/models/serach").await, 404, "unknown-task");
    refused(&get(&router, "/v2/models/search/versions/1").await, 404, "unknown-version");
    refused(&post(&router, "/v2/models/search/versions/1/infer", "{}").await, 404, "unknown-version");
    refused(&post(&router, "/v2/models/serach/infer", "{}").await, 404, "unknown-task");
    refused(&post(&router, "/v2/repository/index", "{").await, 400, "invalid-body");
}

#[tokio::test]
async fn a_version_that_is_asked_for_is_the_one_that_answers() {
    let router = router(Arc::new(Plain::new()));
    let body = r#"{"inputs": [{"name": "user_id", "shape": [1], "datatype": "BYTES", "data": ["swapped"]}]}"#;
    assert_eq!(post(&router, INFER, body).await.json()["model_version"], SWAPPED);
    let version = "20260101T000000Z-1a2b3c4d";
    let answer = post(&router, &format!("/v2/models/search/versions/{version}/infer"), body).await;
    assert!(refused(&answer, 404, "unknown-version").contains(SWAPPED));
    assert_eq!(answer.json()["active"], SWAPPED);

    let inputs = || vec![tensor("user_id", &[1], "BYTES", strings(&["swapped"]))];
    assert_eq!(grpc(request(inputs())).await.unwrap().model_version, SWAPPED);
    let pinned = ModelInferRequest { model_version: version.into(), ..request(inputs()) };
    let status = grpc(pinned).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains(SWAPPED));
}

#[tokio::test]
async fn what_is_not_ready_says_so() {
    let router = router(Arc::new(Plain::without_version()));
    let answer = get(&router, "/v2/health/ready").await;
    assert_eq!((answer.status.as_u16(), answer.json()), (400, json!({ "ready": false })));
    let answer = get(&router, "/v2/models/search/ready").await;
    assert_eq!((answer.status.as_u16(), &answer.json()["ready"]), (400, &json!(false)));
    assert!(refused(&get(&router, "/v2/models/search").await, 503, "not-ready").contains("loading"));
    refused(&post(&router, INFER, r#"{"inputs": []}"#).await, 503, "not-ready");
    let index = post(&router, "/v2/repository/index", "{}").await.json();
    assert_eq!(index[0]["state"], "UNAVAILABLE");
    assert!(index[0]["reason"].as_str().unwrap().contains("loading"));
    assert_eq!(post(&router, "/v2/repository/index", r#"{"ready": true}"#).await.json(), json!([]));
}

#[tokio::test]
async fn a_task_that_does_not_answer_is_unavailable_and_says_why() {
    let router = router(Arc::new(Plain::lacking("related")));
    let why = "the version has no head `related`";
    let index = post(&router, "/v2/repository/index", "{}").await.json();
    assert_eq!(index[2], json!({ "name": "related", "version": "", "state": "UNAVAILABLE", "reason": why }));
    assert_eq!(index[3]["state"], "READY");
    let ready = post(&router, "/v2/repository/index", r#"{"ready": true}"#).await.json();
    assert_eq!(ready.as_array().unwrap().len(), 3, "{ready}");
    assert_eq!(get(&router, "/v2/models/related/ready").await.status, 400);
    assert_eq!(refused(&get(&router, "/v2/models/related").await, 503, "not-ready"), format!("not ready: {why}"));
}

fn tensor(name: &str, shape: &[i64], datatype: &str, contents: Option<InferTensorContents>) -> InferInputTensor {
    let (name, datatype, shape) = (name.to_owned(), datatype.to_owned(), shape.to_vec());
    InferInputTensor { name, datatype, shape, contents, parameters: HashMap::new() }
}

fn strings(list: &[&'static str]) -> Option<InferTensorContents> {
    let bytes_contents = list.iter().map(|text| Bytes::from_static(text.as_bytes())).collect();
    Some(InferTensorContents { bytes_contents, ..Default::default() })
}

fn request(inputs: Vec<InferInputTensor>) -> ModelInferRequest {
    ModelInferRequest { model_name: "search".into(), id: "42".into(), inputs, ..Default::default() }
}

async fn grpc(request: ModelInferRequest) -> Result<ModelInferResponse, Status> {
    let server = Server::start().await;
    let mut client = GrpcInferenceServiceClient::new(server.channel().await);
    client.model_infer(request).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn typed_and_raw_contents_agree() {
    let age = InferTensorContents { fp32_contents: vec![33.0], ..Default::default() };
    let history = InferTensorContents { int64_contents: vec![258], ..Default::default() };
    let typed = grpc(request(vec![
        tensor("query", &[1], "BYTES", strings(&["star wars"])),
        tensor("age", &[1], "FP32", Some(age)),
        tensor("history", &[1], "INT64", Some(history)),
        tensor("item_ids", &[3], "BYTES", strings(&["258", "50", "nope"])),
    ]))
    .await
    .unwrap();
    let mut raw = request(vec![
        tensor("query", &[1], "BYTES", None),
        tensor("age", &[1], "FP32", None),
        tensor("history", &[1], "INT64", None),
        tensor("item_ids", &[3], "BYTES", None),
    ]);
    let ids = [&[3, 0, 0, 0][..], b"258", &[2, 0, 0, 0], b"50", &[4, 0, 0, 0], b"nope"].concat();
    raw.raw_input_contents = vec![
        Bytes::from([&[9, 0, 0, 0][..], b"star wars"].concat()),
        Bytes::from(33_f32.to_le_bytes().to_vec()),
        Bytes::from(258_i64.to_le_bytes().to_vec()),
        Bytes::from(ids),
    ];
    assert_eq!(grpc(raw).await.unwrap(), typed);

    assert_eq!((typed.model_name.as_str(), typed.id.as_str()), ("search", "42"));
    let outputs: Vec<_> = typed.outputs.iter().map(|o| (o.name.as_str(), o.datatype.as_str(), o.shape[0])).collect();
    assert_eq!(outputs, [("scores", "FP32", 2), ("item_ids", "BYTES", 2), ("unknown_ids", "BYTES", 1)]);
    assert_eq!(typed.raw_output_contents[1], [&[2, 0, 0, 0][..], b"50", &[3, 0, 0, 0], b"258"].concat());
    assert_eq!(typed.raw_output_contents[2], [&[4, 0, 0, 0][..], b"nope"].concat());
}

#[tokio::test]
async fn parameters_and_outputs_are_read() {
    let parameter = |choice| InferParameter { parameter_choice: Some(choice) };
    let response = grpc(ModelInferRequest {
        parameters: [
            ("limit".to_owned(), parameter(ParameterChoice::Uint64Param(1))),
            ("timeout".to_owned(), parameter(ParameterChoice::Int64Param(500_000))),
        ]
        .into(),
        outputs: vec![InferRequestedOutputTensor { name: "item_ids".into(), parameters: HashMap::new() }],
        ..request(vec![])
    })
    .await
    .unwrap();
    assert_eq!((response.outputs.len(), response.raw_output_contents.len()), (1, 1));
    assert_eq!(response.outputs[0].shape, [1]);
}

#[tokio::test]
async fn bad_grpc_requests_are_refused() {
    let raw = |inputs, raw: &[&'static [u8]]| ModelInferRequest {
        raw_input_contents: raw.iter().map(|bytes| Bytes::from_static(bytes)).collect(),
        ..request(inputs)
    };
    let age = || tensor("age", &[1], "FP32", None);
    let full =
        tensor("age", &[1], "FP32", Some(InferTensorContents { fp32_contents: vec![1.0], ..Default::default() }));
    let nan = InferTensorContents { fp32_contents: vec![f32::NAN], ..Default::default() };
    let not_utf8 = InferTensorContents { bytes_contents: vec![Bytes::from_static(&[0xff])], ..Default::default() };
    for (request, part) in [
        (request(vec![age()]), "shape [1] with 0 elements"),
        (raw(vec![age()], &[&[0; 4], &[0; 4]]), "2 raw_input_contents for 1 inputs"),
        (raw(vec![full], &[&[0; 4]]), "both contents"),
        (raw(vec![age()], &[&[0; 3]]), "no whole number"),
        (request(vec![tensor("age", &[1], "FP32", Some(nan))]), "finite"),
        (request(vec![tensor("query", &[1], "BYTES", Some(not_utf8))]), "UTF-8"),
        (request(vec![tensor("age", &[1], "FP16", None)]), "FP16"),
    ] {
        let status = grpc(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(part), "{}: {part}", status.message());
    }
    let unknown = ModelInferRequest { model_name: "serach".into(), ..Default::default() };
    assert_eq!(grpc(unknown).await.unwrap_err().code(), Code::NotFound);
    let version = ModelInferRequest { model_version: "1".into(), ..request(vec![]) };
    assert_eq!(grpc(version).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_model_is_described_by_grpc() {
    let server = Server::start().await;
    let mut client = GrpcInferenceServiceClient::new(server.channel().await);
    let name = || "search".to_owned();
    assert!(client.server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready);
    let ready = |name: &str, version: &str| ModelReadyRequest { name: name.into(), version: version.into() };
    assert!(client.model_ready(ready("search", "")).await.unwrap().into_inner().ready);
    assert_eq!(client.model_ready(ready("serach", "")).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(client.model_ready(ready("search", "1")).await.unwrap_err().code(), Code::NotFound);
    let metadata = client.model_metadata(ModelMetadataRequest { name: name(), version: String::new() }).await.unwrap();
    assert_eq!(metadata.get_ref().inputs[0].name, "user_id");
    let config = client.model_config(ModelConfigRequest { name: name(), version: String::new() }).await.unwrap();
    assert_eq!(config.into_inner().config.unwrap().input.len(), 11);
    let all = ModelStatisticsRequest::default();
    assert_eq!(client.model_statistics(all).await.unwrap().into_inner().model_stats.len(), 4);
    let one = ModelStatisticsRequest { name: name(), version: String::new() };
    assert_eq!(client.model_statistics(one).await.unwrap().into_inner().model_stats[0].name, "search");
    let index = client.repository_index(RepositoryIndexRequest::default()).await.unwrap().into_inner();
    assert_eq!(index.models.iter().map(|m| m.state.as_str()).collect::<Vec<_>>(), ["READY"; 4]);

    server.ranking.set(Readiness::NotReady { reason: "draining".into() });
    assert!(!client.server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready);
    assert!(!client.model_ready(ready("search", "")).await.unwrap().into_inner().ready);
}
