//! From the text of a routes file to routes that have passed all checks.

use std::fmt;

use super::check;
use super::types::Routes;

/// The only version of the routes file.
pub(super) const API_VERSION: &str = "unimodel.dev/v1alpha1";
/// The kind of the routes file.
pub(super) const KIND: &str = "Routes";

/// The last line of a routes file, by YAML's own mark of a document's end.
const END: &str = "...";

/// Something wrong in a routes file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, such as `tasks[2].name`.
    pub path: String,
    /// What is there and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// Why a routes file is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoutesError {
    /// It may be cut off.
    #[error("{file}: does not end with a line `...`; a file without it may be cut off, so it is not used")]
    NoEnd {
        /// The file.
        file: String,
    },
    /// It is not YAML, or does not have the fields of a routes file.
    #[error("{file}: {message}")]
    Form {
        /// The file.
        file: String,
        /// What is wrong, with its place.
        message: String,
    },
    /// It makes no sense.
    #[error("{}", each(file, problems))]
    Invalid {
        /// The file.
        file: String,
        /// All that is wrong with it.
        problems: Vec<Problem>,
    },
}

/// An error is for people: of a thousand problems they read the first ones.
const PROBLEMS: usize = 20;

fn each(file: &str, problems: &[Problem]) -> String {
    let more = problems.len().saturating_sub(PROBLEMS);
    let mut lines: Vec<String> = problems.iter().take(PROBLEMS).map(|problem| format!("{file}: {problem}")).collect();
    if more > 0 {
        lines.push(format!("{more} more"));
    }
    lines.join("; ")
}

/// Reads and checks a routes file's text. `file` is its name in errors.
///
/// # Errors
/// It may be cut off, it is not YAML, has unknown fields or values of wrong types, or makes no sense; of the last kind
/// all problems are found at once.
pub fn parse(file: &str, text: &str) -> Result<Routes, RoutesError> {
    // A block of YAML that is cut off after any line is YAML too, and would silently remove tasks.
    if !text.trim_start().starts_with('{') && text.trim_end().lines().next_back() != Some(END) {
        return Err(RoutesError::NoEnd { file: file.to_owned() });
    }
    let routes: Routes = serde_yaml::from_str(text)
        .map_err(|error| RoutesError::Form { file: file.to_owned(), message: plain(&error.to_string()) })?;
    let problems = check::check(&routes);
    if problems.is_empty() { Ok(routes) } else { Err(RoutesError::Invalid { file: file.to_owned(), problems }) }
}

/// Types of Rust in other words.
fn plain(message: &str) -> String {
    message.replace("expected usize", "expected a whole number, 0 or more").replace("expected f64", "expected a number")
}

/// JSON Schema of the routes file, for editors.
pub fn json_schema() -> String {
    let schema = schemars::schema_for!(Routes);
    serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"
}
