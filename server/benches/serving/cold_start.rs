//! From the start of the process to its first answer.

use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use unimodel_model::network::NetworkConfig;

use crate::fixture::Recipe;
use crate::process::{Server, Setup};
use crate::store::Versions;
use crate::{median, movielens_setup, rounds};

/// Items of networks whose weights are about a gibibyte: of the sizes that networks have by themselves, and of narrow ones,
/// where a start is about items more than about weights.
const ITEMS: usize = 460_000;
const ITEMS_OF_NARROW: usize = 3_000_000;

pub(crate) async fn measure() {
    let mut times = Vec::new();
    for _ in 0..rounds() {
        let begin = Instant::now();
        let server = Server::ready(movielens_setup()).await;
        times.push(begin.elapsed().as_secs_f64() * 1000.0);
        drop(server);
    }
    println!("MovieLens, empty cache: ready after {:.0} ms (asked 300)", median(times));

    measure_large("default sizes", &Recipe { items: ITEMS, network: NetworkConfig::default(), ..large() }).await;
    measure_large("narrow", &Recipe { items: ITEMS_OF_NARROW, ..large() }).await;
}

fn large() -> Recipe {
    Recipe { profiles: false, ..Recipe::default() }
}

async fn measure_large(sizes: &str, recipe: &Recipe) {
    let store = Versions::new();
    let version = store.publish_changed(recipe, |_| {}).await;
    store.promote(&version).await;
    let tasks = "[{name: search, head: h0}]".to_owned();
    let (mut ready, mut read) = (Vec::new(), Vec::new());
    let mut bytes = 0;
    for _ in 0..rounds().min(3) {
        let begin = Instant::now();
        bytes = read_and_hash(&store.version_dir(&version));
        read.push(begin.elapsed());
        let begin = Instant::now();
        let server = Server::ready(Setup { workers: 2, tasks: tasks.clone(), ..Setup::new(store.url()) }).await;
        ready.push(begin.elapsed());
        drop(server);
    }
    let seconds = |times: &[Duration]| median(times.iter().map(Duration::as_secs_f64).collect());
    println!(
        "{:.2} GiB, {} items, {sizes}, empty cache: ready after {:.2} s, read and hashed in {:.2} s: {:.2}x (asked 1.5)",
        bytes as f64 / f64::from(1 << 30),
        recipe.items,
        seconds(&ready),
        seconds(&read),
        seconds(&ready) / seconds(&read)
    );
}

/// Reads and hashes all files, one after the other.
fn read_and_hash(path: &Path) -> u64 {
    if path.is_dir() {
        let entries = std::fs::read_dir(path).expect("a directory");
        return entries.map(|entry| read_and_hash(&entry.expect("an entry").path())).sum();
    }
    let mut file = std::fs::File::open(path).expect("a file");
    let (mut hash, mut buffer, mut total) = (Sha256::new(), vec![0; 1 << 20], 0);
    loop {
        match file.read(&mut buffer).expect("its content") {
            0 => return total,
            count => {
                hash.update(&buffer[..count]);
                total += count as u64;
            }
        }
    }
}
