//! `/v2`: Open Inference Protocol v2 by REST, with the binary tensor data extension.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};
use unimodel_protocol::inference as pb;
use unimodel_transport::statistics;

use crate::error::RankError;
use crate::front::{Call, Front};
use crate::http::route::{Route, get, post};
use crate::http::{Object, problem, syntax};
use crate::oip::infer::{self, Output, Parameter, Parameters};
use crate::oip::tensor::{Data, DataType, Tensor, invalid};
use crate::oip::{describe, json as form};
use crate::ranking::Protocol;
use crate::timeout;

/// Where a body's JSON ends and its tensors' bytes begin.
const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

pub(crate) fn routes() -> Vec<Route> {
    let mut routes = vec![
        get("/v2", server_metadata),
        get("/v2/", server_metadata),
        get("/v2/health/live", live),
        get("/v2/health/ready", ready),
        get("/v2/models/stats", all_statistics),
        post("/v2/repository/index", index),
    ];
    for model in ["/v2/models/{model}", "/v2/models/{model}/versions/{version}"] {
        routes.extend([
            get(model, metadata),
            get(format!("{model}/ready"), model_ready),
            get(format!("{model}/config"), config),
            get(format!("{model}/stats"), statistics),
            post(format!("{model}/infer"), infer),
        ]);
    }
    routes
}

/// The model and the version in a path.
#[derive(serde::Deserialize)]
struct Model {
    model: String,
    #[serde(default)]
    version: String,
}

async fn live() -> Response {
    json(StatusCode::OK, &json!({ "live": true }))
}

async fn ready(State(front): State<Arc<Front>>) -> Response {
    readiness(describe::is_ready(&front), None)
}

async fn model_ready(State(front): State<Arc<Front>>, Path(path): Path<Model>) -> Response {
    let mut call = Call::new(Protocol::InferenceRest);
    let ready = front
        .task(&mut call, &path.model)
        .and_then(|task| describe::version(&front, &task, &path.version).map(|_| describe::is_ready(&front)));
    match ready {
        Ok(ready) => readiness(ready, Some(&path.model)),
        Err(RankError::NotReady { .. }) => readiness(false, Some(&path.model)),
        Err(error) => fail(&error),
    }
}

/// The protocol has a status of 4xx for what is not ready.
fn readiness(ready: bool, model: Option<&str>) -> Response {
    let status = if ready { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    match model {
        Some(name) => json(status, &json!({ "name": name, "ready": ready })),
        None => json(status, &json!({ "ready": ready })),
    }
}

async fn server_metadata() -> Response {
    let version = env!("CARGO_PKG_VERSION");
    json(StatusCode::OK, &json!({ "name": describe::NAME, "version": version, "extensions": describe::EXTENSIONS }))
}

async fn metadata(State(front): State<Arc<Front>>, Path(path): Path<Model>) -> Response {
    described(&front, &path, |task, version| {
        let metadata = describe::metadata(task, version);
        let tensors = |list: Vec<pb::model_metadata_response::TensorMetadata>| {
            list.into_iter()
                .map(|t| json!({ "name": t.name, "datatype": t.datatype, "shape": t.shape }))
                .collect::<Vec<_>>()
        };
        json!({
            "name": metadata.name,
            "versions": metadata.versions,
            "platform": metadata.platform,
            "inputs": tensors(metadata.inputs),
            "outputs": tensors(metadata.outputs),
        })
    })
}

async fn config(State(front): State<Arc<Front>>, Path(path): Path<Model>) -> Response {
    described(&front, &path, |task, version| {
        let config = describe::config(task, version);
        let data_type = |value| pb::DataType::try_from(value).unwrap_or_default().as_str_name();
        json!({
            "name": config.name,
            "platform": config.platform,
            "backend": config.backend,
            "max_batch_size": config.max_batch_size,
            "input": config.input.iter().map(|i| json!({
                "name": i.name, "data_type": data_type(i.data_type), "dims": i.dims, "optional": i.optional,
            })).collect::<Vec<_>>(),
            "output": config.output.iter().map(|o| json!({
                "name": o.name, "data_type": data_type(o.data_type), "dims": o.dims,
            })).collect::<Vec<_>>(),
        })
    })
}

async fn statistics(State(front): State<Arc<Front>>, Path(path): Path<Model>) -> Response {
    described(
        &front,
        &path,
        |task, _| json!({ "model_stats": [statistics::print(describe::statistics(&front, task))] }),
    )
}

async fn all_statistics(State(front): State<Arc<Front>>) -> Response {
    let tasks = front.ranking.tasks();
    let all: Vec<Value> = tasks.iter().map(|task| statistics::print(describe::statistics(&front, task))).collect();
    json(StatusCode::OK, &json!({ "model_stats": all }))
}

async fn index(State(front): State<Arc<Front>>, headers: HeaderMap, body: Body) -> Response {
    #[derive(Default, serde::Deserialize)]
    struct Asked {
        #[serde(default)]
        ready: bool,
    }
    let asked = match front.intake.read(&headers, body).await {
        Ok((body, _)) if body.is_empty() => Ok(Asked::default()),
        Ok((body, _)) => serde_json::from_slice(&body).map(|Object(asked)| asked).map_err(|error| syntax(&error)),
        Err(error) => Err(error.into()),
    };
    match asked {
        Ok(Asked { ready }) => {
            let models: Vec<Value> = describe::index(&front, ready)
                .into_iter()
                .map(|m| json!({ "name": m.name, "version": m.version, "state": m.state, "reason": m.reason }))
                .collect();
            json(StatusCode::OK, &Value::Array(models))
        }
        Err(error) => fail(&error),
    }
}

fn described(
    front: &Front,
    path: &Model,
    print: impl FnOnce(&crate::request::Task, &crate::request::Version) -> Value,
) -> Response {
    let mut call = Call::new(Protocol::InferenceRest);
    let printed = front
        .task(&mut call, &path.model)
        .and_then(|task| describe::version(front, &task, &path.version).map(|version| print(&task, version)));
    match printed {
        Ok(value) => json(StatusCode::OK, &value),
        Err(error) => fail(&error),
    }
}

async fn infer(State(front): State<Arc<Front>>, Path(path): Path<Model>, headers: HeaderMap, body: Body) -> Response {
    let mut call = Call::new(Protocol::InferenceRest);
    let result = inferred(&front, &mut call, &path, &headers, body).await;
    front.done(&call, &result);
    result.unwrap_or_else(|error| fail(&error))
}

async fn inferred(
    front: &Front,
    call: &mut Call,
    path: &Model,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, RankError> {
    let known = front.task(call, &path.model);
    // Whatever is wrong, as in `http/rank.rs`.
    let read = front.intake.read(headers, body).await;
    known?;
    let transport = timeout::from_headers(headers)?;
    let (body, _held) = read?;
    // Only now: while a body arrives another version may become active.
    let task = front.task(call, &path.model)?;
    let version = describe::version(front, &task, &path.version)?;
    let (json, raw) = split(headers, body)?;
    let Object(request): Object<form::Request> = serde_json::from_slice(&json).map_err(|error| syntax(&error))?;

    let mut parameters = Parameters::default();
    for (name, value) in &request.parameters.0 {
        parameters.set(name, value)?;
    }
    let binary = flag(&request.parameters, "binary_data_output");
    let mut names = Vec::new();
    let mut binaries = Vec::new();
    for Object(requested) in &request.outputs {
        no_shared_memory(&requested.name, &requested.parameters)?;
        names.push(infer::output(&requested.name)?);
        binaries.push(flag(&requested.parameters, "binary_data").unwrap_or(binary.unwrap_or(false)));
    }
    let asked = infer::ask(tensors(request.inputs, &raw)?, &parameters, &version.schema)?;

    let response = front.rank(call, &task, asked, transport).await?;
    describe::is_asked(&task, &path.version, &response.model_version)?;
    Ok(front.write(response, |response| {
        let version = response.model_version.clone();
        let outputs = infer::outputs(response, &names);
        binaries.resize(outputs.len(), binary.unwrap_or(false));
        print(&task.name, &version, request.id.as_deref(), &outputs, &binaries)
    }))
}

/// The JSON of a body, and the bytes of tensors after it.
fn split(headers: &HeaderMap, body: Bytes) -> Result<(Bytes, Bytes), RankError> {
    let Some(length) = headers.get(JSON_LENGTH) else {
        return Ok((body, Bytes::new()));
    };
    let length =
        length.to_str().ok().and_then(|length| length.parse::<usize>().ok()).filter(|length| *length <= body.len());
    let length = length.ok_or_else(|| {
        let problem = format!("{JSON_LENGTH} is no length within the body of {} bytes", body.len());
        RankError::invalid_body(problem)
    })?;
    Ok((body.slice(..length), body.slice(length..)))
}

fn tensors(inputs: Vec<Object<form::Input>>, mut raw: &[u8]) -> Result<Vec<Tensor>, RankError> {
    let mut tensors = Vec::with_capacity(inputs.len());
    for Object(input) in inputs {
        let kind = DataType::parse(&input.name, &input.datatype)?;
        no_shared_memory(&input.name, &input.parameters)?;
        let data = match (input.parameters.get("binary_data_size"), input.data) {
            (None, Some(form::Flat(data))) => typed(&input.name, kind, data)?,
            (Some(Parameter::Integer(size)), None) => {
                let (own, rest) =
                    usize::try_from(*size).ok().and_then(|size| raw.split_at_checked(size)).ok_or_else(|| {
                        invalid(&input.name, format!("binary_data_size {size}, with {} bytes left", raw.len()))
                    })?;
                raw = rest;
                Data::from_raw(&input.name, kind, own)?
            }
            (Some(_), None) => return Err(invalid(&input.name, "binary_data_size is no whole number")),
            (Some(_), Some(_)) => return Err(invalid(&input.name, "both data and binary_data_size")),
            (None, None) => return Err(invalid(&input.name, "neither data nor binary_data_size")),
        };
        tensors.push(Tensor::new(input.name, &input.shape, data)?);
    }
    if raw.is_empty() {
        Ok(tensors)
    } else {
        Err(RankError::invalid_body(format!("{} bytes after the last tensor", raw.len())))
    }
}

/// JSON tells strings and numbers apart, and the data type says which numbers.
fn typed(tensor: &str, kind: DataType, data: Data) -> Result<Data, RankError> {
    Ok(match (kind, data) {
        (DataType::Bytes, data @ Data::Text(_)) | (DataType::Fp32 | DataType::Fp64, data @ Data::Numbers(_)) => data,
        (DataType::Int32 | DataType::Int64, data @ Data::Integers(_)) => data,
        (DataType::Fp32 | DataType::Fp64, Data::Integers(list)) => {
            Data::Numbers(list.into_iter().map(|i| i as f64).collect())
        }
        (DataType::Bytes, Data::Integers(list)) if list.is_empty() => Data::Text(Default::default()),
        (kind, data) => return Err(invalid(tensor, format!("{} data of {}", kind.name(), data.kind()))),
    })
}

fn flag(parameters: &form::ParameterMap, name: &str) -> Option<bool> {
    match parameters.get(name) {
        Some(Parameter::Bool(value)) => Some(*value),
        _ => None,
    }
}

fn no_shared_memory(tensor: &str, parameters: &form::ParameterMap) -> Result<(), RankError> {
    match parameters.get("shared_memory_region") {
        Some(_) => Err(invalid(tensor, "shared memory is not supported")),
        None => Ok(()),
    }
}

fn print(model: &str, version: &str, id: Option<&str>, outputs: &[Output], binaries: &[bool]) -> Response {
    let raws: Vec<Option<Vec<u8>>> =
        outputs.iter().zip(binaries).map(|(output, binary)| binary.then(|| output.raw())).collect();
    let printed = outputs
        .iter()
        .zip(&raws)
        .map(|(output, raw)| form::PrintedOutput {
            name: output.name,
            datatype: output.datatype(),
            shape: [output.len()],
            parameters: raw.as_ref().map(|raw| form::BinarySize { binary_data_size: raw.len() }),
            data: raw.is_none().then_some(output),
        })
        .collect();
    let response = form::Response { model_name: model, model_version: version, id, outputs: printed };
    let mut body = serde_json::to_vec(&response).expect("a response has string keys and finite scores");
    let json_length = body.len();
    let binary = raws.iter().any(Option::is_some);
    raws.into_iter().flatten().for_each(|raw| body.extend(raw));
    let content_type = if binary { "application/octet-stream" } else { "application/json" };
    let mut response = body.into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if binary {
        response.headers_mut().insert(JSON_LENGTH, HeaderValue::from(json_length));
    }
    response
}

fn json(status: StatusCode, value: &Value) -> Response {
    let mut response = (status, value.to_string()).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The problem document with the `error` that the protocol asks for.
fn fail(error: &RankError) -> Response {
    let problem = error.problem();
    let mut document = problem.document();
    document.insert("error".into(), json!(problem.detail));
    problem::response(&problem, document, "application/json")
}
