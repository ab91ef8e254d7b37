//! `unimodel`: the command line of the product. Each command is one file in `commands/`.

// A program has no API: `pub` here says what a file offers to the others.
#![allow(unreachable_pub)]

mod commands;
mod local;
mod output;
mod store;

use std::process::ExitCode;

use clap::{ArgAction, Parser};
use tracing_subscriber::EnvFilter;
use unimodel_model::threads::{NO_CANDLE_THREADS, restart_with};

use crate::commands::Command;

/// One ranking model learned from several tasks: prepare labels, train, evaluate, publish and host it.
#[derive(Parser)]
#[command(name = "unimodel", version, arg_required_else_help = true, subcommand_required = true)]
struct Cli {
    #[command(subcommand)]
    program: Program,
    /// Log to standard error: -v what is done, -vv details, -vvv everything. RUST_LOG says it more finely.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
}

/// What the program can be.
#[derive(clap::Subcommand)]
enum Program {
    #[command(flatten)]
    Command(Command),
    /// Serve a version on this machine
    Serve(commands::serve::Args),
    /// Host the tasks of a UnifiedModel on this machine, behind one gateway
    Up(commands::up::Args),
    /// Becomes a program that ends with `unimodel up`
    #[command(hide = true)]
    Child(local::process::ChildArgs),
}

fn main() -> ExitCode {
    let restarted = restart_with(&[NO_CANDLE_THREADS]);
    let Cli { program, verbose } = Cli::parse();
    let result = match program {
        Program::Command(command) => {
            log_to_stderr(verbose);
            if let Err(error) = restarted {
                tracing::warn!(%error, "candle's threads wait by spinning: set CANDLE_NUM_THREADS=1 if others need the cores");
            }
            run(command)
        }
        // It has a runtime and a log of its own.
        Program::Up(args) => {
            log_to_stderr(verbose);
            commands::up::run(args)
        }
        Program::Child(args) => local::process::become_program(&args),
        Program::Serve(args) => commands::serve::run(args, verbose),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads the output has seen enough, as in `unimodel versions | head -1`.
        Err(e) if output::reader_has_gone(&e) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {}", output::one_line(&e));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(command.run())
}

fn log_to_stderr(verbose: u8) {
    let default = match verbose {
        0 => "warn",
        1 => "warn,unimodel=info,unimodel_model=info,unimodel_trainer=info",
        2 => "info,unimodel=debug,unimodel_model=debug,unimodel_trainer=debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
