//! `unimodel rollback --channel CHANNEL`

use jiff::Timestamp;
use unimodel_model::version::ChannelName;

use crate::output::{self, Format};
use crate::store::StoreArgs;

/// Arguments of `unimodel rollback`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    store: StoreArgs,
    /// The channel
    #[arg(long)]
    channel: ChannelName,
    /// How to print where the channel is then
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

/// Moves the channel back to the version before, after verifying that.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let state = args.store.open()?.rollback(&args.channel, Timestamp::now()).await?;
    output::print_channel(&args.channel, &state, args.output)
}
