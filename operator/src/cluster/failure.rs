//! Why work on an object did not end well.

use std::time::Duration;

use super::certificates::CertificateError;
use super::writer::WriteError;
use crate::snapshot::Trouble;

/// For how long the API server may answer with an error before the status says so: what it cannot do in one moment it
/// mostly can in the next.
const PATIENCE: Duration = Duration::from_secs(10);

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
    /// The same, and it stays so until somebody changes something.
    #[error("{message}")]
    Refused {
        /// What is in the way.
        message: String,
        /// When to look at the object again though nothing changes.
        wake: Duration,
    },
}

/// What the status says of a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// What it is.
    pub trouble: Trouble,
    /// Another try leads to the same until somebody changes something.
    pub lasts: bool,
}

impl Failure {
    /// What the status says of it. `since`: for how long all tries have failed.
    ///
    /// # Errors
    /// It says nothing, or nothing yet: the failure itself.
    pub fn said(self, since: Duration) -> Result<Said, Self> {
        let (reason, message, lasts) = match self {
            Self::Blocked(message) => ("NameTaken", message, false),
            Self::Write { what, source } => {
                let message = || format!("{what}: {}", source.words());
                match source.code() {
                    Some(400 | 422) => ("Refused", message(), true),
                    // A quota may have room again at any time.
                    Some(403) => ("Refused", message(), false),
                    // Somebody else has written at the same moment.
                    Some(409) => return Err(Self::Write { what, source }),
                    Some(_) if since >= PATIENCE => ("ApiError", message(), false),
                    _ => return Err(Self::Write { what, source }),
                }
            }
            other => return Err(other),
        };
        Ok(Said { trouble: Trouble::new(reason, message), lasts })
    }
}

/// A failure to write something.
pub fn failed(what: impl Into<String>) -> impl FnOnce(WriteError) -> Failure {
    let what = what.into();
    move |source| match source {
        WriteError::NotLeader => Failure::NotLeader,
        source => Failure::Write { what, source },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn of(source: WriteError) -> Failure {
        failed("Service m-search")(source)
    }

    fn answered(code: u16) -> Failure {
        let status = Status { code, message: "failed calling webhook".into(), ..Status::default() };
        of(WriteError::Api(kube::Error::Api(Box::new(status))))
    }

    #[test]
    fn errors_that_go_on_are_said_in_the_servers_words() {
        let reason = |failure: Failure, since| failure.said(since).ok().map(|said| (said.trouble.reason, said.lasts));
        let (blip, long) = (Duration::from_secs(3), Duration::from_secs(10));
        for code in [404, 429, 500, 503] {
            assert_eq!(reason(answered(code), blip), None, "{code}");
            assert_eq!(reason(answered(code), long), Some(("ApiError".into(), false)), "{code}");
        }
        for (code, lasts) in [(400, true), (422, true), (403, false)] {
            assert_eq!(reason(answered(code), Duration::ZERO), Some(("Refused".into(), lasts)), "{code}");
        }
        assert_eq!(reason(answered(409), long), None, "a conflict is over with the next try");
        assert_eq!(reason(of(WriteError::Late), long), None, "the status would not come through either");
        let said = answered(500).said(long).unwrap();
        assert_eq!(said.trouble.message, "Service m-search: failed calling webhook");
    }
}
