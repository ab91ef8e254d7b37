//! A store with versions in a directory.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use tempfile::TempDir;
use unimodel_model::bundle::files;
use unimodel_model::store::{Publication, Store};
use unimodel_model::version::MANIFEST;

use crate::fixture::{Fixture, Recipe};

/// A store in a directory.
pub(crate) struct Versions {
    dir: TempDir,
}

impl Versions {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// A store with one version that `stable` names.
    pub(crate) async fn with_one() -> (Self, String) {
        let store = Self::new();
        let version = store.publish(1).await;
        store.promote(&version).await;
        (store, version)
    }

    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn url(&self) -> String {
        format!("file://{}", self.root().display())
    }

    fn open(&self) -> Store {
        Store::open(&self.url()).unwrap()
    }

    /// Publishes a small version.
    pub(crate) async fn publish(&self, seed: u64) -> String {
        self.publish_changed(&Recipe { seed, ..Recipe::default() }, |_| {}).await
    }

    /// Publishes a version after its files have been changed.
    pub(crate) async fn publish_changed(&self, recipe: &Recipe, change: impl FnOnce(&Path)) -> String {
        let fixture = Fixture::new(recipe);
        let dir = fixture.dir.path();
        std::fs::remove_file(dir.join(MANIFEST)).unwrap();
        change(dir);
        let publication = Publication {
            created: Timestamp::from_second(1_800_000_000 + recipe.seed as i64).unwrap(),
            data_time: "2026-11-24T00:00:00Z".parse().unwrap(),
            parent: None,
            pipeline: None,
            metrics: [("h0".to_owned(), [("hit_rate@10".to_owned(), 0.25)].into())].into(),
        };
        self.open().publish(dir, publication).await.unwrap().version.to_string()
    }

    pub(crate) async fn promote(&self, version: &str) {
        let (version, stable) = (version.parse().unwrap(), "stable".parse().unwrap());
        self.open().promote(&version, &stable, Timestamp::now()).await.unwrap();
    }

    pub(crate) fn version_dir(&self, version: &str) -> PathBuf {
        self.root().join("versions").join(version)
    }

    /// Changes one byte of a published file.
    pub(crate) fn damage(&self, version: &str, file: &str) {
        let path = self.version_dir(version).join(file);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
}

/// Makes a golden request of a head expect other scores.
pub(crate) fn spoil_golden(dir: &Path, head: &str) {
    let path = dir.join(files::GOLDEN).join(format!("{head}.jsonl"));
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<String> = text
        .lines()
        .enumerate()
        .map(|(i, line)| {
            let mut golden: serde_json::Value = serde_json::from_str(line).unwrap();
            if i == 2 {
                golden["scores"][3] = 12.5.into();
            }
            golden.to_string() + "\n"
        })
        .collect();
    std::fs::write(path, lines.concat()).unwrap();
}
