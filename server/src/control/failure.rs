//! Why a version is not served: one word for programs, one sentence for people.

use std::io::ErrorKind;

use unimodel_model::error::ModelError;
use unimodel_model::store::StoreError;

use crate::runtime::LoadError;

/// Why a version is not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// One word, such as `DigestMismatch`.
    pub reason: &'static str,
    /// One sentence that names the file, the head or the version.
    pub message: String,
}

impl Failure {
    /// A fault of the server.
    pub fn internal(message: impl Into<String>) -> Self {
        Self { reason: "Internal", message: message.into() }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let reason = match &error {
            StoreError::NoVersion { .. } => "VersionNotFound",
            StoreError::NoChannel { .. } => "ChannelNotFound",
            StoreError::Damaged { .. } => "DigestMismatch",
            StoreError::Manifest { .. } | StoreError::Misplaced { .. } => "InvalidManifest",
            StoreError::Channel { .. } => "InvalidChannel",
            StoreError::Denied { .. } => "StoreDenied",
            StoreError::Object { .. } => "StoreUnavailable",
            StoreError::Io { action: "read", .. } => "StoreUnavailable",
            StoreError::Io { source, .. } => match source.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "CacheFull",
                _ => "CacheNotWritable",
            },
            _ => "StoreError",
        };
        Self { reason, message: one_line(&error) }
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        let reason = match &error {
            LoadError::Model(ModelError::Tensor(_)) => "Internal",
            LoadError::Model(_) | LoadError::Profile { .. } => "InvalidVersion",
            LoadError::UnknownHead { .. } => "UnknownHead",
            LoadError::Golden { .. } => "GoldenUnusable",
            LoadError::Parity { .. } => "GoldenMismatch",
        };
        Self { reason, message: one_line(&error) }
    }
}

/// Some libraries put line breaks into their messages.
fn one_line(error: &dyn std::error::Error) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn what_the_file_system_says_has_its_own_words() {
        let failed = |action, kind: ErrorKind| {
            Failure::from(StoreError::Io { action, path: "/cache/v1".into(), source: io::Error::from(kind) })
        };
        let full = failed("write", ErrorKind::StorageFull);
        assert_eq!((full.reason, &*full.message), ("CacheFull", "cannot write /cache/v1: no storage space"));
        assert_eq!(failed("write", ErrorKind::ReadOnlyFilesystem).reason, "CacheNotWritable");
        assert_eq!(failed("write", ErrorKind::PermissionDenied).reason, "CacheNotWritable");
        assert_eq!(failed("read", ErrorKind::NotFound).reason, "StoreUnavailable");
    }

    #[test]
    fn every_reason_is_documented() {
        let sources = [
            include_str!("cache.rs"),
            include_str!("failure.rs"),
            include_str!("preparation.rs"),
            include_str!("start.rs"),
        ];
        let word = |line: &'static str| {
            let (_, rest) = line.split_once("reason: \"").or_else(|| line.split_once("=> \""))?;
            rest.split('"').next()
        };
        let code = sources.into_iter().filter_map(|source| source.split("#[cfg(test)]").next());
        let mut reasons: Vec<&str> = code.flat_map(str::lines).filter_map(word).collect();
        reasons.sort_unstable();
        reasons.dedup();
        let documented = include_str!("../../../docs/server.md");
        let (_, table) = documented.split_once("| reason | means |\n|---|---|\n").unwrap();
        let rows = table.lines().take_while(|line| line.starts_with('|'));
        let mut table: Vec<&str> =
            rows.flat_map(|row| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2)).collect();
        table.sort_unstable();
        assert_eq!(reasons, table);
    }

    #[test]
    fn a_message_is_one_line() {
        let error = StoreError::Channel { object: "channels/stable.json".into(), problem: "a\n  b".into() };
        assert_eq!(Failure::from(error).message, "channels/stable.json: not a channel: a b");
    }
}
