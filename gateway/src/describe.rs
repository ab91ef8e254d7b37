//! What the gateway knows itself: tasks, where they are, and the server's side of Open Inference.

use std::sync::atomic::Ordering;
use std::time::Instant;

use http::{Response, StatusCode};
use serde_json::{Value, json};
use unimodel_protocol::duration;
use unimodel_protocol::inference as pb;
use unimodel_transport::statistics;

use crate::address::Own;
use crate::body::{self, Body};
use crate::error::GatewayError;
use crate::gateway::Gateway;
use crate::table::{Table, Task};

/// Name of the server and of its platform.
const NAME: &str = "unimodel";
/// Extensions of the protocol that the servers have.
const EXTENSIONS: [&str; 3] = ["binary_tensor_data", "model_configuration", "statistics"];
/// The document of the API.
const OPENAPI: &str = include_str!("../../docs/openapi.yaml");

/// Answers by HTTP.
///
/// # Errors
/// Unknown tasks.
pub fn respond(gateway: &Gateway, asked: &Own<'_>) -> Result<Response<Body>, GatewayError> {
    let table = gateway.table();
    let value = match asked {
        Own::OpenApi => return Ok(body::respond(StatusCode::OK, "application/yaml", OPENAPI)),
        Own::Tasks => json!({ "tasks": table.tasks().iter().map(|task| describe(task)).collect::<Vec<_>>() }),
        Own::Resolve(name) => resolve(known(&table, name)?),
        Own::Metadata => json!({ "name": NAME, "version": env!("CARGO_PKG_VERSION"), "extensions": EXTENSIONS }),
        Own::Live => json!({ "live": true }),
        Own::Ready => {
            let ready = !gateway.is_stopping();
            // The protocol has a status of 4xx for what is not ready.
            let status = if ready { StatusCode::OK } else { StatusCode::BAD_REQUEST };
            return Ok(body::json(status, &json!({ "ready": ready })));
        }
        Own::Statistics(None) => {
            json!({ "model_stats": table.tasks().iter().map(|task| statistics::print(of(task))).collect::<Vec<_>>() })
        }
        Own::Statistics(Some(name)) => json!({ "model_stats": [statistics::print(of(known(&table, name)?))] }),
        Own::Index { ready_only } => Value::Array(
            index(&table, *ready_only)
                .into_iter()
                .map(|m| json!({ "name": m.name, "version": m.version, "state": m.state, "reason": m.reason }))
                .collect(),
        ),
    };
    Ok(body::json(StatusCode::OK, &value))
}

/// The task of that name.
///
/// # Errors
/// There is none.
pub fn known<'a>(table: &'a Table, name: &str) -> Result<&'a std::sync::Arc<Task>, GatewayError> {
    table.task(name).ok_or_else(|| GatewayError::UnknownTask { task: name.to_owned(), known: table.names() })
}

fn describe(task: &Task) -> Value {
    let facts = &task.facts;
    let version = task.version.as_ref().map(|version| &version.facts);
    let head_name = facts.head.as_deref().unwrap_or(&facts.name);
    let head = version.and_then(|version| version.heads.iter().find(|head| head.name == head_name));
    json!({
        "name": facts.name,
        "head": head_name,
        "description": head.and_then(|head| head.description.as_deref()),
        "modelVersion": version.map(|version| version.name.as_str()),
        "dataTime": version.map(|version| version.data_time),
        "items": version.map(|version| version.items),
        "context": version.map_or(vec![], |version| {
            let element = |element: &crate::routes::Element| json!({
                "name": element.name,
                "type": element.kind,
                "description": element.description,
                "default": element.default,
                "required": facts.required.contains(&element.name),
                "trained": head.is_some_and(|head| head.elements.contains(&element.name)),
            });
            version.context.iter().map(element).collect()
        }),
        "attributes": version.map_or(vec![], |version| {
            version.attributes.iter().map(|a| json!({ "name": a.name, "type": a.kind })).collect()
        }),
        "maxCandidates": facts.max_candidates,
        "timeout": {
            "default": duration::print(task.timeout.default),
            "max": duration::print(task.timeout.max),
        },
    })
}

/// Where a caller may go directly.
fn resolve(task: &Task) -> Value {
    let now = Instant::now();
    json!({
        "task": &*task.name,
        "modelVersion": task.version.as_ref().map(|version| version.facts.name.as_str()),
        "endpoints": task.pool.iter().map(|(endpoint, weight)| json!({
            "address": &**endpoint.backend.address(),
            "weight": weight,
            "state": endpoint.state(now),
        })).collect::<Vec<_>>(),
        "timeout": {
            "default": duration::print(task.timeout.default),
            "max": duration::print(task.timeout.max),
        },
    })
}

/// Answers over gRPC: the encoded message of a method's response.
///
/// # Errors
/// Unknown tasks.
pub fn encoded(gateway: &Gateway, method: &str, request: &[u8]) -> Result<Vec<u8>, GatewayError> {
    use prost::Message;
    let table = gateway.table();
    let invalid = |error: prost::DecodeError| GatewayError::InvalidBody {
        message: format!("invalid protobuf: {error}"),
        position: None,
    };
    Ok(match method {
        "ServerLive" => pb::ServerLiveResponse { live: true }.encode_to_vec(),
        "ServerReady" => pb::ServerReadyResponse { ready: !gateway.is_stopping() }.encode_to_vec(),
        "ServerMetadata" => pb::ServerMetadataResponse {
            name: NAME.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            extensions: EXTENSIONS.map(str::to_owned).to_vec(),
        }
        .encode_to_vec(),
        "ModelStatistics" => {
            let asked = pb::ModelStatisticsRequest::decode(request).map_err(invalid)?;
            let model_stats = match asked.name.as_str() {
                "" => table.tasks().iter().map(|task| of(task)).collect(),
                name => vec![of(known(&table, name)?)],
            };
            pb::ModelStatisticsResponse { model_stats }.encode_to_vec()
        }
        _ => {
            let asked = pb::RepositoryIndexRequest::decode(request).map_err(invalid)?;
            pb::RepositoryIndexResponse { models: index(&table, asked.ready) }.encode_to_vec()
        }
    })
}

fn index(table: &Table, ready_only: bool) -> Vec<pb::repository_index_response::ModelIndex> {
    let now = Instant::now();
    let models = table.tasks().iter().map(|task| {
        let ready = task.can_answer(now);
        let (state, reason) = if ready { ("READY", "") } else { ("UNAVAILABLE", "no endpoint answers") };
        let version = task.version.as_ref().map_or(String::new(), |version| version.facts.name.clone());
        let model = pb::repository_index_response::ModelIndex {
            name: task.name.to_string(),
            version,
            state: state.to_owned(),
            reason: reason.to_owned(),
        };
        (ready, model)
    });
    models.filter(|(ready, _)| *ready || !ready_only).map(|(_, model)| model).collect()
}

/// What has been answered through this gateway. Times within servers are the servers' own to tell.
fn of(task: &Task) -> pb::ModelStatistics {
    let metrics = &task.state.metrics;
    let [success, failure] = metrics.answered();
    let duration =
        |count, index: usize| Some(pb::StatisticDuration { count, ns: metrics.nanos[index].load(Ordering::Relaxed) });
    let none = Some(pb::StatisticDuration::default());
    pb::ModelStatistics {
        name: task.name.to_string(),
        version: task.version.as_ref().map_or(String::new(), |version| version.facts.name.clone()),
        last_inference: metrics.last.load(Ordering::Relaxed),
        inference_count: success,
        execution_count: success,
        inference_stats: Some(pb::InferStatistics {
            success: duration(success, 0),
            fail: duration(failure, 1),
            queue: none,
            compute_input: none,
            compute_infer: none,
            compute_output: none,
            cache_hit: none,
            cache_miss: none,
        }),
    }
}
