//! A damaged version is refused, and the error says which file, what was expected and what was found.

use std::fs;

use unimodel_model::store::StoreError;
use unimodel_model::version::{ChannelName, Digest, LocalVersion};

use crate::backends::{Backend, Kind, model, publication, time};

/// What can happen to a file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Truncated,
    Flipped,
    Longer,
    Emptied,
    Missing,
}

impl Damage {
    /// The damaged bytes; `None` where the file goes.
    fn of(self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut damaged = bytes.to_vec();
        match self {
            Self::Truncated => damaged.truncate(bytes.len() - 1),
            Self::Flipped => damaged[bytes.len() / 2] ^= 1,
            Self::Longer => damaged.push(0),
            Self::Emptied => damaged.clear(),
            Self::Missing => return None,
        }
        Some(damaged)
    }
}

async fn is_refused(kind: Kind) {
    let backend = Backend::new(kind);
    let store = backend.open();
    let stable: ChannelName = "stable".parse().unwrap();
    let manifest = store.publish(model((16 << 20) + 5, 1).path(), publication(0)).await.unwrap();
    let target = tempfile::tempdir().unwrap();
    let into = target.path().join("into");
    for path in ["model.safetensors", "golden/search.jsonl"] {
        let file = backend.file(&manifest, path);
        let whole = fs::read(&file).unwrap();
        for damage in [Damage::Truncated, Damage::Flipped, Damage::Longer, Damage::Emptied, Damage::Missing] {
            let damaged = damage.of(&whole);
            match &damaged {
                Some(bytes) => fs::write(&file, bytes).unwrap(),
                None => fs::remove_file(&file).unwrap(),
            }
            let found =
                damaged.map_or("no file".to_owned(), |b| format!("{} bytes with SHA-256 {}", b.len(), Digest::of(&b)));
            let expected = format!(
                "`{path}` is damaged: expected {} bytes with SHA-256 {}, found {found}",
                whole.len(),
                Digest::of(&whole)
            );
            let errors = [
                store.fetch_file(&manifest.version, path).await.unwrap_err(),
                store.verify(&manifest.version).await.unwrap_err(),
                store.fetch(&manifest.version, &into).await.unwrap_err(),
                store.load(&manifest.version, target.path()).await.unwrap_err(),
                store.promote(&manifest.version, &stable, time(1)).await.unwrap_err(),
            ];
            for error in errors {
                assert!(matches!(error, StoreError::Damaged { .. }), "{damage:?}: {error}");
                assert!(error.to_string().ends_with(&expected), "{damage:?}:\n{error}\n{expected}");
                assert!(error.to_string().contains(manifest.version.as_str()), "{error}");
            }
            assert_eq!(fs::read_dir(target.path()).unwrap().count(), 0, "nothing of it is left");
            let none = store.resolve_channel(&stable).await.unwrap_err();
            assert!(matches!(none, StoreError::NoChannel { .. }), "{none}");
        }
        fs::write(&file, &whole).unwrap();
    }
    store.promote(&manifest.version, &stable, time(2)).await.unwrap();
    // A rollback to what is damaged now is refused as well.
    let second = store.publish(model(10, 2).path(), publication(3)).await.unwrap();
    store.promote(&second.version, &stable, time(4)).await.unwrap();
    fs::remove_file(backend.file(&manifest, "items.parquet")).unwrap();
    let error = store.rollback(&stable, time(5)).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert_eq!(store.resolve_channel(&stable).await.unwrap(), second.version);
}

#[tokio::test]
async fn a_damaged_version_in_files_is_refused() {
    is_refused(Kind::Files).await;
}

#[tokio::test]
async fn a_damaged_version_in_s3_is_refused() {
    is_refused(Kind::S3).await;
}

#[tokio::test]
async fn a_manifest_that_is_damaged_or_newer_or_misplaced_is_refused() {
    let backend = Backend::new(Kind::Files);
    let store = backend.open();
    let manifest = store.publish(model(10, 1).path(), publication(0)).await.unwrap();
    let other = store.publish(model(10, 2).path(), publication(1)).await.unwrap();
    let file = backend.file(&manifest, "manifest.json");
    let whole = fs::read_to_string(&file).unwrap();
    for (text, expected) in [
        (whole.replace("0.75", "0.95"), "manifest.json: damaged: expected SHA-256"),
        (whole[..whole.len() / 2].to_owned(), "manifest.json: damaged: EOF while parsing"),
        (whole.replace("\"format\": 1", "\"format\": 2"), "manifest.json: format 2 is newer than 1"),
        (fs::read_to_string(backend.file(&other, "manifest.json")).unwrap(), "it is the manifest of version"),
    ] {
        fs::write(&file, text).unwrap();
        for error in [
            store.verify(&manifest.version).await.unwrap_err().to_string(),
            store.promote(&manifest.version, &"stable".parse().unwrap(), time(1)).await.unwrap_err().to_string(),
        ] {
            assert!(error.contains(expected) && error.contains(manifest.version.as_str()), "{error}");
        }
        // It is listed as what it is, beside the whole one.
        let listed = store.versions().await.unwrap();
        assert_eq!(listed.iter().map(|v| v.manifest.is_ok()).collect::<Vec<_>>(), [false, true]);
    }
}

#[tokio::test]
async fn a_fetched_version_is_verified_when_it_is_opened_again() {
    let backend = Backend::new(Kind::Files);
    let store = backend.open();
    let manifest = store.publish(model(10, 1).path(), publication(0)).await.unwrap();
    let target = tempfile::tempdir().unwrap();
    let dir = target.path().join("v");
    store.fetch(&manifest.version, &dir).await.unwrap();
    assert_eq!(LocalVersion::open(&dir).unwrap().manifest(), &manifest);
    fs::write(dir.join("schema.json"), "[]").unwrap();
    let error = LocalVersion::open(&dir).unwrap_err();
    assert!(matches!(&error, StoreError::Damaged { source, .. } if source.file.as_str() == "schema.json"), "{error}");
}
