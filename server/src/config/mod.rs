//! `server.yaml`: what a server serves, where, and how. `docs/server.md` is its reference.

mod duration;
mod load;
pub mod watch;

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use unimodel_model::Device;
use unimodel_model::context::Context;
use unimodel_model::version::{ChannelName, VersionId};

pub use load::{ConfigError, Problem};

use crate::compute::device::{self, DeviceError};
use crate::timeout::TimeoutPolicy;

/// A checked configuration.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerConfig {
    /// URL of the store that versions come from.
    pub store: String,
    /// What to serve at start.
    #[serde(flatten)]
    pub start: Start,
    /// What computes.
    pub device: DeviceKind,
    /// Compute threads; without it as many as there are cores, less those that read and write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<NonZeroUsize>,
    /// Address of the data port.
    pub listen: SocketAddr,
    /// Address of the port for probes and metrics.
    pub admin_listen: SocketAddr,
    /// The control port; without it versions change by restart alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<ControlConfig>,
    /// Where fetched versions are kept; without it `unimodel/versions` in the user's cache directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_directory: Option<PathBuf>,
    /// How long requests in flight may take once the server has been told to stop.
    #[serde(with = "duration")]
    pub grace: Duration,
    /// Limits of the whole server.
    pub admission: AdmissionConfig,
    /// The tasks, at least one; the only part that is re-read while the server runs.
    pub tasks: Vec<TaskConfig>,
}

/// What to serve at start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Start {
    /// What the channel names then.
    Channel(ChannelName),
    /// This version.
    Version(VersionId),
}

impl std::fmt::Display for Start {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Channel(channel) => write!(f, "channel `{channel}`"),
            Self::Version(version) => write!(f, "version `{version}`"),
        }
    }
}

/// What computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "camelCase")]
pub enum DeviceKind {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
}

impl DeviceKind {
    /// As the configuration and metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }

    /// The device itself.
    ///
    /// # Errors
    /// See [`device::cuda`].
    pub fn open(self) -> Result<Device, DeviceError> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda => device::cuda(),
        }
    }
}

/// The control port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ControlConfig {
    /// Its address.
    #[serde(default = "default_control_listen")]
    pub listen: SocketAddr,
    /// Mutual TLS; there is no control port without it.
    pub tls: TlsConfig,
}

/// PEM files of mutual TLS. They are read again when they change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TlsConfig {
    /// The server's certificate, and those between it and its CA.
    pub certificate: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
    /// Certificates of the CAs that clients' certificates must come from.
    pub client_ca: PathBuf,
}

/// Limits of the whole server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct AdmissionConfig {
    /// The most requests waiting and computing, of all tasks together; more are refused at once.
    pub max_in_flight: NonZeroUsize,
    /// The most candidates waiting to be scored, of all tasks together; what would go over it is refused at once. A
    /// request that finds nothing waiting is never refused for its size.
    pub max_queued_rows: NonZeroUsize,
}

impl Default for AdmissionConfig {
    fn default() -> Self {
        Self { max_in_flight: count(1024), max_queued_rows: count(500_000) }
    }
}

/// A task: a head of the model in this server's environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TaskConfig {
    /// Its name, as callers say it.
    pub name: String,
    /// The head that answers; empty in the file means the task's name, and is filled in.
    #[serde(default)]
    pub head: String,
    /// How long an answer may take.
    #[serde(default)]
    pub timeout: TimeoutConfig,
    /// The most ids in `candidates.ids` or `candidates.exclude`, and the highest `limit`.
    #[serde(default = "default_max_candidates")]
    pub max_candidates: NonZeroUsize,
    /// The most requests of the task waiting and computing; more are refused at once.
    #[serde(default = "default_max_concurrency")]
    pub max_concurrency: NonZeroUsize,
    /// Response cache; none without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheConfig>,
    /// What requests must give and what stands in for the rest.
    #[serde(default)]
    pub context: ContextConfig,
}

impl TaskConfig {
    /// A task of the head of that name, with default limits.
    pub fn of_head(head: &str) -> Self {
        Self {
            name: head.to_owned(),
            head: head.to_owned(),
            timeout: TimeoutConfig::default(),
            max_candidates: default_max_candidates(),
            max_concurrency: default_max_concurrency(),
            cache: None,
            context: ContextConfig::default(),
        }
    }
}

/// How long an answer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct TimeoutConfig {
    /// When the caller asks for nothing.
    #[serde(with = "duration")]
    pub default: Duration,
    /// Whatever the caller asks for.
    #[serde(with = "duration")]
    pub max: Duration,
}

impl Default for TimeoutConfig {
    fn default() -> Self {
        Self { default: Duration::from_millis(500), max: Duration::from_secs(2) }
    }
}

impl From<TimeoutConfig> for TimeoutPolicy {
    fn from(config: TimeoutConfig) -> Self {
        Self { default: config.default, max: config.max }
    }
}

/// A task's response cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CacheConfig {
    /// How long an answer is kept.
    #[serde(with = "duration")]
    pub ttl: Duration,
    /// The most answers.
    #[serde(default = "default_max_entries")]
    pub max_entries: NonZeroUsize,
}

/// What requests of a task must give and what stands in for the rest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ContextConfig {
    /// Elements that every request must give.
    pub required: Vec<String>,
    /// Values of elements that a request does not give.
    pub defaults: Context,
}

const fn count(value: usize) -> NonZeroUsize {
    NonZeroUsize::new(value).expect("a count above zero")
}

fn default_max_candidates() -> NonZeroUsize {
    count(10_000)
}

fn default_max_concurrency() -> NonZeroUsize {
    count(256)
}

fn default_max_entries() -> NonZeroUsize {
    count(10_000)
}

fn default_listen() -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, 8080).into()
}

fn default_admin_listen() -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, 9090).into()
}

fn default_control_listen() -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, 9443).into()
}

fn default_grace() -> Duration {
    Duration::from_secs(30)
}
