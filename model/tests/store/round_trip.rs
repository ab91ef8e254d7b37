//! What is published is what is fetched; names, refusals, prune.

use unimodel_model::store::{Prune, Store, StoreError};
use unimodel_model::version::{ChannelName, Digest};

use crate::backends::{Backend, Kind, listed, model, publication, publish, time};

async fn comes_back_whole(kind: Kind) {
    let backend = Backend::new(kind);
    let store = backend.open();
    // Larger than one part, and not a multiple of it.
    let dir = model((16 << 20) + 4321, 1);
    let manifest = store.publish(dir.path(), publication(0)).await.unwrap();

    let paths: Vec<_> = manifest.files.iter().map(|f| f.path.as_str()).collect();
    assert_eq!(paths, ["golden/search.jsonl", "items.parquet", "model.safetensors", "schema.json"]);
    assert_eq!(manifest.schema_hash, Digest::of(b"{}"));
    let (stamp, content) = manifest.version.as_str().split_once('-').unwrap();
    assert_eq!(stamp, "20261124T151500Z");
    assert_eq!(content, &unimodel_model::version::Manifest::content_digest(&manifest.files).to_string()[..8]);
    assert_eq!(store.manifest(&manifest.version).await.unwrap(), manifest);
    assert_eq!(store.verify(&manifest.version).await.unwrap(), manifest);
    assert_eq!(listed(&store).await, [manifest.version.as_str()]);

    let target = tempfile::tempdir().unwrap();
    let into = target.path().join("deep/er");
    let fetched = store.fetch(&manifest.version, &into).await.unwrap();
    assert_eq!((fetched.dir(), fetched.manifest()), (into.as_path(), &manifest));
    for path in paths {
        assert_eq!(std::fs::read(into.join(path)).unwrap(), std::fs::read(dir.path().join(path)).unwrap(), "{path}");
    }
    assert_eq!(std::fs::read_dir(target.path().join("deep")).unwrap().count(), 1, "no temporary directory is left");
    let again = store.fetch(&manifest.version, &into).await.unwrap_err();
    assert!(matches!(again, StoreError::TargetExists { .. }), "{again}");

    let golden = store.fetch_file(&manifest.version, "golden/search.jsonl").await.unwrap();
    assert_eq!(golden.unwrap(), "{}\n{}\n");
    assert_eq!(store.fetch_file(&manifest.version, "users.parquet").await.unwrap(), None);

    // A cache is used, and repaired when damaged.
    let cache = target.path().join("cache");
    let loaded = store.load(&manifest.version, &cache).await.unwrap();
    assert_eq!(loaded.manifest(), &manifest);
    if matches!(kind, Kind::S3) {
        let weights = loaded.dir().join("model.safetensors");
        std::fs::write(&weights, "damaged").unwrap();
        assert_eq!(store.load(&manifest.version, &cache).await.unwrap().dir(), loaded.dir());
        assert_eq!(std::fs::metadata(&weights).unwrap().len(), (16 << 20) + 4321);
    } else {
        assert_eq!(loaded.dir(), backend.file(&manifest, "").as_path(), "a directory is read in place");
        assert!(!cache.exists());
    }

    // A version never changes.
    let again = store.publish(dir.path(), publication(0)).await.unwrap_err();
    assert!(matches!(&again, StoreError::VersionExists { version, .. } if *version == manifest.version), "{again}");
    store.verify(&manifest.version).await.unwrap();
}

#[tokio::test]
async fn files_come_back_whole() {
    comes_back_whole(Kind::Files).await;
}

#[tokio::test]
async fn s3_objects_come_back_whole() {
    comes_back_whole(Kind::S3).await;
}

#[tokio::test]
async fn the_name_depends_on_time_and_content_alone() {
    let version = async |second, seed| {
        let backend = Backend::new(Kind::Files);
        let published = backend.open().publish(model(100, seed).path(), publication(second)).await.unwrap();
        published.version.to_string()
    };
    let first = version(0, 1).await;
    assert_eq!(version(0, 1).await, first);
    assert_ne!(version(0, 2).await, first);
    assert_eq!(version(7, 1).await, first.replace("151500Z", "151507Z"));
}

async fn publishes_once(kind: Kind) {
    let backend = Backend::new(kind);
    let dir = model((16 << 20) + 1, 1);
    let publish = || async {
        let store = backend.open();
        store.publish(dir.path(), publication(0)).await
    };
    let tried = futures::future::join_all((0..4).map(|_| publish())).await;
    // A manifest that says the same counts as one's own: an answer may be lost and its request repeated.
    let mut published = None;
    for tried in tried {
        match tried {
            Ok(manifest) => assert_eq!(published.get_or_insert(manifest.clone()), &manifest),
            Err(e) => assert!(matches!(e, StoreError::VersionExists { .. }), "{e}"),
        }
    }
    let version = published.unwrap().version;
    assert_eq!(listed(&backend.open()).await, [version.as_str()]);
    backend.open().verify(&version).await.unwrap();
}

#[tokio::test]
async fn the_same_version_is_published_once_to_files() {
    publishes_once(Kind::Files).await;
}

#[tokio::test]
async fn the_same_version_is_published_once_to_s3() {
    publishes_once(Kind::S3).await;
}

async fn prunes_what_no_channel_needs(kind: Kind) {
    let backend = Backend::new(kind);
    let store = backend.open();
    let mut versions = Vec::new();
    for second in 0..6 {
        versions.push(publish(&store, second).await.version);
    }
    let stable: ChannelName = "stable".parse().unwrap();
    for version in &versions[..3] {
        store.promote(version, &stable, time(10)).await.unwrap();
    }
    // A killed publish: files without a manifest.
    let killed = backend.files.join("versions/20200101T000000Z-00000000");
    std::fs::create_dir_all(killed.join("golden")).unwrap();
    std::fs::write(killed.join("golden/search.jsonl"), "half").unwrap();
    std::fs::write(killed.join("model.safetensors#1"), "half").unwrap();
    assert_eq!(listed(&store).await.len(), 6);

    let now = jiff::Timestamp::now();
    let hour = jiff::SignedDuration::from_hours(1);
    let young = Prune { keep: 1, leftovers_before: now - hour, dry_run: true };
    let would = store.prune(&young).await.unwrap();
    assert_eq!(would.leftovers, [], "it may still be under way");
    let prune = Prune { keep: 1, leftovers_before: now + hour, dry_run: true };
    let would = store.prune(&prune).await.unwrap();
    assert_eq!(listed(&store).await.len(), 6, "a dry run deletes nothing");
    assert!(killed.exists());

    let pruned = store.prune(&Prune { dry_run: false, ..prune.clone() }).await.unwrap();
    assert_eq!(pruned, would);
    // `stable` is at 2 and would roll back to 1; 5 is the newest.
    assert_eq!(pruned.versions, [&versions[0], &versions[3], &versions[4]].map(Clone::clone));
    assert_eq!(pruned.kept.keys().collect::<Vec<_>>(), [&versions[1], &versions[2]]);
    assert_eq!(pruned.leftovers.len(), 1);
    assert!(!killed.join("golden/search.jsonl").exists());
    assert_eq!(listed(&store).await, [&versions[1], &versions[2], &versions[5]].map(ToString::to_string));
    for version in [&versions[0], &versions[3]] {
        assert!(!backend.files.join("versions").join(version.as_str()).exists(), "no empty directory is left");
    }

    // Rolling back works as promised; further back it says what is missing, and changes nothing.
    assert_eq!(store.rollback(&stable, time(20)).await.unwrap().version, versions[1]);
    let error = store.rollback(&stable, time(21)).await.unwrap_err();
    assert!(matches!(&error, StoreError::NoVersion { version, .. } if *version == versions[0]), "{error}");
    assert_eq!(store.resolve_channel(&stable).await.unwrap(), versions[1]);

    assert_eq!(store.prune(&Prune { keep: 0, dry_run: false, ..prune }).await.unwrap().versions.len(), 2);
    assert_eq!(listed(&store).await, [versions[1].to_string()]);
}

#[tokio::test]
async fn files_are_pruned() {
    prunes_what_no_channel_needs(Kind::Files).await;
}

#[tokio::test]
async fn s3_objects_are_pruned() {
    prunes_what_no_channel_needs(Kind::S3).await;
}

#[tokio::test]
async fn pruning_leaves_what_it_cannot_read() {
    let backend = Backend::new(Kind::Files);
    let store = backend.open();
    let old = publish(&store, 0).await;
    let newer = std::fs::read_to_string(backend.file(&old, "manifest.json")).unwrap();
    std::fs::write(backend.file(&old, "manifest.json"), newer.replace("\"format\": 1", "\"format\": 9")).unwrap();
    let pruned =
        store.prune(&Prune { keep: 0, leftovers_before: time(i32::MAX.into()), dry_run: false }).await.unwrap();
    assert!(pruned.unreadable[&old.version].contains("format 9 is newer"), "{pruned:?}");
    assert!(pruned.versions.is_empty() && pruned.leftovers.is_empty());
    assert_eq!(listed(&store).await, [old.version.as_str()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn pruning_and_promoting_at_once_leave_no_channel_without_its_version() {
    let backend = Backend::new(Kind::Files);
    let stable: ChannelName = "stable".parse().unwrap();
    let mut promoted = 0;
    for round in 0..50 {
        let store = backend.open();
        let first = publish(&store, 3 * round).await.version;
        store.promote(&first, &stable, time(3 * round)).await.unwrap();
        let second = publish(&store, 3 * round + 1).await.version;
        let prune = Prune { keep: 0, leftovers_before: time(-1), dry_run: false };
        let (gone, moved) = tokio::join!(store.prune(&prune), async {
            let store: Store = backend.open();
            store.promote(&second, &stable, time(3 * round + 2)).await
        });
        gone.unwrap();
        promoted += usize::from(moved.is_ok());
        let named = store.resolve_channel(&stable).await.unwrap();
        assert_eq!(named, if moved.is_ok() { second } else { first });
        store.verify(&named).await.unwrap();
    }
    println!("{promoted} of 50 promotions succeeded");
    assert!(promoted > 0);
}
