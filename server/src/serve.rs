//! The whole server, put together: what `unimodel-server` and `unimodel serve` run.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::service::TowerToHyperService;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use unimodel_model::Device;
use unimodel_model::store::{Store, StoreError};
use unimodel_transport::bind::{self, ListenError};
use unimodel_transport::listener;
use unimodel_transport::telemetry::{LogFormat, Telemetry, TelemetryError};

use crate::compute::device::DeviceError;
use crate::compute::kernels::Kernels;
use crate::compute::threads::{allowed_cores, keep_rayon_to_one_thread};
use crate::config::watch::WatchedFile;
use crate::config::{ConfigError, DeviceKind, ServerConfig, Start};
use crate::control::start::Backoff;
use crate::control::tls::{MutualTls, TlsError};
use crate::control::{Control, Failure, service as control_service, start};
use crate::front::{BodyLimits, Front};
use crate::http::listener::{ConnectionLimits, serve as serve_http};
use crate::metrics::Metrics;
use crate::operations::{self, FileReload, Operations, OperationsMetrics, ProcessCollector, Threads};
use crate::runtime::{Runtime, RuntimeError};

/// The name of this program in traces.
const SERVICE_NAME: &str = "unimodel-server";

/// How often watched files are read.
const POLL_FILES: Duration = Duration::from_secs(1);

/// How long the answers of the operations port may take once all else has ended.
const OPERATIONS_GRACE: Duration = Duration::from_millis(500);

/// A server to run.
pub struct Serving {
    /// What to serve, where, and how.
    pub config: ServerConfig,
    /// The file that the configuration was read from: its tasks take effect when it changes.
    pub watch: Option<PathBuf>,
    /// How the log is written.
    pub log_format: LogFormat,
    /// How much is logged, unless RUST_LOG says so.
    pub log_filter: &'static str,
    /// What to do while there is nothing to serve.
    pub on_start_failure: OnStartFailure,
    /// Called when the first version is active.
    pub on_ready: Box<dyn FnOnce(&Ready) + Send>,
}

/// What to do when the first version cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStartFailure {
    /// Say why and try again: what a pod does.
    Retry,
    /// Say why and exit: what a person wants.
    Exit,
}

/// A server that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The active version.
    pub version: String,
    /// Address of the data port.
    pub listen: SocketAddr,
    /// Address of the port for probes and metrics.
    pub admin_listen: SocketAddr,
}

/// Why a server does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store's URL cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The device is not one of this build, or not there.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A port cannot be listened on.
    #[error("{source}; it is the {port} port: free it, or change `{field}`")]
    Listen {
        /// What it is for.
        port: &'static str,
        /// The field that names it.
        field: &'static str,
        /// Why, and who has it.
        #[source]
        source: ListenError,
    },
    /// The control port's certificates cannot be used.
    #[error("control.tls: {0}")]
    Tls(#[from] TlsError),
    /// The compute threads cannot start.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// No logs or traces.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// Nothing to serve.
    #[error("{0}")]
    Start(#[from] Failure),
    /// The system gives no threads, signals or cores.
    #[error("the system refuses {what}: {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

fn system(what: &'static str) -> impl Fn(std::io::Error) -> ServeError {
    move |source| ServeError::System { what, source }
}

/// Checks what can be checked without starting: the device, the form of the store's URL, and the certificates. Gives the
/// device, since opening one may take long.
///
/// # Errors
/// [`ServeError::Device`], [`ServeError::Store`], [`ServeError::Tls`].
pub fn check(config: &ServerConfig) -> Result<Device, ServeError> {
    let device = config.device.open()?;
    Store::open(&config.store)?;
    if let Some(control) = &config.control {
        MutualTls::load(control.tls.clone())?;
    }
    Ok(device)
}

/// Runs a server until it is told to stop by SIGTERM or SIGINT and what is in flight has been answered. Starts threads
/// and a tokio runtime of its own: not to be called inside one.
///
/// # Errors
/// What keeps it from starting.
pub fn serve(serving: Serving) -> Result<(), ServeError> {
    // Before anything touches candle.
    let rayon = keep_rayon_to_one_thread();
    let device = check(&serving.config)?;
    let cores = allowed_cores().map_err(system("the list of cores"))?.len().max(1);
    let io = io_threads(cores);
    // With a compute thread on every core, each wake of one drives a thread that reads and writes from its core: on two
    // cores that took a third of the requests a second.
    let workers = serving.config.workers.map_or(cores.saturating_sub(io).max(1), NonZeroUsize::get);
    let threads = Threads { workers, io };
    let io = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.io)
        .thread_name("io")
        .enable_all()
        .build()
        .map_err(system("threads"))?;
    let result = io.block_on(async {
        let telemetry = Telemetry::start(SERVICE_NAME, serving.log_format, serving.log_filter)?;
        if let Err(error) = rayon {
            tracing::warn!(%error, "preparing a version may take cores from serving");
        }
        let result = run(serving, device, threads, &telemetry).await;
        telemetry.stop().await;
        result
    });
    // A preparation under way is not waited for.
    io.shutdown_background();
    result
}

/// Threads that read and write. Transport takes about a third of what scoring takes, and waits for the network most of
/// the time; the compute threads have the cores.
pub fn io_threads(cores: usize) -> usize {
    cores.div_ceil(4).clamp(1, 8)
}

async fn bind(address: SocketAddr, port: &'static str, field: &'static str) -> Result<TcpListener, ServeError> {
    bind::bind(address).await.map_err(|source| ServeError::Listen { port, field, source })
}

async fn run(serving: Serving, device: Device, threads: Threads, telemetry: &Telemetry) -> Result<(), ServeError> {
    let Serving { config, watch: watched, on_start_failure, on_ready, .. } = serving;
    // Before anything else is begun, so that a signal is never lost.
    let mut signals = Signals::listen()?;
    let data = bind(config.listen, "data", "listen").await?;
    let admin = bind(config.admin_listen, "operations", "adminListen").await?;
    let control_port = match &config.control {
        Some(control) => {
            let listener = bind(control.listen, "control", "control.listen").await?;
            Some((listener, MutualTls::load(control.tls.clone())?))
        }
        None => None,
    };
    let address = |listener: &TcpListener| listener.local_addr().map_err(system("the address of a port"));
    let (listen, admin_listen) = (address(&data)?, address(&admin)?);
    let control_listen = control_port.as_ref().map(|(listener, _)| address(listener)).transpose()?;

    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let files = OperationsMetrics::register(&mut registry);
    registry.register_collector(Box::new(ProcessCollector));

    let workers = NonZeroUsize::new(threads.workers).unwrap_or(NonZeroUsize::MIN);
    let runtime = Runtime::start(workers, config.admission, &config.tasks, metrics.clone())?;
    let kernels = Kernels::detect();
    let store = Store::open(&config.store)?;
    let cache_directory = config.cache_directory.clone().unwrap_or_else(default_cache_directory);
    let control = Control::new(runtime.clone(), store, &cache_directory, kernels, device, metrics.clone());
    runtime.not_ready(format!("loading {} of {}", config.start, config.store));
    tracing::info!(
        data = %listen,
        operations = %admin_listen,
        control = control_listen.map(tracing::field::display),
        workers = threads.workers,
        io = threads.io,
        kernels = kernels.isa().name(),
        "listening"
    );

    let (start_sender, start_with) = watch::channel(config.start.clone());
    let grace = config.grace;
    let (config_sender, config_receiver) = watch::channel(Arc::new(config));
    let (stop, stopped) = watch::channel(Stage::Serving);
    let device = config_receiver.borrow().device;

    let front = Front::new(runtime.clone(), BodyLimits::default());
    let service = telemetry.trace(TowerToHyperService::new(crate::http::service(front)));
    let data = tokio::spawn(listener::serve(
        data,
        service,
        ConnectionLimits::default(),
        reached(stopped.clone(), Stage::Draining),
        grace,
    ));
    let operations = Operations {
        runtime: runtime.clone(),
        control: control.clone(),
        registry,
        metrics,
        config: config_receiver,
        threads,
    };
    let admin = tokio::spawn(serve_http(
        admin,
        operations::service(operations),
        ConnectionLimits { connections: 64, streams: 16, ..ConnectionLimits::default() },
        reached(stopped.clone(), Stage::Ended),
        OPERATIONS_GRACE,
    ));
    if let Some((listener, tls)) = control_port {
        tokio::spawn(serve_control(control.clone(), device, listener, tls, files.clone(), stopped.clone()));
    }
    if let Some(path) = watched {
        tokio::spawn(watch_config(path, config_sender, start_sender, control.clone(), runtime.clone(), files));
    }

    let first = first_version(&control, &runtime, start_with, on_start_failure);
    let ended = tokio::select! {
        result = first => result.map(|()| None),
        name = signals.next() => Ok(Some(name)),
    };
    let ended = match ended {
        Ok(None) => {
            if let Some(version) = runtime.active() {
                on_ready(&Ready { version: version.name().to_string(), listen, admin_listen });
            }
            Ok(signals.next().await)
        }
        Ok(Some(name)) => Ok(name),
        Err(failure) => Err(failure),
    };
    if let Ok(name) = &ended {
        let in_flight = runtime.in_flight();
        tracing::info!(
            signal = name,
            grace = ?grace,
            in_flight,
            "stopping: what is in flight is answered, nothing new is taken"
        );
    }
    runtime.stop();
    control.drain();
    stop.send_replace(Stage::Draining);
    let until = Instant::now() + grace;
    let drained = async {
        let cut = data.await.unwrap_or_default();
        let _ = tokio::time::timeout_at(until, runtime.drained()).await;
        cut
    };
    tokio::select! {
        cut = drained => match cut {
            0 => tracing::info!("stopped"),
            cut => tracing::warn!(cut, grace = ?grace, "stopped, with connections cut that had not finished"),
        },
        name = signals.next() => tracing::warn!(signal = name, "stopped at once"),
    }
    stop.send_replace(Stage::Ended);
    let _ = admin.await;
    ended.map(drop).map_err(ServeError::from)
}

/// How far a server is. Each ends what waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Serving,
    Draining,
    Ended,
}

async fn reached(mut stages: watch::Receiver<Stage>, stage: Stage) {
    // The sender's end is the end too.
    let _ = stages.wait_for(|now| *now >= stage).await;
}

/// What tells a server to stop.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> Result<Self, ServeError> {
        let listen = |kind| signal(kind).map_err(system("signals"));
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Tries until a version is active; with [`OnStartFailure::Exit`], once.
async fn first_version(
    control: &Arc<Control>,
    runtime: &Runtime,
    wanted: watch::Receiver<Start>,
    on_failure: OnStartFailure,
) -> Result<(), Failure> {
    let failed = |what: &Start, failure: &Failure, delay: Duration| {
        if on_failure == OnStartFailure::Exit {
            return Err(failure.clone());
        }
        control.failed_to_start(failure);
        runtime.not_ready(format!("{what} cannot be served: {failure} ({})", failure.reason));
        tracing::error!(reason = failure.reason, retry_in = ?delay, "{what} cannot be served: {failure}");
        Ok(())
    };
    start::start(control, wanted, Backoff::default(), rand::random::<f64>, failed).await
}

async fn serve_control(
    control: Arc<Control>,
    device: DeviceKind,
    listener: TcpListener,
    mut tls: MutualTls,
    metrics: OperationsMetrics,
    stages: watch::Receiver<Stage>,
) {
    let connections = tls.server();
    let refresh = async {
        let mut ticks = interval(POLL_FILES);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // A file system that hangs must not hold up requests.
            match tokio::task::block_in_place(|| tls.refresh()) {
                Ok(false) => {}
                Ok(true) => {
                    metrics.certificates(FileReload::Applied, 1);
                    tracing::info!("control certificates changed; new connections use them");
                }
                Err(error) => {
                    metrics.certificates(FileReload::Refused, 1);
                    tracing::warn!("control certificates changed but cannot be used; the old ones stay: {error}");
                }
            }
        }
    };
    tokio::select! {
        served = control_service::serve(control, device, listener, connections, reached(stages, Stage::Ended)) => {
            if let Err(error) = served {
                tracing::error!(%error, "the control port has failed");
            }
        }
        () = refresh => {}
    }
}

async fn watch_config(
    path: PathBuf,
    current: watch::Sender<Arc<ServerConfig>>,
    start: watch::Sender<Start>,
    control: Arc<Control>,
    runtime: Arc<Runtime>,
    metrics: OperationsMetrics,
) {
    let mut file = WatchedFile::new(&path);
    let mut ticks = interval(POLL_FILES);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = current.borrow().clone();
        let changed = match tokio::task::block_in_place(|| file.poll(&path, &now)) {
            Ok(None) => continue,
            Ok(Some(changed)) => changed,
            Err(error) => {
                metrics.config(FileReload::Refused, 1);
                tracing::warn!("the configuration changed but cannot be used; the old one stays: {error}");
                continue;
            }
        };
        // Before the first version the new one is tried; after it, who has a control port moves the server by that.
        let moves = now.control.is_some() || runtime.active().is_none();
        let is_start = |field: &str| field == "channel" || field == "version";
        for field in changed.needs_restart.iter().filter(|field| !(moves && is_start(field))) {
            tracing::warn!(field, "{field} changed in {}; that takes effect with a restart", path.display());
        }
        start.send_if_modified(|start| {
            let is_other = *start != changed.config.start;
            *start = changed.config.start;
            is_other
        });
        let tasks = changed.config.tasks;
        if tasks == now.tasks {
            continue;
        }
        let heads: Vec<String> = tasks.iter().map(|task| task.head.clone()).collect();
        let applied = match control.check_heads(heads).await {
            Ok(()) => runtime.apply(&tasks).map_err(|error| error.to_string()),
            Err(failure) => Err(failure.to_string()),
        };
        match applied {
            Ok(()) => {
                metrics.config(FileReload::Applied, 1);
                tracing::info!(tasks = tasks.len(), "tasks of {} are in effect", path.display());
                current.send_replace(Arc::new(ServerConfig { tasks, ..(*now).clone() }));
            }
            Err(problem) => {
                metrics.config(FileReload::Refused, 1);
                tracing::warn!("{}: {problem}; the old tasks stay", path.display());
            }
        }
    }
}

/// `versions` in `$UNIMODEL_CACHE`, or in `unimodel` of the user's cache directory, or else of the system's temporary one.
fn default_cache_directory() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("UNIMODEL_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|dir| dir.join("unimodel")))
        .or_else(|| variable("HOME").map(|dir| dir.join(Path::new(".cache/unimodel"))))
        .unwrap_or_else(|| std::env::temp_dir().join("unimodel"))
        .join("versions")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compute_threads_keep_their_cores() {
        let counts: Vec<usize> = [1, 2, 4, 8, 16, 128].into_iter().map(io_threads).collect();
        assert_eq!(counts, [1, 1, 1, 2, 4, 8]);
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_device_that_this_build_lacks_is_named() {
        let text = DeviceKind::Cuda.open().map_err(|error| error.to_string()).err().unwrap_or_default();
        assert!(text.starts_with("device `cuda` needs a build with the cargo feature `cuda`"), "{text}");
    }
}
