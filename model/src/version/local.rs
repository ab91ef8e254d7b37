//! A version in a local directory, verified.

use std::io;
use std::path::{Path, PathBuf};

use super::{FileEntry, FilePath, Fingerprint, MANIFEST, Manifest, ManifestError, fingerprint_file};
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

impl LocalVersion {
    /// Opens a directory that holds a version, and verifies size and digest of every file. Blocks.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(MANIFEST);
        let bytes =
            std::fs::read(&path).map_err(|source| StoreError::Io { action: "read", path: path.clone(), source })?;
        let manifest = Manifest::from_bytes(&bytes)
            .map_err(|source: ManifestError| StoreError::Manifest { object: path.display().to_string(), source })?;
        for file in &manifest.files {
            let path = dir.join(file.path.as_str());
            let found = match fingerprint_file(&path) {
                Ok(found) => Some(found),
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => None,
                Err(source) => return Err(StoreError::Io { action: "read", path, source }),
            };
            file.check(found).map_err(|damage| StoreError::Damaged {
                version: manifest.version.clone(),
                place: dir.display().to_string(),
                source: damage.into(),
            })?;
        }
        Ok(Self { dir: dir.to_owned(), manifest })
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
