//! Processes that end with this one.
//!
//! The kernel ends a child when the thread that made it ends, if the child asked for that: `unimodel` runs itself as the
//! child, asks, and becomes the program. So no server outlives `unimodel up`, even one that was killed with KILL.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};
use tokio::process::{Child, Command};

/// Arguments of the child that becomes a program.
#[derive(clap::Args)]
pub struct ChildArgs {
    /// Process that must still be the parent
    parent: i32,
    /// The program
    program: PathBuf,
    /// Its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Becomes the program. It returns only if it cannot.
pub fn become_program(args: &ChildArgs) -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("cannot ask to end with `unimodel up`")?;
    // The parent may have ended before that took effect.
    if getppid().map(Pid::as_raw_pid) != Some(args.parent) {
        bail!("`unimodel up` has ended");
    }
    let error = std::process::Command::new(&args.program).args(&args.arguments).exec();
    Err(error).with_context(|| format!("cannot run {}", args.program.display()))
}

/// The program of that name beside the running one.
pub fn beside(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    if path.exists() { Ok(path) } else { bail!("{} is missing; install it beside `unimodel`", path.display()) }
}

/// Starts a program whose output goes to the end of that file. Call it from the main thread.
pub fn start(program: &Path, arguments: &[&str], log: &Path) -> io::Result<Child> {
    let output = File::options().create(true).append(true).open(log)?;
    Command::new(std::env::current_exe()?)
        .args(["child", &std::process::id().to_string()])
        .arg(program)
        .arg("--")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        // An interrupt of the terminal is for `unimodel up`, which ends its servers in order.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// Tells a process to stop.
pub fn terminate(child: &Child) {
    if let Some(pid) = child.id().and_then(|pid| Pid::from_raw(pid as i32)) {
        // It may have ended by itself.
        let _ = kill_process(pid, Signal::TERM);
    }
}

/// How a process ended, for people.
pub fn ending(status: std::process::ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with status {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".into(),
    }
}

/// How long to wait before the start after so many failures in a row: 0.5 s, 1 s, 2 s, … up to 30 s.
pub fn backoff(failures: u32) -> Duration {
    Duration::from_millis(500 << failures.saturating_sub(1).min(6)).min(Duration::from_secs(30))
}

/// An address that is free now.
pub fn free_address() -> io::Result<std::net::SocketAddr> {
    std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()
}
