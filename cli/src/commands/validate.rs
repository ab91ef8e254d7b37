//! `unimodel validate -f FILE`: a pipeline, or a UnifiedModel.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use unimodel_crds::Checked;
use unimodel_protocol::positions::Positions;
use unimodel_trainer::labels;
use unimodel_trainer::pipeline::{LoadedPipeline, Pipeline, PipelineError};

use crate::output::print;

const EXAMPLES: &str = "\
Examples:
  unimodel validate -f manifests/samples/movielens/pipeline.yaml
  unimodel validate -f pipeline.yaml --skip-sources    # where the data cannot be reached
  unimodel validate -f manifests/samples/movielens/unifiedmodel.yaml";

/// Arguments of `unimodel validate`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The file: a Pipeline or a UnifiedModel
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Of a pipeline check the file alone, not its SQL against the sources
    #[arg(long)]
    skip_sources: bool,
}

/// Checks the file and, of a pipeline, the SQL against the sources without running it.
pub async fn run(args: Args) -> anyhow::Result<()> {
    if is_unified_model(&args.file) {
        let Checked { model, .. } = load_unified_model(&args.file)?;
        let servers: u32 = model.tasks.iter().map(|task| task.min_replicas).sum();
        let path = args.file.display();
        return print(format_args!(
            "{path} is valid: {} tasks, {servers} servers, of {}",
            model.tasks.len(),
            model.store
        ));
    }
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
pub fn load(file: &Path) -> anyhow::Result<LoadedPipeline> {
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

/// Whether the file says that it is a UnifiedModel. What says nothing is told what a pipeline must say.
fn is_unified_model(file: &Path) -> bool {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    Positions::read(&text).is_ok_and(|positions| positions.scalar("kind") == Some("UnifiedModel"))
}

/// Loads a UnifiedModel; prints one line for each problem if there are several.
pub fn load_unified_model(file: &Path) -> anyhow::Result<Checked> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    match unimodel_crds::check(&text, file) {
        Err(error) if error.problems.len() > 1 => {
            for problem in &error.problems {
                eprintln!("error: {}:{problem}", file.display());
            }
            bail!("{} has {} problems", file.display(), error.problems.len())
        }
        other => Ok(other?),
    }
}
