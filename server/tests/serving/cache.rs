//! The cache directory: found again after a restart, shared, bounded, and sometimes unusable.

use std::collections::BTreeSet;
use std::path::Path;

use unimodel_protocol::control::v1;

use crate::fixture::Recipe;
use crate::process::{Server, Setup};
use crate::small_disk::SmallDisk;
use crate::store::Versions;
use crate::tls::{Control, ControlFiles};
use crate::web_server::Web;

/// The versions that are cached.
fn cached(cache: &Path) -> BTreeSet<String> {
    let stores = std::fs::read_dir(cache).into_iter().flatten().map(|entry| entry.unwrap().path());
    let dirs = stores.flat_map(|store| std::fs::read_dir(store).unwrap());
    let names = dirs.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| Some(name.rsplit_once('-')?.0.to_owned())).collect()
}

fn set(versions: &[&String]) -> BTreeSet<String> {
    versions.iter().map(|version| (*version).clone()).collect()
}

async fn change_to(server: &Server, control: &mut Control, version: &str) {
    let state = control.prepared(version).await;
    assert_eq!(state.phase(), v1::Phase::Prepared, "{state:?}");
    control.activate(version).await;
    assert_eq!(server.answering().await, version);
}

#[tokio::test]
async fn servers_that_share_a_cache_keep_what_either_needs_and_no_more() {
    let (store, first) = Versions::with_one().await;
    let [second, third, fourth] = [store.publish(2).await, store.publish(3).await, store.publish(4).await];
    let web = Web::serve(store.root()).await;
    let shared = tempfile::tempdir().unwrap();
    let files = ControlFiles::new();
    let setup = || Setup { more: format!("cacheDirectory: {}", shared.path().display()), ..Setup::new(&web.url) };
    let ((ours, mut our_control), (theirs, mut their_control)) =
        tokio::join!(files.serve(setup()), files.serve(setup()));
    ours.logged("active").await;
    theirs.logged("active").await;
    assert_eq!(cached(shared.path()), set(&[&first]));

    for version in [&second, &third, &fourth] {
        change_to(&ours, &mut our_control, version).await;
    }
    // `first` is theirs; `second` is nobody's any more.
    let expected = set(&[&first, &third, &fourth]);
    ours.until(async |_| (cached(shared.path()) == expected).then_some(())).await;

    // Their way back needs no download, and ours neither.
    change_to(&theirs, &mut their_control, &fourth).await;
    change_to(&theirs, &mut their_control, &first).await;
    drop(web);
    let prepared = our_control.prepared(&third).await;
    assert_eq!(prepared.phase(), v1::Phase::Prepared, "{prepared:?}");
    assert_eq!(prepared.fetched_bytes, 0, "nothing came from the store");
    our_control.activate(&third).await;
    assert_eq!((ours.answering().await, theirs.answering().await), (third, first));
}

#[tokio::test]
async fn a_restart_while_the_store_is_away_starts_from_the_verified_copy() {
    let (store, version) = Versions::with_one().await;
    let web = Web::serve(store.root()).await;
    let shared = tempfile::tempdir().unwrap();
    let setup = || Setup {
        start: format!("version: {version}"),
        more: format!("cacheDirectory: {}", shared.path().display()),
        ..Setup::new(&web.url)
    };
    let again = setup();
    let mut server = Server::ready(setup()).await;
    server.signal("TERM");
    assert!(server.exited().await.success());
    drop(web);

    let server = Server::ready(again).await;
    server.logged("the store does not answer; using the local copy").await;
    assert_eq!(server.answering().await, version);
}

#[tokio::test]
async fn a_damaged_copy_is_fetched_again() {
    let (store, version) = Versions::with_one().await;
    let web = Web::serve(store.root()).await;
    let shared = tempfile::tempdir().unwrap();
    let setup = || Setup { more: format!("cacheDirectory: {}", shared.path().display()), ..Setup::new(&web.url) };
    let mut server = Server::ready(setup()).await;
    server.signal("TERM");
    assert!(server.exited().await.success());

    let of_store = std::fs::read_dir(shared.path()).unwrap().next().unwrap().unwrap().path();
    let copy = std::fs::read_dir(of_store).unwrap().next().unwrap().unwrap().path();
    std::fs::write(copy.join("model.safetensors"), "damaged").unwrap();
    let server = Server::ready(setup()).await;
    server.logged("fetching again: ").await;
    assert_eq!(server.answering().await, version);
}

#[tokio::test]
async fn a_cache_that_cannot_be_written_to_is_said_and_what_is_served_stays() {
    let (store, first) = Versions::with_one().await;
    let second = store.publish(2).await;
    let web = Web::serve(store.root()).await;
    let files = ControlFiles::new();
    let (server, mut control) = files.serve(Setup::new(&web.url)).await;
    server.logged("active").await;

    // A file in its place stands for a disk that takes nothing: root may write to any directory.
    std::fs::remove_dir_all(server.cache()).unwrap();
    std::fs::write(server.cache(), "").unwrap();
    let failure = control.prepared(&second).await.failure.unwrap();
    assert_eq!(failure.reason, "CacheNotWritable");
    assert!(failure.message.contains(&server.cache().display().to_string()), "{failure:?}");
    assert_eq!(server.answering().await, first);
    assert_eq!(server.admin("/readyz").await.0, 200);

    let more = format!("cacheDirectory: {}/cache", server.file().display());
    let stuck = Server::start(Setup { more, ..Setup::new(&web.url) }).await;
    assert_eq!(stuck.logged("channel `stable` cannot be served").await["reason"], "CacheNotWritable");
    let (status, why) = stuck.admin("/readyz").await;
    assert!(status == 503 && why.contains("server.yaml/cache"), "{why}");
}

#[tokio::test]
async fn a_full_disk_fails_a_preparation_and_nothing_else() {
    // Where this process may not mount, what a full disk leads to is tested of its error alone.
    let Some(disk) = SmallDisk::mount() else { return };
    let (store, first) = Versions::with_one().await;
    let too_large = store.publish_changed(&Recipe { seed: 2, items: 8000, ..Recipe::default() }, |_| {}).await;
    let third = store.publish(3).await;
    let web = Web::serve(store.root()).await;
    let files = ControlFiles::new();
    let more = format!("cacheDirectory: {}", disk.path().display());
    let (server, mut control) = files.serve(Setup { more, ..Setup::new(&web.url) }).await;
    server.logged("active").await;

    let failure = control.prepared(&too_large).await.failure.unwrap();
    assert_eq!(failure.reason, "CacheFull", "{failure:?}");
    let cache = disk.path().display().to_string();
    assert!(failure.message.contains(&cache) && failure.message.contains("No space left"), "{failure:?}");
    assert_eq!(server.answering().await, first);
    assert_eq!(server.admin("/readyz").await.0, 200);
    // What had come of it is gone, and there is room again.
    change_to(&server, &mut control, &third).await;
    assert_eq!(cached(disk.path()), set(&[&first, &third]));
}
