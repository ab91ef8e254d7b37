//! Reading the one or two fields that routing needs from an encoded request, and nothing else.

pub mod json;
pub mod protobuf;

use std::time::Duration;

use bytes::Bytes;

use crate::error::GatewayError;
use crate::timeout;

/// What a body says that routing needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peeked {
    /// The task, where the body names one.
    pub task: Option<String>,
    /// The timeout, where the body has one that can be read. What cannot be read is for the server to refuse.
    pub timeout: Option<Duration>,
}

/// `RankRequest` in JSON. A body that is not JSON says nothing: the server refuses it better.
pub fn rank_json(body: &[u8]) -> Peeked {
    let [task, timeout] = json::members(body, ["task", "timeout"]).unwrap_or_default();
    Peeked {
        task: task.and_then(|at| json::text(&body[at])),
        timeout: timeout.and_then(|at| json::text(&body[at])).and_then(|text| timeout::parse(&text).ok()),
    }
}

/// `RankRequest` in protobuf.
pub fn rank_protobuf(message: &[u8]) -> Peeked {
    let mut peeked = Peeked::default();
    for (number, value) in protobuf::fields(message) {
        match (number, value) {
            (1, protobuf::Value::Bytes(task)) => peeked.task = std::str::from_utf8(task).ok().map(str::to_owned),
            (5, protobuf::Value::Bytes(timeout)) => peeked.timeout = protobuf_duration(timeout),
            _ => {}
        }
    }
    peeked
}

/// `ModelInferRequest` in JSON: the path names the task. `json_length`: where the JSON ends and tensors' bytes begin.
pub fn infer_json(body: &[u8], json_length: Option<usize>) -> Peeked {
    let body = json_length.and_then(|length| body.get(..length)).unwrap_or(body);
    let [parameters] = json::members(body, ["parameters"]).unwrap_or_default();
    let Some(parameters) = parameters.map(|at| &body[at]) else { return Peeked::default() };
    let [timeout] = json::members(parameters, ["timeout"]).unwrap_or_default();
    let timeout = timeout.and_then(|at| {
        let value = &parameters[at];
        match json::text(value) {
            Some(text) => timeout::parse(&text).ok(),
            None => std::str::from_utf8(value).ok()?.parse().ok().map(Duration::from_micros),
        }
    });
    Peeked { task: None, timeout }
}

/// `ModelInferRequest` in protobuf, and the other requests of `GRPCInferenceService`, whose first field names the model
/// too.
pub fn infer_protobuf(message: &[u8]) -> Peeked {
    let mut peeked = Peeked::default();
    for (number, value) in protobuf::fields(message) {
        match (number, value) {
            (1, protobuf::Value::Bytes(task)) => peeked.task = std::str::from_utf8(task).ok().map(str::to_owned),
            (4, protobuf::Value::Bytes(parameter)) => peeked.timeout = parameter_timeout(parameter).or(peeked.timeout),
            _ => {}
        }
    }
    peeked
}

/// An entry of `parameters`, where it is `timeout`: a text, or whole microseconds.
fn parameter_timeout(entry: &[u8]) -> Option<Duration> {
    let mut name = None;
    let mut choice = None;
    for (number, value) in protobuf::fields(entry) {
        match (number, value) {
            (1, protobuf::Value::Bytes(key)) => name = Some(key),
            (2, protobuf::Value::Bytes(value)) => choice = Some(value),
            _ => {}
        }
    }
    if name? != b"timeout" {
        return None;
    }
    match protobuf::fields(choice?).last()? {
        (2 | 5, protobuf::Value::Varint(micros)) => {
            i64::try_from(micros).ok()?.try_into().ok().map(Duration::from_micros)
        }
        (3, protobuf::Value::Bytes(text)) => timeout::parse(std::str::from_utf8(text).ok()?).ok(),
        _ => None,
    }
}

fn protobuf_duration(message: &[u8]) -> Option<Duration> {
    let (mut seconds, mut nanos) = (0, 0);
    for (number, value) in protobuf::fields(message) {
        match (number, value) {
            (1, protobuf::Value::Varint(value)) => seconds = value,
            (2, protobuf::Value::Varint(value)) => nanos = value,
            _ => {}
        }
    }
    // A negative number is a huge one here, and for the server to refuse.
    let nanos = u32::try_from(nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    i64::try_from(seconds).ok()?;
    Some(Duration::new(seconds, nanos))
}

/// The one message of a unary gRPC request or answer, without its frame. None: it is compressed.
///
/// # Errors
/// The frame is cut off, or is not the only one.
pub fn grpc_message(body: &Bytes) -> Result<Option<Bytes>, GatewayError> {
    let invalid = |message: String| GatewayError::InvalidBody { message, position: None };
    let Some((frame, message)) = body.split_at_checked(5) else {
        return Err(invalid(format!("{} bytes are no gRPC frame", body.len())));
    };
    let length = u32::from_be_bytes([frame[1], frame[2], frame[3], frame[4]]) as usize;
    if length != message.len() {
        return Err(invalid(format!("the gRPC frame announces {length} bytes and has {}", message.len())));
    }
    Ok((frame[0] == 0).then(|| body.slice(5..)))
}

/// A message in a frame of gRPC, uncompressed.
pub fn grpc_frame(message: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(5 + message.len());
    frame.push(0);
    frame.extend((message.len() as u32).to_be_bytes());
    frame.extend(message);
    frame.into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;
    use unimodel_protocol::inference::infer_parameter::ParameterChoice;
    use unimodel_protocol::inference::{InferParameter, ModelInferRequest};
    use unimodel_protocol::v1::{Candidates, RankRequest};

    use super::*;

    fn peeked(task: &str, timeout: Option<Duration>) -> Peeked {
        Peeked { task: Some(task.into()), timeout }
    }

    #[test]
    fn json_is_read_wherever_the_members_stand() {
        let body = br#"{"context": {"task": "no", "x": ["}", "\"task\""]}, "timeout": "50ms", "task": "search"}"#;
        assert_eq!(rank_json(body), peeked("search", Some(Duration::from_millis(50))));
        assert_eq!(rank_json(br#"{"ta\u0073k": "se\u0061rch"}"#), peeked("search", None));
        assert_eq!(rank_json(br#"{"task": 7, "timeout": "soon"}"#), Peeked::default());
        assert_eq!(rank_json(b"[1, 2"), Peeked::default());
        assert_eq!(rank_json(b""), Peeked::default());
    }

    #[test]
    fn parameters_of_inference_are_read_in_both_forms() {
        let body = br#"{"parameters": {"limit": 2, "timeout": 1500}, "inputs": []}TENSORS"#;
        let timeout = Some(Duration::from_micros(1500));
        assert_eq!(infer_json(body, Some(body.len() - 7)), Peeked { task: None, timeout });
        let choices = [
            (ParameterChoice::Int64Param(1500), timeout),
            (ParameterChoice::Uint64Param(1500), timeout),
            (ParameterChoice::StringParam("1500us".into()), timeout),
            (ParameterChoice::Int64Param(-1), None),
            (ParameterChoice::BoolParam(true), None),
        ];
        for (choice, expected) in choices {
            let parameter = InferParameter { parameter_choice: Some(choice.clone()) };
            let limit = InferParameter { parameter_choice: Some(ParameterChoice::Int64Param(9)) };
            let request = ModelInferRequest {
                model_name: "search".into(),
                parameters: [("timeout".to_owned(), parameter), ("limit".to_owned(), limit)].into(),
                ..Default::default()
            };
            assert_eq!(infer_protobuf(&request.encode_to_vec()), peeked("search", expected), "{choice:?}");
        }
    }

    #[test]
    fn frames_that_lie_are_refused() {
        for body in [&b""[..], b"\0\0\0\0", b"\0\0\0\0\x02a", b"\0\0\0\0\x01ab"] {
            assert!(grpc_message(&Bytes::from_static(body)).is_err(), "{body:?}");
        }
        assert_eq!(grpc_message(&grpc_frame(b"ab")).unwrap().unwrap(), "ab");
        assert_eq!(grpc_message(&Bytes::from_static(b"\x01\0\0\0\x01a")).unwrap(), None);
    }

    proptest! {
        #[test]
        fn protobuf_says_what_was_encoded(
            task in "[a-zé-]{0,20}", ids in prop::collection::vec(".{0,9}", 0..9), millis in prop::option::of(0_u64..99_999)
        ) {
            let timeout = millis.map(Duration::from_millis);
            let request = RankRequest {
                task: task.clone(),
                candidates: Some(Candidates { ids: ids.iter().collect(), ..Default::default() }),
                timeout: timeout.map(|t| t.try_into().unwrap()),
                ..Default::default()
            };
            let task = (!task.is_empty()).then_some(task);
            prop_assert_eq!(rank_protobuf(&request.encode_to_vec()), Peeked { task, timeout });
        }

        #[test]
        fn json_says_what_was_printed(task: String, other: String, millis in 0_u64..99_999) {
            let body = serde_json::json!({
                "context": { "task": other, "list": [other, [{ "task": 1 }]] },
                "task": task,
                "timeout": format!("{millis}ms"),
            });
            let expected = Peeked { task: Some(task), timeout: Some(Duration::from_millis(millis)) };
            prop_assert_eq!(rank_json(body.to_string().as_bytes()), expected.clone());
            prop_assert_eq!(rank_json(serde_json::to_string_pretty(&body).unwrap().as_bytes()), expected);
        }

        #[test]
        fn no_bytes_are_too_much(bytes: Vec<u8>) {
            rank_json(&bytes);
            rank_protobuf(&bytes);
            infer_json(&bytes, Some(3));
            infer_protobuf(&bytes);
            let _ = grpc_message(&bytes.into());
        }
    }
}
