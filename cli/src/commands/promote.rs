//! `unimodel promote VERSION --channel CHANNEL`

use jiff::Timestamp;
use unimodel_model::version::{ChannelName, VersionId};

use crate::output::{self, Format};
use crate::store::StoreArgs;

/// Arguments of `unimodel promote`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    store: StoreArgs,
    /// The version; `unimodel versions` lists them
    version: VersionId,
    /// The channel that shall name it
    #[arg(long)]
    channel: ChannelName,
    /// How to print where the channel is then
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

/// Verifies the version and moves the channel to it.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let state = args.store.open()?.promote(&args.version, &args.channel, Timestamp::now()).await?;
    output::print_channel(&args.channel, &state, args.output)
}
