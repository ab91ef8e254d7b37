//! `unimodel status`

use std::collections::BTreeMap;

use anyhow::Context;
use http::Method;
use jiff::Timestamp;
use serde_json::json;
use unimodel_operator::ready_reason;

use crate::local::http::ask;
use crate::local::place::{PlaceArgs, Up};
use crate::output::{self, Format, table};

/// Arguments of `unimodel status`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: PlaceArgs,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

/// Latencies of a task, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Latency {
    /// Half of the requests took at most so long.
    pub p50: f64,
    /// 99 of 100 did.
    pub p99: f64,
}

/// Prints what is up.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let up = args.place.place()?.up()?;
    let metrics = ask(up.admin, Method::GET, "/metrics", Vec::new()).await;
    let latencies = metrics.map(|(_, text)| latencies(&String::from_utf8_lossy(&text))).unwrap_or_default();
    print(&up, Some(&latencies), args.output)
}

/// Prints it, with latencies where they are known.
pub fn print(up: &Up, latencies: Option<&BTreeMap<String, Latency>>, format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        let mut document = serde_json::to_value(up).context("cannot be printed")?;
        document["latencies"] = json!(latencies);
        return output::print_json(&document);
    }
    let now = Timestamp::now();
    let mut rows = table(&["TASK", "READY", "REASON", "VERSION", ">AGE", "REFRESH", "NEXT", ">P50", ">P99"]);
    for task in &up.status.tasks {
        let (reason, _) = ready_reason(&task.conditions).unwrap_or(("Unknown", ""));
        let latency = latencies.and_then(|latencies| latencies.get(&task.name));
        let time =
            |time: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| time.as_ref().map(|time| time.0);
        let dash = || "-".to_owned();
        rows.add_row([
            task.name.clone(),
            format!("{}/{}", task.ready_replicas, task.replicas),
            reason.to_owned(),
            task.active_version.clone().unwrap_or_else(dash),
            time(&task.data_time).map_or_else(dash, |time| span(now.duration_since(time).as_secs())),
            format!("{:?}", task.refresh.phase),
            time(&task.next_refresh)
                .map_or_else(dash, |time| format!("in {}", span(time.duration_since(now).as_secs().max(0)))),
            latency.map_or_else(dash, |latency| format!("{:.1} ms", latency.p50 * 1e3)),
            latency.map_or_else(dash, |latency| format!("{:.1} ms", latency.p99 * 1e3)),
        ]);
    }
    output::print(rows)?;
    let model = up.status.model.clone().unwrap_or_default();
    let skew = match model.skew {
        0 => String::new(),
        1 => "; tasks serve another version too".to_owned(),
        others => format!("; tasks serve {others} other versions too"),
    };
    output::print(format_args!(
        "\n{} at http://{}, newest version {}{skew}",
        up.file.display(),
        up.gateway,
        model.latest.as_deref().unwrap_or("-")
    ))?;
    for task in &up.status.tasks {
        if let Some((reason, message)) = ready_reason(&task.conditions)
            && reason != "Serving"
        {
            output::print(format_args!("{}: {reason}: {message}", task.name))?;
        }
        if let (Some(reason), Some(message)) = (&task.refresh.reason, &task.refresh.message) {
            let target = task.refresh.target.as_deref().unwrap_or("-");
            output::print(format_args!("{}: refresh to {target} failed: {reason}: {message}", task.name))?;
        }
    }
    if let Some(problem) = &up.file_problem {
        output::print(format_args!("not applied: {problem}"))?;
    }
    Ok(())
}

/// Seconds for people.
fn span(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Latencies by task, from the gateway's histograms: the upper end of the bucket that a share falls into.
fn latencies(metrics: &str) -> BTreeMap<String, Latency> {
    let mut buckets: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for line in metrics.lines() {
        let Some(rest) = line.strip_prefix("unimodel_gateway_request_duration_seconds_bucket{") else { continue };
        let Some((labels, count)) = rest.split_once("} ") else { continue };
        let label = |name: &str| {
            let start = labels.find(&format!("{name}=\""))? + name.len() + 2;
            labels[start..].split('"').next()
        };
        let count = count.split_whitespace().next().and_then(|count| count.parse().ok());
        let end = label("le").map(|end| end.parse().unwrap_or(f64::INFINITY));
        if let (Some(task), Some(end), Some(count)) = (label("task"), end, count) {
            buckets.entry(task.to_owned()).or_default().push((end, count));
        }
    }
    let latency = |buckets: Vec<(f64, f64)>| {
        let total = buckets.iter().map(|(_, count)| *count).fold(0.0, f64::max);
        let share = |share: f64| buckets.iter().find(|(_, count)| *count >= share * total).map(|(end, _)| *end);
        (total > 0.0).then_some(Latency { p50: share(0.5)?, p99: share(0.99)? })
    };
    buckets.into_iter().filter_map(|(task, buckets)| Some((task, latency(buckets)?))).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_read_from_histograms() {
        let name = "unimodel_gateway_request_duration_seconds";
        let text = format!(
            "# TYPE x\n{name}_bucket{{le=\"0.001\",task=\"a\"}} 50\n{name}_bucket{{le=\"0.01\",task=\"a\"}} 98\n\
             {name}_bucket{{le=\"+Inf\",task=\"a\"}} 100\n{name}_bucket{{le=\"+Inf\",task=\"b\"}} 0\n"
        );
        let found = latencies(&text);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(found["a"], Latency { p50: 0.001, p99: f64::INFINITY });
    }

    #[test]
    fn spans_are_short() {
        assert_eq!([span(5), span(600), span(10_000), span(1_000_000)], ["5 s", "10 min", "2 h", "11 d"]);
    }
}
