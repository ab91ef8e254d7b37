//! A hundred changes of the version under load.

use std::time::Duration;

use jiff::Timestamp;
use unimodel_model::store::{Publication, Store};

use crate::load::{Length, Load, movies};
use crate::tls::ControlFiles;
use crate::{errors, movielens, movielens_setup, resident};

const RELOADS: usize = 100;
const LOAD: Length = Length::Time(Duration::from_secs(10));

pub(crate) async fn measure() {
    // The same version under two names, so that every change is one of all its memory.
    let copies = tempfile::tempdir().expect("a directory");
    let channel = "stable".parse().expect("a channel");
    let theirs = Store::open(&movielens()).expect("the store");
    let version = theirs.channel(&channel).await.expect("a version: run `make demo`").version;
    let cache = tempfile::tempdir().expect("a directory");
    let local = theirs.load(&version, cache.path()).await.expect("the version");
    let own = Store::open(&format!("file://{}", copies.path().display())).expect("a store");
    let mut versions = Vec::new();
    for second in [0, 1] {
        let publication = Publication {
            created: Timestamp::from_second(1_800_000_000 + second).expect("a time"),
            data_time: local.manifest().data_time,
            parent: None,
            pipeline: None,
            metrics: local.manifest().metrics.clone(),
        };
        versions.push(own.publish(local.dir(), publication).await.expect("to publish").version);
    }
    let names: Vec<String> = versions.iter().map(ToString::to_string).collect();
    own.promote(&versions[0], &channel, Timestamp::now()).await.expect("to promote");

    let files = ControlFiles::new();
    let mut setup = movielens_setup();
    setup.store = format!("file://{}", copies.path().display());
    let (server, mut control) = files.serve(setup).await;
    server.logged("active").await;
    let load = Load::new(server.data, &movies("notifications", 100), 4, 2);
    load.run(Length::Requests(5_000)).await;
    // Both have been there once before memory is measured.
    for version in [&names[1], &names[0]] {
        control.prepared(version).await;
        control.activate(version).await;
    }
    let before = load.run(LOAD).await;
    let memory = resident(server.pid());
    let changing = async {
        let mut changes = 0;
        while changes < RELOADS {
            let version = &names[(changes + 1) % 2];
            let state = control.prepared(version).await;
            assert!(state.failure.is_none(), "{state:?}");
            control.activate(version).await;
            changes += 1;
        }
        changes
    };
    let loading = async {
        let mut worst = Vec::new();
        let (mut failed, mut requests) = (0, 0.0);
        // Until the changes are over.
        loop {
            let during = load.run(LOAD).await;
            failed += during.failed;
            requests += during.per_second * 10.0;
            worst.push(during.percentile(0.99));
            if server.metric("unimodel_reloads_total{result=\"activated\"}").await >= (RELOADS + 3) as f64 {
                return (worst, failed, requests);
            }
        }
    };
    let (changes, (worst, failed, requests)) = tokio::join!(changing, loading);
    let after = load.run(LOAD).await;
    let (p99, during) = (before.percentile(0.99), crate::median(worst));
    println!(
        "{changes} changes of version beside {requests:.0} requests: {failed} failed, {:.0} errors; p99 {p99:.2} ms before, \
         {during:.2} ms meanwhile ({:.2}x; asked 1.2), {:.2} ms after; memory {memory:.1} MiB before, {:.1} after ({:.3}x; asked 1.02)",
        errors(&server).await.abs(),
        during / p99,
        after.percentile(0.99),
        resident(server.pid()),
        resident(server.pid()) / memory,
    );
}
