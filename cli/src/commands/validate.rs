//! `unimodel validate -f PIPELINE`

use std::path::PathBuf;

use anyhow::bail;
use unimodel_trainer::labels;
use unimodel_trainer::pipeline::{LoadedPipeline, Pipeline, PipelineError};

use crate::output::print;

const EXAMPLES: &str = "\
Examples:
  unimodel validate -f manifests/samples/movielens/pipeline.yaml
  unimodel validate -f pipeline.yaml --skip-sources    # where the data cannot be reached";

/// Arguments of `unimodel validate`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The pipeline file
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Check the file alone, not its SQL against the sources
    #[arg(long)]
    skip_sources: bool,
}

/// Checks the file and, without running it, the SQL against the sources.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let pipeline = load(&args.file)?;
    if !args.skip_sources {
        labels::check(&pipeline).await?;
    }
    let declared = &pipeline.pipeline;
    print(format_args!(
        "{} is valid: {} tasks, {} context elements, {} sources{}",
        args.file.display(),
        declared.tasks.len(),
        declared.context.len(),
        declared.sources.len(),
        if args.skip_sources { " (not looked at)" } else { "" }
    ))
}

/// Loads a pipeline file; prints one line for each problem if there are several.
pub fn load(file: &std::path::Path) -> anyhow::Result<LoadedPipeline> {
    match Pipeline::load(file) {
        Err(PipelineError::Invalid { path, problems }) if problems.len() > 1 => {
            for problem in &problems {
                eprintln!("error: {}:{problem}", path.display());
            }
            bail!("{} has {} problems", path.display(), problems.len())
        }
        other => Ok(other?),
    }
}
