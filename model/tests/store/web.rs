//! A store behind a web server is read only, by version and channel.

use std::path::{Path, PathBuf};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use unimodel_model::store::{Prune, Store, StoreError};
use unimodel_model::version::ChannelName;

use crate::backends::{Backend, Kind, model, publication, publish, time};

/// Serves the files below a directory over HTTP/1.1, without ranges, as simple servers do.
async fn serve(root: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/models", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let root = root.clone();
            tokio::spawn(async move { answer(connection, &root).await });
        }
    });
    url
}

async fn answer(connection: TcpStream, root: &Path) -> std::io::Result<()> {
    let mut connection = BufReader::new(connection);
    loop {
        let (mut request, mut line) = (String::new(), String::new());
        if connection.read_line(&mut request).await? == 0 {
            return Ok(());
        }
        while connection.read_line(&mut line).await? > 2 {
            line.clear();
        }
        let mut words = request.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (status, body) = match std::fs::read(root.join(path.trim_start_matches("/models/"))) {
            Ok(body) => ("200 OK", body),
            Err(_) => ("404 Not Found", Vec::new()),
        };
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
        connection.write_all(head.as_bytes()).await?;
        if method == "GET" {
            connection.write_all(&body).await?;
        }
    }
}

#[tokio::test]
async fn a_web_store_is_read_by_version_and_channel() {
    let backend = Backend::new(Kind::Files);
    let manifest = backend.open().publish(model((16 << 20) + 5, 1).path(), publication(0)).await.unwrap();
    let stable: ChannelName = "stable".parse().unwrap();
    backend.open().promote(&manifest.version, &stable, time(1)).await.unwrap();

    let store = Store::open(&serve(backend.files.clone()).await).unwrap();
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
