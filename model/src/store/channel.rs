//! Channels: names that move from version to version, by compare-and-swap.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use jiff::Timestamp;
use object_store::path::Path as ObjectPath;
use object_store::{PutMode, UpdateVersion};
use serde::{Deserialize, Serialize};

use super::{Kind, Store, StoreError, blocking, sync};
use crate::version::{ChannelName, MANIFEST, VersionId};

/// How many earlier versions a channel remembers.
pub const HISTORY: usize = 32;

/// Where a channel is, and where it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChannelState {
    /// The version that it names.
    pub version: VersionId,
    /// The versions that it named before, the latest first; at most [`HISTORY`].
    pub previous: Vec<VersionId>,
    /// When it moved.
    pub updated: Timestamp,
}

/// A channel as it was read.
struct Read {
    state: ChannelState,
    bytes: Bytes,
    condition: UpdateVersion,
}

impl ChannelState {
    fn to_bytes(&self) -> Bytes {
        let mut bytes = serde_json::to_vec_pretty(self).expect("a channel has string keys only");
        bytes.push(b'\n');
        bytes.into()
    }
}

impl Store {
    /// Where a channel is.
    pub async fn channel(&self, channel: &ChannelName) -> Result<ChannelState, StoreError> {
        let read = self.read_channel(channel).await?;
        Ok(read.ok_or_else(|| StoreError::NoChannel { store: self.url.clone(), channel: channel.clone() })?.state)
    }

    /// The version that a channel names.
    pub async fn resolve_channel(&self, channel: &ChannelName) -> Result<VersionId, StoreError> {
        Ok(self.channel(channel).await?.version)
    }

    /// All channels, by name.
    pub async fn channels(&self) -> Result<Vec<(ChannelName, ChannelState)>, StoreError> {
        let folder = self.prefix.clone().join("channels");
        let mut channels = Vec::new();
        for object in self.list_folder(&folder).await?.objects {
            let name = object.location.filename().and_then(|name| name.strip_suffix(".json"));
            let Some(Ok(channel)) = name.map(str::parse::<ChannelName>) else { continue };
            if let Some(read) = self.read_channel(&channel).await? {
                channels.push((channel, read.state));
            }
        }
        channels.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(channels)
    }

    /// Moves a channel to a version, which is verified first. Of several who try at the same time, those who would
    /// overwrite a move that they have not seen get [`StoreError::Conflict`].
    pub async fn promote(
        &self,
        version: &VersionId,
        channel: &ChannelName,
        now: Timestamp,
    ) -> Result<ChannelState, StoreError> {
        self.writable()?;
        self.verify(version).await?;
        let read = self.read_channel(channel).await?;
        let mut previous = Vec::new();
        if let Some(Read { state, .. }) = &read {
            if state.version == *version {
                return Ok(state.clone());
            }
            previous.push(state.version.clone());
            previous.extend(state.previous.iter().take(HISTORY - 1).cloned());
        }
        let state = ChannelState { version: version.clone(), previous, updated: now };
        self.move_channel(channel, read, state).await
    }

    /// Moves a channel back to the version before, which is verified first. A second rollback goes further back.
    pub async fn rollback(&self, channel: &ChannelName, now: Timestamp) -> Result<ChannelState, StoreError> {
        self.writable()?;
        let read = self.read_channel(channel).await?;
        let read = read.ok_or_else(|| StoreError::NoChannel { store: self.url.clone(), channel: channel.clone() })?;
        let [version, previous @ ..] = &read.state.previous[..] else {
            return Err(StoreError::NoPrevious { channel: channel.clone(), version: read.state.version });
        };
        self.verify(version).await?;
        let state = ChannelState { version: version.clone(), previous: previous.to_vec(), updated: now };
        self.move_channel(channel, Some(read), state).await
    }

    async fn read_channel(&self, channel: &ChannelName) -> Result<Option<Read>, StoreError> {
        let object = self.channel_object(channel);
        let Some((bytes, condition)) = self.read(&object).await? else { return Ok(None) };
        let state = serde_json::from_slice(&bytes)
            .map_err(|e| StoreError::Channel { object: self.name_of(&object), problem: e.to_string() })?;
        Ok(Some(Read { state, bytes, condition }))
    }

    /// Replaces what was read, and nothing else.
    async fn move_channel(
        &self,
        channel: &ChannelName,
        read: Option<Read>,
        state: ChannelState,
    ) -> Result<ChannelState, StoreError> {
        let before = read.as_ref().map(|r| r.state.clone());
        self.replace(channel, read, state.to_bytes()).await?;
        // `prune` deletes the manifest and then looks at the channels; we moved the channel and then look at the
        // manifest. So whichever comes second sees the other.
        if self.read(&self.version_object(&state.version, MANIFEST)).await?.is_none() {
            let moved = self.read_channel(channel).await?.filter(|read| read.state == state);
            // A channel that is new stays as it is: it served nobody, and object stores cannot delete on condition.
            if let (Some(before), Some(moved)) = (before, moved) {
                self.replace(channel, Some(moved), before.to_bytes()).await?;
            }
            return Err(StoreError::NoVersion { store: self.url.clone(), version: state.version });
        }
        tracing::info!(%channel, version = %state.version, store = %self.url, "moved");
        Ok(state)
    }

    async fn replace(&self, channel: &ChannelName, read: Option<Read>, bytes: Bytes) -> Result<(), StoreError> {
        let object = self.channel_object(channel);
        let conflict = || StoreError::Conflict { channel: channel.clone() };
        if let Kind::Directory(root) = &self.kind {
            let path = root.join("channels").join(format!("{channel}.json"));
            let swapped = blocking(move || swap_file(&path, read.map(|r| r.bytes).as_deref(), &bytes)).await?;
            return if swapped { Ok(()) } else { Err(conflict()) };
        }
        let mode = read.map_or(PutMode::Create, |r| PutMode::Update(r.condition));
        match self.objects.put_opts(&object, bytes.clone().into(), mode.into()).await {
            Ok(_) => Ok(()),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                // An answer may be lost and the request repeated: then it is our own state that is there.
                match self.read(&object).await? {
                    Some((found, _)) if found == bytes => Ok(()),
                    _ => Err(conflict()),
                }
            }
            Err(e) => Err(self.failed("write", &object, e)),
        }
    }

    fn channel_object(&self, channel: &ChannelName) -> ObjectPath {
        self.prefix.clone().join("channels").join(format!("{channel}.json"))
    }
}

/// Replaces a file's content if it is still the expected one (`None`: no file), and says whether it was.
///
/// Writers exclude one another by a lock on a file beside it, which the kernel releases when its holder dies; readers
/// see the old content or the new. Blocks.
fn swap_file(path: &Path, expected: Option<&[u8]>, bytes: &[u8]) -> Result<bool, StoreError> {
    let beside = |suffix: &str| PathBuf::from(format!("{}.{suffix}", path.display()));
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |source| StoreError::Io { action, path, source }
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed("create", folder))?;
    }
    let (lock_path, temporary) = (beside("lock"), beside("tmp"));
    let lock = OpenOptions::new().write(true).create(true).truncate(false).open(&lock_path);
    let lock = lock.map_err(failed("open", &lock_path))?;
    lock.lock().map_err(failed("lock", &lock_path))?;
    let found = match std::fs::read(path) {
        Ok(found) => Some(found),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(failed("read", path)(e)),
    };
    if found.as_deref() != expected {
        return Ok(false);
    }
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(failed("write", &temporary))?;
    std::fs::rename(&temporary, path).map_err(failed("replace", path))?;
    if let Some(folder) = path.parent() {
        sync(folder)?;
    }
    Ok(true)
}
