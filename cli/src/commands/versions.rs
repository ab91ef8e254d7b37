//! `unimodel versions`

use std::collections::BTreeMap;

use serde::Serialize;
use unimodel_model::version::{ChannelName, Manifest, VersionId};

use crate::output::{self, Format};
use crate::store::StoreArgs;

/// Arguments of `unimodel versions`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    store: StoreArgs,
    /// How to print them
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

/// One version in JSON.
#[derive(Serialize)]
struct Version {
    version: VersionId,
    channels: Vec<ChannelName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest: Option<Manifest>,
    /// Why there is no manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// Lists versions, the oldest first, with the channels that name them.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let store = args.store.open()?;
    let mut channels: BTreeMap<VersionId, Vec<ChannelName>> = BTreeMap::new();
    for (channel, state) in store.channels().await? {
        channels.entry(state.version).or_default().push(channel);
    }
    let versions: Vec<Version> = store
        .versions()
        .await?
        .into_iter()
        .map(|listed| {
            let channels = channels.remove(&listed.version).unwrap_or_default();
            let (manifest, problem) = match listed.manifest {
                Ok(manifest) => (Some(manifest), None),
                Err(e) => (None, Some(e.to_string())),
            };
            Version { version: listed.version, channels, manifest, problem }
        })
        .collect();
    if args.output == Format::Json {
        return output::print_json(&versions);
    }
    if versions.is_empty() {
        return output::print(format_args!("No versions in {}.", store.url()));
    }
    let mut table = output::table(&["VERSION", "CHANNELS", "CREATED", "DATA UNTIL", ">SIZE", "PARENT", "PIPELINE"]);
    for Version { version, channels, manifest, problem } in versions {
        let channels = channels.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let text = |value: Option<String>| value.unwrap_or_default();
        let Some(m) = manifest else {
            table.add_row([version.to_string(), channels, text(problem)]);
            continue;
        };
        table.add_row([
            version.to_string(),
            channels,
            m.created.strftime("%F %TZ").to_string(),
            m.data_time.strftime("%F %TZ").to_string(),
            bytes(m.size()),
            text(m.parent.map(String::from)),
            text(m.pipeline),
        ]);
    }
    output::print(table.trim_fmt())
}

/// A size with three digits, in decimal units.
fn bytes(size: u64) -> String {
    let mut value = size as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 999.5 {
            let digits = if unit == "B" || value >= 99.5 { 0 } else { 1 };
            return format!("{value:.digits$} {unit}");
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_have_units() {
        let texts = [0, 999, 1000, 42_000, 999_600, 1 << 30, 5_000_000_000_000].map(bytes);
        assert_eq!(texts, ["0 B", "999 B", "1.0 kB", "42.0 kB", "1.0 MB", "1.1 GB", "5.0 TB"]);
    }
}
