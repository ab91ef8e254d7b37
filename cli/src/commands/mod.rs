//! The commands. To add one: a file with `pub struct Args` (derives `clap::Args`) and `pub fn run(args: Args)` or
//! `pub async fn run(args: Args)` that returns `anyhow::Result<()>`, a variant below and an arm in `run`.

mod completions;

/// What the program can do.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Print the completion script of a shell
    Completions(completions::Args),
}

impl Command {
    /// Does it.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Completions(args) => completions::run(args),
        }
    }
}
