//! `unimodel down`

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::local::place::PlaceArgs;
use crate::output::print;

/// Arguments of `unimodel down`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: PlaceArgs,
}

/// Ends what `unimodel up` hosts, and waits for that.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let place = args.place.place()?;
    let up = place.up()?;
    let pid = Pid::from_raw(i32::try_from(up.pid)?).context("no process")?;
    kill_process(pid, Signal::TERM).with_context(|| format!("cannot end process {}", up.pid))?;
    let begun = Instant::now();
    while place.is_taken() {
        if begun.elapsed() > Duration::from_secs(30) {
            bail!("process {} does not end; its log is {}", up.pid, place.log("up").display());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    print(format_args!("{} is down", up.file.display()))
}
