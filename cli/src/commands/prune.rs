//! `unimodel prune --keep N`

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use unimodel_model::store::Prune;

use crate::output::{self, Format};
use crate::store::StoreArgs;

/// Arguments of `unimodel prune`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    store: StoreArgs,
    /// How many of the newest versions stay
    #[arg(long)]
    keep: usize,
    /// How long nothing must have been written to a publish without manifest to count as abandoned
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    leftovers_after: SignedDuration,
    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
    /// How to print what went
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

/// Deletes old versions, never what a channel names or would roll back to, and what killed publishes left.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let leftovers_before = Timestamp::now().checked_sub(args.leftovers_after).context("--leftovers-after")?;
    let prune = Prune { keep: args.keep, leftovers_before, dry_run: args.dry_run };
    let pruned = args.store.open()?.prune(&prune).await?;
    if args.output == Format::Json {
        return output::print_json(&pruned);
    }
    let mut table = output::table(&["VERSION", if args.dry_run { "WOULD BE" } else { "WAS" }, "WHY"]);
    for version in &pruned.versions {
        table.add_row([version.as_str(), "deleted", ""]);
    }
    for version in &pruned.leftovers {
        table.add_row([version.as_str(), "deleted", "its publish never ended"]);
    }
    for (version, channels) in &pruned.kept {
        let channels = channels.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        table.add_row([version.as_str(), "kept", &format!("needed by channel {channels}")]);
    }
    for (version, problem) in &pruned.unreadable {
        table.add_row([version.as_str(), "kept", problem]);
    }
    if table.is_empty() {
        return output::print("Nothing to prune.");
    }
    output::print(table.trim_fmt())
}
