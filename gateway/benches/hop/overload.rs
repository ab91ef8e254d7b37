//! One task at ten times its capacity beside another at half of its own.

use std::path::Path;
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::{load, median, routes_file, start_gateway, start_server};

/// Time that a request takes at a server, and requests of a task at a time: 400 a second.
const SERVICE: Duration = Duration::from_millis(20);
const AT_A_TIME: usize = 8;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(4);

pub(crate) fn measure(runtime: &Runtime, folder: &Path) {
    let capacity = AT_A_TIME as f64 / SERVICE.as_secs_f64();
    let ((_flooded, flooded), (_quiet, quiet)) = (start_server(1, SERVICE), start_server(1, SERVICE));
    let limits = format!("maxConcurrency: {AT_A_TIME}, queueDepth: 16");
    let path = folder.join("two.yaml");
    std::fs::write(&path, routes_file(&[("flooded", flooded, &limits), ("quiet", quiet, &limits)])).unwrap();
    let (_gateway, gateway) = start_gateway(0, &path);
    let (mut alone, mut beside, mut errors, mut refused) = (Vec::new(), Vec::new(), 0, 0);
    for _ in 0..ROUNDS {
        let figures = runtime.block_on(load::open(gateway, "quiet", capacity / 2.0, ROUND));
        errors += figures.errors;
        alone.push(figures.p99);
        let (quiet, flooded) = runtime.block_on(async {
            let flood = tokio::spawn(load::open(gateway, "flooded", capacity * 10.0, ROUND));
            (load::open(gateway, "quiet", capacity / 2.0, ROUND).await, flood.await.unwrap())
        });
        errors += quiet.errors;
        refused += flooded.errors;
        beside.push(quiet.p99);
    }
    let (alone, beside) = (median(alone), median(beside));
    println!(
        "\nA task at half of its {capacity:.0} req/s, p99 µs: alone {alone:.0}, beside a task at ten times {beside:.0}"
    );
    println!("ratio {:.2}; errors {errors}; refused of the flood {refused}", beside / alone);
}
