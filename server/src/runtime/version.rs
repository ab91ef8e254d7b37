//! A version in memory, ready to answer.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::ops::{Deref, DerefMut};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use unimodel_model::Device;
use unimodel_model::bundle::{Model, files};
use unimodel_model::catalogue::Catalogue;
use unimodel_model::error::ModelError;
use unimodel_model::features::{ContextError, Encoded, Encoder};
use unimodel_model::profiles::Profiles;
use unimodel_model::schema::Schema;
use unimodel_model::version::Manifest;

use super::cost::Costs;
use super::select::AttributeIndex;
use crate::compute::engine::Engine;
use crate::compute::kernels::Kernels;
use crate::compute::threads::lower_priority_of_current_thread;
use crate::request::Version;

/// Why a version cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Its files make no model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A profile does not fit the schema.
    #[error("users.parquet, `{key}`: {source}")]
    Profile {
        /// Whose profile.
        key: String,
        /// What is wrong with it.
        #[source]
        source: ContextError,
    },
    /// It lacks a head.
    #[error("version `{version}` has no head `{head}`; it has {}", .known.join(", "))]
    UnknownHead {
        /// The version.
        version: Arc<str>,
        /// As asked.
        head: String,
        /// All heads.
        known: Vec<String>,
    },
    /// A head's golden requests cannot be used.
    #[error("{}: {problem}", path.display())]
    Golden {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line where there is one.
        problem: String,
    },
    /// The version scores otherwise here than where it was trained.
    #[error(
        "head `{head}`, golden/{head}.jsonl line {line}: item `{item}` scores {got}, the trainer got {expected}; \
         the two may differ by {allowed}"
    )]
    Parity {
        /// The head.
        head: String,
        /// The line, from 1.
        line: usize,
        /// The candidate.
        item: String,
        /// The trainer's score.
        expected: f32,
        /// This machine's.
        got: f32,
        /// The largest difference allowed.
        allowed: f32,
    },
}

/// A version in memory, ready to answer. Large: its memory is given back by a thread of its own, so that the last
/// request that used it does not wait for that.
pub struct LoadedVersion {
    facts: Arc<Version>,
    manifest: Manifest,
    dir: PathBuf,
    parts: FreedAside<Parts>,
}

/// What requests use.
pub(super) struct Parts {
    pub(super) engine: Engine,
    pub(super) encoder: Encoder,
    pub(super) catalogue: Catalogue,
    pub(super) attributes: AttributeIndex,
    pub(super) profiles: EncodedProfiles,
    pub(super) costs: Costs,
    /// Names of the context elements in the schema's order.
    pub(super) elements: Vec<Arc<str>>,
}

impl LoadedVersion {
    /// Reads a version and packs it for the kernels, or for a device other than the processor. Blocks and computes on so
    /// many threads: call it on one of low priority.
    ///
    /// # Errors
    /// Files that make no model, a profile that does not fit the schema, or a device whose memory is full.
    pub fn open(
        dir: &Path,
        manifest: &Manifest,
        kernels: Kernels,
        device: &Device,
        threads: NonZeroUsize,
    ) -> Result<Self, LoadError> {
        let Model { schema, catalogue, profiles, encoder, weights } = Model::open(dir)?;
        // The index takes one thread as long as others compute the items' vectors.
        let (attributes, engine) = thread::scope(|scope| {
            let index = || AttributeIndex::new(&catalogue);
            let beside = (threads.get() > 1).then(|| scope.spawn(index));
            let engine = Engine::new(kernels, &schema, &catalogue, &weights, threads);
            let index = beside.map_or_else(index, |beside| beside.join().unwrap_or_else(|panic| resume_unwind(panic)));
            (index, engine)
        });
        let mut engine = engine?;
        if !device.is_cpu() {
            engine = engine.with_items_on(device)?;
        }
        let profiles = EncodedProfiles::new(&schema, &encoder, profiles)?;
        let parts = Parts {
            attributes,
            costs: Costs::new(&schema.network),
            elements: schema.context.iter().map(|element| element.name.as_str().into()).collect(),
            engine,
            encoder,
            catalogue,
            profiles,
        };
        let facts = Arc::new(Version {
            name: manifest.version.to_string().into(),
            data_time: manifest.data_time,
            items: parts.catalogue.len(),
            schema: Arc::new(schema),
        });
        Ok(Self { facts, manifest: manifest.clone(), dir: dir.to_owned(), parts: FreedAside(Some(Box::new(parts))) })
    }

    /// The same version, computed by another engine: how the server takes one that fails.
    #[must_use]
    pub fn with_engine(mut self, engine: Engine) -> Self {
        self.parts.engine = engine;
        self
    }

    /// What callers see of it.
    pub fn facts(&self) -> &Arc<Version> {
        &self.facts
    }

    /// Its static popularity lists, as they were published.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn popularity(&self) -> std::io::Result<Option<Vec<u8>>> {
        match std::fs::read(self.dir.join(files::POPULARITY)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Its name in the store.
    pub fn name(&self) -> &Arc<str> {
        &self.facts.name
    }

    /// Its contract.
    pub fn schema(&self) -> &Schema {
        &self.facts.schema
    }

    /// What it was made of.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Where its files were read.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The position of a head.
    ///
    /// # Errors
    /// [`LoadError::UnknownHead`].
    pub fn head(&self, name: &str) -> Result<usize, LoadError> {
        self.schema().head(name).ok_or_else(|| LoadError::UnknownHead {
            version: self.name().clone(),
            head: name.to_owned(),
            known: self.schema().heads.iter().map(|head| head.name.clone()).collect(),
        })
    }

    pub(super) fn parts(&self) -> &Parts {
        &self.parts
    }
}

impl fmt::Debug for LoadedVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedVersion").field("name", self.name()).field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// The profile snapshot as the network takes it.
#[derive(Debug, Default)]
pub(super) struct EncodedProfiles {
    /// Position of the element that keys them, where the version has profiles.
    pub(super) key: Option<usize>,
    by_key: HashMap<String, Box<[(usize, Encoded)]>>,
}

impl EncodedProfiles {
    fn new(schema: &Schema, encoder: &Encoder, profiles: Option<Profiles>) -> Result<Self, LoadError> {
        let Some(profiles) = profiles else { return Ok(Self::default()) };
        let key = schema.profile_key.as_ref().and_then(|key| schema.context.iter().position(|e| e.name == *key));
        let mut by_key = HashMap::with_capacity(profiles.len());
        for (user, profile) in profiles.iter() {
            let encoded =
                encoder.encode(profile).map_err(|source| LoadError::Profile { key: user.to_owned(), source })?;
            let given = schema.context.iter().map(|element| profile.contains_key(&element.name));
            let known = encoded.into_iter().enumerate().zip(given).filter(|(_, given)| *given).map(|(e, _)| e);
            by_key.insert(user.to_owned(), known.collect());
        }
        Ok(Self { key, by_key })
    }

    /// Positions and values of the elements that the profile has, in the schema's order.
    pub(super) fn get(&self, user: &str) -> &[(usize, Encoded)] {
        self.by_key.get(user).map_or(&[], |profile| profile)
    }
}

/// What is dropped by a thread of its own.
struct FreedAside<T: Send + 'static>(Option<Box<T>>);

impl<T: Send> Deref for FreedAside<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("taken by drop alone")
    }
}

impl<T: Send> DerefMut for FreedAside<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("taken by drop alone")
    }
}

impl<T: Send> Drop for FreedAside<T> {
    fn drop(&mut self) {
        let value = self.0.take();
        let free = move || {
            if let Err(error) = lower_priority_of_current_thread() {
                tracing::debug!(%error, "the thread that frees a version keeps its priority");
            }
            drop(value);
        };
        // Without a thread the value goes here and now, with the closure.
        if let Err(error) = std::thread::Builder::new().name("free".into()).spawn(free) {
            tracing::debug!(%error, "no thread to free a version");
        }
    }
}
