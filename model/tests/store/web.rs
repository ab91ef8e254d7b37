//! A store behind a web server is read only, by version and channel.

use unimodel_model::store::{Prune, Store, StoreError};
use unimodel_model::version::ChannelName;

use crate::backends::{Backend, Kind, model, publication, publish, time};
use crate::web_server::Web;

#[tokio::test]
async fn a_web_store_is_read_by_version_and_channel() {
    let backend = Backend::new(Kind::Files);
    let manifest = backend.open().publish(model((16 << 20) + 5, 1).path(), publication(0)).await.unwrap();
    let stable: ChannelName = "stable".parse().unwrap();
    backend.open().promote(&manifest.version, &stable, time(1)).await.unwrap();

    let web = Web::serve(&backend.files).await;
    let store = Store::open(&web.url).unwrap();
    let version = store.resolve_channel(&stable).await.unwrap();
    assert_eq!(store.verify(&version).await.unwrap(), manifest);
    let target = tempfile::tempdir().unwrap();
    let loaded = store.load(&version, target.path()).await.unwrap();
    let weights = std::fs::metadata(loaded.dir().join("model.safetensors")).unwrap();
    assert_eq!(weights.len(), (16 << 20) + 5);

    let unlisted = store.versions().await.unwrap_err();
    assert!(matches!(unlisted, StoreError::NotListable { .. }), "{unlisted}");
    let prune = Prune { keep: 0, leftovers_before: time(0), dry_run: false };
    let refusals = [
        store.publish(model(10, 1).path(), publication(1)).await.map(drop).unwrap_err(),
        store.promote(&version, &stable, time(2)).await.map(drop).unwrap_err(),
        store.rollback(&stable, time(2)).await.map(drop).unwrap_err(),
        store.prune(&prune).await.map(drop).unwrap_err(),
    ];
    for refusal in refusals {
        assert!(matches!(refusal, StoreError::ReadOnly { .. }), "{refusal}");
    }

    let missing = store.manifest(&"20200101T000000Z-00000000".parse().unwrap()).await.unwrap_err();
    assert!(matches!(missing, StoreError::NoVersion { .. }), "{missing}");
    let newer = publish(&backend.open(), 9).await;
    std::fs::write(backend.file(&newer, "schema.json"), "[]").unwrap();
    let damaged = store.load(&newer.version, target.path()).await.unwrap_err();
    assert!(
        matches!(&damaged, StoreError::Damaged { source, .. } if source.file.as_str() == "schema.json"),
        "{damaged}"
    );
}

#[tokio::test]
async fn a_web_server_that_refuses_denies() {
    let backend = Backend::new(Kind::Files);
    let version = publish(&backend.open(), 0).await.version;
    let web = Web::serve(&backend.files).await;
    let store = Store::open(&web.url).unwrap();
    store.manifest(&version).await.unwrap();
    web.refuse();
    let denied = store.manifest(&version).await.unwrap_err();
    assert!(matches!(denied, StoreError::Denied { .. }), "{denied}");
}
