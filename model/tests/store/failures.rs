//! Stores that cannot be read or written, and what cannot be published.

use std::fs;
use std::path::Path;
use std::process::Command;

use unimodel_model::store::{Store, StoreError};
use unimodel_model::version::ChannelName;

use crate::backends::{Backend, Kind, listed, model, publication, publish, time};
use crate::small_disk::SmallDisk;

/// The error of publishing what is too large to that directory; the store is as it was.
async fn publishing_fails_cleanly(too_large: &Path, root: &Path) -> String {
    let store = Store::open(root.to_str().unwrap()).unwrap();
    let before = publish(&store, 0).await.version;
    let error = store.publish(too_large, publication(1)).await.unwrap_err();
    assert_eq!(listed(&store).await, [before.as_str()]);
    assert_eq!(fs::read_dir(root.join("versions")).unwrap().count(), 1, "nothing is left behind");
    // What was there still works, and there is room again.
    store.promote(&before, &"stable".parse().unwrap(), time(2)).await.unwrap();
    publish(&store, 3).await;
    error.to_string()
}

#[tokio::test]
async fn a_full_disk_fails_a_publish_and_nothing_else() {
    let too_large = model(2 << 20, 1);
    let expected = if let Some(disk) = SmallDisk::mount() {
        let error = publishing_fails_cleanly(too_large.path(), &disk.path().join("store")).await;
        assert!(error.ends_with("model.safetensors: No space left on device (os error 28)"), "{error}");

        // Fetching to a full disk, too.
        let backend = Backend::new(Kind::Files);
        let store = backend.open();
        let version = store.publish(too_large.path(), publication(1)).await.unwrap().version;
        let into = disk.path().join("into");
        let error = store.fetch(&version, &into).await.unwrap_err().to_string();
        assert!(!into.exists());
        assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 1, "nothing is left behind");
        assert!(error.contains("model.safetensors: No space left on device"), "{error}");
        return;
    } else {
        "model.safetensors: File too large (os error 27)"
    };
    // Without the right to mount, a limit on the size of files stands for the disk. It needs a process of its own.
    let dir = tempfile::tempdir().unwrap();
    let child = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 1024; exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "failures::publish_in_a_child", "--ignored", "--nocapture"])
        .env("TEST_DIR", too_large.path())
        .env("TEST_STORE", dir.path().join("store"))
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&child.stdout).into_owned() + &String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success() && output.contains(expected), "{output}");
}

#[tokio::test]
#[ignore = "the child process of another test"]
async fn publish_in_a_child() {
    let path = |name| std::path::PathBuf::from(std::env::var_os(name).unwrap());
    println!("{}", publishing_fails_cleanly(&path("TEST_DIR"), &path("TEST_STORE")).await);
}

#[tokio::test]
async fn a_store_that_cannot_be_written_says_where() {
    // Not by rights, which do not bind root.
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("store"), "a file where the store should be").unwrap();
    let store = Store::open(dir.path().join("store").to_str().unwrap()).unwrap();
    let error = store.publish(model(10, 1).path(), publication(0)).await.unwrap_err().to_string();
    assert!(error.contains("/store/versions/") && error.contains("Not a directory"), "{error}");
    let error = store.versions().await.unwrap_err().to_string();
    assert!(error.contains("/store"), "{error}");
}

#[tokio::test]
async fn a_mistyped_directory_is_not_an_empty_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("stroe").to_str().unwrap()).unwrap();
    let error = store.versions().await.unwrap_err().to_string();
    assert!(error.contains("stroe: No such file or directory"), "{error}");
    assert!(store.channels().await.is_err());
    let error = store.resolve_channel(&"stable".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, StoreError::NoChannel { .. }), "{error}");
}

#[tokio::test]
async fn wrong_credentials_are_named_with_the_object() {
    let backend = Backend::new(Kind::S3);
    let version = publish(&backend.open(), 0).await.version;
    // What versitygw calls a user that it does not know, S3 calls InvalidAccessKeyId.
    for (key, secret, reason) in [
        ("key", "wrong", "the store refuses the credentials: SignatureDoesNotMatch: "),
        ("nobody", "secret", "XAdminUserNotFound: "),
    ] {
        let store = backend.open_as(key, secret);
        let errors = [
            store.versions().await.map(drop).unwrap_err().to_string(),
            store.manifest(&version).await.map(drop).unwrap_err().to_string(),
            store.publish(model(10, 1).path(), publication(1)).await.map(drop).unwrap_err().to_string(),
        ];
        for error in errors {
            assert!(error.contains(" s3://bucket/models/versions") && error.contains(reason), "{error}");
            assert!(!error.contains(['<', '\n']), "{error}");
        }
    }
    assert_eq!(listed(&backend.open()).await, [version.as_str()]);
}

#[tokio::test]
async fn a_missing_bucket_and_an_absent_server_are_named() {
    let backend = Backend::new(Kind::S3);
    let store = Store::open_with("s3://nowhere/models", backend.variables.clone()).unwrap();
    for error in [
        store.versions().await.map(drop).unwrap_err().to_string(),
        store.resolve_channel(&"stable".parse().unwrap()).await.map(drop).unwrap_err().to_string(),
        store.publish(model(10, 1).path(), publication(1)).await.map(drop).unwrap_err().to_string(),
    ] {
        assert!(error.contains("s3://nowhere/models/") && error.contains("NoSuchBucket"), "{error}");
    }
    // A setting that is wrong is named as well.
    let with = async |name: &str, value: &str| {
        let mut variables = backend.variables.clone();
        variables.push((name.to_owned(), value.to_owned()));
        let store = Store::open_with("s3://bucket/models", variables).unwrap();
        store.publish(model(10, 1).path(), publication(1)).await.unwrap_err().to_string()
    };
    let error = with("AWS_ALLOW_HTTP", "false").await;
    assert!(error.contains("AWS_ALLOW_HTTP=true"), "{error}");
    let error = with("AWS_CONDITIONAL_PUT", "disabled").await;
    assert!(error.contains("manifest.json: conditional writes are switched off"), "{error}");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut variables = backend.variables.clone();
    variables.push(("AWS_ENDPOINT_URL".to_owned(), format!("http://{closed}")));
    let error = Store::open_with("s3://bucket/models", variables).unwrap().versions().await.unwrap_err().to_string();
    assert!(error.contains("s3://bucket/models/versions") && error.contains("Connection refused"), "{error}");
}

#[tokio::test]
async fn missing_credentials_are_named() {
    let dead_end = ("AWS_METADATA_ENDPOINT".to_owned(), "http://127.0.0.1:1".to_owned());
    let error = Store::open_with("s3://bucket/models", [dead_end]).unwrap().versions().await.unwrap_err().to_string();
    assert!(error.contains("s3://bucket/models/versions: AWS_ACCESS_KEY_ID is not set"), "{error}");
    let half = ("AWS_SECRET_ACCESS_KEY".to_owned(), "secret".to_owned());
    let error = Store::open_with("s3://bucket/models", [half]).unwrap_err().to_string();
    assert_eq!(error, "store `s3://bucket/models`: Missing AccessKeyId");
}

#[tokio::test]
async fn what_is_no_version_is_not_published() {
    let backend = Backend::new(Kind::Files);
    let store = backend.open();
    let refusal = async |change: &dyn Fn(&Path)| {
        let dir = model(10, 1);
        change(dir.path());
        store.publish(dir.path(), publication(0)).await.unwrap_err().to_string()
    };
    let error = refusal(&|dir| fs::remove_file(dir.join("schema.json")).unwrap()).await;
    assert!(error.ends_with("cannot be published: it has no `schema.json`"), "{error}");
    let error = refusal(&|dir| fs::write(dir.join("a b"), "").unwrap()).await;
    assert!(error.starts_with("`a b` is not a file name: use a relative path"), "{error}");
    let error = refusal(&|dir| std::os::unix::fs::symlink("/nowhere", dir.join("link")).unwrap()).await;
    assert!(error.contains("No such file"), "{error}");
    let error = refusal(&|dir| fs::remove_dir_all(dir).unwrap()).await;
    assert!(error.contains("No such file"), "{error}");
    let mut nan = publication(0);
    nan.metrics.get_mut("search").unwrap().insert("mrr".to_owned(), f64::NAN);
    let error = store.publish(model(10, 1).path(), nan).await.unwrap_err().to_string();
    assert!(error.contains("metric `mrr` of task `search` is NaN"), "{error}");
    assert!(!backend.files.exists(), "none of them wrote anything");
}

#[tokio::test]
async fn moving_a_channel_needs_a_writable_directory() {
    let backend = Backend::new(Kind::Files);
    let store = backend.open();
    let version = publish(&store, 0).await.version;
    fs::write(backend.files.join("channels"), "a file where the channels should be").unwrap();
    let stable: ChannelName = "stable".parse().unwrap();
    let error = store.promote(&version, &stable, time(1)).await.unwrap_err().to_string();
    assert!(error.contains("/store/channels"), "{error}");
}
