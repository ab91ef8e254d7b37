//! `unimodel evaluate`

use anyhow::Context;
use unimodel_model::bundle::files;
use unimodel_model::store::Store;
use unimodel_model::version::VersionId;
use unimodel_trainer::evaluate::report::{Evaluation, FORMAT};
use unimodel_trainer::evaluate::table::LEGEND;

use crate::output::{self, Format};
use crate::store::StoreArgs;

/// Arguments of `unimodel evaluate`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    store: StoreArgs,
    /// The version
    #[arg(long, value_name = "NAME")]
    version: VersionId,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

/// Prints the evaluation that the version carries: made by its training, on held-out events.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let evaluation = read(&args.store.open()?, &args.version).await?;
    match args.output {
        Format::Json => output::print_json(&evaluation),
        Format::Table => print(&evaluation),
    }
}

/// Prints an evaluation as tables.
pub fn print(evaluation: &Evaluation) -> anyhow::Result<()> {
    for one in evaluation.tables() {
        output::print(one.title)?;
        let mut table = output::table(&one.header.iter().map(String::as_str).collect::<Vec<_>>());
        table.add_rows(one.rows);
        output::print(format_args!("{}\n", table.trim_fmt()))?;
    }
    output::print(LEGEND)
}

/// The evaluation of a version.
pub async fn read(store: &Store, version: &VersionId) -> anyhow::Result<Evaluation> {
    let name = files::EVALUATION;
    let bytes = store.fetch_file(version, name).await?;
    let bytes = bytes.with_context(|| format!("version `{version}` was published without {name}"))?;
    let value: serde_json::Value =
        serde_json::from_slice(&bytes).with_context(|| format!("version `{version}`: {name} is no JSON"))?;
    let format = value.get("format").and_then(serde_json::Value::as_u64);
    anyhow::ensure!(
        format == Some(FORMAT.into()),
        "version `{version}`: {name} has format {}, this program reads {FORMAT}",
        format.map_or("none".into(), |f| f.to_string())
    );
    serde_json::from_value(value).with_context(|| format!("version `{version}`: {name} is no evaluation"))
}
