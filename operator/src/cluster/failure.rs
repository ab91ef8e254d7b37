//! Why work on an object did not end well.

use super::certificates::CertificateError;
use super::writer::WriteError;

/// Why work on an object did not end well.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Somebody else may write now.
    #[error("the lease is not held")]
    NotLeader,
    /// Something of the API server.
    #[error("{what}: {source}")]
    Write {
        /// What was to be written.
        what: String,
        /// Why it was not.
        #[source]
        source: WriteError,
    },
    /// Certificates cannot be made.
    #[error(transparent)]
    Certificates(#[from] CertificateError),
    /// Something is in the way that the status tells.
    #[error("{0}")]
    Blocked(String),
}

/// A failure to write something.
pub fn failed(what: impl Into<String>) -> impl FnOnce(WriteError) -> Failure {
    let what = what.into();
    move |source| match source {
        WriteError::NotLeader => Failure::NotLeader,
        source => Failure::Write { what, source },
    }
}
