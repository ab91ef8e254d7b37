//! Problem documents (RFC 9457).

use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use serde_json::{Map, Value, json};

use crate::error::{PROBLEM_TYPES, RankError};

/// The members of an error's problem document.
pub(crate) fn document(error: &RankError) -> Map<String, Value> {
    let kind = error.kind();
    let mut document = Map::new();
    document.insert("type".into(), json!(format!("{PROBLEM_TYPES}{}", kind.name)));
    document.insert("title".into(), json!(kind.title));
    document.insert("status".into(), json!(kind.status.as_u16()));
    document.insert("detail".into(), json!(error.detail()));
    document.extend(error.members());
    document
}

/// The response of that document.
pub(crate) fn response(error: &RankError, document: Map<String, Value>, content_type: &'static str) -> Response {
    let mut response = (error.kind().status, Value::Object(document).to_string()).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(after) = error.retry_after() {
        // The header takes whole seconds; the member says it exactly.
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    response
}

impl IntoResponse for RankError {
    fn into_response(self) -> Response {
        response(&self, document(&self), "application/problem+json")
    }
}
