//! The examples of `docs/api.md` do what they say.

use serde_json::Value;
use unimodel_model::features::ContextError;
use unimodel_server::error::RankError;

use crate::plain::Server;

const API: &str = include_str!("../../../docs/api.md");

/// Each `sh` block that is followed by a `json` block.
fn examples() -> Vec<(&'static str, Value)> {
    API.split("```sh\n")
        .skip(1)
        .filter_map(|rest| {
            let (command, rest) = rest.split_once("```\n").unwrap();
            let (answer, _) = rest.strip_prefix("```json\n")?.split_once("```").unwrap();
            Some((command, serde_json::from_str(answer).unwrap()))
        })
        .collect()
}

/// Whether two answers have the same members of the same types; lists may differ in length beyond their first element.
fn same_shape(documented: &Value, actual: &Value, path: &str) {
    match (documented, actual) {
        (Value::Object(documented), Value::Object(actual)) => {
            assert_eq!(documented.keys().collect::<Vec<_>>(), actual.keys().collect::<Vec<_>>(), "{path}");
            documented.iter().for_each(|(name, value)| same_shape(value, &actual[name], &format!("{path}.{name}")));
        }
        (Value::Array(documented), Value::Array(actual)) => {
            assert_eq!(documented.is_empty(), actual.is_empty(), "{path}: {actual:?}");
            documented.iter().zip(actual).for_each(|(documented, actual)| same_shape(documented, actual, path));
        }
        _ => assert_eq!(
            std::mem::discriminant(documented),
            std::mem::discriminant(actual),
            "{path}: {documented} and {actual}"
        ),
    }
}

#[tokio::test]
async fn examples_do_what_they_say() {
    let server = Server::start().await;
    let examples = examples();
    assert!(examples.len() >= 7, "{}", examples.len());
    for (command, documented) in examples {
        let command = command.replace("localhost:8080", &server.address.to_string());
        let output = tokio::process::Command::new("sh").arg("-c").arg(&command).output().await.unwrap();
        let actual: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {command}"));
        if documented.get("status").is_some() {
            assert_eq!(actual, documented, "{command}");
        } else {
            same_shape(&documented, &actual, &command);
        }
    }
}

/// One error of each kind. A new one does not compile until it is here, and fails until it is documented.
fn errors() -> Vec<RankError> {
    use RankError as E;
    let s = String::new;
    let zero = std::time::Duration::ZERO;
    let all = vec![
        E::UnknownTask { task: s(), known: vec![] },
        E::MissingTask { known: vec![] },
        E::ConflictingTask { path: s(), body: s() },
        E::Context(ContextError::UnknownElement { element: s(), nearest: Some(s()), known: vec![] }),
        E::Context(ContextError::WrongType { element: s(), expected: "", got: "" }),
        E::Context(ContextError::NotFinite { element: s(), value: 0.0 }),
        E::MissingElement { task: s(), element: s() },
        E::EmptyCandidates,
        E::ConflictingCandidates { given: vec![] },
        E::TooManyCandidates { field: "", count: 0, max: 0 },
        E::DuplicateCandidate { id: s() },
        E::UnknownAttribute { attribute: s(), nearest: Some(s()), known: vec![] },
        E::AttributeType { attribute: s(), expected: "", got: "" },
        E::InvalidLimit { limit: 0, max: 0 },
        E::InvalidTimeout { value: s(), problem: "" },
        E::InvalidBody { message: s(), position: Some((0, 0)) },
        E::InvalidTensor { tensor: s(), problem: s() },
        E::UnknownVersion { task: s(), version: s(), active: s() },
        E::UnsupportedEncoding { encoding: s() },
        E::NoResource { method: s(), path: s() },
        E::MethodNotAllowed { method: s(), path: s() },
        E::BodyTooLarge { max: 0 },
        E::SlowBody { timeout: zero },
        E::DeadlineExceeded { timeout: zero },
        E::Overloaded { reason: s(), retry_after: zero },
        E::NotReady { reason: s() },
        E::Internal { message: s() },
    ];
    for error in &all {
        match error {
            E::Context(
                ContextError::UnknownElement { .. } | ContextError::WrongType { .. } | ContextError::NotFinite { .. },
            )
            | E::UnknownTask { .. }
            | E::MissingTask { .. }
            | E::ConflictingTask { .. }
            | E::MissingElement { .. }
            | E::EmptyCandidates
            | E::ConflictingCandidates { .. }
            | E::TooManyCandidates { .. }
            | E::DuplicateCandidate { .. }
            | E::UnknownAttribute { .. }
            | E::AttributeType { .. }
            | E::InvalidLimit { .. }
            | E::InvalidTimeout { .. }
            | E::InvalidBody { .. }
            | E::InvalidTensor { .. }
            | E::UnknownVersion { .. }
            | E::UnsupportedEncoding { .. }
            | E::NoResource { .. }
            | E::MethodNotAllowed { .. }
            | E::BodyTooLarge { .. }
            | E::SlowBody { .. }
            | E::DeadlineExceeded { .. }
            | E::Overloaded { .. }
            | E::NotReady { .. }
            | E::Internal { .. } => {}
        }
    }
    all
}

#[test]
fn every_error_is_documented() {
    let rows: Vec<Vec<&str>> = API
        .lines()
        .filter(|line| line.starts_with("| `") && line.matches('|').count() == 6)
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    for error in errors() {
        let kind = error.kind();
        let name = format!("`{}`", kind.name);
        let row = rows.iter().find(|row| row[0] == name).unwrap_or_else(|| panic!("{name} is not in docs/api.md"));
        assert_eq!(row[1], kind.status.as_str(), "{name}");
        let code = format!("{:?}", kind.code);
        assert_eq!(row[2].replace('_', ""), code.to_uppercase(), "{name}");
        for member in error.members().keys() {
            assert!(row[4].contains(&format!("`{member}`")), "{name}: {member}");
        }
    }
    assert_eq!(rows.len(), errors().len());
}
