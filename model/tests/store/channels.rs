//! Channels move by compare-and-swap.

use std::collections::BTreeSet;

use unimodel_model::store::{HISTORY, StoreError};
use unimodel_model::version::{ChannelName, VersionId};

use crate::backends::{Backend, Kind, publish, time};

async fn moves_and_goes_back(kind: Kind) {
    let backend = Backend::new(kind);
    let store = backend.open();
    let stable: ChannelName = "stable".parse().unwrap();
    let a = publish(&store, 0).await.version;
    let b = publish(&store, 1).await.version;
    let none = store.resolve_channel(&stable).await.unwrap_err();
    assert!(matches!(none, StoreError::NoChannel { .. }), "{none}");
    let none = store.rollback(&stable, time(0)).await.unwrap_err();
    assert!(matches!(none, StoreError::NoChannel { .. }), "{none}");

    store.promote(&a, &stable, time(2)).await.unwrap();
    let first = store.rollback(&stable, time(3)).await.unwrap_err();
    assert!(matches!(&first, StoreError::NoPrevious { version, .. } if *version == a), "{first}");
    let moved = store.promote(&b, &stable, time(4)).await.unwrap();
    assert_eq!(moved, store.promote(&b, &stable, time(5)).await.unwrap(), "moving to where it is changes nothing");
    store.promote(&a, &"canary".parse().unwrap(), time(6)).await.unwrap();

    let missing: VersionId = "20200101T000000Z-00000000".parse().unwrap();
    let refused = store.promote(&missing, &stable, time(7)).await.unwrap_err();
    assert!(matches!(&refused, StoreError::NoVersion { version, .. } if *version == missing), "{refused}");

    let channels = store.channels().await.unwrap();
    assert_eq!(channels.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["canary", "stable"]);
    assert_eq!((&channels[1].1.version, &channels[1].1.previous[..]), (&b, &[a.clone()][..]));
    assert_eq!(channels[1].1.updated, time(4));

    let back = store.rollback(&stable, time(8)).await.unwrap();
    assert_eq!((&back.version, &back.previous[..]), (&a, &[][..]));
    assert_eq!(store.channel(&stable).await.unwrap(), back);
}

#[tokio::test]
async fn channels_in_files_move_and_go_back() {
    moves_and_goes_back(Kind::Files).await;
}

#[tokio::test]
async fn channels_in_s3_move_and_go_back() {
    moves_and_goes_back(Kind::S3).await;
}

/// Sixteen move one channel at the same time, each to a version of its own, again and again until all have succeeded.
async fn no_promotion_is_lost(kind: Kind) {
    let backend = Backend::new(kind);
    let stable: ChannelName = "stable".parse().unwrap();
    let mut versions = Vec::new();
    for second in 0..16 {
        versions.push(publish(&backend.open(), second).await.version);
    }
    let (mut waiting, mut succeeded, mut conflicts) = (versions.clone(), BTreeSet::new(), 0);
    while !waiting.is_empty() {
        let barrier = std::sync::Arc::new(tokio::sync::Barrier::new(waiting.len()));
        let tries = waiting.into_iter().map(|version| {
            let (store, channel, barrier) = (backend.open(), stable.clone(), barrier.clone());
            tokio::spawn(async move {
                barrier.wait().await;
                let moved = store.promote(&version, &channel, time(100)).await;
                (version, moved)
            })
        });
        waiting = Vec::new();
        let before = succeeded.len();
        for tried in futures::future::join_all(tries).await {
            match tried.unwrap() {
                (version, Ok(state)) => {
                    assert_eq!(state.version, version);
                    succeeded.insert(version);
                }
                (version, Err(StoreError::Conflict { .. })) => {
                    conflicts += 1;
                    waiting.push(version);
                }
                (version, Err(e)) => panic!("{version}: {e}"),
            }
        }
        assert!(succeeded.len() > before, "of those who try at once, one succeeds");
        // Every success so far is in the channel or its history, exactly once.
        let state = backend.open().channel(&stable).await.unwrap();
        let mut seen = state.previous.clone();
        seen.push(state.version);
        assert_eq!(seen.len(), succeeded.len());
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), succeeded);
    }
    assert_eq!(succeeded, versions.into_iter().collect());
    println!("{kind:?}: 16 promotions succeeded after {conflicts} conflicts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn none_of_16_concurrent_promotions_in_files_is_lost() {
    no_promotion_is_lost(Kind::Files).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn none_of_16_concurrent_promotions_in_s3_is_lost() {
    no_promotion_is_lost(Kind::S3).await;
}

#[tokio::test]
async fn a_channel_remembers_a_bounded_history() {
    let backend = Backend::new(Kind::Files);
    let store = backend.open();
    let stable: ChannelName = "stable".parse().unwrap();
    let versions = [publish(&store, 0).await.version, publish(&store, 1).await.version];
    for i in 0..2 * HISTORY {
        store.promote(&versions[i % 2], &stable, time(i as i64)).await.unwrap();
    }
    assert_eq!(store.channel(&stable).await.unwrap().previous.len(), HISTORY);
}

#[tokio::test]
async fn a_dead_holder_of_the_lock_stops_nobody() {
    let backend = Backend::new(Kind::Files);
    let store = backend.open();
    let version = publish(&store, 0).await.version;
    // What a process leaves that was killed while it moved the channel.
    std::fs::create_dir_all(backend.files.join("channels")).unwrap();
    std::fs::write(backend.files.join("channels/stable.json.lock"), "").unwrap();
    std::fs::write(backend.files.join("channels/stable.json.tmp"), "{\"vers").unwrap();
    let stable: ChannelName = "stable".parse().unwrap();
    store.promote(&version, &stable, time(1)).await.unwrap();
    assert_eq!(store.channels().await.unwrap().len(), 1);
    assert_eq!(store.resolve_channel(&stable).await.unwrap(), version);
}

#[tokio::test]
async fn a_damaged_channel_is_named_and_not_overwritten() {
    let backend = Backend::new(Kind::Files);
    let store = backend.open();
    let version = publish(&store, 0).await.version;
    let file = backend.files.join("channels/stable.json");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "{\"version\": \"../x\"}").unwrap();
    let error = store.promote(&version, &"stable".parse().unwrap(), time(1)).await.unwrap_err().to_string();
    assert!(error.contains("channels/stable.json: not a channel: `../x` is not a version name"), "{error}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "{\"version\": \"../x\"}");
}
