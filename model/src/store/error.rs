//! What can go wrong with a store.

use std::path::PathBuf;

use crate::version::{ChannelName, DamagedFile, InvalidName, ManifestError, VersionId};

/// Why a store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL is not one of a store.
    #[error("store `{url}`: {problem}")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it and what would be right.
        problem: String,
    },
    /// The name of a version, channel or file may not be used.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// A web server cannot be written to.
    #[error("store {store} is read only: publish, promote, rollback and prune need a file, s3, gs or az store")]
    ReadOnly {
        /// The store.
        store: String,
    },
    /// A web server has no listing.
    #[error("store {store} cannot be listed: name a version or a channel")]
    NotListable {
        /// The store.
        store: String,
    },
    /// There is no such version, or its publish has not ended.
    #[error("store {store} has no version `{version}`")]
    NoVersion {
        /// The store.
        store: String,
        /// What was asked for.
        version: VersionId,
    },
    /// A version never changes.
    #[error("store {store} already has version `{version}`, and a version never changes")]
    VersionExists {
        /// The store.
        store: String,
        /// Which version.
        version: VersionId,
    },
    /// A manifest cannot be used.
    #[error("{object}: {source}")]
    Manifest {
        /// The manifest.
        object: String,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// A manifest lies in the directory of another version.
    #[error("{object}: it is the manifest of version `{found}`")]
    Misplaced {
        /// The manifest.
        object: String,
        /// The version that it names.
        found: VersionId,
    },
    /// A file of a version is not what the manifest says.
    #[error("version `{version}` in {place}: {source}")]
    Damaged {
        /// Which version.
        version: VersionId,
        /// The store or directory that holds it.
        place: String,
        /// Which file, and how.
        #[source]
        source: Box<DamagedFile>,
    },
    /// There is no such channel.
    #[error("store {store} has no channel `{channel}`")]
    NoChannel {
        /// The store.
        store: String,
        /// What was asked for.
        channel: ChannelName,
    },
    /// The channel's file is no channel.
    #[error("{object}: not a channel: {problem}")]
    Channel {
        /// The channel's file.
        object: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Somebody else moved the channel meanwhile.
    #[error("channel `{channel}` was moved by somebody else at the same time; look where it is, then try again")]
    Conflict {
        /// Which channel.
        channel: ChannelName,
    },
    /// There is nothing to go back to.
    #[error("channel `{channel}` has no version before `{version}`")]
    NoPrevious {
        /// Which channel.
        channel: ChannelName,
        /// Where it is.
        version: VersionId,
    },
    /// What was to be published is not a version.
    #[error("{} cannot be published: {problem}", dir.display())]
    Unpublishable {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with it and what would be right.
        problem: String,
    },
    /// The directory to fetch into is there already.
    #[error("{} is already there", dir.display())]
    TargetExists {
        /// The directory.
        dir: PathBuf,
    },
    /// A local file or directory cannot be used.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The store does not accept the credentials.
    #[error("cannot {action} {object}: the store refuses the credentials: {reason}")]
    Denied {
        /// What was tried.
        action: &'static str,
        /// With which object.
        object: String,
        /// What the store said.
        reason: String,
    },
    /// The store failed.
    #[error("cannot {action} {object}: {reason}")]
    Object {
        /// What was tried.
        action: &'static str,
        /// With which object.
        object: String,
        /// What it said, in short.
        reason: String,
        /// All that it said.
        details: Box<object_store::Error>,
    },
}

impl StoreError {
    /// The short form of what an object store said.
    pub(super) fn object(action: &'static str, object: String, error: object_store::Error) -> Self {
        tracing::debug!(%object, ?error, "cannot {action}");
        let reason = reason(&error);
        let denied = match &error {
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => true,
            // A listing that is denied has no error of its own.
            object_store::Error::Generic { source, .. } => {
                let text = source.to_string();
                text.contains("status code: 401") || text.contains("status code: 403")
            }
            _ => false,
        };
        if denied {
            return Self::Denied { action, object, reason };
        }
        Self::Object { action, object, reason, details: Box::new(error) }
    }
}

/// Whether an object is not there; a missing bucket, say, is another matter.
pub(super) fn is_missing(error: &object_store::Error) -> bool {
    let known = |code: String| ["NoSuchKey", "BlobNotFound"].contains(&code.as_str());
    matches!(error, object_store::Error::NotFound { .. }) && element(&innermost(error), "Code").is_none_or(known)
}

/// The innermost cause, and of an S3 or Azure answer only its code and message.
pub(super) fn reason(error: &object_store::Error) -> String {
    let text = innermost(error);
    if let object_store::Error::NotImplemented { .. } = error {
        return "conditional writes are switched off, and nothing is published or moved without them".to_owned();
    }
    // Where an EC2 instance, and nothing else, would ask for its credentials.
    if error.to_string().contains("/latest/api/token") {
        return format!("AWS_ACCESS_KEY_ID is not set, and this machine has no role of its own ({text})");
    }
    if text == "URL scheme is not allowed" {
        return "the endpoint has no TLS; AWS_ALLOW_HTTP=true allows that".to_owned();
    }
    match (element(&text, "Code"), element(&text, "Message")) {
        (Some(code), Some(message)) if !message.is_empty() => format!("{code}: {message}"),
        (Some(code), _) => code,
        _ => text,
    }
}

fn innermost(error: &object_store::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

/// The text of an XML element.
fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0.trim().to_owned())
}
