//! From a file to a checked configuration.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use unimodel_model::context::Value;
use unimodel_model::version::{ChannelName, VersionId};

use super::{AdmissionConfig, ControlConfig, DeviceKind, ServerConfig, Start, TaskConfig, duration};

const API_VERSION: &str = "unimodel.dev/v1alpha1";
const KIND: &str = "ServerConfig";
const MAX_TASKS: usize = 64;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is no YAML, or does not have the fields of a [`ServerConfig`].
    #[error("{}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Field, line, and what would be right.
        message: String,
    },
    /// What it says makes no sense.
    #[error("{}: {}", path.display(), list(problems))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// All that is wrong.
        problems: Vec<Problem>,
    },
}

/// Something wrong in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The field, such as `tasks[2].timeout.max`.
    pub field: String,
    /// What is there and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("; ")
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    store: String,
    channel: Option<ChannelName>,
    version: Option<VersionId>,
    #[serde(default)]
    device: DeviceKind,
    workers: Option<NonZeroUsize>,
    #[serde(default = "super::default_listen")]
    listen: SocketAddr,
    #[serde(default = "super::default_admin_listen")]
    admin_listen: SocketAddr,
    control: Option<ControlConfig>,
    cache_directory: Option<PathBuf>,
    #[serde(default = "super::default_grace", with = "duration")]
    grace: Duration,
    #[serde(default)]
    admission: AdmissionConfig,
    tasks: Vec<TaskConfig>,
}

impl ServerConfig {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// The file cannot be read, is not YAML, lacks fields or has unknown ones, or says something that makes no sense; of
    /// the last kind all problems are found at once.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
        Self::parse(&text, path)
    }

    /// Checks the text of a file; `path` is for messages.
    ///
    /// # Errors
    /// As [`ServerConfig::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let file: File = serde_yaml::from_str(text)
            .map_err(|e| ConfigError::Syntax { path: path.into(), message: e.to_string() })?;
        let mut problems = Vec::new();
        let start = check_head(&file, &mut problems);
        let mut tasks = file.tasks;
        for task in &mut tasks {
            if task.head.is_empty() {
                task.head.clone_from(&task.name);
            }
        }
        check_tasks(&tasks, &mut problems);
        match start {
            Some(start) if problems.is_empty() => Ok(Self {
                store: file.store,
                start,
                device: file.device,
                workers: file.workers,
                listen: file.listen,
                admin_listen: file.admin_listen,
                control: file.control,
                cache_directory: file.cache_directory,
                grace: file.grace,
                admission: file.admission,
                tasks,
            }),
            _ => Err(ConfigError::Invalid { path: path.into(), problems }),
        }
    }

    /// The fields outside `tasks` in which two configurations differ: those that a running server cannot change.
    pub fn fields_that_need_a_restart(&self, other: &Self) -> Vec<String> {
        let fields = |config| match serde_json::to_value(config) {
            Ok(serde_json::Value::Object(fields)) => fields,
            _ => serde_json::Map::new(),
        };
        let (ours, theirs) = (fields(self), fields(other));
        let names: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
        names.into_iter().filter(|name| *name != "tasks" && ours.get(*name) != theirs.get(*name)).cloned().collect()
    }
}

fn check_head(file: &File, problems: &mut Vec<Problem>) -> Option<Start> {
    let mut wrong = |field: &str, message: String| problems.push(Problem { field: field.into(), message });
    if file.api_version != API_VERSION {
        wrong("apiVersion", format!("`{}` is not known; use `{API_VERSION}`", file.api_version));
    }
    if file.kind != KIND {
        wrong("kind", format!("`{}` is not known; use `{KIND}`", file.kind));
    }
    if file.store.is_empty() {
        wrong("store", "is empty; give a directory or a file://, s3://, gs://, az:// or https:// URL".into());
    }
    match (&file.channel, &file.version) {
        (Some(channel), None) => Some(Start::Channel(channel.clone())),
        (None, Some(version)) => Some(Start::Version(version.clone())),
        (Some(channel), Some(version)) => {
            wrong("version", format!("`{version}` beside channel `{channel}`; give one of them"));
            None
        }
        (None, None) => {
            wrong("channel", "is missing, and so is `version`; give one of them, such as `channel: stable`".into());
            None
        }
    }
}

fn check_tasks(tasks: &[TaskConfig], problems: &mut Vec<Problem>) {
    if tasks.is_empty() || tasks.len() > MAX_TASKS {
        let message = format!("{} tasks; give 1 to {MAX_TASKS}", tasks.len());
        problems.push(Problem { field: "tasks".into(), message });
    }
    let mut names = BTreeSet::new();
    for (i, task) in tasks.iter().enumerate() {
        let mut wrong = |field: &str, message: String| {
            problems.push(Problem { field: format!("tasks[{i}].{field}"), message });
        };
        if !is_name(&task.name) {
            let rule = "use 1 to 63 letters, digits, `-`, `_` or `.`, a letter or digit first and last";
            wrong("name", format!("`{}` is no task name; {rule}", task.name));
        } else if !names.insert(&task.name) {
            wrong("name", format!("`{}` comes twice; give each task a name of its own", task.name));
        }
        if task.timeout.default > task.timeout.max {
            let (default, max) = (task.timeout.default, task.timeout.max);
            wrong("timeout.default", format!("{default:?} is above `timeout.max`, {max:?}; give at most that"));
        }
        for (j, element) in task.context.required.iter().enumerate() {
            if task.context.defaults.contains_key(element) {
                let message = format!("`{element}` has a default too, which would never count; remove one of them");
                wrong(&format!("context.required[{j}]"), message);
            }
            if task.context.required[..j].contains(element) {
                wrong(&format!("context.required[{j}]"), format!("`{element}` comes twice"));
            }
        }
        for (element, value) in &task.context.defaults {
            let field = format!("context.defaults.{element}");
            match value {
                Value::Null => wrong(&field, "is null, which is no default; remove it".into()),
                Value::Number(number) if !number.is_finite() => {
                    wrong(&field, format!("is {number}; a number must be finite"));
                }
                _ => {}
            }
        }
    }
}

/// Task names stand in paths, metrics and Kubernetes labels.
fn is_name(name: &str) -> bool {
    name.parse::<ChannelName>().is_ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FULL: &str = r#"
apiVersion: unimodel.dev/v1alpha1
kind: ServerConfig
store: file:///srv/store
channel: stable
device: cpu
workers: 2
listen: 127.0.0.1:18080
adminListen: 127.0.0.1:19090
control:
  listen: 127.0.0.1:19443
  tls: {certificate: /tls/tls.crt, key: /tls/tls.key, clientCa: /tls/ca.crt}
cacheDirectory: /cache
grace: 1m30s
admission: {maxInFlight: 512, maxQueuedRows: 9}
tasks:
  - name: search-cpu
    head: search
    timeout: {default: 50ms, max: 200ms}
    maxCandidates: 1000
    maxConcurrency: 64
    cache: {ttl: 30s, maxEntries: 5}
    context: {required: [query], defaults: {country: US, hour: 3, history: ["1"]}}
  - name: related
"#;

    fn parse(text: &str) -> Result<ServerConfig, ConfigError> {
        ServerConfig::parse(text, Path::new("server.yaml"))
    }

    fn problem(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn every_field_is_read() {
        let config = parse(FULL).unwrap();
        assert_eq!(config.start, Start::Channel("stable".parse().unwrap()));
        assert_eq!(config.workers.unwrap().get(), 2);
        assert_eq!(config.grace, Duration::from_secs(90));
        assert_eq!(config.admission.max_queued_rows.get(), 9);
        assert_eq!(config.control.as_ref().unwrap().tls.client_ca, Path::new("/tls/ca.crt"));
        let [search, related] = &config.tasks[..] else { panic!("{:?}", config.tasks) };
        assert_eq!((&*search.name, &*search.head), ("search-cpu", "search"));
        assert_eq!(search.timeout.default, Duration::from_millis(50));
        assert_eq!(search.cache.unwrap().max_entries.get(), 5);
        assert_eq!(search.context.required, ["query"]);
        assert_eq!(search.context.defaults["country"], Value::Text("US".into()));
        assert_eq!(*related, TaskConfig::of_head("related"));
    }

    #[test]
    fn the_smallest_file_has_sensible_defaults() {
        let text =
            "{apiVersion: unimodel.dev/v1alpha1, kind: ServerConfig, store: ./s, version: v1, tasks: [{name: a}]}";
        let config = parse(text).unwrap();
        assert_eq!(config.start, Start::Version("v1".parse().unwrap()));
        assert_eq!(config.listen.to_string(), "0.0.0.0:8080");
        assert_eq!(config.admin_listen.to_string(), "0.0.0.0:9090");
        assert_eq!(config.control, None);
        assert_eq!(config.device, DeviceKind::Cpu);
    }

    #[test]
    fn what_is_printed_is_read_again() {
        let config = parse(FULL).unwrap();
        let mut printed = serde_json::to_value(&config).unwrap();
        printed["apiVersion"] = API_VERSION.into();
        printed["kind"] = KIND.into();
        assert_eq!(parse(&printed.to_string()).unwrap(), config);
    }

    #[test]
    fn a_mistake_is_told_with_its_field() {
        let cases = [
            ("channel: stable", "channel: stable\nversion: v1", "version: `v1` beside channel `stable`"),
            ("channel: stable", "", "channel: is missing, and so is `version`"),
            ("channel: stable", "channel: '../x'", "`../x` is not a channel name"),
            ("kind: ServerConfig", "kind: Server", "kind: `Server` is not known; use `ServerConfig`"),
            ("v1alpha1", "v2", "apiVersion: `unimodel.dev/v2` is not known"),
            ("workers: 2", "workers: 0", "workers: invalid value: integer `0`, expected a nonzero usize"),
            ("workers: 2", "worker: 2", "unknown field `worker`"),
            ("device: cpu", "device: tpu", "unknown variant `tpu`, expected `cpu` or `cuda`"),
            ("127.0.0.1:18080", "somewhere", "listen: invalid socket address"),
            ("grace: 1m30s", "grace: 30", "grace: invalid type: integer `30`, expected a duration above zero"),
            ("grace: 1m30s", "grace: -3s", "grace: invalid value: string \"-3s\", expected a duration"),
            ("default: 50ms", "default: 0s", "tasks[0].timeout.default: invalid value: string \"0s\""),
            ("default: 50ms", "default: 300ms", "tasks[0].timeout.default: 300ms is above `timeout.max`, 200ms"),
            ("name: related", "name: search-cpu", "tasks[1].name: `search-cpu` comes twice"),
            ("name: related", "name: a/b", "tasks[1].name: `a/b` is no task name"),
            ("required: [query]", "required: [country]", "tasks[0].context.required[0]: `country` has a default too"),
            ("country: US", "country: null", "tasks[0].context.defaults.country: is null"),
            ("country: US", "country: .nan", "tasks[0].context.defaults.country: is NaN"),
        ];
        for (from, to, expected) in cases {
            let found = problem(&FULL.replacen(from, to, 1));
            assert!(found.starts_with("server.yaml: ") && found.contains(expected), "{expected}\n{found}");
        }
        let (head, _) = FULL.split_once("tasks:").unwrap();
        assert!(problem(&format!("{head}tasks: []")).contains("tasks: 0 tasks; give 1 to 64"));
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let text = FULL.replace("channel: stable", "").replace("name: related", "name: ''");
        let ConfigError::Invalid { problems, .. } = parse(&text).unwrap_err() else { panic!() };
        assert_eq!(problems.iter().map(|p| &*p.field).collect::<Vec<_>>(), ["channel", "tasks[1].name"]);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = ServerConfig::load(Path::new("/nowhere/server.yaml")).unwrap_err().to_string();
        assert!(error.starts_with("cannot read /nowhere/server.yaml: "), "{error}");
    }

    #[test]
    fn all_but_the_tasks_needs_a_restart() {
        let config = parse(FULL).unwrap();
        let changed = |from, to| config.fields_that_need_a_restart(&parse(&FULL.replace(from, to)).unwrap());
        assert!(changed("50ms", "60ms").is_empty());
        assert_eq!(changed("workers: 2", ""), ["workers"]);
        assert_eq!(changed("channel: stable", "version: v1"), ["channel", "version"]);
        assert_eq!(changed("/tls/ca.crt", "/tls/other.crt"), ["control"]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,100}", line in 0..30usize) {
            let mut lines: Vec<&str> = FULL.lines().collect();
            let line = line.min(lines.len() - 1);
            lines[line] = &text;
            let _ = parse(&lines.join("\n"));
        }
    }
}
