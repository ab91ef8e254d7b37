//! The loop: observe, plan, do.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use jiff::Timestamp;
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tonic::transport::ClientTlsConfig;
use unimodel_crds::{Checked, Model, UnifiedModelStatus};
use unimodel_model::store::Store;
use unimodel_operator::{Operation, Plan, Replica, Snapshot, Trouble, plan, ready_reason, roll, routes_document};

use super::file::{ObjectFile, notices};
use super::place::{Lock, Place, Up, last_line};
use super::replica::Server;
use super::versions::Versions;
use super::{certificates, process};
use crate::output;

/// How often the world is looked at.
const ROUND: Duration = Duration::from_millis(200);

/// How long the gateway may take to notice that a server has left its routes, before the server is told to stop.
const LEAVE: Duration = Duration::from_millis(300);

/// How long servers may take to end.
const END: Duration = Duration::from_secs(10);

/// Hosts an object until it is told to stop.
pub struct Host {
    place: Place,
    _lock: Lock,
    file: ObjectFile,
    path: PathBuf,
    file_problem: Option<String>,
    notices: Vec<String>,
    model: Model,
    store: Store,
    generation: i64,
    created: Timestamp,
    status: UnifiedModelStatus,
    tls: ClientTlsConfig,
    program: PathBuf,
    gateway: Gateway,
    servers: Vec<Server>,
    /// Servers that have left the routes, and when they are told to stop.
    leaving: VecDeque<(Instant, Server)>,
    ending: Vec<Child>,
    numbers: BTreeMap<String, u32>,
    versions: Versions,
    resolved: BTreeMap<String, Result<String, Trouble>>,
    calls: JoinSet<(String, Operation, Result<Option<String>, Trouble>)>,
    /// Servers that are being called: one call at a time each.
    busy: Vec<String>,
    written: Option<Vec<u8>>,
}

/// The gateway's process.
struct Gateway {
    program: PathBuf,
    listen: SocketAddr,
    admin: SocketAddr,
    child: Option<Child>,
    failures: u32,
    next: Instant,
}

impl Host {
    /// Checks everything and starts the gateway.
    pub fn new(place: Place, path: &Path, listen: SocketAddr, admin: SocketAddr) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let checked = crate::commands::validate::load_unified_model(path)?;
        let store = Store::open(&checked.model.store)?;
        let (program, gateway) = (process::beside("unimodel-server")?, process::beside("unimodel-gateway")?);
        let lock = place.take()?;
        let tls = certificates::make(&place)?;
        let free = |address: SocketAddr| if address.port() == 0 { process::free_address() } else { Ok(address) };
        let now = Instant::now();
        let gateway = Gateway {
            program: gateway,
            listen: free(listen)?,
            admin: free(admin)?,
            child: None,
            failures: 0,
            next: now,
        };
        Ok(Self {
            place,
            _lock: lock,
            file: ObjectFile::new(path, text),
            path: std::path::absolute(path)?,
            file_problem: None,
            notices: notices(&checked),
            model: checked.model,
            store,
            generation: 1,
            created: Timestamp::now(),
            status: UnifiedModelStatus::default(),
            tls,
            program,
            gateway,
            servers: Vec::new(),
            leaving: VecDeque::new(),
            ending: Vec::new(),
            numbers: BTreeMap::new(),
            versions: Versions::default(),
            resolved: BTreeMap::new(),
            calls: JoinSet::new(),
            busy: Vec::new(),
            written: None,
        })
    }

    /// Hosts until SIGINT or SIGTERM, and ends all that it started.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let result = self.start().await;
        let result = match result {
            Ok(()) => loop {
                tokio::select! {
                    _ = interrupt.recv() => break Ok(()),
                    _ = terminate.recv() => break Ok(()),
                    () = tokio::time::sleep(ROUND) => {}
                }
                if let Err(error) = self.round().await {
                    break Err(error);
                }
            },
            failed => failed,
        };
        self.end().await;
        result
    }

    /// The gateway first: what cannot be listened on is told before anything else is started.
    async fn start(&mut self) -> anyhow::Result<()> {
        for notice in &self.notices {
            say(format_args!("note: {notice}"));
        }
        let plan = plan(&self.snapshot());
        self.write_routes(&plan)?;
        self.gateway.start(&self.place)?;
        loop {
            if tokio::net::TcpStream::connect(self.gateway.admin).await.is_ok() {
                break;
            }
            if let Some(ending) = self.gateway.ended() {
                let said = last_line(&self.place.log("gateway")).unwrap_or(ending);
                bail!("the gateway: {}", said.strip_prefix("error: ").unwrap_or(&said));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        say(format_args!(
            "{} at http://{} (logs in {})",
            self.model.name,
            self.gateway.listen,
            self.place.path("logs").display()
        ));
        self.round().await
    }

    async fn round(&mut self) -> anyhow::Result<()> {
        self.read_file();
        self.gateway.keep(&self.place)?;
        self.collect_calls().await;
        self.observe().await;
        self.learn().await;
        let plan = plan(&self.snapshot());
        self.resolved.clear();
        self.apply(&plan)?;
        self.call(&plan);
        self.write_routes(&plan)?;
        self.tell(&plan);
        self.status = plan.status;
        self.write_status()?;
        self.let_go();
        Ok(())
    }

    fn read_file(&mut self) {
        match self.file.changed(&self.model.store) {
            None => {}
            Some(Err(problem)) => {
                say(format_args!("refused: {problem}"));
                self.file_problem = Some(problem);
            }
            Some(Ok(checked)) => {
                let Checked { model, .. } = &checked;
                if *model != self.model {
                    say(format_args!("applied: {}", self.path.display()));
                    self.generation += 1;
                }
                self.notices = notices(&checked);
                self.model = checked.model;
                self.file_problem = None;
            }
        }
    }

    async fn collect_calls(&mut self) {
        while let Some(joined) = self.calls.try_join_next() {
            let Ok((name, operation, result)) = joined else { continue };
            self.busy.retain(|busy| *busy != name);
            let task = self.servers.iter().find(|server| server.name == name).map(|server| server.task.clone());
            match (operation, result, task) {
                (Operation::Resolve { .. }, Ok(Some(version)), Some(task)) => {
                    drop(self.resolved.insert(task, Ok(version)))
                }
                (Operation::Resolve { .. }, Err(trouble), Some(task)) => drop(self.resolved.insert(task, Err(trouble))),
                (operation, Err(trouble), _) => {
                    tracing::warn!(server = name, ?operation, trouble.message, "a call failed; it is made again");
                }
                _ => {}
            }
        }
    }

    async fn observe(&mut self) {
        futures::future::join_all(self.servers.iter_mut().map(Server::observe)).await;
    }

    /// Reads what is not known yet of versions that servers have or that a channel names.
    async fn learn(&mut self) {
        let replicas: Vec<Replica> = self.servers.iter().map(Server::replica).collect();
        let active = replicas.iter().filter_map(|replica| replica.active().map(str::to_owned));
        let found = self.resolved.values().filter_map(|found| found.as_ref().ok().cloned());
        let pinned = match &self.model.want {
            unimodel_crds::Want::Version(version) => Some(version.clone()),
            unimodel_crds::Want::Channel(_) => None,
        };
        for version in active.chain(found).chain(pinned).collect::<Vec<_>>() {
            if let Err(error) = self.versions.learn(&self.store, &version).await {
                // Servers find the same, and say so of their refresh.
                tracing::debug!(error = format!("{error:#}"), "cannot read a version");
            }
        }
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            model: self.model.clone(),
            generation: self.generation,
            created: self.created,
            previous: self.status.clone(),
            replicas: self.servers.iter().map(Server::replica).collect(),
            scaled: BTreeMap::new(),
            resolved: self.resolved.clone(),
            requests: self.place.requests().into_iter().collect(),
            facts: self.versions.facts(),
            gateway: None,
            now: Timestamp::now(),
        }
    }

    /// Starts what is missing; what is too much leaves the routes first.
    fn apply(&mut self, plan: &Plan) -> anyhow::Result<()> {
        let mut stop: Vec<String> = Vec::new();
        for workload in &plan.workloads {
            let mine = self.servers.iter().filter(|server| server.task == workload.task);
            let states: Vec<roll::Server> = mine
                .map(|server| roll::Server {
                    name: server.name.clone(),
                    current: server.environment == workload.environment,
                    ready: server.replica().ready(),
                })
                .collect();
            let step = roll::roll(&states, workload.replicas as usize);
            stop.extend(step.stop);
            for _ in 0..step.start {
                let number = self.numbers.entry(workload.task.clone()).or_default();
                *number += 1;
                self.servers.push(Server::new(format!("{}-{number}", workload.task), workload));
            }
        }
        let asked = |server: &Server| plan.workloads.iter().any(|workload| workload.task == server.task);
        stop.extend(self.servers.iter().filter(|server| !asked(server)).map(|server| server.name.clone()));
        let (go, stay): (Vec<Server>, Vec<Server>) =
            std::mem::take(&mut self.servers).into_iter().partition(|server| stop.contains(&server.name));
        self.servers = stay;
        self.leaving.extend(go.into_iter().map(|server| (Instant::now() + LEAVE, server)));
        for server in &mut self.servers {
            let workload = plan.workloads.iter().find(|workload| workload.task == server.task);
            if let Some(workload) = workload {
                server.keep(&self.place, &self.program, &self.tls, &self.model, workload)?;
            }
        }
        Ok(())
    }

    fn call(&mut self, plan: &Plan) {
        for call in &plan.calls {
            let server = self.servers.iter().find(|server| server.name == call.replica);
            let Some(mut control) = server.and_then(Server::control) else { continue };
            if self.busy.contains(&call.replica) {
                continue;
            }
            self.busy.push(call.replica.clone());
            let (name, operation) = (call.replica.clone(), call.operation.clone());
            self.calls.spawn(async move {
                let result = control.call(&operation).await;
                (name, operation, result)
            });
        }
    }

    fn write_routes(&mut self, plan: &Plan) -> anyhow::Result<()> {
        let left: Vec<String> = self.leaving.iter().map(|(_, server)| server.replica().address).collect();
        let mut routes = plan.routes.clone();
        for route in &mut routes {
            let shares = route.canary.iter_mut().chain(&mut route.mirror).map(|share| &mut share.endpoints);
            for endpoints in shares.chain([&mut route.endpoints]) {
                endpoints.retain(|address| !left.contains(address));
            }
        }
        let version = |name: &str| self.versions.get(name).map(|known| &known.route);
        let document = serde_json::to_vec_pretty(&routes_document(&routes, version))?;
        if std::fs::read(self.place.path("routes.json")).ok().as_ref() != Some(&document) {
            self.place.write("routes.json", &document)?;
        }
        Ok(())
    }

    /// Says what has changed since the last round.
    fn tell(&self, plan: &Plan) {
        for task in &plan.status.tasks {
            let before = self.status.tasks.iter().find(|before| before.name == task.name);
            let now = ready_reason(&task.conditions);
            let was = before.and_then(|before| ready_reason(&before.conditions));
            if now.map(|(reason, _)| reason) != was.map(|(reason, _)| reason)
                && let Some((reason, message)) = now
            {
                say(format_args!("{}: {reason}: {message}", task.name));
            }
            let version = before.and_then(|before| before.active_version.as_ref());
            if let (Some(old), Some(new)) = (version, &task.active_version)
                && old != new
            {
                say(format_args!("{}: {old} -> {new}", task.name));
            }
            if before.is_some_and(|before| before.refresh.phase != task.refresh.phase)
                && let (Some(reason), Some(message)) = (&task.refresh.reason, &task.refresh.message)
            {
                say(format_args!("{}: refresh failed: {reason}: {message}", task.name));
            }
        }
    }

    fn write_status(&mut self) -> anyhow::Result<()> {
        let mut servers: Vec<_> = self.servers.iter().map(Server::state).collect();
        servers.sort_by(|a, b| (&a.task, &a.name).cmp(&(&b.task, &b.name)));
        let up = Up {
            pid: std::process::id(),
            gateway: self.gateway.listen,
            admin: self.gateway.admin,
            file: self.path.clone(),
            store: self.store.url().to_owned(),
            file_problem: self.file_problem.clone(),
            notices: self.notices.clone(),
            servers,
            status: self.status.clone(),
        };
        let text = serde_json::to_vec_pretty(&up)?;
        if self.written.as_ref() != Some(&text) {
            self.place.write("up.json", &text)?;
            self.written = Some(text);
        }
        Ok(())
    }

    /// Tells servers that have left the routes to stop, and forgets those that have ended.
    fn let_go(&mut self) {
        let now = Instant::now();
        while self.leaving.front().is_some_and(|(when, _)| *when <= now) {
            let child = self.leaving.pop_front().and_then(|(_, server)| server.into_child());
            self.ending.extend(child.inspect(process::terminate));
        }
        self.ending.retain_mut(|child| !matches!(child.try_wait(), Ok(Some(_)) | Err(_)));
    }

    /// The gateway first, so that no caller sees servers go.
    async fn end(mut self) {
        let servers = self.servers.into_iter().chain(self.leaving.into_iter().map(|(_, server)| server));
        self.ending.extend(servers.filter_map(Server::into_child));
        self.ending.extend(self.gateway.child.take());
        for child in self.ending.iter().rev() {
            process::terminate(child);
        }
        let all = futures::future::join_all(self.ending.iter_mut().map(Child::wait));
        if tokio::time::timeout(END, all).await.is_err() {
            tracing::warn!("some servers did not end in time and are killed");
        }
        // What has not ended is killed when it is dropped.
        let _ = std::fs::remove_file(self.place.path("up.json"));
    }
}

impl Gateway {
    fn start(&mut self, place: &Place) -> anyhow::Result<()> {
        let routes = place.path("routes.json");
        let routes = routes.to_str().context("the state directory's name must be UTF-8")?;
        let (listen, admin) = (self.listen.to_string(), self.admin.to_string());
        let arguments = ["--routes", routes, "--listen", &listen, "--admin-listen", &admin, "--grace", "5s"];
        self.child = Some(process::start(&self.program, &arguments, &place.log("gateway"))?);
        Ok(())
    }

    fn ended(&mut self) -> Option<String> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        self.child = None;
        Some(process::ending(status))
    }

    /// Starts it again where it has ended.
    fn keep(&mut self, place: &Place) -> anyhow::Result<()> {
        if let Some(ending) = self.ended() {
            self.failures += 1;
            self.next = Instant::now() + process::backoff(self.failures);
            say(format_args!("the gateway {ending}; it is started again"));
        }
        if self.child.is_none() && Instant::now() >= self.next {
            self.start(place)?;
        }
        Ok(())
    }
}

/// One line for whoever watches.
fn say(line: std::fmt::Arguments<'_>) {
    // Nobody needs to read it.
    let _ = output::print(line);
}
