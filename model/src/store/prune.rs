//! Pruning: old versions, and what killed publishes left.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use futures::TryStreamExt;
use jiff::Timestamp;
use object_store::{ObjectStoreExt, PutMode};
use serde::Serialize;

use super::error::is_missing;
use super::{Store, StoreError, blocking};
use crate::version::{ChannelName, MANIFEST, Manifest, VersionId};

/// What to prune.
#[derive(Clone, Debug)]
pub struct Prune {
    /// So many of the newest versions stay, whatever channels name.
    pub keep: usize,
    /// Directories without a manifest go when nothing was written to them since then: what is younger may be a publish
    /// under way.
    pub leftovers_before: Timestamp,
    /// Only say what would go.
    pub dry_run: bool,
}

/// What was pruned, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pruned {
    /// Versions that went, the oldest first.
    pub versions: Vec<VersionId>,
    /// What killed publishes had left.
    pub leftovers: Vec<VersionId>,
    /// Old versions that stay because a channel names them or would roll back to them.
    pub kept: BTreeMap<VersionId, BTreeSet<ChannelName>>,
    /// Versions that stay because their manifests cannot be read, and why.
    pub unreadable: BTreeMap<VersionId, String>,
}

impl Store {
    /// Deletes all versions but the newest, never one that a channel names or would roll back to.
    pub async fn prune(&self, prune: &Prune) -> Result<Pruned, StoreError> {
        self.writable()?;
        let mut pruned = Pruned::default();
        // Before the versions: what is published and promoted meanwhile is in neither list.
        let named = self.named_versions().await?;
        let mut readable: Vec<Manifest> = Vec::new();
        for listed in self.versions().await? {
            match listed.manifest {
                Ok(manifest) => readable.push(manifest),
                Err(e) => {
                    pruned.unreadable.insert(listed.version, e.to_string());
                }
            }
        }
        readable.truncate(readable.len().saturating_sub(prune.keep));
        for manifest in readable {
            let channels = match named.get(&manifest.version) {
                Some(channels) => channels.clone(),
                None if prune.dry_run => BTreeSet::new(),
                None => self.delete_version(&manifest).await?,
            };
            if channels.is_empty() {
                pruned.versions.push(manifest.version);
            } else {
                pruned.kept.insert(manifest.version, channels);
            }
        }
        for version in self.version_names().await? {
            if self.is_leftover(&version, prune.leftovers_before).await? {
                if !prune.dry_run {
                    self.delete_version_files(&version).await?;
                }
                pruned.leftovers.push(version);
            }
        }
        Ok(pruned)
    }

    /// Deletes a version unless a channel has come to name it: then it stays, and those channels are returned.
    async fn delete_version(&self, manifest: &Manifest) -> Result<BTreeSet<ChannelName>, StoreError> {
        let object = self.version_object(&manifest.version, MANIFEST);
        // The manifest first: no reader sees half a version. And before the channels are looked at again: see
        // `move_channel`.
        self.delete(vec![object.clone()]).await?;
        if let Some(channels) = self.named_versions().await?.remove(&manifest.version) {
            let bytes = manifest.to_bytes().into();
            match self.objects.put_opts(&object, bytes, PutMode::Create.into()).await {
                Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => return Ok(channels),
                Err(e) => return Err(self.failed("write", &object, e)),
            }
        }
        self.delete_version_files(&manifest.version).await?;
        tracing::info!(version = %manifest.version, store = %self.url, "pruned");
        Ok(BTreeSet::new())
    }

    /// The versions that channels name or would roll back to, and by which channels.
    async fn named_versions(&self) -> Result<BTreeMap<VersionId, BTreeSet<ChannelName>>, StoreError> {
        let mut named: BTreeMap<VersionId, BTreeSet<ChannelName>> = BTreeMap::new();
        for (channel, state) in self.channels().await? {
            for version in [Some(&state.version), state.previous.first()].into_iter().flatten() {
                named.entry(version.clone()).or_default().insert(channel.clone());
            }
        }
        Ok(named)
    }

    async fn is_leftover(&self, version: &VersionId, before: Timestamp) -> Result<bool, StoreError> {
        match self.objects.head(&self.version_object(version, MANIFEST)).await {
            Ok(_) => return Ok(false),
            Err(e) if is_missing(&e) => {}
            Err(e) => return Err(self.failed("read", &self.version_object(version, MANIFEST), e)),
        }
        let newest = match self.local_dir(version) {
            Some(dir) => blocking(move || newest_file(&dir)).await?,
            None => {
                let folder = self.version_folder(version);
                let times = self.objects.list(Some(&folder)).try_fold(None, |newest, meta| async move {
                    Ok(newest.max(Timestamp::new(meta.last_modified.timestamp(), 0).ok()))
                });
                times.await.map_err(|e| self.failed("list", &folder, e))?
            }
        };
        Ok(newest.is_some_and(|newest| newest < before))
    }
}

/// When something below a directory was last written; `None` where there is no such directory. Blocks.
fn newest_file(dir: &Path) -> Result<Option<Timestamp>, StoreError> {
    let failed = |source| StoreError::Io { action: "read", path: dir.to_owned(), source };
    let time = |path: &Path| match std::fs::metadata(path).and_then(|m| m.modified()) {
        Ok(time) => Ok(Timestamp::try_from(time).ok()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed(e)),
    };
    let mut newest = time(dir)?;
    if newest.is_some() {
        for entry in std::fs::read_dir(dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            newest = newest.max(if path.is_dir() { newest_file(&path)? } else { time(&path)? });
        }
    }
    Ok(newest)
}
