//! A version: the files of one trained model, and the manifest that says what they must be.

mod digest;
mod local;
mod manifest;
mod name;

pub use digest::{Digest, Fingerprint};
pub(crate) use digest::{Fingerprinter, fingerprint_file};
pub use local::{DamagedFile, LocalVersion, PartlyVerified};
pub use manifest::{FileEntry, MANIFEST, MANIFEST_FORMAT, Manifest, ManifestError, Metrics};
pub use name::{ChannelName, FilePath, InvalidName, VersionId};
