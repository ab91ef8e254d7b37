//! A folder that appears, or is replaced, as a whole.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Why a folder cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The folder has something else in it, which is not ours to replace.
    #[error("{} exists and holds no {content}; choose another folder, or remove it", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
        /// What would be replaced.
        content: &'static str,
    },
    /// It, or a file in it, cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Gives an IO error the path that it is about.
pub(crate) fn write_error(path: &Path) -> impl FnOnce(std::io::Error) -> FolderError + use<> {
    let path = path.to_owned();
    move |source| FolderError::Write { path, source }
}

/// A folder in the making. Unless it is completed, nothing of it remains and what was there before stays.
pub(crate) struct NewFolder {
    out: PathBuf,
    /// Beside `out`, so that a rename is enough.
    work: TempDir,
    content: PathBuf,
}

impl NewFolder {
    /// To replace `out`, which may be absent, empty, or hold the file `marker` as earlier `content` does.
    pub(crate) fn new(out: &Path, content: &'static str, marker: &str) -> Result<Self, FolderError> {
        let out = std::path::absolute(out).map_err(write_error(out))?;
        let empty = |out: &Path| Ok(out.read_dir()?.next().is_none());
        if out.exists() && (out.is_file() || !out.join(marker).exists() && !empty(&out).map_err(write_error(&out))?) {
            return Err(FolderError::Occupied { path: out, content });
        }
        let parent = out.parent().unwrap_or(&out).to_owned();
        std::fs::create_dir_all(&parent).map_err(write_error(&parent))?;
        let work = tempfile::Builder::new().prefix(".unimodel-").tempdir_in(&parent).map_err(write_error(&parent))?;
        let content = work.path().join("content");
        std::fs::create_dir(&content).map_err(write_error(&content))?;
        Ok(Self { out, work, content })
    }

    /// Where its files go.
    pub(crate) fn content(&self) -> &Path {
        &self.content
    }

    /// A folder for what is needed on the way; it goes with the rest.
    pub(crate) fn scratch(&self) -> Result<PathBuf, FolderError> {
        let scratch = self.work.path().join("scratch");
        std::fs::create_dir(&scratch).map_err(write_error(&scratch))?;
        Ok(scratch)
    }

    /// Puts it in place.
    pub(crate) fn complete(self) -> Result<(), FolderError> {
        if self.out.exists() {
            std::fs::rename(&self.out, self.work.path().join("before")).map_err(write_error(&self.out))?;
        }
        std::fs::rename(&self.content, &self.out).map_err(write_error(&self.out))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn replaces_its_like_and_leaves_what_is_not_complete() {
        let root = tempfile::tempdir().unwrap();
        let out = root.path().join("deep/out");
        let write = |text: &str| {
            let folder = NewFolder::new(&out, "things", "thing").unwrap();
            std::fs::write(folder.content().join("thing"), text).unwrap();
            folder
        };
        write("a").complete().unwrap();
        drop(write("b"));
        assert_eq!(std::fs::read_to_string(out.join("thing")).unwrap(), "a");
        write("c").complete().unwrap();
        assert_eq!(std::fs::read_to_string(out.join("thing")).unwrap(), "c");
        assert_eq!(out.parent().unwrap().read_dir().unwrap().count(), 1, "nothing lies around");
    }

    #[test]
    fn what_is_something_else_is_not_replaced() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("letter"), "dear").unwrap();
        assert!(matches!(NewFolder::new(root.path(), "things", "thing"), Err(FolderError::Occupied { .. })));
        let file = root.path().join("letter");
        assert!(matches!(NewFolder::new(&file, "things", "thing"), Err(FolderError::Occupied { .. })));
    }
}
