//! Problem documents (RFC 9457).

use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use serde_json::{Map, Value};
use unimodel_transport::problem::Problem;

use crate::error::RankError;

/// The response of that document.
pub(crate) fn response(problem: &Problem, document: Map<String, Value>, content_type: &'static str) -> Response {
    let mut response = (problem.kind.status, Value::Object(document).to_string()).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(after) = problem.retry_after_header() {
        headers.insert(RETRY_AFTER, after);
    }
    response
}

impl IntoResponse for RankError {
    fn into_response(self) -> Response {
        let problem = self.problem();
        response(&problem, problem.document(), "application/problem+json")
    }
}
