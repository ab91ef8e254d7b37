//! `unimodel refresh TASK`

use std::time::Duration;

use anyhow::{bail, ensure};
use jiff::Timestamp;
use unimodel_crds::RefreshPhase;

use crate::local::place::{PlaceArgs, Up};
use crate::output::print;

/// Arguments of `unimodel refresh`.
#[derive(clap::Args)]
pub struct Args {
    /// The task
    task: String,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Asks for a refresh and waits for its end.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let place = args.place.place()?;
    let task = |up: &Up| up.status.tasks.iter().find(|task| task.name == args.task).cloned();
    let up = place.up()?;
    let names: Vec<&str> = up.status.tasks.iter().map(|task| task.name.as_str()).collect();
    let Some(before) = task(&up) else { bail!("there is no task `{}`; there are {}", args.task, names.join(", ")) };
    ensure!(before.active_version.is_some(), "{} has no version yet; it takes the first that it finds", args.task);
    let token = format!("{}-{}", Timestamp::now(), std::process::id());
    place.write(&format!("requests/{}", args.task), token.as_bytes())?;
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let Some(now) = task(&place.up()?) else { bail!("{} is gone", args.task) };
        if now.refresh.request.as_ref() != Some(&token) {
            continue;
        }
        let version = now.active_version.unwrap_or_default();
        match now.refresh.phase {
            RefreshPhase::Idle if before.active_version.as_ref() == Some(&version) => {
                return print(format_args!("{}: {version} is what there is", args.task));
            }
            RefreshPhase::Idle => {
                let old = before.active_version.unwrap_or_default();
                return print(format_args!("{}: {old} -> {version}", args.task));
            }
            RefreshPhase::Failed => {
                let (reason, message) =
                    (now.refresh.reason.unwrap_or_default(), now.refresh.message.unwrap_or_default());
                bail!("{}: {reason}: {message}; {version} serves on", args.task);
            }
            RefreshPhase::Resolving | RefreshPhase::Preparing | RefreshPhase::Activating => {}
        }
    }
}
