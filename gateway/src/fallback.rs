//! Answering by something else than the asked task's servers, and saying so.
//!
//! Only here is a body read or changed: on the way that requests take when their task's servers do not answer.

use std::collections::HashSet;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use prost::Message;
use prost_types::value::Kind;
use serde::Deserialize;
use serde_json::{Value, json};
use unimodel_protocol::inference as pb;
use unimodel_protocol::v1;
use unimodel_protocol::v1::fallback::Kind as By;

use crate::error::GatewayError;
use crate::exchange::{Answer, Outgoing};
use crate::metrics::Protocol;
use crate::peek::{grpc_frame, grpc_message, json as scan, protobuf};
use crate::popularity::{Source, Wanted};
use crate::table::Task;

/// The header that says which fallback answered, and why.
pub const FALLBACK: HeaderName = HeaderName::from_static("x-unimodel-fallback");

/// The name of the only static list.
const POPULARITY: &str = "Popularity";

/// The request as another task's servers understand it. `from` and `to`: names of tasks.
pub fn renamed(outgoing: &Outgoing, protocol: Protocol, from: &str, to: &str) -> Outgoing {
    let mut renamed = outgoing.clone();
    match protocol {
        Protocol::Rest => {
            if let Some(path) = path(&outgoing.path, &format!("/v1/tasks/{from}:"), &format!("/v1/tasks/{to}:")) {
                renamed.path = path;
            }
            if let Some([Some(_)]) = scan::members(&outgoing.body, ["task"])
                && let Some(body) = scan::set_member(&outgoing.body, "task", &json!(to).to_string())
            {
                renamed.body = body.into();
            }
        }
        Protocol::InferenceRest => {
            if let Some(path) = path(&outgoing.path, &format!("/v2/models/{from}"), &format!("/v2/models/{to}")) {
                renamed.path = path;
            }
        }
        Protocol::Grpc | Protocol::InferenceGrpc => {
            // Of a field that is not repeated, the last one holds.
            if let Ok(Some(message)) = grpc_message(&outgoing.body) {
                let mut message = message.to_vec();
                protobuf::append(&mut message, 1, to.as_bytes());
                renamed.body = grpc_frame(&message);
            }
        }
    }
    renamed
}

fn path(path: &PathAndQuery, from: &str, to: &str) -> Option<PathAndQuery> {
    let rest = path.as_str().strip_prefix(from)?;
    format!("{to}{rest}").parse().ok()
}

/// Says in another environment's answer that it is one. What cannot be changed (a compressed, large or foreign body)
/// says it in the header alone.
pub fn mark(answer: &mut Answer, protocol: Protocol, task: &str, reason: &str) {
    say(&mut answer.headers, "task", task, reason);
    if answer.rest.is_some() || answer.headers.contains_key(CONTENT_ENCODING) {
        return;
    }
    let fallback = By::Task(task.to_owned());
    let marked = match protocol {
        Protocol::Rest if answer.status == StatusCode::OK => {
            scan::set_member(&answer.body, "fallback", &printed(&fallback, reason).to_string()).map(Bytes::from)
        }
        Protocol::Grpc => match grpc_message(&answer.body) {
            Ok(Some(message)) => {
                let fallback = v1::Fallback { kind: Some(fallback), reason: reason.to_owned() };
                let mut message = message.to_vec();
                protobuf::append(&mut message, 7, &fallback.encode_to_vec());
                Some(grpc_frame(&message))
            }
            _ => None,
        },
        // Tensors have no place for it.
        Protocol::Rest | Protocol::InferenceRest | Protocol::InferenceGrpc => None,
    };
    if let Some(body) = marked {
        answer.body = body;
        answer.headers.remove(CONTENT_LENGTH);
    }
}

fn printed(by: &By, reason: &str) -> Value {
    match by {
        By::Task(task) => json!({ "task": task, "reason": reason }),
        By::Static(list) => json!({ "static": list, "reason": reason }),
    }
}

fn say(headers: &mut HeaderMap, kind: &str, name: &str, reason: &str) {
    if let Ok(value) = HeaderValue::from_str(&format!("{kind}={name}; reason={reason}")) {
        headers.insert(FALLBACK, value);
    }
}

/// The static answer. None: a list cannot answer this request.
///
/// # Errors
/// The request is not one; a server would have refused it too.
pub fn popular(
    task: &Task,
    protocol: Protocol,
    outgoing: &Outgoing,
    reason: &str,
) -> Result<Option<Answer>, GatewayError> {
    let Some(version) = &task.version else { return Ok(None) };
    let Some(ranking) = &version.ranking else { return Ok(None) };
    let wanted = match protocol {
        Protocol::Rest => wanted_json(&outgoing.body)?,
        Protocol::Grpc => wanted_protobuf(&outgoing.body)?,
        Protocol::InferenceGrpc => match wanted_tensors(&outgoing.body)? {
            Some(wanted) => wanted,
            None => return Ok(None),
        },
        Protocol::InferenceRest => return Ok(None),
    };
    let Some(items) = ranking.rank(&wanted) else { return Ok(None) };

    let by = By::Static(POPULARITY.to_owned());
    let facts = &version.facts;
    let (content_type, body, trailers) = match protocol {
        Protocol::Rest | Protocol::InferenceRest => {
            let body = json!({
                "items": items.iter().map(|(id, score)| json!({ "id": id, "score": score })).collect::<Vec<_>>(),
                "task": &*task.name,
                "modelVersion": facts.name,
                "dataTime": facts.data_time,
                "imputed": [],
                "unknown": [],
                "fallback": printed(&by, reason),
            });
            ("application/json", Bytes::from(body.to_string()), None)
        }
        Protocol::Grpc => {
            let mut ranked = v1::RankedItems::default();
            items.iter().for_each(|(id, score)| ranked.push(id, *score));
            let time = facts.data_time.as_nanosecond();
            let response = v1::RankResponse {
                items: ranked,
                task: task.name.to_string(),
                model_version: facts.name.clone(),
                data_time: Some(prost_types::Timestamp {
                    seconds: time.div_euclid(1_000_000_000) as i64,
                    nanos: time.rem_euclid(1_000_000_000) as i32,
                }),
                fallback: Some(v1::Fallback { kind: Some(by), reason: reason.to_owned() }),
                ..Default::default()
            };
            ("application/grpc", grpc_frame(&response.encode_to_vec()), Some(ok()))
        }
        Protocol::InferenceGrpc => {
            let response = tensors(&task.name, &facts.name, &items);
            ("application/grpc", grpc_frame(&response.encode_to_vec()), Some(ok()))
        }
    };
    let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]);
    say(&mut headers, "static", POPULARITY, reason);
    Ok(Some(Answer { status: StatusCode::OK, headers, body, trailers, rest: None }))
}

/// Trailers of a gRPC answer.
pub fn ok() -> HeaderMap {
    HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))])
}

fn invalid(message: impl Into<String>) -> GatewayError {
    GatewayError::InvalidBody { message: message.into(), position: None }
}

const ONE_OF: &str = "give exactly one of `candidates.ids`, `candidates.select` and `candidates.all`";

/// The one source that is given.
fn source(ids: Vec<String>, select: Option<Vec<(String, Vec<String>)>>, all: bool) -> Result<Source, GatewayError> {
    match (ids.is_empty(), select, all) {
        (false, None, false) => Ok(Source::Ids(ids)),
        (true, Some(select), false) => Ok(Source::Select(select)),
        (true, None, true) => Ok(Source::All),
        _ => Err(invalid(ONE_OF)),
    }
}

fn wanted_json(body: &[u8]) -> Result<Wanted, GatewayError> {
    #[derive(Deserialize)]
    struct Request {
        #[serde(default)]
        candidates: Option<Candidates>,
        #[serde(default)]
        limit: Option<Value>,
    }
    #[derive(Default, Deserialize)]
    struct Candidates {
        ids: Option<Vec<String>>,
        select: Option<serde_json::Map<String, Value>>,
        all: Option<bool>,
        exclude: Option<HashSet<String>>,
    }
    let request: Request = serde_json::from_slice(body).map_err(|error| GatewayError::syntax(&error))?;
    let candidates = request.candidates.unwrap_or_default();
    let limit = match request.limit {
        None | Some(Value::Null) => None,
        Some(limit) => {
            // The canonical mapping takes a number and a string with one.
            let number = limit.as_u64().or_else(|| limit.as_str()?.parse().ok());
            let number = number.or_else(|| limit.as_f64().filter(|l| l.fract() == 0.0 && *l > 0.0).map(|l| l as u64));
            Some(number.and_then(positive).ok_or_else(|| invalid(format!("limit {limit}; give 1 or more")))?)
        }
    };
    let select = candidates.select.map(|select| {
        let text = |value: Value| match value {
            Value::String(text) => text,
            value => value.to_string(),
        };
        let values = |value| match value {
            Value::Array(list) => list.into_iter().map(text).collect(),
            value => vec![text(value)],
        };
        select.into_iter().map(|(name, value)| (name, values(value))).collect()
    });
    let source = source(candidates.ids.unwrap_or_default(), select, candidates.all.unwrap_or(false))?;
    Ok(Wanted { source, exclude: candidates.exclude.unwrap_or_default(), limit })
}

fn positive(limit: u64) -> Option<usize> {
    usize::try_from(limit).ok().filter(|limit| *limit > 0)
}

fn wanted_protobuf(body: &Bytes) -> Result<Wanted, GatewayError> {
    let compressed = || GatewayError::UnsupportedEncoding { encoding: "of gRPC".into() };
    let message = grpc_message(body)?.ok_or_else(compressed)?;
    let request = v1::RankRequest::decode(message).map_err(|error| invalid(format!("invalid protobuf: {error}")))?;
    let candidates = request.candidates.unwrap_or_default();
    let limit = match request.limit {
        None => None,
        Some(limit) => Some(positive(limit.into()).ok_or_else(|| invalid("limit 0; give 1 or more"))?),
    };
    let text = |value: prost_types::Value| match value.kind {
        Some(Kind::StringValue(text)) => Some(text),
        Some(Kind::NumberValue(number)) => Some(number.to_string()),
        _ => None,
    };
    let values = |value: prost_types::Value| match value.kind {
        Some(Kind::ListValue(list)) => list.values.into_iter().filter_map(text).collect(),
        kind => text(prost_types::Value { kind }).into_iter().collect(),
    };
    let select =
        candidates.select.map(|select| select.fields.into_iter().map(|(name, value)| (name, values(value))).collect());
    let source = source(candidates.ids.iter().map(str::to_owned).collect(), select, candidates.all)?;
    Ok(Wanted { source, exclude: candidates.exclude.iter().map(str::to_owned).collect(), limit })
}

/// None: the outputs asked for are not those of a ranking.
fn wanted_tensors(body: &Bytes) -> Result<Option<Wanted>, GatewayError> {
    let compressed = || GatewayError::UnsupportedEncoding { encoding: "of gRPC".into() };
    let message = grpc_message(body)?.ok_or_else(compressed)?;
    let request =
        pb::ModelInferRequest::decode(message).map_err(|error| invalid(format!("invalid protobuf: {error}")))?;
    if !request.outputs.is_empty() {
        return Ok(None);
    }
    let mut wanted = Wanted::default();
    for (index, input) in request.inputs.iter().enumerate() {
        let is_source = match input.name.as_str() {
            "item_ids" => true,
            "exclude_ids" => false,
            _ => continue,
        };
        let Some(ids) = ids_of(input, request.raw_input_contents.get(index)) else { return Ok(None) };
        if is_source {
            wanted.source = Source::Ids(ids);
        } else {
            wanted.exclude = ids.into_iter().collect();
        }
    }
    if let Some(pb::infer_parameter::ParameterChoice::Int64Param(limit)) =
        request.parameters.get("limit").and_then(|limit| limit.parameter_choice.as_ref())
    {
        wanted.limit = u64::try_from(*limit).ok().and_then(positive);
    }
    Ok(Some(wanted))
}

/// Ids of a tensor. None: it has a form that only servers read.
fn ids_of(input: &pb::model_infer_request::InferInputTensor, raw: Option<&Bytes>) -> Option<Vec<String>> {
    match (input.datatype.as_str(), raw, &input.contents) {
        ("BYTES", None, Some(contents)) => {
            contents.bytes_contents.iter().map(|id| String::from_utf8(id.to_vec()).ok()).collect()
        }
        ("INT64", None, Some(contents)) => Some(contents.int64_contents.iter().map(i64::to_string).collect()),
        ("INT32", None, Some(contents)) => Some(contents.int_contents.iter().map(i32::to_string).collect()),
        ("INT64", Some(raw), None) => {
            Some(raw.as_chunks().0.iter().map(|id| i64::from_le_bytes(*id).to_string()).collect())
        }
        ("INT32", Some(raw), None) => {
            Some(raw.as_chunks().0.iter().map(|id| i32::from_le_bytes(*id).to_string()).collect())
        }
        ("BYTES", Some(raw), None) => {
            // Each string has its length before it.
            let mut rest = &raw[..];
            let mut ids = Vec::new();
            while let Some((length, after)) = rest.split_first_chunk::<4>() {
                let (id, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
                ids.push(std::str::from_utf8(id).ok()?.to_owned());
                rest = after;
            }
            rest.is_empty().then_some(ids)
        }
        _ => None,
    }
}

fn tensors(task: &str, version: &str, items: &[(String, f32)]) -> pb::ModelInferResponse {
    let output = |name: &str, datatype: &str, count: usize| pb::model_infer_response::InferOutputTensor {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape: vec![count as i64],
        ..Default::default()
    };
    let scores: Vec<u8> = items.iter().flat_map(|(_, score)| score.to_le_bytes()).collect();
    let ids: Vec<u8> =
        items.iter().flat_map(|(id, _)| (id.len() as u32).to_le_bytes().into_iter().chain(id.bytes())).collect();
    pb::ModelInferResponse {
        model_name: task.to_owned(),
        model_version: version.to_owned(),
        outputs: vec![
            output("scores", "FP32", items.len()),
            output("item_ids", "BYTES", items.len()),
            output("unknown_ids", "BYTES", 0),
        ],
        raw_output_contents: vec![scores.into(), ids.into(), Bytes::new()],
        ..Default::default()
    }
}
