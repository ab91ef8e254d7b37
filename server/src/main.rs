//! `unimodel-server`: one version of a model on one device, as a pod runs it.

// A program has no API: `pub` here says what a file offers to the others.
#![allow(unreachable_pub)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use unimodel_model::threads::{NO_CANDLE_THREADS, restart_with};
use unimodel_server::config::ServerConfig;
use unimodel_server::serve::{OnStartFailure, ServeError, Serving, check, serve};
use unimodel_transport::telemetry::LogFormat;

// The system's allocator keeps what a version leaves behind when it goes: after a hundred versions it held three times
// the memory (docs/benchmarks/serving.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// After so many milliseconds the allocator gives memory back: soon, since what comes free in large pieces here is a
/// version, for good, but not at once, since requests need what requests have left (docs/benchmarks/serving.md).
const RETURN_MEMORY: (&str, &str) = ("MIMALLOC_PURGE_DELAY", "10");

/// Serves one version of a model: ranking by REST, gRPC and Open Inference Protocol v2.
#[derive(Parser)]
#[command(name = "unimodel-server", version, after_help = EXAMPLES)]
struct Cli {
    /// What to serve, where, and how; docs/server.md is its reference. Its `tasks` are re-read while the server runs
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Check the file and exit
    #[arg(long)]
    check: bool,
    /// How to write the log, to standard error; RUST_LOG says how much
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
}

const EXAMPLES: &str = "\
Examples:
  unimodel-server --config server.yaml --check
  unimodel-server --config server.yaml --log-format json
  RUST_LOG=debug unimodel-server --config server.yaml
  OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317 unimodel-server --config server.yaml

A server.yaml:
  apiVersion: unimodel.dev/v1alpha1
  kind: ServerConfig
  store: file:///srv/store
  channel: stable
  tasks:
  - name: search

Ports: 8080 ranking (HTTP and gRPC), 9090 /livez, /readyz, /metrics and /debug/state, and with `control` 9443.";

fn main() -> ExitCode {
    if let Err(error) = restart_with(&[NO_CANDLE_THREADS, RETURN_MEMORY]) {
        eprintln!("warning: candle's threads may disturb others while a version is prepared: {error}");
    }
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<(), ServeError> {
    let config = ServerConfig::load(&cli.config)?;
    if cli.check {
        check(&config)?;
        println!(
            "{} is valid: {} tasks of {} in {}",
            cli.config.display(),
            config.tasks.len(),
            config.start,
            config.store
        );
        return Ok(());
    }
    serve(Serving {
        config,
        watch: Some(cli.config),
        log_format: cli.log_format,
        log_filter: "info",
        on_start_failure: OnStartFailure::Retry,
        on_ready: Box::new(|_| {}),
    })
}
