//! The store: versions and channels under one URL, in a directory or in an object store.
//!
//! ```text
//! <url>/versions/<version>/manifest.json    written last; without it a version does not exist
//!                         /schema.json, model.safetensors, …
//!      /channels/<channel>.json             replaced by compare-and-swap
//! ```

mod channel;
mod error;
mod fetch;
mod location;
mod prune;
mod publish;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path as ObjectPath;
use object_store::{ListResult, ObjectStore, ObjectStoreExt, UpdateVersion};

pub use channel::{ChannelState, HISTORY};
pub use error::StoreError;
pub use prune::{Prune, Pruned};
pub use publish::Publication;

use crate::version::{MANIFEST, Manifest, VersionId};

/// A place where versions are published to and fetched from. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    url: String,
    kind: Kind,
    objects: Arc<dyn ObjectStore>,
    prefix: ObjectPath,
}

/// What differs between kinds of stores.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// A directory of this machine, or mounted into it.
    Directory(PathBuf),
    /// A bucket that lists, and that replaces on condition.
    Bucket,
    /// A web server: it only answers GET.
    Web,
}

/// One entry of [`Store::versions`].
#[derive(Debug)]
pub struct ListedVersion {
    /// Its name.
    pub version: VersionId,
    /// What it is made of, or why that cannot be told.
    pub manifest: Result<Manifest, StoreError>,
}

impl Store {
    /// Opens the store at that URL (see `docs/store.md`); credentials and endpoints come from the environment's usual
    /// variables. Nothing is read or written yet.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        let variables = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        Self::open_with(url, variables)
    }

    /// As [`Store::open`], with those variables in place of the environment's.
    pub fn open_with(url: &str, variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, StoreError> {
        location::open(url, &with_mounted(variables.into_iter().collect()))
    }

    /// The URL, for messages.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// All versions, the oldest first. A version whose publish has not ended is not among them.
    pub async fn versions(&self) -> Result<Vec<ListedVersion>, StoreError> {
        let mut listed: Vec<_> = futures::stream::iter(self.version_names().await?)
            .map(|version| async move {
                match self.manifest(&version).await {
                    Err(StoreError::NoVersion { .. }) => None,
                    manifest => Some(ListedVersion { version, manifest }),
                }
            })
            .buffered(16)
            .filter_map(std::future::ready)
            .collect()
            .await;
        listed.sort_by_cached_key(|v| (v.manifest.as_ref().ok().map(|m| m.created), v.version.clone()));
        Ok(listed)
    }

    /// The manifest of a version.
    pub async fn manifest(&self, version: &VersionId) -> Result<Manifest, StoreError> {
        Ok(self.read_manifest(version).await?.0)
    }

    async fn read_manifest(&self, version: &VersionId) -> Result<(Manifest, Bytes), StoreError> {
        let object = self.version_object(version, MANIFEST);
        let bytes = match self.read(&object).await? {
            Some((bytes, _)) => bytes,
            None => return Err(StoreError::NoVersion { store: self.url.clone(), version: version.clone() }),
        };
        let manifest = Manifest::from_bytes(&bytes)
            .map_err(|source| StoreError::Manifest { object: self.name_of(&object), source })?;
        if manifest.version != *version {
            return Err(StoreError::Misplaced { object: self.name_of(&object), found: manifest.version });
        }
        Ok((manifest, bytes))
    }

    /// The directory that holds the version, where the store is a directory.
    pub fn local_dir(&self, version: &VersionId) -> Option<PathBuf> {
        match &self.kind {
            Kind::Directory(root) => Some(root.join("versions").join(version.as_str())),
            Kind::Bucket | Kind::Web => None,
        }
    }

    /// Names of all directories of versions, with and without a manifest. Other names are not the store's.
    async fn version_names(&self) -> Result<Vec<VersionId>, StoreError> {
        let folder = self.prefix.clone().join("versions");
        let listed = self.list_folder(&folder).await?;
        Ok(listed.common_prefixes.iter().filter_map(|p| p.filename()?.parse().ok()).collect())
    }

    async fn list_folder(&self, folder: &ObjectPath) -> Result<ListResult, StoreError> {
        match &self.kind {
            Kind::Web => return Err(StoreError::NotListable { store: self.url.clone() }),
            // Otherwise a mistyped directory would be an empty store.
            Kind::Directory(root) => std::fs::metadata(root).map(drop).map_err(|source| StoreError::Io {
                action: "read",
                path: root.clone(),
                source,
            })?,
            Kind::Bucket => {}
        }
        self.objects.list_with_delimiter(Some(folder)).await.map_err(|e| self.failed("list", folder, e))
    }

    /// The object's bytes and the condition under which it may be replaced; `None` where there is no such object.
    async fn read(&self, object: &ObjectPath) -> Result<Option<(Bytes, UpdateVersion)>, StoreError> {
        let result = async {
            let got = self.objects.get(object).await?;
            let condition = UpdateVersion { e_tag: got.meta.e_tag.clone(), version: got.meta.version.clone() };
            Ok((got.bytes().await?, condition))
        };
        match result.await {
            Ok(read) => Ok(Some(read)),
            Err(e) if error::is_missing(&e) => Ok(None),
            Err(e) => Err(self.failed("read", object, e)),
        }
    }

    /// Deletes objects; what is already gone is no error.
    async fn delete(&self, objects: Vec<ObjectPath>) -> Result<(), StoreError> {
        for object in objects {
            match self.objects.delete(&object).await {
                Ok(()) => {}
                Err(e) if error::is_missing(&e) => {}
                Err(e) => return Err(self.failed("delete", &object, e)),
            }
        }
        Ok(())
    }

    /// Deletes all that lies in a version's directory.
    async fn delete_version_files(&self, version: &VersionId) -> Result<(), StoreError> {
        if let Some(dir) = self.local_dir(version) {
            // Temporary files of a killed publish are no objects, and only a file system has empty directories.
            return match tokio::fs::remove_dir_all(&dir).await {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    Err(StoreError::Io { action: "delete", path: dir, source })
                }
                _ => Ok(()),
            };
        }
        let folder = self.version_folder(version);
        let listed = self.objects.list(Some(&folder)).map_ok(|meta| meta.location).try_collect();
        self.delete(listed.await.map_err(|e| self.failed("list", &folder, e))?).await
    }

    fn version_folder(&self, version: &VersionId) -> ObjectPath {
        self.prefix.clone().join("versions").join(version.as_str())
    }

    /// An object of a version. The path's parts were checked to be free of what object stores escape.
    fn version_object(&self, version: &VersionId, path: &str) -> ObjectPath {
        path.split('/').fold(self.version_folder(version), |folder, part| folder.join(part))
    }

    /// The object's name as a person would type it.
    fn name_of(&self, object: &ObjectPath) -> String {
        match object.prefix_match(&self.prefix) {
            Some(parts) => parts.fold(self.url.clone(), |name, part| format!("{name}/{}", part.as_ref())),
            None => object.to_string(),
        }
    }

    fn failed(&self, action: &'static str, object: &ObjectPath, source: object_store::Error) -> StoreError {
        StoreError::object(action, self.name_of(object), source)
    }

    fn writable(&self) -> Result<(), StoreError> {
        if self.kind == Kind::Web {
            return Err(StoreError::ReadOnly { store: self.url.clone() });
        }
        Ok(())
    }
}

/// The variable with a directory whose files are variables too, by their names. A Secret that is mounted there changes while a
/// program runs, and the program's environment cannot.
const MOUNTED: &str = "UNIMODEL_STORE_SECRET";

/// These variables, and in their place or beside them those of the directory, as they are now.
fn with_mounted(mut variables: BTreeMap<String, String>) -> Vec<(String, String)> {
    let files = variables.get(MOUNTED).and_then(|folder| std::fs::read_dir(folder).ok());
    let variable = |file: std::fs::DirEntry| {
        // What is no text is no variable, and what is a directory is how a mount is changed as a whole.
        Some((file.file_name().into_string().ok()?, std::fs::read_to_string(file.path()).ok()?))
    };
    let mounted: Vec<_> = files.into_iter().flatten().flatten().filter_map(variable).collect();
    variables.extend(mounted);
    variables.into_iter().collect()
}

/// Runs what blocks where it may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(e) => std::panic::resume_unwind(e.into_panic()),
    }
}

/// Makes what was written to a file or directory outlast a loss of power.
fn sync(path: &Path) -> Result<(), StoreError> {
    let done = std::fs::File::open(path).and_then(|f| f.sync_all());
    done.map_err(|source| StoreError::Io { action: "write", path: path.to_owned(), source })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_are_mounted_are_read_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let environment = || {
            let mounted = pair(MOUNTED, folder.path().to_str().unwrap());
            BTreeMap::from([pair("AWS_ACCESS_KEY_ID", "old"), pair("AWS_REGION", "eu-west-1"), mounted])
        };
        let key = || {
            let variables = with_mounted(environment());
            assert!(variables.contains(&pair("AWS_REGION", "eu-west-1")), "{variables:?}");
            variables.into_iter().find(|(name, _)| name == "AWS_ACCESS_KEY_ID").unwrap().1
        };
        assert_eq!(key(), "old");
        std::fs::create_dir(folder.path().join("..data")).unwrap();
        for rotated in ["first", "second"] {
            std::fs::write(folder.path().join("AWS_ACCESS_KEY_ID"), rotated).unwrap();
            assert_eq!(key(), rotated);
        }
        folder.close().unwrap();
        assert_eq!(with_mounted(BTreeMap::from([pair(MOUNTED, "/nowhere")])), [pair(MOUNTED, "/nowhere")]);
    }
}
