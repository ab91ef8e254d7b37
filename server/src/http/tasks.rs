//! `GET /v1/tasks`: what each task takes and which version answers.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};
use unimodel_model::schema::{Element, Head};
use unimodel_protocol::duration;

use crate::front::Front;
use crate::request::Task;

pub(super) async fn list(State(front): State<Arc<Front>>) -> Response {
    let tasks: Vec<Value> = front.ranking.tasks().iter().map(|task| describe(task)).collect();
    let mut response = json!({ "tasks": tasks }).to_string().into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn describe(task: &Task) -> Value {
    let version = task.version.as_deref().ok();
    let schema = version.map(|version| &version.schema);
    let head = schema.and_then(|schema| schema.heads.iter().find(|head| head.name == task.head));
    json!({
        "name": &*task.name,
        "head": task.head,
        "description": head.and_then(|head| head.description.as_deref()),
        "modelVersion": version.map(|version| &*version.name),
        "dataTime": version.map(|version| version.data_time),
        "items": version.map(|version| version.items),
        "context": schema.map_or(vec![], |s| s.context.iter().map(|e| element(task, head, e)).collect()),
        "attributes": schema.map_or(vec![], |s| {
            s.attributes.iter().map(|a| json!({ "name": a.name, "type": a.kind.name() })).collect()
        }),
        "maxCandidates": task.max_candidates,
        "timeout": {
            "default": duration::print(task.timeout.default),
            "max": duration::print(task.timeout.max),
        },
    })
}

fn element(task: &Task, head: Option<&Head>, element: &Element) -> Value {
    json!({
        "name": element.name,
        "type": element.kind.name(),
        "description": element.description,
        "default": element.default,
        "required": task.required.contains(&element.name),
        // Whether the task's labels carry it: others are accepted, and help where the network can use them.
        "trained": head.is_some_and(|head| head.elements.contains(&element.name)),
    })
}
