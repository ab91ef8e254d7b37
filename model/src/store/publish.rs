//! Publishing: digests, files, and the manifest last.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStoreExt, PutMode, PutPayload};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use super::{Kind, Store, StoreError, blocking, sync};
use crate::version::{
    Digest, FileEntry, FilePath, Fingerprint, Fingerprinter, MANIFEST, MANIFEST_FORMAT, Manifest, Metrics, VersionId,
    fingerprint_file,
};

/// Files that every version has.
const REQUIRED: [&str; 2] = ["schema.json", "model.safetensors"];

/// Parts of a large file that are under way at once.
const CONCURRENT_PARTS: usize = 4;

/// What a publisher knows of a version beyond its files.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Now: it becomes part of the version's name.
    pub created: Timestamp,
    /// Data cut-off: the newest event that training saw.
    pub data_time: Timestamp,
    /// The version that training started from.
    pub parent: Option<VersionId>,
    /// Name of the pipeline.
    pub pipeline: Option<String>,
    /// Metrics on held-out events; all finite.
    pub metrics: Metrics,
}

impl Store {
    /// Publishes all files of a directory as a version, named by time and content
    /// (`20261124T151500Z-<first 8 digits of the content digest>`), and returns its manifest.
    ///
    /// Files are read twice: the name depends on the content, so all is hashed first; then it is sent, and hashed again
    /// on its way, so that a file that changes meanwhile is noticed. The manifest follows last and never replaces
    /// another. Until then no reader sees anything, and a failure removes what was sent.
    pub async fn publish(&self, dir: &Path, publication: Publication) -> Result<Manifest, StoreError> {
        self.writable()?;
        let unpublishable = |problem: String| StoreError::Unpublishable { dir: dir.to_owned(), problem };
        for (task, metrics) in &publication.metrics {
            if let Some((name, value)) = metrics.iter().find(|(_, value)| !value.is_finite()) {
                return Err(unpublishable(format!(
                    "metric `{name}` of task `{task}` is {value}, which no JSON can say"
                )));
            }
        }
        let paths = blocking({
            let dir = dir.to_owned();
            move || list_files(&dir)
        })
        .await?;
        if let Some(missing) = REQUIRED.iter().find(|name| paths.iter().all(|path| path.as_str() != **name)) {
            return Err(unpublishable(format!("it has no `{missing}`")));
        }
        let files: Vec<FileEntry> = futures::stream::iter(paths)
            .map(|path| {
                let source = dir.join(path.as_str());
                blocking(move || match fingerprint_file(&source) {
                    Ok(content) => Ok(FileEntry { path, content }),
                    Err(e) => Err(StoreError::Io { action: "read", path: source, source: e }),
                })
            })
            .buffered(2)
            .try_collect()
            .await?;
        let manifest = manifest(publication, files);
        let object = self.version_object(&manifest.version, MANIFEST);
        if self.read(&object).await?.is_some() {
            return Err(self.version_exists(&manifest));
        }
        if let Err(e) = self.send_files(dir, &manifest).await {
            // Two publishers of the same content in the same second would share these files, and the other's version
            // would then be found damaged. Leaving a full disk full is worse.
            if let Err(left) = self.delete_version_files(&manifest.version).await {
                tracing::warn!(version = %manifest.version, "left behind, for `unimodel prune`: {left}");
            }
            return Err(e);
        }
        self.send_manifest(&manifest, &object).await?;
        if let Some(dir) = self.local_dir(&manifest.version) {
            blocking(move || sync(&dir.join(MANIFEST)).and_then(|()| sync(&dir))).await?;
        }
        tracing::info!(version = %manifest.version, store = %self.url, bytes = manifest.size(), "published");
        Ok(manifest)
    }

    async fn send_files(&self, dir: &Path, manifest: &Manifest) -> Result<(), StoreError> {
        for file in &manifest.files {
            let object = self.version_object(&manifest.version, file.path.as_str());
            self.send_file(dir.join(file.path.as_str()), file.content, &object).await?;
            if let Some(written) = self.local_dir(&manifest.version).map(|dir| dir.join(file.path.as_str())) {
                blocking(move || sync(&written)).await?;
            }
            tracing::debug!(object = %self.name_of(&object), bytes = file.content.size, "sent");
        }
        Ok(())
    }

    async fn send_file(&self, source: PathBuf, content: Fingerprint, object: &ObjectPath) -> Result<(), StoreError> {
        let failed = |e| self.failed("write", object, e);
        let part_size = self.part_size(content.size);
        let (mut parts, reader) = read_parts(source.clone(), part_size, content.size);
        if content.size <= part_size {
            let mut payload = Vec::new();
            while let Some(part) = parts.recv().await {
                payload.push(part);
            }
            unchanged(reader, &source, content).await?;
            self.objects.put(object, PutPayload::from_iter(payload)).await.map_err(failed)?;
        } else {
            let mut upload = self.objects.put_multipart(object).await.map_err(failed)?;
            let mut under_way = JoinSet::new();
            let sent = async {
                let mut joined = |done: Result<object_store::Result<()>, tokio::task::JoinError>| match done {
                    Ok(sent) => sent.map_err(failed),
                    Err(e) => std::panic::resume_unwind(e.into_panic()),
                };
                while let Some(part) = parts.recv().await {
                    while under_way.len() >= CONCURRENT_PARTS {
                        under_way.join_next().await.map_or(Ok(()), &mut joined)?;
                    }
                    under_way.spawn(upload.put_part(part.into()));
                }
                while let Some(done) = under_way.join_next().await {
                    joined(done)?;
                }
                drop(parts);
                unchanged(reader, &source, content).await?;
                upload.complete().await.map_err(failed)
            };
            if let Err(e) = sent.await {
                // In a directory a thread writes each part, and nothing stops it: until it ends, the file takes its room.
                while matches!(self.kind, Kind::Directory(_)) && under_way.join_next().await.is_some() {}
                if let Err(left) = upload.abort().await {
                    tracing::debug!(%object, "the upload's parts are left to the bucket's lifecycle rule: {left}");
                }
                return Err(e);
            }
        }
        Ok(())
    }

    async fn send_manifest(&self, manifest: &Manifest, object: &ObjectPath) -> Result<(), StoreError> {
        let bytes = Bytes::from(manifest.to_bytes());
        match self.objects.put_opts(object, bytes.clone().into(), PutMode::Create.into()).await {
            Ok(_) => {}
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                // An answer may be lost and the request repeated: then it is our own manifest that is there.
                if self.read(object).await?.is_none_or(|(found, _)| found != bytes) {
                    return Err(self.version_exists(manifest));
                }
            }
            Err(e) => return Err(self.failed("write", object, e)),
        }
        Ok(())
    }

    fn version_exists(&self, manifest: &Manifest) -> StoreError {
        StoreError::VersionExists { store: self.url.clone(), version: manifest.version.clone() }
    }

    /// Bytes sent or fetched at once. S3 takes at most 10,000 parts, all but the last equally large.
    pub(super) fn part_size(&self, size: u64) -> u64 {
        match self.kind {
            // What was read is still in the processor's cache when it is hashed and written.
            Kind::Directory(_) => 256 << 10,
            Kind::Bucket | Kind::Web => (16 << 20).max(size.div_ceil(9_000)),
        }
    }
}

fn manifest(publication: Publication, files: Vec<FileEntry>) -> Manifest {
    let Publication { created, data_time, parent, pipeline, metrics } = publication;
    let content = Manifest::content_digest(&files).to_string();
    let version = format!("{}-{}", created.strftime("%Y%m%dT%H%M%SZ"), &content[..8]);
    let schema = files.iter().find(|f| f.path.as_str() == "schema.json");
    Manifest {
        format: MANIFEST_FORMAT,
        version: version.try_into().expect("digits and letters"),
        created,
        data_time,
        parent,
        pipeline,
        schema_hash: schema.map_or(Digest::of(b""), |f| f.content.sha256),
        files,
        metrics,
    }
}

/// All files below a directory but a manifest, in the order of their paths.
fn list_files(dir: &Path) -> Result<Vec<FilePath>, StoreError> {
    let mut found = Vec::new();
    let mut folders = vec![(dir.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        let failed = |source| StoreError::Io { action: "read", path: folder.clone(), source };
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
            // Follows links: what they point to is what is published.
            let kind = std::fs::metadata(entry.path()).map_err(failed)?.file_type();
            if kind.is_dir() {
                folders.push((entry.path(), format!("{path}/")));
            } else if !kind.is_file() {
                let problem = format!("`{path}` is neither a file nor a directory");
                return Err(StoreError::Unpublishable { dir: dir.to_owned(), problem });
            } else if path != MANIFEST {
                found.push(path.try_into()?);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Reads a file in parts and hashes it on the way, in a thread of its own that keeps at most two parts ahead. A file that
/// has grown is read one byte too far, to be noticed.
fn read_parts(path: PathBuf, part: u64, size: u64) -> (mpsc::Receiver<Bytes>, JoinHandle<io::Result<Fingerprint>>) {
    let (sender, parts) = mpsc::channel(2);
    let reader = tokio::task::spawn_blocking(move || {
        let mut file = File::open(path)?.take(size + 1);
        let mut seen = Fingerprinter::default();
        loop {
            let mut bytes = Vec::with_capacity(part as usize);
            // Blocks that are still in the processor's cache when they are hashed.
            while (bytes.len() as u64) < part {
                let before = bytes.len();
                let block = (part - before as u64).min(256 << 10);
                (&mut file).take(block).read_to_end(&mut bytes)?;
                seen.update(&bytes[before..]);
                if bytes.len() == before {
                    break;
                }
            }
            if bytes.is_empty() || sender.blocking_send(bytes.into()).is_err() {
                return Ok(seen.finish());
            }
        }
    });
    (parts, reader)
}

/// Whether what was read is what was hashed before.
async fn unchanged(
    reader: JoinHandle<io::Result<Fingerprint>>,
    path: &Path,
    expected: Fingerprint,
) -> Result<(), StoreError> {
    let read = match reader.await {
        Ok(read) => read.map_err(|source| StoreError::Io { action: "read", path: path.to_owned(), source })?,
        Err(e) => std::panic::resume_unwind(e.into_panic()),
    };
    if read != expected {
        let problem = "it changed while it was published".to_owned();
        return Err(StoreError::Unpublishable { dir: path.to_owned(), problem });
    }
    Ok(())
}
