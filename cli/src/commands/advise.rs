//! `unimodel advise`

use unimodel_model::version::VersionId;
use unimodel_trainer::advise::{AdviseInput, advise};

use super::evaluate;
use crate::output::{self, Format};
use crate::store::StoreArgs;

/// Arguments of `unimodel advise`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    store: StoreArgs,
    /// The version whose evaluation to go by
    #[arg(long, value_name = "NAME")]
    version: VersionId,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

/// Advises for each task of the version: consolidate, or keep separate, and why.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let evaluation = evaluate::read(&args.store.open()?, &args.version).await?;
    let advice = advise(&AdviseInput::from(&evaluation));
    match args.output {
        Format::Json => output::print_json(&advice),
        Format::Table => output::print(advice),
    }
}
