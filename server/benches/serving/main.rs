//! `cargo bench --workspace --bench serving`: the whole server under load, as a process, in ratios.
//!
//! Needs `h2load` (Debian `nghttp2-client`), and a store with a version of the MovieLens sample that the channel
//! `stable` names: the one that `make demo` leaves, or the URL in `STORE`. Load comes from the same machine, which
//! takes its part of the cores; both sides of a ratio bear the same load. `ROUNDS` is how often rates are measured
//! (default 5), and arguments name the measurements to make; without any all are made.

// It shares what runs a server with the tests.
#![allow(clippy::unwrap_used)]

mod cancelled;
mod cold_start;
mod constant;
#[allow(dead_code)]
#[path = "../../tests/runtime/fixture.rs"]
mod fixture;
mod load;
mod mixed;
mod overload;
#[allow(dead_code)]
#[path = "../../tests/serving/process.rs"]
mod process;
mod rate;
mod reload;
#[allow(dead_code)]
#[path = "../../tests/serving/store.rs"]
mod store;
#[allow(dead_code)]
#[path = "../../tests/serving/tls.rs"]
mod tls;
#[allow(dead_code)]
#[path = "../../tests/compute_engine/world.rs"]
mod world;

use process::{Server, Setup};
use unimodel_server::serve::io_threads;

// As in the server: the constant server is the same but for the model.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A measurement by its name.
const MEASUREMENTS: [&str; 6] = ["rate", "mixed", "reload", "cancelled", "overload", "cold-start"];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let is_constant = arguments.first().is_some_and(|a| a == constant::ARGUMENT);
    // The constant server has the threads that the server has.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if is_constant { io_threads(cores) } else { 2 };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    let runtime = runtime.expect("a runtime");
    if is_constant {
        return runtime.block_on(constant::serve());
    }
    if let Some(unknown) = arguments.iter().find(|a| !MEASUREMENTS.contains(&a.as_str())) {
        eprintln!("error: no measurement `{unknown}`; there are {}", MEASUREMENTS.join(", "));
        std::process::exit(2);
    }
    let wanted = |name: &str| arguments.is_empty() || arguments.iter().any(|a| a == name);
    runtime.block_on(async {
        for name in MEASUREMENTS.into_iter().filter(|name| wanted(name)) {
            println!("\n{name}");
            match name {
                "rate" => rate::measure().await,
                "mixed" => mixed::measure().await,
                "reload" => reload::measure().await,
                "cancelled" => cancelled::measure().await,
                "overload" => overload::measure().await,
                _ => cold_start::measure().await,
            }
        }
    });
}

/// The store with a MovieLens version.
fn movielens() -> String {
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/demo/store");
    std::env::var("STORE").unwrap_or_else(|_| format!("file://{demo}"))
}

/// A server of that version with the one compute thread that it takes by itself on two cores.
fn movielens_setup() -> Setup {
    Setup {
        tasks: "[{name: notifications, timeout: {default: 10s, max: 60s}, maxConcurrency: 4096}, \
                 {name: search, timeout: {default: 10s, max: 60s}, maxConcurrency: 4096}]"
            .into(),
        more: "admission: {maxInFlight: 4096}".into(),
        ..Setup::new(movielens())
    }
}

fn rounds() -> usize {
    std::env::var("ROUNDS").ok().and_then(|n| n.parse().ok()).filter(|n| *n > 0).unwrap_or(5)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// All errors that the server has counted.
async fn errors(server: &Server) -> f64 {
    let (_, text) = server.admin("/metrics").await;
    let lines = text.lines().filter(|line| line.starts_with("unimodel_request_errors_total"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// All requests that are admitted and not answered.
async fn in_flight(server: &Server) -> f64 {
    let (_, text) = server.admin("/metrics").await;
    let lines = text.lines().filter(|line| line.starts_with("unimodel_in_flight{"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Resident memory in MiB.
fn resident(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
    kib.unwrap_or(f64::NAN) / 1024.0
}
