//! `unimodel serve`

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use anyhow::{Context, bail};
use unimodel_model::bundle::files;
use unimodel_model::features::nearest_name;
use unimodel_model::schema::Schema;
use unimodel_model::store::Store;
use unimodel_model::version::{ChannelName, VersionId};
use unimodel_server::config::{AdmissionConfig, DeviceKind, ServerConfig, Start, TaskConfig};
use unimodel_server::serve::{OnStartFailure, Ready, Serving, serve};
use unimodel_transport::telemetry::LogFormat;

use crate::output;
use crate::store::{StoreArgs, version_cache};

/// Arguments of `unimodel serve`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    store: StoreArgs,
    /// Serve what this channel names now
    #[arg(long, default_value = "stable", conflicts_with = "version")]
    channel: ChannelName,
    /// Serve this version; `unimodel versions` lists them
    #[arg(long)]
    version: Option<VersionId>,
    /// Serve this task, by the head of its name or the one after `=`; without it all heads of the version
    #[arg(long = "task", value_name = "NAME[=HEAD]")]
    tasks: Vec<String>,
    /// Where to answer requests, by HTTP and gRPC
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where to answer /livez, /readyz, /metrics and /debug/state
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9090")]
    admin_listen: SocketAddr,
    /// What computes
    #[arg(long, value_enum, default_value_t)]
    device: DeviceKind,
    /// Threads that compute; without it one per core, less those that read and write
    #[arg(long, value_name = "COUNT")]
    workers: Option<NonZeroUsize>,
}

const EXAMPLES: &str = r#"Examples:
  unimodel serve --store file://./store
  unimodel serve --store s3://models/discovery --channel stable --task search --task similar=related
  curl -s localhost:8080/v1/tasks/search:rank -d '{"context":{"query":"teh matrx"},"candidates":{"all":true},"limit":5}'
  grpcurl -plaintext localhost:8080 list"#;

/// Serves until it is told to stop. It starts a runtime and a log of its own.
pub fn run(args: Args, verbose: u8) -> anyhow::Result<()> {
    let store = args.store.open()?;
    let first = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (version, schema) = first.block_on(find(&store, args.version, &args.channel))?;
    drop(first);
    let heads: Vec<String> = schema.heads.into_iter().map(|head| head.name).collect();
    let tasks = tasks(&args.tasks, &heads)?;
    let example = tasks[0].name.clone();
    let config = ServerConfig {
        store: store.url().to_owned(),
        start: Start::Version(version),
        device: args.device,
        workers: args.workers,
        listen: args.listen,
        admin_listen: args.admin_listen,
        control: None,
        cache_directory: Some(version_cache()?),
        grace: Duration::from_secs(5),
        admission: AdmissionConfig::default(),
        tasks,
    };
    let log_filter = match verbose {
        0 => "warn",
        1 => "info",
        2 => "info,unimodel_server=debug,unimodel_model=debug",
        _ => "trace",
    };
    let on_ready = move |ready: &Ready| {
        let Ready { version, listen, .. } = ready;
        let body = r#"'{"candidates":{"all":true},"limit":5}'"#;
        let try_it = format!("curl -s http://{listen}/v1/tasks/{example}:rank -d {body}");
        // Nobody needs to read it.
        let _ = output::print(format_args!("Serving {version} at http://{listen}; try: {try_it}"));
    };
    serve(Serving {
        config,
        watch: None,
        log_format: LogFormat::Pretty,
        log_filter,
        on_start_failure: OnStartFailure::Exit,
        on_ready: Box::new(on_ready),
    })?;
    Ok(())
}

/// The version and its contract.
async fn find(store: &Store, version: Option<VersionId>, channel: &ChannelName) -> anyhow::Result<(VersionId, Schema)> {
    let version = match version {
        Some(version) => version,
        None => store.resolve_channel(channel).await?,
    };
    let bytes = store.fetch_file(&version, files::SCHEMA).await?;
    let bytes = bytes.with_context(|| format!("version `{version}` has no {}", files::SCHEMA))?;
    let schema = serde_json::from_slice(&bytes).with_context(|| format!("version `{version}`, {}", files::SCHEMA))?;
    Ok((version, schema))
}

/// The tasks that were asked for, or else all heads.
fn tasks(asked: &[String], heads: &[String]) -> anyhow::Result<Vec<TaskConfig>> {
    if asked.is_empty() {
        return Ok(heads.iter().map(|head| TaskConfig::of_head(head)).collect());
    }
    let mut tasks: Vec<TaskConfig> = Vec::new();
    for text in asked {
        let (name, head) = text.split_once('=').unwrap_or((text, text));
        if !heads.iter().any(|known| known == head) {
            let nearest = nearest_name(head, heads);
            let suggestion = nearest.map_or(String::new(), |nearest| format!(" (did you mean `{nearest}`?)"));
            bail!("--task {text}: the version has no head `{head}`{suggestion}; it has {}", heads.join(", "));
        }
        if name.parse::<ChannelName>().is_err() {
            bail!("--task {text}: `{name}` is no task name; use letters, digits, `-`, `_` or `.`");
        }
        if tasks.iter().any(|task| task.name == name) {
            bail!("--task {text}: `{name}` comes twice");
        }
        tasks.push(TaskConfig { name: name.to_owned(), ..TaskConfig::of_head(head) });
    }
    Ok(tasks)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn named(asked: &[&str]) -> anyhow::Result<Vec<(String, String)>> {
        let asked: Vec<String> = asked.iter().map(ToString::to_string).collect();
        let heads = ["search", "related"].map(String::from);
        Ok(tasks(&asked, &heads)?.into_iter().map(|task| (task.name, task.head)).collect())
    }

    #[test]
    fn a_task_is_a_head_by_its_own_or_another_name() {
        let pair = |name: &str, head: &str| (name.to_owned(), head.to_owned());
        assert_eq!(named(&[]).unwrap(), [pair("search", "search"), pair("related", "related")]);
        assert_eq!(named(&["search", "also=related"]).unwrap(), [pair("search", "search"), pair("also", "related")]);
    }

    #[test]
    fn what_the_version_lacks_is_told() {
        let error = |asked: &[&str]| named(asked).unwrap_err().to_string();
        assert_eq!(
            error(&["serch"]),
            "--task serch: the version has no head `serch` (did you mean `search`?); it has search, related"
        );
        assert_eq!(error(&["search", "search"]), "--task search: `search` comes twice");
        assert!(error(&["a/b=search"]).contains("`a/b` is no task name"));
    }
}
