//! `unimodel train -f PIPELINE --store URL`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use serde::Serialize;
use unimodel_model::bundle::Model;
use unimodel_model::store::{Publication, Store};
use unimodel_model::version::{Manifest, VersionId};
use unimodel_trainer::labels;
use unimodel_trainer::pipeline::LoadedPipeline;
use unimodel_trainer::run::{Outcome, Run, headline};
use unimodel_trainer::train::{RankerEffect, StepReport};

use super::evaluate;
use super::validate::load;
use crate::output::{self, Format};
use crate::store::{StoreArgs, version_cache};

const EXAMPLES: &str = "\
Examples:
  unimodel train -f manifests/samples/movielens/pipeline.yaml --store file://./store
  unimodel train -f pipeline.yaml --store s3://models/discovery --seed 2 --output json
  unimodel train -f pipeline.yaml --store ./store --labels ./labels     label tables made elsewhere
  unimodel train -f pipeline.yaml --store ./store --resume              goes on after an interruption
  unimodel train -f pipeline.yaml --store ./store --parent VERSION      a task was added: start from what is known

A run keeps label tables and checkpoints in the work folder until its version is published.";

/// Arguments of `unimodel train`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The pipeline file
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    store: StoreArgs,
    /// Label tables that are there already, instead of making them
    #[arg(long, value_name = "DIR")]
    labels: Option<PathBuf>,
    /// Seed of everything random, instead of the pipeline file's
    #[arg(long)]
    seed: Option<u64>,
    /// Go on from the checkpoints of an interrupted run of the same pipeline and seed
    #[arg(long)]
    resume: bool,
    /// Start from this version's weights
    #[arg(long, value_name = "VERSION")]
    parent: Option<VersionId>,
    /// Do not train each task alone to compare with
    #[arg(long)]
    no_compare: bool,
    /// Where label tables and checkpoints are kept [default: .unimodel/<pipeline name>]
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

/// What `--output json` prints.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Printed<'a> {
    version: &'a VersionId,
    seconds: f64,
    validations: &'a [(usize, f64)],
    #[serde(skip_serializing_if = "Option::is_none")]
    ranker: Option<RankerEffect>,
    metrics: BTreeMap<String, BTreeMap<String, f64>>,
    /// Change against the parent version, by task and metric.
    #[serde(skip_serializing_if = "Option::is_none")]
    against_parent: Option<BTreeMap<String, BTreeMap<String, f64>>>,
    evaluation: &'a unimodel_trainer::evaluate::Evaluation,
}

/// Trains and publishes.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut pipeline = load(&args.file)?;
    pipeline.pipeline.training.seed = args.seed.unwrap_or(pipeline.pipeline.training.seed);
    let store = args.store.open()?;
    let name = pipeline.pipeline.metadata.name.clone();
    let work = args.work.clone().unwrap_or_else(|| Path::new(".unimodel").join(&name));
    let parent = match &args.parent {
        Some(version) => Some(open_parent(&store, version).await?),
        None => None,
    };
    let tables = prepared(&args, &pipeline, &work).await?;
    let version_files = work.join("version");
    let checkpoints = work.join("checkpoints");
    if version_files.exists() {
        std::fs::remove_dir_all(&version_files).with_context(|| format!("cannot clear {}", version_files.display()))?;
    }
    std::fs::create_dir_all(&version_files).with_context(|| format!("cannot make {}", version_files.display()))?;

    let model = parent.as_ref().map(|(_, model)| model);
    let outcome = tokio::task::block_in_place(|| {
        let run = Run {
            pipeline: &pipeline.pipeline,
            labels: &tables,
            checkpoints: &checkpoints,
            resume: args.resume,
            compare: !args.no_compare,
            parent: model,
        };
        train(&run, &version_files)
    })?;
    let publication = Publication {
        created: Timestamp::now(),
        data_time: Timestamp::from_second(outcome.data_time)?,
        parent: args.parent.clone(),
        pipeline: Some(name),
        metrics: headline(&outcome.evaluation),
    };
    let manifest = store.publish(&version_files, publication).await?;
    for done in [&version_files, &checkpoints] {
        std::fs::remove_dir_all(done).with_context(|| format!("cannot clear {}", done.display()))?;
    }
    let parent = parent.map(|(manifest, _)| manifest);
    print(&args, &manifest, &outcome, parent.as_ref(), begun.elapsed())
}

async fn open_parent(store: &Store, version: &VersionId) -> anyhow::Result<(Manifest, Model)> {
    let local = store.load(version, &version_cache()?).await?;
    let model = Model::open(local.dir())?;
    Ok((local.manifest().clone(), model))
}

/// The label tables: those given, those of the run that is resumed, or new ones.
async fn prepared(args: &Args, pipeline: &LoadedPipeline, work: &Path) -> anyhow::Result<PathBuf> {
    if let Some(labels) = &args.labels {
        return Ok(labels.clone());
    }
    let tables = work.join("labels");
    if !(args.resume && tables.join("events.parquet").exists()) {
        let bar = ProgressBar::new_spinner().with_style(ProgressStyle::with_template("{spinner} labels: {msg}")?);
        bar.enable_steady_tick(Duration::from_millis(200));
        let report = |at: labels::Progress<'_>| bar.set_message(format!("{} {} rows", at.table, at.rows));
        std::fs::create_dir_all(work).with_context(|| format!("cannot make {}", work.display()))?;
        let made = labels::prepare(pipeline, &tables, &report).await;
        bar.finish_and_clear();
        made?;
    }
    Ok(tables)
}

fn train(run: &Run<'_>, dir: &Path) -> anyhow::Result<Outcome> {
    // Draws on standard error, and only where that is a terminal.
    let bar = ProgressBar::new(0)
        .with_style(ProgressStyle::with_template("{prefix:16} {bar:30} {pos}/{len} steps, {eta} left, {msg}")?);
    let mut current = String::new();
    let outcome = run.execute(dir, &mut |name: &str, at: &StepReport| {
        if name != current {
            name.clone_into(&mut current);
            bar.reset();
            bar.set_prefix(name.to_owned());
            bar.set_length(at.steps as u64);
        }
        bar.set_position(at.step as u64);
        let validation = at.validation.map(|v| format!(", validation {v:.4}")).unwrap_or_default();
        bar.set_message(format!("loss {:.3}{validation}", at.loss));
    });
    bar.finish_and_clear();
    Ok(outcome?)
}

fn print(
    args: &Args,
    manifest: &Manifest,
    outcome: &Outcome,
    parent: Option<&Manifest>,
    took: Duration,
) -> anyhow::Result<()> {
    let metrics = headline(&outcome.evaluation);
    let against_parent = parent.map(|parent| changes(&parent.metrics, &metrics));
    if args.output == Format::Json {
        return output::print_json(&Printed {
            version: &manifest.version,
            seconds: took.as_secs_f64(),
            validations: &outcome.validations,
            ranker: outcome.ranker,
            metrics,
            against_parent,
            evaluation: &outcome.evaluation,
        });
    }
    evaluate::print(&outcome.evaluation)?;
    if let Some(RankerEffect { on, off }) = outcome.ranker {
        output::print(format_args!(
            "\nPairwise ranker on validation, mean over the tasks: {on:.4} with, {off:.4} without"
        ))?;
    }
    if let (Some(changes), Some(parent)) = (against_parent, parent) {
        output::print(format_args!("\nAgainst parent {}", parent.version))?;
        let mut rows = output::table(&["TASK", "METRIC", ">CHANGE"]);
        for (task, metrics) in changes {
            for (metric, change) in metrics {
                rows.add_row(vec![task.clone(), metric, format!("{change:+.4}")]);
            }
        }
        output::print(rows)?;
    }
    output::print(format_args!("\nPublished {} in {:.0} s", manifest.version, took.as_secs_f64()))
}

type ByTask = BTreeMap<String, BTreeMap<String, f64>>;

/// New − old for the metrics that both have.
fn changes(old: &ByTask, new: &ByTask) -> ByTask {
    let mut changes = ByTask::new();
    for (task, metrics) in old {
        for (metric, before) in metrics {
            if let Some(now) = new.get(task).and_then(|m| m.get(metric)) {
                changes.entry(task.clone()).or_default().insert(metric.clone(), now - before);
            }
        }
    }
    changes
}
