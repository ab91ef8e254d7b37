//! From a file to a checked pipeline; what is wrong is said with its place.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use unimodel_model::features::nearest_name;

use super::check;
use super::positions::{Position, Positions};
use super::types::Pipeline;

/// The only version of the pipeline file.
pub(super) const API_VERSION: &str = "unimodel.dev/v1alpha1";
/// The kind of the pipeline file.
pub(super) const KIND: &str = "Pipeline";

/// A pipeline that has passed all checks, with what its file names.
#[derive(Clone, Debug)]
pub struct LoadedPipeline {
    /// The pipeline.
    pub pipeline: Pipeline,
    /// The pipeline file; paths in it are relative to its folder.
    pub path: PathBuf,
    /// Text of the SQL files, by the path that the pipeline file gives them.
    pub sql: BTreeMap<String, String>,
    /// Where the keys of the pipeline file are.
    pub positions: Positions,
}

/// Something wrong in a pipeline file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub position: Position,
    /// The key, such as `tasks[2].weight`; empty for the whole file.
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

/// Why a pipeline file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The file cannot be read.
    #[error("cannot read pipeline file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// All that is wrong with it.
    #[error("{}", each(path, problems))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, in order of line.
        problems: Vec<Problem>,
    },
}

fn each(path: &Path, problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(|p| format!("{}:{p}", path.display())).collect();
    lines.join("; ")
}

impl Pipeline {
    /// Reads and checks a pipeline file and the SQL files that it names. Sources are not looked at.
    ///
    /// # Errors
    /// The file cannot be read, is not YAML, does not have the fields of a [`Pipeline`], or says something that makes
    /// no sense; of the last kind all problems are found at once.
    pub fn load(path: &Path) -> Result<LoadedPipeline, PipelineError> {
        let yaml =
            std::fs::read_to_string(path).map_err(|source| PipelineError::Read { path: path.to_owned(), source })?;
        let invalid = |mut problems: Vec<Problem>| {
            problems.sort_by_key(|p| p.position);
            PipelineError::Invalid { path: path.to_owned(), problems }
        };
        let (pipeline, positions) = parse(&yaml).map_err(invalid)?;
        let mut problems = check::check(&pipeline, &positions);
        let mut sql = BTreeMap::new();
        for (key, file) in sql_files(&pipeline) {
            let full = path.parent().unwrap_or(Path::new("")).join(file);
            match std::fs::read_to_string(&full) {
                Ok(text) => drop(sql.insert(file.to_owned(), text)),
                Err(e) => problems.push(Problem {
                    position: positions.of(&key),
                    key,
                    message: format!(
                        "cannot read `{file}`: {e}; the path is relative to the pipeline file, here {}",
                        full.display()
                    ),
                }),
            }
        }
        if problems.is_empty() {
            Ok(LoadedPipeline { pipeline, path: path.to_owned(), sql, positions })
        } else {
            Err(invalid(problems))
        }
    }
}

impl LoadedPipeline {
    /// A path of the pipeline file as one that this process can open.
    pub fn resolve(&self, path: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(path)
    }

    /// An error at one key of the pipeline file.
    pub fn problem(&self, key: &str, message: String) -> PipelineError {
        let problem = Problem { position: self.positions.of(key), key: key.to_owned(), message };
        PipelineError::Invalid { path: self.path.clone(), problems: vec![problem] }
    }
}

/// JSON Schema of the pipeline file, for editors.
pub fn json_schema() -> String {
    let schema = schemars::schema_for!(Pipeline);
    serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"
}

/// The key and path of each SQL file.
fn sql_files(pipeline: &Pipeline) -> Vec<(String, &str)> {
    let mut files = vec![
        ("split.sql".to_owned(), pipeline.split.sql.as_str()),
        ("items.sql".to_owned(), pipeline.items.sql.as_str()),
    ];
    files.extend(pipeline.users.as_ref().map(|u| ("users.sql".to_owned(), u.sql.as_str())));
    files.extend(pipeline.tasks.iter().enumerate().map(|(i, t)| (format!("tasks[{i}].sql"), t.sql.as_str())));
    files
}

/// Types first: what does not have them cannot be checked further.
fn parse(yaml: &str) -> Result<(Pipeline, Positions), Vec<Problem>> {
    let positions = Positions::read(yaml).map_err(|e| {
        let position = Position { line: e.marker().line(), column: e.marker().col() + 1 };
        vec![Problem { position, key: String::new(), message: format!("not YAML: {}", e.info()) }]
    })?;
    let mut problems: Vec<Problem> = Vec::new();
    for (index, duplicate) in positions.duplicates().iter().enumerate() {
        // What is below a key that is there twice is there twice too.
        if positions.duplicates()[..index].iter().any(|d| duplicate.path.starts_with(&format!("{}.", d.path))) {
            continue;
        }
        let message = format!("is in line {} already; remove one of them", duplicate.first.line);
        problems.push(Problem { position: duplicate.second, key: duplicate.path.clone(), message });
    }
    // Of another kind of object every field would be unknown, which says nothing.
    for (key, right) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        let message = match positions.scalar(key) {
            Some(found) if found == right => continue,
            Some(found) => format!("is `{found}`; it must be `{right}`"),
            None => format!("is missing; it must be `{right}`"),
        };
        problems.push(Problem { position: positions.of(key), key: key.to_owned(), message });
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let pipeline = serde_yaml::from_str(yaml).map_err(|e| vec![type_problem(&e, &positions)])?;
    Ok((pipeline, positions))
}

/// What serde says, with the key's own place and the nearest known name.
fn type_problem(error: &serde_yaml::Error, positions: &Positions) -> Problem {
    let said = error.to_string();
    let said = said.rfind(" at line ").map_or(said.as_str(), |end| &said[..end]);
    let (mut key, mut message) = match said.split_once(": ") {
        Some((path, message)) if positions.has(path) => (path.to_owned(), message.to_owned()),
        _ => (String::new(), said.to_owned()),
    };
    let known: Vec<String> = message.split('`').skip(3).step_by(2).map(str::to_owned).collect();
    let unknown = ["unknown field `", "unknown variant `"].iter().find_map(|p| message.strip_prefix(p));
    if let Some(name) = unknown.and_then(|m| m.split('`').next()).map(str::to_owned) {
        if message.starts_with("unknown field") {
            // Inside of a loss or a baseline serde knows the place of what is around it alone.
            key = positions.below(&key, &name).unwrap_or(&key).to_owned();
        } else if !key.ends_with(".type") && positions.scalar(&format!("{key}.type")) == Some(&name) {
            key += ".type";
        }
        if let Some(nearest) = nearest_name(&name, &known) {
            message += &format!("; did you mean `{nearest}`?");
        }
    }
    if message.contains("untagged enum Value") {
        key += ".default";
    }
    for (rust, plain) in [
        ("expected f64", "expected a number"),
        ("expected usize", "expected a whole number, 0 or more"),
        ("expected u64", "expected a whole number, 0 or more"),
        (
            "data did not match any variant of untagged enum Value",
            "expected null, a number, a string or a list of strings",
        ),
    ] {
        message = message.replace(rust, plain);
    }
    let position = match (positions.has(&key), error.location()) {
        (true, _) => positions.of(&key),
        (false, Some(found)) => Position { line: found.line(), column: found.column() },
        (false, None) => positions.of(&key),
    };
    Problem { position, key, message }
}
