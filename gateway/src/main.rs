//! `unimodel-gateway`: one address for all tasks.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use unimodel_gateway::admin::Admin;
use unimodel_gateway::cluster::Source;
use unimodel_gateway::front::Front;
use unimodel_gateway::gateway::{Gateway, Settings};
use unimodel_gateway::{cluster, timeout, watch};
use unimodel_transport::bind::bind;
use unimodel_transport::listener::{ConnectionLimits, serve};
use unimodel_transport::telemetry::{LogFormat, Telemetry};

/// The name of this program in traces.
const SERVICE_NAME: &str = "unimodel-gateway";

/// One address for all tasks of a model: routes requests by task, and answers by something else where a task's servers
/// do not.
#[derive(Parser)]
#[command(name = "unimodel-gateway", version)]
struct Arguments {
    /// Routes file; it is read again whenever it changes (docs/gateway.md)
    #[arg(long, value_name = "FILE", required_unless_present = "routes_config_map")]
    routes: Option<PathBuf>,
    /// In a cluster, in place of a file: the ConfigMap with the routes
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = object, conflicts_with = "routes", requires = "endpoints")]
    routes_config_map: Option<(String, String)>,
    /// In a cluster, labels of the EndpointSlices to watch, such as `unimodel.dev/model=discovery`
    #[arg(long, value_name = "LABELS")]
    endpoints: Option<String>,
    /// Address of the data port: HTTP/1.1, HTTP/2 without TLS, and gRPC
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8000")]
    listen: SocketAddr,
    /// Address of the admin port: a page for people at /, and /livez, /readyz, /metrics, /debug/state
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9090")]
    admin_listen: SocketAddr,
    /// How to write the log, to standard error; RUST_LOG says how much
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
    /// Threads that serve; 0: one per core
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    workers: usize,
    /// Share of requests in the access log, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.01, value_parser = share)]
    access_log: f64,
    /// On SIGTERM, how long /readyz says no before the port closes, so that callers go elsewhere first
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    drain_delay: Duration,
    /// On SIGTERM, how long requests in flight may take after that
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    grace: Duration,
}

fn duration(text: &str) -> Result<Duration, String> {
    timeout::parse(text).map_err(|_| "give a duration such as 500ms or 30s".to_owned())
}

fn object(text: &str) -> Result<(String, String), String> {
    let (namespace, name) = text.split_once('/').ok_or_else(|| "give a namespace, `/` and a name".to_owned())?;
    Ok((namespace.to_owned(), name.to_owned()))
}

fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "give a number from 0 to 1".to_owned())
}

fn main() -> ExitCode {
    match start(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: &Arguments) -> anyhow::Result<()> {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let workers = if arguments.workers == 0 { cores() } else { arguments.workers };
    // One thread needs no work stealing, which costs time.
    let mut builder = match workers {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.worker_threads(workers).enable_all().build().context("cannot start threads")?;
    runtime.block_on(async {
        let telemetry = Telemetry::start(SERVICE_NAME, arguments.log_format, "info")?;
        let result = run(arguments, &telemetry).await;
        telemetry.stop().await;
        result
    })
}

async fn run(arguments: &Arguments, telemetry: &Telemetry) -> anyhow::Result<()> {
    let settings = Settings { access_log: arguments.access_log, ..Settings::default() };
    let (gateway, listener, admin_listener);
    if let Some(path) = &arguments.routes {
        // Before the file is read: what is written after that is seen.
        let seen = watch::stamp(path);
        let routes = watch::read(path)?;
        (listener, admin_listener) = (bind(arguments.listen).await?, bind(arguments.admin_listen).await?);
        gateway = Gateway::new(routes, settings);
        watch::follow(&gateway, path.clone(), seen).context("cannot start the thread that reads routes")?;
    } else {
        (listener, admin_listener) = (bind(arguments.listen).await?, bind(arguments.admin_listen).await?);
        gateway = Gateway::without_routes(settings);
        let (namespace, name) = arguments.routes_config_map.clone().unwrap_or_default();
        let selector = arguments.endpoints.clone().unwrap_or_default();
        cluster::follow(gateway.clone(), Source { namespace, name, selector }).await?;
    }
    let (listen, admin) = (listener.local_addr()?, admin_listener.local_addr()?);
    tracing::info!(%listen, %admin, tasks = gateway.table().tasks().len(), "ready");

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = {
        let gateway = gateway.clone();
        let delay = arguments.drain_delay;
        async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!(?delay, "stops");
            gateway.stop();
            tokio::time::sleep(delay).await;
        }
    };
    let limits = ConnectionLimits::default();
    let admin = serve(admin_listener, Admin::new(gateway.clone()), limits, std::future::pending(), Duration::ZERO);
    let cut = tokio::select! {
        cut = serve(listener, telemetry.trace(Front::new(gateway)), limits, stop, arguments.grace) => cut,
        _ = admin => 0,
    };
    if cut > 0 {
        tracing::warn!(cut, grace = ?arguments.grace, "connections had not finished");
    }
    Ok(())
}
