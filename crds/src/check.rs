//! From the text of a file to an object that an API server would take and that can be hosted. What is wrong is said with
//! its line and field.
//!
//! The schema and its rules in CEL are those of the definition itself, so that what is refused here is what a cluster
//! refuses. What rules cannot say (whether a cron line is one, which name is unknown) is checked by [`resolve`], as the
//! operator checks it.

use std::fmt;
use std::path::{Path, PathBuf};

use kube::core::cel::{ErrorKind, Validator, apply_defaults};
use serde_json::Value;
use unimodel_protocol::positions::{Position, Positions};

use crate::crd::schema;
use crate::model::{Model, resolve};
use crate::spec::UnifiedModel;
use crate::{API_VERSION, structure};

/// The kind of the object.
const KIND: &str = "UnifiedModel";

/// Something wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub position: Position,
    /// The field, such as `spec.tasks[2].replicas`; empty for the whole file.
    pub key: String,
    /// What is there and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.position.line, self.position.column)?;
        match self.key.as_str() {
            "" => write!(f, "{}", self.message),
            key => write!(f, "{key}: {}", self.message),
        }
    }
}

/// Why a file is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", each(path, problems))]
pub struct CheckError {
    /// The file.
    pub path: PathBuf,
    /// All that is wrong with it, in order of line.
    pub problems: Vec<Problem>,
}

fn each(path: &Path, problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{}:{problem}", path.display())).collect::<Vec<_>>().join("; ")
}

/// An object that has passed all checks.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// As it is written.
    pub object: UnifiedModel,
    /// As it is meant.
    pub model: Model,
}

/// Checks the text of a file; `path` is for messages.
///
/// # Errors
/// It is not YAML, or not a UnifiedModel that an API server would take, or it asks for what makes no sense. All problems
/// of the first of these kinds that there are.
pub fn check(text: &str, path: &Path) -> Result<Checked, CheckError> {
    checked(text).map_err(|mut problems| {
        problems.sort_by(|a, b| (a.position, &a.key).cmp(&(b.position, &b.key)));
        problems.dedup();
        CheckError { path: path.to_owned(), problems }
    })
}

fn checked(text: &str) -> Result<Checked, Vec<Problem>> {
    let positions = Positions::read(text).map_err(|error| {
        let position = Position { line: error.marker().line(), column: error.marker().col() + 1 };
        vec![Problem { position, key: String::new(), message: format!("not YAML: {}", error.info()) }]
    })?;
    let at = |key: &str, message: String| Problem { position: positions.of(key), key: key.to_owned(), message };
    // A key that comes twice is read in one way here and in another there.
    let twice = positions.duplicates().iter().map(|duplicate| Problem {
        position: duplicate.second,
        key: duplicate.path.clone(),
        message: format!("is in line {} already; remove one of them", duplicate.first.line),
    });
    let mut problems: Vec<Problem> = twice.collect();
    for (key, right) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        match positions.scalar(key) {
            Some(found) if found == right => {}
            Some(found) => problems.push(at(key, format!("is `{found}`; it must be `{right}`"))),
            None => problems.push(at(key, format!("is missing; it must be `{right}`"))),
        }
    }
    refuse(&mut problems)?;

    let mut value: Value = serde_yaml::from_str(text)
        .map_err(|error| vec![at("", format!("not YAML as Kubernetes reads it: {error}"))])?;
    // Status is not for people to write.
    if let Some(object) = value.as_object_mut() {
        object.remove("status");
    }
    problems.extend(metadata(&value).into_iter().map(|(key, message)| at(key, message)));
    let schema = schema();
    problems.extend(structure::violations(&schema, &value).into_iter().map(|found| at(&found.key, found.message)));
    // Rules read values by their types: without those they would only say so.
    refuse(&mut problems)?;

    let value = apply_defaults(&schema, &value);
    let object: UnifiedModel =
        serde_json::from_value(value.clone()).map_err(|error| vec![at("spec", error.to_string())])?;
    let resolved = resolve(&object);
    let wants = resolved.as_ref().err().into_iter().flatten();
    problems.extend(wants.map(|want| at(&want.key, want.message.clone())));
    problems.extend(
        rules(&schema, &value)
            .into_iter()
            .filter_map(|(key, message)| {
                // What was said of one field need not be said again of what it is in.
                let said = problems
                    .iter()
                    .any(|said| said.key == key || (said.key.starts_with(&key) && said.message.contains(&message)));
                (!said).then(|| at(&key, message))
            })
            .collect::<Vec<_>>(),
    );
    match resolved {
        Ok(model) if problems.is_empty() => Ok(Checked { object, model }),
        _ => Err(problems),
    }
}

fn refuse(problems: &mut Vec<Problem>) -> Result<(), Vec<Problem>> {
    if problems.is_empty() { Ok(()) } else { Err(std::mem::take(problems)) }
}

/// What the API server says of metadata, as far as it is used here.
fn metadata(value: &Value) -> Option<(&'static str, String)> {
    let name = value["metadata"]["name"].as_str().unwrap_or_default();
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = name.as_bytes();
    // It begins the names of Services, which must begin with a letter.
    let right = bytes.first().is_some_and(u8::is_ascii_lowercase)
        && bytes.last().is_some_and(alphanumeric)
        && bytes.iter().all(|b| *b == b'-' || alphanumeric(b))
        && bytes.len() <= 40;
    let must = "it must be 1 to 40 of a-z, 0-9 and `-`, with a letter first and no `-` last";
    (!right).then(|| ("metadata.name", format!("is `{name}`; {must}")))
}

/// What the rules in CEL refuse: field and message.
fn rules(schema: &Value, value: &Value) -> Vec<(String, String)> {
    let Err(errors) = Validator::new().validate(schema, value, None) else { return Vec::new() };
    let message = |kind: ErrorKind, message: String, rule: &str| match kind {
        ErrorKind::ValidationFailure => message,
        // Rules are tested with the definition: this is a fault of ours, and the object is refused all the same.
        _ => format!("the rule `{rule}` cannot be evaluated: {message}"),
    };
    errors.into_vec().into_iter().map(|e| (e.field_path, message(e.kind, e.message, &e.rule))).collect()
}
