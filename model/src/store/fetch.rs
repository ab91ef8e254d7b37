//! Fetching and verifying.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use object_store::path::Path as ObjectPath;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::error::is_missing;
use super::{Kind, Store, StoreError, blocking};
use crate::version::{
    Digest, FileEntry, Fingerprint, Fingerprinter, LocalVersion, MANIFEST, Manifest, PartlyVerified, VersionId,
};

/// Parts of a file that are fetched at once.
const CONCURRENT_PARTS: usize = 4;

impl Store {
    /// Fetches a version into a new directory. Every file is verified before the directory appears: whatever goes wrong,
    /// `into` is either whole or not there.
    pub async fn fetch(&self, version: &VersionId, into: &Path) -> Result<LocalVersion, StoreError> {
        let (manifest, bytes) = self.read_manifest(version).await?;
        self.fetch_files(&manifest, &bytes, into, &Arc::default()).await
    }

    /// A verified version in a local directory, ready to be read: in place where the store is a directory, else fetched
    /// into a directory of `cache`, which the next call finds again (and verifies again).
    pub async fn load(&self, version: &VersionId, cache: &Path) -> Result<LocalVersion, StoreError> {
        let found = self.find(version, cache, &Arc::default()).await?;
        let (in_place, dir) = (self.local_dir(version).is_some(), found.dir().to_owned());
        match blocking(move || found.verify().cloned()).await {
            Err(damaged) if !in_place => {
                self.delete_copy(&dir, &damaged.to_string()).await?;
                let found = self.find(version, cache, &Arc::default()).await?;
                blocking(move || found.verify().cloned()).await
            }
            verified => verified,
        }
    }

    /// As [`Store::load`], but what lay in a local directory may have damaged weights; adds the bytes that it fetches to
    /// `fetched` as they come.
    pub async fn find(
        &self,
        version: &VersionId,
        cache: &Path,
        fetched: &Arc<AtomicU64>,
    ) -> Result<PartlyVerified, StoreError> {
        let (manifest, bytes) = self.read_manifest(version).await?;
        if let Some(dir) = self.local_dir(version) {
            return blocking(move || PartlyVerified::open(&dir)).await;
        }
        // Another store may have another version of that name.
        let dir = cache.join(format!("{version}-{}", &Digest::of(&bytes).to_string()[..16]));
        if dir.exists() {
            let cached = dir.clone();
            let problem = match blocking(move || PartlyVerified::open(&cached)).await {
                Ok(cached) if *cached.manifest() == manifest => return Ok(cached),
                Ok(_) => "it is another version".to_owned(),
                Err(e) => e.to_string(),
            };
            self.delete_copy(&dir, &problem).await?;
        }
        match self.fetch_files(&manifest, &bytes, &dir, fetched).await {
            // Another process was quicker.
            Err(StoreError::TargetExists { dir }) => blocking(move || PartlyVerified::open(&dir)).await,
            fetched => fetched.map(PartlyVerified::from),
        }
    }

    /// Deletes a copy that [`Store::find`] has found, so that it fetches the version again.
    pub async fn delete_copy(&self, dir: &Path, problem: &str) -> Result<(), StoreError> {
        tracing::warn!(dir = %dir.display(), "fetching again: {problem}");
        let removed = tokio::fs::remove_dir_all(dir).await;
        removed.map_err(|source| StoreError::Io { action: "delete", path: dir.to_owned(), source })
    }

    /// One small file of a version, verified, in memory; `None` where the version has no such file.
    pub async fn fetch_file(&self, version: &VersionId, path: &str) -> Result<Option<Bytes>, StoreError> {
        let manifest = self.manifest(version).await?;
        let Some(file) = manifest.files.iter().find(|f| f.path.as_str() == path) else { return Ok(None) };
        let mut bytes = BytesMut::new();
        let into = &mut bytes;
        self.read_file(&manifest, file, &Arc::default(), move |mut parts| async move {
            while let Some(part) = parts.try_next().await? {
                into.extend_from_slice(&part);
            }
            Ok(())
        })
        .await?;
        Ok(Some(bytes.freeze()))
    }

    /// Reads every file of a version and compares it with the manifest.
    pub async fn verify(&self, version: &VersionId) -> Result<Manifest, StoreError> {
        let manifest = self.manifest(version).await?;
        if let Some(dir) = self.local_dir(version) {
            return Ok(blocking(move || LocalVersion::open(&dir)).await?.manifest().clone());
        }
        for file in &manifest.files {
            self.read_file(&manifest, file, &Arc::default(), |mut parts| async move {
                while parts.try_next().await?.is_some() {}
                Ok(())
            })
            .await?;
        }
        Ok(manifest)
    }

    async fn fetch_files(
        &self,
        manifest: &Manifest,
        manifest_bytes: &[u8],
        into: &Path,
        fetched: &Arc<AtomicU64>,
    ) -> Result<LocalVersion, StoreError> {
        if into.exists() {
            return Err(StoreError::TargetExists { dir: into.to_owned() });
        }
        let parent = match into.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let failed = |source| StoreError::Io { action: "write", path: into.to_owned(), source };
        std::fs::create_dir_all(parent).map_err(failed)?;
        // Removed when dropped, and with the rights that a new directory usually has.
        let rights = Permissions::from_mode(0o777);
        let temporary =
            tempfile::Builder::new().prefix(".fetch-").permissions(rights).tempdir_in(parent).map_err(failed)?;
        for file in &manifest.files {
            let to = temporary.path().join(file.path.as_str());
            self.read_file(manifest, file, fetched, |parts| write_file(to, parts)).await?;
        }
        let path = temporary.path().join(MANIFEST);
        std::fs::write(&path, manifest_bytes).map_err(|source| StoreError::Io { action: "write", path, source })?;
        match std::fs::rename(temporary.path(), into) {
            Ok(()) => {}
            Err(_) if into.exists() => return Err(StoreError::TargetExists { dir: into.to_owned() }),
            Err(e) => return Err(failed(e)),
        }
        let _ = temporary.keep();
        Ok(LocalVersion::verified(into.to_owned(), manifest.clone()))
    }

    /// Streams a file of a version through `sink` and compares it with the manifest on the way.
    async fn read_file<F: Future<Output = Result<(), StoreError>>>(
        &self,
        manifest: &Manifest,
        file: &FileEntry,
        fetched: &Arc<AtomicU64>,
        sink: impl FnOnce(BoxStream<'static, Result<Bytes, StoreError>>) -> F,
    ) -> Result<(), StoreError> {
        let object = self.version_object(&manifest.version, file.path.as_str());
        let (sender, hashed) = hash_thread();
        let found = match self.parts(&object).await? {
            Some(parts) => {
                let fetched = fetched.clone();
                // Hashing and what the sink does happen at once.
                let parts = parts.and_then(move |part| {
                    fetched.fetch_add(part.len() as u64, Ordering::Relaxed);
                    let sender = sender.clone();
                    async move {
                        let _ = sender.send(part.clone()).await;
                        Ok(part)
                    }
                });
                sink(parts.boxed()).await?;
                Some(match hashed.await {
                    Ok(fingerprint) => fingerprint,
                    Err(e) => std::panic::resume_unwind(e.into_panic()),
                })
            }
            None => None,
        };
        file.check(found).map_err(|damage| StoreError::Damaged {
            version: manifest.version.clone(),
            place: self.url.clone(),
            source: damage.into(),
        })
    }

    /// The object's bytes, however many there are; `None` where there is no such object.
    async fn parts(
        &self,
        object: &ObjectPath,
    ) -> Result<Option<BoxStream<'static, Result<Bytes, StoreError>>>, StoreError> {
        let (store, name) = (self.clone(), object.clone());
        let failed = move |e| store.failed("read", &name, e);
        let size = match self.objects.head(object).await {
            Ok(meta) => meta.size,
            Err(e) if is_missing(&e) => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        let part = self.part_size(size);
        if self.kind == Kind::Web || size <= part {
            let got = self.objects.get(object).await.map_err(&failed)?;
            return Ok(Some(got.into_stream().map_err(failed).boxed()));
        }
        let (objects, object) = (self.objects.clone(), object.clone());
        let ranges = futures::stream::iter((0..size.div_ceil(part)).map(move |i| i * part..size.min((i + 1) * part)));
        let parts = ranges.map(move |range| {
            let (objects, object) = (objects.clone(), object.clone());
            async move { objects.get_range(&object, range).await }
        });
        Ok(Some(parts.buffered(CONCURRENT_PARTS).map_err(failed).boxed()))
    }
}

/// A thread that hashes what it is sent, until nobody can send any more.
fn hash_thread() -> (mpsc::Sender<Bytes>, JoinHandle<Fingerprint>) {
    let (sender, mut parts) = mpsc::channel::<Bytes>(2);
    let hashed = tokio::task::spawn_blocking(move || {
        let mut seen = Fingerprinter::default();
        while let Some(part) = parts.blocking_recv() {
            seen.update(&part);
        }
        seen.finish()
    });
    (sender, hashed)
}

async fn write_file(path: PathBuf, mut parts: BoxStream<'static, Result<Bytes, StoreError>>) -> Result<(), StoreError> {
    let (sender, mut received) = mpsc::channel::<Bytes>(2);
    let written = tokio::task::spawn_blocking(move || {
        let mut write = || {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            let mut file = File::create_new(&path)?;
            while let Some(part) = received.blocking_recv() {
                file.write_all(&part)?;
            }
            Ok(())
        };
        write().map_err(|source| StoreError::Io { action: "write", path, source })
    });
    while let Some(part) = parts.try_next().await? {
        if sender.send(part).await.is_err() {
            break;
        }
    }
    drop((sender, parts));
    match written.await {
        Ok(written) => written,
        Err(e) => std::panic::resume_unwind(e.into_panic()),
    }
}
