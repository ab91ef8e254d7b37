//! `unimodel data synthetic --users N --items N --events N --seed N --out DIR`

use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};
use unimodel_trainer::synthetic::{Size, generate};

use crate::output::print;

const EXAMPLES: &str = "\
Examples:
  unimodel data synthetic --users 1000 --items 5000 --events 200000 --seed 1 --out ./synthetic
  unimodel labels -f ./synthetic/pipeline.yaml --out ./synthetic-labels";

/// Arguments of `unimodel data`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    kind: Kind,
}

/// What data to make.
#[derive(clap::Subcommand)]
enum Kind {
    /// Make data of any size in the shape of MovieLens, with structure to learn and a ready pipeline file
    Synthetic(Synthetic),
}

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
struct Synthetic {
    /// Users
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    users: u64,
    /// Items
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    items: u64,
    /// Ratings in all
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    events: u64,
    /// What everything depends on: the same seed gives the same files
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// The folder for the files; earlier synthetic data there is replaced
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Makes the data.
pub fn run(args: Args) -> anyhow::Result<()> {
    let Kind::Synthetic(args) = args.kind;
    let bar = ProgressBar::new(args.events)
        .with_style(ProgressStyle::with_template("{wide_bar} {human_pos}/{human_len} ratings {eta}")?);
    let size = Size { users: args.users, items: args.items, events: args.events, seed: args.seed };
    let made = generate(size, &args.out, &mut |events| bar.set_position(events));
    bar.finish_and_clear();
    made?;
    print(format_args!(
        "{} ratings of {} items by {} users are in {out}; try: unimodel labels -f {out}/pipeline.yaml --out ./labels",
        args.events,
        args.items,
        args.users,
        out = args.out.display()
    ))
}
