//! `unimodel completions SHELL`

use std::io::Write;

use clap::CommandFactory;

/// Arguments of `unimodel completions`.
#[derive(clap::Args)]
pub struct Args {
    /// The shell
    shell: clap_complete::Shell,
}

/// Prints the completion script on standard output.
pub fn run(args: Args) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::Cli::command(), "unimodel", &mut script);
    Ok(std::io::stdout().write_all(&script)?)
}
