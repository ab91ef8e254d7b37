//! `POST /v1/rank` and `POST /v1/tasks/{task}:rank`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};

use crate::error::RankError;
use crate::front::{Call, Front};
use crate::http::json;
use crate::ranking::Protocol;
use crate::request::RankResponse;
use crate::timeout;

pub(super) async fn rank(State(front): State<Arc<Front>>, headers: HeaderMap, body: Body) -> Response {
    answer(&front, None, &headers, body).await
}

pub(super) async fn rank_task(
    State(front): State<Arc<Front>>,
    Path(call): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    match call.rsplit_once(':') {
        Some((task, "rank")) => answer(&front, Some(task), &headers, body).await,
        _ => RankError::NoResource { method: "POST".into(), path: format!("/v1/tasks/{call}") }.into_response(),
    }
}

async fn answer(front: &Front, path: Option<&str>, headers: &HeaderMap, body: Body) -> Response {
    let mut call = Call::new(Protocol::Rest);
    let result = ranked(front, &mut call, path, headers, body).await;
    let result = result.map(|response| front.write(response, |response| json::print(&response)));
    front.done(&call, &result);
    match result {
        Ok(body) => {
            let mut response = body.into_response();
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(error) => error.into_response(),
    }
}

async fn ranked(
    front: &Front,
    call: &mut Call,
    path: Option<&str>,
    headers: &HeaderMap,
    body: Body,
) -> Result<RankResponse, RankError> {
    let task = path.map(|name| front.task(call, name)).transpose();
    // Whatever is wrong: HTTP/1.1 ends a connection with a body that nobody has read, and the caller's next request with it.
    let read = front.intake.read(headers, body).await;
    // The task first: a caller who mistypes it learns that.
    let task = task?;
    let transport = timeout::from_headers(headers)?;
    let (body, _held) = read?;
    let (named, asked) = json::read(&body)?;
    drop(body);
    let task = match (task, named.as_deref()) {
        (Some(task), Some(body)) if *task.name != *body => {
            return Err(RankError::ConflictingTask { path: task.name.to_string(), body: body.to_owned() });
        }
        (Some(task), _) => task,
        (None, Some(name)) => front.task(call, name)?,
        (None, None) => return Err(RankError::MissingTask { known: front.task_names() }),
    };
    front.rank(call, &task, asked, transport).await
}
