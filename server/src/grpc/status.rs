//! Errors as gRPC statuses with the details of `google.rpc`.

use std::collections::HashMap;

use serde_json::Value;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::error::RankError;

/// The domain of every `google.rpc.ErrorInfo`.
pub(crate) const DOMAIN: &str = "unimodel.dev";

/// The status of an error: `ErrorInfo` always, with the members of the problem document as metadata; `BadRequest` where
/// a field is wrong; `RetryInfo` where trying again helps.
pub(crate) fn of(error: &RankError) -> Status {
    let kind = error.kind();
    let detail = error.detail();
    let reason = kind.name.replace('-', "_").to_uppercase();
    let metadata: HashMap<String, String> = error.members().into_iter().map(|(k, v)| (k, plain(&v))).collect();
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, metadata);
    if kind.code == Code::InvalidArgument {
        details.add_bad_request_violation(error.field().unwrap_or_default(), detail.clone());
    }
    if let Some(after) = error.retry_after() {
        details.set_retry_info(Some(after));
    }
    Status::with_error_details(kind.code, detail, details)
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(", "),
        value => value.to_string(),
    }
}
