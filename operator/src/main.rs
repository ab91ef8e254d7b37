//! `unimodel-operator`: hosts UnifiedModels on Kubernetes.

// A program has no API: `pub` here says what a file offers to the others.
#![allow(unreachable_pub)]

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use unimodel_operator::cluster::leader::Candidate;
use unimodel_operator::cluster::queue::Queue;
use unimodel_operator::cluster::reconcile::Images;
use unimodel_operator::cluster::{Settings, run, runtime};
use unimodel_operator::rbac;
use unimodel_transport::telemetry::LogFormat;

/// Hosts UnifiedModels on Kubernetes (docs/operator.md).
#[derive(Parser)]
#[command(name = "unimodel-operator", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Host UnifiedModels until told to stop
    Run(Run),
    /// Print what the operator may do, as rules of RBAC: `cluster`, `namespace` (each that is watched) and `lease`
    Rbac,
}

#[derive(clap::Args)]
struct Run {
    /// Watch this namespace, and others that are named so; all where none is
    #[arg(long = "namespace", value_name = "NAMESPACE", env = "UNIMODEL_NAMESPACES", value_delimiter = ',')]
    namespaces: Vec<String>,
    /// Image of servers and gateways
    #[arg(long, value_name = "IMAGE", env = "UNIMODEL_IMAGE")]
    image: String,
    /// Secret by which that image is pulled, in the namespace of each object, and others that are named so
    #[arg(long = "image-pull-secret", value_name = "NAME", env = "UNIMODEL_IMAGE_PULL_SECRETS", value_delimiter = ',')]
    image_pull_secrets: Vec<String>,
    /// Where to answer /livez, /readyz and /metrics
    #[arg(long, value_name = "ADDRESS", env = "UNIMODEL_ADMIN_LISTEN", default_value = "0.0.0.0:9090")]
    admin_listen: SocketAddr,
    /// Namespace of the Lease by which one operator at a time writes
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE", default_value = "default")]
    lease_namespace: String,
    /// Name of the Lease
    #[arg(long, value_name = "NAME", env = "UNIMODEL_LEASE_NAME", default_value = "unimodel-operator")]
    lease_name: String,
    /// Who asks for the Lease; another one in each process
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    identity: Option<String>,
    /// How to write the log, to standard error; RUST_LOG says how much
    #[arg(long, value_enum, value_name = "FORMAT", env = "UNIMODEL_LOG_FORMAT", default_value_t = LogFormat::Json)]
    log_format: LogFormat,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(arguments) => host(arguments),
        Command::Rbac => {
            print!("{}", rbac::yaml());
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn host(arguments: Run) -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match arguments.log_format {
        LogFormat::Json => log.json().init(),
        LogFormat::Pretty => log.init(),
    }
    // Two processes with one name would both write.
    let identity =
        arguments.identity.unwrap_or_else(|| format!("{}-{:08x}", std::process::id(), rand::random::<u32>()));
    let settings = Settings {
        namespaces: named(arguments.namespaces),
        images: Images { serving: arguments.image, pull_secrets: named(arguments.image_pull_secrets) },
        admin_listen: arguments.admin_listen,
        candidate: Candidate { namespace: arguments.lease_namespace, name: arguments.lease_name, identity },
    };
    let queue = Arc::<Queue>::default();
    let runtime = runtime(queue.clone())?;
    runtime.block_on(async {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        run(settings, queue, stop).await
    })
}

/// A variable that is there and empty names nothing.
fn named(names: Vec<String>) -> Vec<String> {
    names.into_iter().filter(|name| !name.is_empty()).collect()
}
