//! `unimodel labels -f PIPELINE --out DIR`

use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use unimodel_trainer::labels::{self, LabelsSummary, Progress};

use super::validate::load;
use crate::output::{Format, print, print_json, table};

const EXAMPLES: &str = "\
Examples:
  unimodel labels -f manifests/samples/movielens/pipeline.yaml --out ./labels
  unimodel labels -f pipeline.yaml --out ./labels --output json

The tables are documented in docs/labels.md. `unimodel train --labels DIR` trains from them, or from tables that the
same SQL files made on Spark or Trino.";

/// Arguments of `unimodel labels`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The pipeline file
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// The folder for the label tables; what an earlier run left there is replaced when all tables are complete
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How to print what was made
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

/// Makes the label tables.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let pipeline = load(&args.file)?;
    // Draws on standard error, and only where that is a terminal.
    let bar = ProgressBar::new(0)
        .with_style(ProgressStyle::with_template("{spinner} {pos}/{len} {prefix:16} {msg} rows {elapsed}")?);
    bar.enable_steady_tick(Duration::from_millis(200));
    let report = |at: Progress<'_>| {
        bar.set_length(at.tables as u64);
        bar.set_position(at.number as u64);
        bar.set_prefix(at.table.to_owned());
        bar.set_message(at.rows.to_string());
    };
    let summary = labels::prepare(&pipeline, &args.out, &report).await;
    bar.finish_and_clear();
    let summary = summary?;
    match args.output {
        Format::Json => print_json(&summary),
        Format::Table => print_table(&summary),
    }
}

fn print_table(summary: &LabelsSummary) -> anyhow::Result<()> {
    let mut rows = table(&["TABLE", ">ROWS", ">TRAIN", ">VALIDATION", ">TEST", ">SIZE", ">SECONDS"]);
    for table in &summary.tables {
        let split = |rows: Option<u64>| rows.map(|n| n.to_string()).unwrap_or_default();
        rows.add_row(vec![
            table.table.clone(),
            table.rows.to_string(),
            split(table.splits.map(|s| s.train.rows)),
            split(table.splits.map(|s| s.validation.rows)),
            split(table.splits.map(|s| s.test.rows)),
            format!("{:.1} MB", table.bytes as f64 / 1e6),
            format!("{:.1}", table.seconds),
        ]);
    }
    print(rows)?;
    print(format_args!("\nLabel tables are in {}", summary.out.display()))
}
