//! The commands. To add one: a file with `pub struct Args` (derives `clap::Args`) and `pub fn run(args: Args)` or
//! `pub async fn run(args: Args)` that returns `anyhow::Result<()>`, a variant below and an arm in `run`.

mod advise;
mod completions;
mod data;
mod down;
mod evaluate;
mod labels;
mod promote;
mod prune;
mod rank;
mod refresh;
mod rollback;
pub mod serve;
mod status;
mod train;
pub mod up;
pub mod validate;
mod versions;

/// What the program can do.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Check a pipeline file and its SQL against the sources, or a UnifiedModel
    Validate(validate::Args),
    /// Make the label tables that training reads
    Labels(labels::Args),
    /// Train one model on all tasks, evaluate it and publish it
    Train(train::Args),
    /// Print how good a version is, task by task
    Evaluate(evaluate::Args),
    /// Say for each task of a version whether it belongs into the shared model
    Advise(advise::Args),
    /// Make data to try things with
    Data(data::Args),
    /// List the versions in a store
    Versions(versions::Args),
    /// Move a channel to a version
    Promote(promote::Args),
    /// Move a channel back to the version before
    Rollback(rollback::Args),
    /// Delete old versions that no channel needs
    Prune(prune::Args),
    /// Print what `unimodel up` hosts
    Status(status::Args),
    /// Ask a task that is up for a ranking
    Rank(rank::Args),
    /// Take the newest version in a task that is up
    Refresh(refresh::Args),
    /// End what `unimodel up` hosts
    Down(down::Args),
    /// Print the completion script of a shell
    Completions(completions::Args),
}

impl Command {
    /// Does it.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Validate(args) => validate::run(args).await,
            Self::Labels(args) => labels::run(args).await,
            Self::Train(args) => train::run(args).await,
            Self::Evaluate(args) => evaluate::run(args).await,
            Self::Advise(args) => advise::run(args).await,
            Self::Data(args) => data::run(args),
            Self::Versions(args) => versions::run(args).await,
            Self::Promote(args) => promote::run(args).await,
            Self::Rollback(args) => rollback::run(args).await,
            Self::Prune(args) => prune::run(args).await,
            Self::Status(args) => status::run(args).await,
            Self::Rank(args) => rank::run(args).await,
            Self::Refresh(args) => refresh::run(args).await,
            Self::Down(args) => down::run(&args),
            Self::Completions(args) => completions::run(args),
        }
    }
}
