//! A version in a local directory, verified.

use std::io;
use std::path::{Path, PathBuf};

use super::{FileEntry, FilePath, Fingerprint, MANIFEST, Manifest, ManifestError, fingerprint_file};
use crate::bundle::files;
use crate::store::StoreError;

/// A version in a local directory whose every file was verified when this was made.
#[derive(Clone, Debug)]
pub struct LocalVersion {
    dir: PathBuf,
    manifest: Manifest,
}

/// A file of a version that is not what the manifest says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{file}` is damaged: expected {expected}, found {}", found.map_or("no file".to_owned(), |f| f.to_string()))]
pub struct DamagedFile {
    /// Which file of the version.
    pub file: FilePath,
    /// What the manifest says.
    pub expected: Fingerprint,
    /// What is there; `None` where nothing is.
    pub found: Option<Fingerprint>,
}

impl FileEntry {
    /// Compares with what was found; `None` stands for no file.
    pub(crate) fn check(&self, found: Option<Fingerprint>) -> Result<(), DamagedFile> {
        if found == Some(self.content) {
            return Ok(());
        }
        Err(DamagedFile { file: self.path.clone(), expected: self.content, found })
    }
}

/// A version in a local directory of which all but the weights was verified when this was made. These are most of it, and
/// no other file is read by what they say: whoever reads them may do so while they are verified, and lets go of what came
/// of it if they are damaged.
#[derive(Clone, Debug)]
pub struct PartlyVerified {
    version: LocalVersion,
    unverified: Option<FileEntry>,
}

impl PartlyVerified {
    /// Opens a directory that holds a version, and verifies size and digest of every file but the weights. Blocks.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(MANIFEST);
        let bytes =
            std::fs::read(&path).map_err(|source| StoreError::Io { action: "read", path: path.clone(), source })?;
        let manifest = Manifest::from_bytes(&bytes)
            .map_err(|source: ManifestError| StoreError::Manifest { object: path.display().to_string(), source })?;
        let version = LocalVersion { dir: dir.to_owned(), manifest };
        let (weights, others): (Vec<_>, Vec<_>) =
            version.manifest.files.iter().partition(|file| file.path.as_str() == files::WEIGHTS);
        others.into_iter().try_for_each(|file| version.verify(file))?;
        Ok(Self { unverified: weights.first().map(|file| (*file).clone()), version })
    }

    /// Where its files lie.
    pub fn dir(&self) -> &Path {
        &self.version.dir
    }

    /// What it is made of.
    pub fn manifest(&self) -> &Manifest {
        &self.version.manifest
    }

    /// Verifies the weights, unless they have been. Blocks.
    pub fn verify(&self) -> Result<&LocalVersion, StoreError> {
        self.unverified.iter().try_for_each(|file| self.version.verify(file))?;
        Ok(&self.version)
    }
}

impl From<LocalVersion> for PartlyVerified {
    fn from(version: LocalVersion) -> Self {
        Self { version, unverified: None }
    }
}

impl LocalVersion {
    /// Opens a directory that holds a version, and verifies size and digest of every file. Blocks.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        Ok(PartlyVerified::open(dir)?.verify()?.clone())
    }

    fn verify(&self, file: &FileEntry) -> Result<(), StoreError> {
        let path = self.dir.join(file.path.as_str());
        let found = match fingerprint_file(&path) {
            Ok(found) => Some(found),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => None,
            Err(source) => return Err(StoreError::Io { action: "read", path, source }),
        };
        file.check(found).map_err(|damage| StoreError::Damaged {
            version: self.manifest.version.clone(),
            place: self.dir.display().to_string(),
            source: damage.into(),
        })
    }

    /// For whoever has just written and verified the files.
    pub(crate) fn verified(dir: PathBuf, manifest: Manifest) -> Self {
        Self { dir, manifest }
    }

    /// Where its files lie.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it is made of.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }
}
