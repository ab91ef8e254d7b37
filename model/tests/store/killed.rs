//! A publish that is killed leaves nothing that a reader sees.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use unimodel_model::store::{Prune, Store};

use crate::backends::{Backend, Kind, listed, model, publication, publish, time};

const WEIGHTS: u64 = 40 << 20;

/// Bytes in all files below a directory.
fn bytes_below(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let size = |path: PathBuf| match std::fs::symlink_metadata(&path) {
        Ok(meta) if meta.is_dir() => bytes_below(&path),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.flatten().map(|entry| size(entry.path())).sum()
}

/// Publishes in a child process and kills it once the store has grown to so many bytes; again and again, at ever later
/// moments, until a publish gets through.
async fn leaves_nothing(kind: Kind) {
    let backend = Backend::new(kind);
    let store = backend.open();
    let before = publish(&store, 0).await.version;
    let dir = model(WEIGHTS as usize, 1);
    // The server's temporary files count as well: they lie beside the bucket's objects.
    let watched = backend.files.parent().unwrap();
    let (mut killed_midway, mut got_through) = (0, false);
    for second in 1..=12 {
        let base = bytes_below(watched);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::publish_in_a_child", "--ignored"])
            .env("TEST_STORE", &backend.url)
            .env("TEST_DIR", dir.path())
            .env("TEST_SECOND", second.to_string())
            .envs(backend.variables.clone())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // An S3 server has the parts and the object that it joins from them at the same time.
        let kill_at = base + second as u64 * WEIGHTS / 5;
        while bytes_below(watched) < kill_at && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();

        let versions = listed(&store).await;
        assert_eq!(versions[0], before.as_str());
        for version in &versions {
            store.verify(&version.parse().unwrap()).await.unwrap();
        }
        match versions.len() {
            1 => killed_midway += u32::from(bytes_below(watched) > base),
            2 => {
                got_through = true;
                break;
            }
            more => panic!("{more} versions of one publish"),
        }
    }
    assert!(got_through, "the last ones were not to be killed midway");
    assert!(killed_midway >= 2, "only {killed_midway} were killed midway");

    let leftovers = Prune { keep: 2, leftovers_before: time(i32::MAX.into()), dry_run: false };
    let pruned = store.prune(&leftovers).await.unwrap();
    println!("{kind:?}: {killed_midway} killed midway, {} of them left files", pruned.leftovers.len());
    assert!(pruned.versions.is_empty());
    assert_eq!(std::fs::read_dir(backend.files.join("versions")).unwrap().count(), 2);
    assert_eq!(listed(&store).await.len(), 2);
}

#[tokio::test]
async fn a_killed_publish_to_files_leaves_nothing_that_a_reader_sees() {
    leaves_nothing(Kind::Files).await;
}

#[tokio::test]
async fn a_killed_publish_to_s3_leaves_nothing_that_a_reader_sees() {
    leaves_nothing(Kind::S3).await;
}

#[tokio::test]
#[ignore = "the child process of other tests"]
async fn publish_in_a_child() {
    let variable = |name: &str| std::env::var(name).unwrap();
    let store = Store::open(&variable("TEST_STORE")).unwrap();
    let second = variable("TEST_SECOND").parse().unwrap();
    store.publish(Path::new(&variable("TEST_DIR")), publication(second)).await.unwrap();
}
