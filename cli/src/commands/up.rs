//! `unimodel up -f FILE`

use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use unimodel_operator::ready_reason;

use crate::commands::status;
use crate::local::host::Host;
use crate::local::place::{Place, PlaceArgs, Up, last_line};
use crate::output::Format;

const EXAMPLES: &str = "\
Examples:
  unimodel up -f manifests/samples/movielens/unifiedmodel.yaml
  unimodel up -f unifiedmodel.yaml --listen 127.0.0.1:8000 --detach
  unimodel status; unimodel rank search --context query=\"teh matrx\"; unimodel down

Saving the file applies it.";

/// Arguments of `unimodel up`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The UnifiedModel; it is applied again whenever it is saved
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Where the gateway answers requests, by HTTP and gRPC; port 0 is a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8000")]
    listen: SocketAddr,
    /// Where the gateway answers /livez, /readyz, /metrics and /debug/state; port 0 is a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9090")]
    admin_listen: SocketAddr,
    /// Return once every task answers or says why not, and host on in the background
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Hosts the object until it is told to stop. It starts a runtime of its own: processes that are to end with this one must
/// be started by a thread that lives as long.
pub fn run(args: Args) -> anyhow::Result<()> {
    let place = args.place.place()?;
    if args.detach {
        return detach(&place);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { Host::new(place, &args.file, args.listen, args.admin_listen)?.run().await })
}

/// Runs the same command in the background.
fn detach(place: &Place) -> anyhow::Result<()> {
    if place.is_taken() {
        // Its own words for that.
        drop(place.take()?);
    }
    let log = place.log("up");
    std::fs::create_dir_all(place.path("logs"))?;
    let output = std::fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let arguments = std::env::args_os().skip(1).filter(|argument| argument != "--detach");
    let mut host = Command::new(std::env::current_exe()?)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .process_group(0)
        .spawn()?;
    loop {
        if let Some(status) = host.try_wait()? {
            let said = last_line(&log).unwrap_or_else(|| status.to_string());
            bail!("{}", said.strip_prefix("error: ").unwrap_or(&said));
        }
        if let Ok(up) = place.up()
            && up.pid == host.id()
            && settled(&up)
        {
            return status::print(&up, None, Format::Table);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Whether every task answers or says why not.
fn settled(up: &Up) -> bool {
    let tasks = &up.status.tasks;
    !tasks.is_empty()
        && tasks.iter().all(|task| ready_reason(&task.conditions).is_some_and(|(reason, _)| reason != "Starting"))
}
