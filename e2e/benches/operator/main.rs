//! The operator with many objects: a real API server, etcd, controller-manager and scheduler, and KWOK, which plays nodes and
//! pods. `make bench-operator` runs it; what it found is in docs/benchmarks/operator.md.
// A program has no API: `pub` here says what a file offers to the others. What does not work ends it.
#![allow(unreachable_pub, clippy::unwrap_used)]

mod measure;
mod operator;
mod report;
mod watched;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// `cargo bench` says so
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Measure one workload on an empty cluster, and write what was found into FILE
    Measure {
        /// Objects and tasks of each, such as 1000x1; 100x1+ where an autoscaler looks after each task; 1000x1,one-gateway
        /// and 1000x1,namespaces=50, also both, where each object has one gateway or not all are in one namespace
        workload: Workload,
        /// The program
        #[arg(long)]
        operator: PathBuf,
        /// Seconds in which nothing happens: longer than a watch lasts, so that each is begun again at least once
        #[arg(long, default_value_t = 75)]
        idle: u64,
        file: PathBuf,
    },
    /// Print what was found
    Report {
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
        files: Vec<PathBuf>,
    },
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// What is asked of the operator.
#[derive(Clone, Copy, Debug)]
struct Workload {
    objects: usize,
    tasks: usize,
    autoscaled: bool,
    one_gateway: bool,
    namespaces: usize,
}

impl std::str::FromStr for Workload {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut options = text.split(',');
        let text = options.next().unwrap_or_default();
        let (mut one_gateway, mut namespaces) = (false, 1);
        for option in options {
            match option.split_once('=') {
                None if option == "one-gateway" => one_gateway = true,
                Some(("namespaces", count)) => namespaces = count.parse().map_err(|error| format!("{error}"))?,
                _ => return Err(format!("`{option}` is neither one-gateway nor namespaces=COUNT")),
            }
        }
        let (counts, autoscaled) = text.strip_suffix('+').map_or((text, false), |counts| (counts, true));
        let counts = counts.split_once('x').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        let (objects, tasks) = counts.ok_or("it must be OBJECTSxTASKS, such as 1000x1")?;
        Ok(Self { objects, tasks, autoscaled, one_gateway, namespaces })
    }
}

impl std::fmt::Display for Workload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}{}", self.objects, self.tasks, if self.autoscaled { "+" } else { "" })?;
        if self.one_gateway {
            write!(f, ",one-gateway")?;
        }
        if self.namespaces > 1 {
            write!(f, ",namespaces={}", self.namespaces)?;
        }
        Ok(())
    }
}

fn main() {
    match Cli::parse().command {
        Command::Measure { workload, operator, idle, file } => {
            let _ = rustls::crypto::ring::default_provider().install_default();
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(measure::measure(
                workload,
                operator,
                Duration::from_secs(idle),
                &file,
            ));
        }
        Command::Report { output, files } => {
            let read = |file: &PathBuf| serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
            let found: Vec<measure::Found> = files.iter().map(read).collect();
            match output {
                Output::Json => println!("{}", serde_json::to_string_pretty(&found).unwrap()),
                Output::Text => print!("{}", report::table(&found)),
            }
        }
    }
}
