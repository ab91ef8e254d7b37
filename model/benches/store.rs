//! What a version of one gibibyte costs in a store of files, next to copying and hashing the same bytes.
//!
//! `cargo bench -p unimodel-model --bench store [-- GIBIBYTES]`; the directory is `$TMPDIR`.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rand::{RngCore, SeedableRng};
use sha2::{Digest, Sha256};
use unimodel_model::store::{Publication, Store};

const ROUNDS: usize = 5;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    // Not when the tests of all targets run.
    if arguments.iter().all(|a| a != "--bench") {
        return;
    }
    let gibibytes: f64 = arguments.iter().find_map(|a| a.parse().ok()).unwrap_or(1.0);
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("model");
    make_version(&source, (gibibytes * f64::from(1 << 30)) as usize);

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let names = ["copy", "hash", "publish", "load in place", "fetch to a cache"];
    let mut times = [const { Vec::new() }; 5];
    for round in 0..ROUNDS {
        let (copy, root) = (dir.path().join("copy"), dir.path().join("store"));
        let store = Store::open(root.to_str().unwrap()).unwrap();
        let publication = Publication {
            created: Timestamp::from_second(round as i64).unwrap(),
            data_time: Timestamp::UNIX_EPOCH,
            parent: None,
            pipeline: None,
            metrics: Default::default(),
        };
        times[0].push(timed(|| copy_directory(&source, &copy)));
        times[1].push(timed(|| hash_directory(&copy)));
        let mut published = None;
        times[2].push(timed(|| {
            published = Some(runtime.block_on(store.publish(&source, publication)).unwrap().version);
        }));
        let version = published.unwrap();
        times[3].push(timed(|| drop(runtime.block_on(store.load(&version, &dir.path().join("unused"))).unwrap())));
        times[4].push(timed(|| drop(runtime.block_on(store.fetch(&version, &dir.path().join("cache"))).unwrap())));
        for used in ["copy", "store", "cache"] {
            fs::remove_dir_all(dir.path().join(used)).unwrap();
        }
    }
    let medians = times.map(|mut all| {
        all.sort();
        all[ROUNDS / 2].as_secs_f64()
    });
    println!("| step, {gibibytes} GiB, median of {ROUNDS} | s | GiB/s |\n|---|---|---|");
    for (name, median) in names.iter().zip(medians) {
        println!("| {name} | {median:.2} | {:.2} |", gibibytes / median);
    }
    let [copy, hash, publish, load, fetch] = medians;
    println!();
    println!("(publish + load in place) / (copy + hash) = {:.2}", (publish + load) / (copy + hash));
    println!("(publish + fetch) / (copy + hash) = {:.2}", (publish + fetch) / (copy + hash));
}

fn make_version(dir: &Path, size: usize) {
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("schema.json"), "{}").unwrap();
    let mut weights = File::create(dir.join("model.safetensors")).unwrap();
    let mut random = rand::rngs::SmallRng::seed_from_u64(1);
    let mut block = vec![0; 1 << 20];
    for start in (0..size).step_by(block.len()) {
        random.fill_bytes(&mut block);
        weights.write_all(&block[..(size - start).min(1 << 20)]).unwrap();
    }
    weights.sync_all().unwrap();
}

/// As `cp -r && sync` does: what is published outlasts a loss of power, so the copy has to as well.
fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let copy = to.join(entry.as_ref().unwrap().file_name());
        fs::copy(entry.unwrap().path(), &copy).unwrap();
        File::open(copy).unwrap().sync_all().unwrap();
    }
}

/// As `sha256sum` does, with the same implementation as the store.
fn hash_directory(dir: &Path) {
    let mut block = vec![0; 256 << 10];
    for entry in fs::read_dir(dir).unwrap() {
        let mut file = File::open(entry.unwrap().path()).unwrap();
        let mut sha256 = Sha256::new();
        while let n @ 1.. = file.read(&mut block).unwrap() {
            sha256.update(&block[..n]);
        }
        std::hint::black_box(sha256.finalize());
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}
