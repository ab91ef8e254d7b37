//! One server of a task: its process, its ports, and what it says.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};
use tokio::process::Child;
use tonic::transport::ClientTlsConfig;
use unimodel_crds::Model;
use unimodel_operator::control::Control;
use unimodel_operator::{Answer, Replica, Trouble, Workload, server_config};

use super::place::{Place, ServerState, last_line};
use super::process;
use crate::store::version_cache;

/// How long a server may take to finish what it answers.
const GRACE: &str = "5s";

/// A server that answered for so long has recovered from what made it end before.
const STEADY: Duration = Duration::from_secs(60);

/// A server that has not said anything for so long is not counted on.
const SILENCE: Duration = Duration::from_secs(10);

/// How long it may take to say how it is: all others wait for it.
const ANSWER: Duration = Duration::from_secs(1);

/// A server.
pub struct Server {
    /// Its name.
    pub name: String,
    /// The task that it is for.
    pub task: String,
    /// What it runs on.
    pub environment: String,
    address: SocketAddr,
    control: Option<Control>,
    child: Option<Child>,
    /// How often in a row it has ended.
    failures: u32,
    restarts: u32,
    started: Instant,
    /// When it is started next, where it does not run.
    next: Instant,
    trouble: Option<Trouble>,
    answer: Option<Answer>,
    /// When it last answered.
    heard: Instant,
    written: Option<Value>,
}

impl Server {
    /// One that has not been started.
    pub fn new(name: String, workload: &Workload) -> Self {
        Self {
            name,
            task: workload.task.clone(),
            environment: workload.environment.clone(),
            address: ([127, 0, 0, 1], 0).into(),
            control: None,
            child: None,
            failures: 0,
            restarts: 0,
            started: Instant::now(),
            next: Instant::now(),
            trouble: None,
            answer: None,
            heard: Instant::now(),
            written: None,
        }
    }

    /// Starts it where it does not run and may; writes its configuration where that has changed.
    pub fn keep(
        &mut self,
        place: &Place,
        program: &Path,
        tls: &ClientTlsConfig,
        model: &Model,
        workload: &Workload,
    ) -> anyhow::Result<()> {
        self.look(place);
        if self.child.is_some() {
            // Of a server that runs, tasks change at once, and what else the file says holds for its next start.
            return self.write(place, model, workload);
        }
        if Instant::now() < self.next {
            return Ok(());
        }
        let (address, admin, control) = (process::free_address()?, process::free_address()?, process::free_address()?);
        self.address = address;
        self.written = Some(json!({"listen": address, "adminListen": admin, "control": control}));
        self.control = Some(Control::new(control, tls)?);
        self.write(place, model, workload)?;
        let config = place.path(&format!("servers/{}.json", self.name));
        let config = config.to_str().context("the state directory's name must be UTF-8")?;
        self.child = Some(process::start(program, &["--config", config], &place.log(&self.name))?);
        self.started = Instant::now();
        Ok(())
    }

    /// Whether its process has ended, and why.
    fn look(&mut self, place: &Place) {
        if self.failures > 0 && self.answer.is_some() && self.started.elapsed() > STEADY {
            self.failures = 0;
        }
        let Some(child) = &mut self.child else { return };
        let Ok(Some(status)) = child.try_wait() else { return };
        self.child = None;
        self.answer = None;
        self.failures += 1;
        self.restarts += 1;
        let wait = process::backoff(self.failures);
        self.next = Instant::now() + wait;
        let said = last_line(&place.log(&self.name)).map_or(String::new(), |line| format!(": {line}"));
        let reason = if self.failures > 2 { "CrashLoop" } else { "Ended" };
        let times = if self.failures > 1 { format!(", {} times in a row", self.failures) } else { String::new() };
        let ending = process::ending(status);
        self.trouble = Some(Trouble::new(reason, format!("{ending}{times}; it is started again after {wait:?}{said}")));
        tracing::warn!(server = self.name, ending, ?wait, "a server has ended");
    }

    fn write(&mut self, place: &Place, model: &Model, workload: &Workload) -> anyhow::Result<()> {
        let ports = self.written.clone().unwrap_or_default();
        let mut document = server_config(model, workload);
        document["listen"] = ports["listen"].clone();
        document["adminListen"] = ports["adminListen"].clone();
        let path = |name: &str| place.path(name).display().to_string();
        document["control"] = json!({
            "listen": ports["control"],
            "tls": {"certificate": path("tls/tls.crt"), "key": path("tls/tls.key"), "clientCa": path("tls/ca.crt")},
        });
        document["cacheDirectory"] = version_cache()?.display().to_string().into();
        document["grace"] = GRACE.into();
        if ports["document"] != document {
            place.write(&format!("servers/{}.json", self.name), &serde_json::to_vec_pretty(&document)?)?;
            self.written = Some(json!({
                "listen": ports["listen"], "adminListen": ports["adminListen"], "control": ports["control"],
                "document": document,
            }));
        }
        Ok(())
    }

    /// Asks it how it is.
    pub async fn observe(&mut self) {
        let answer = match (&self.child, &mut self.control) {
            (Some(_), Some(control)) => control.state(ANSWER).await,
            _ => None,
        };
        if answer.as_ref().is_some_and(|answer| answer.active.is_some()) {
            self.trouble = None;
        }
        // A process that lives and is late with an answer has not gone: the gateway sees for itself what fails.
        if answer.is_some() || self.child.is_none() || self.heard.elapsed() > SILENCE {
            self.answer = answer;
            self.heard = Instant::now();
        }
    }

    /// A client of its control port.
    pub fn control(&self) -> Option<Control> {
        self.control.clone()
    }

    /// As the core sees it.
    pub fn replica(&self) -> Replica {
        Replica {
            task: self.task.clone(),
            name: self.name.clone(),
            environment: self.environment.clone(),
            outdated: false,
            address: self.address.to_string(),
            probe: None,
            answer: self.answer.clone(),
            trouble: self.trouble.clone(),
        }
    }

    /// As people see it.
    pub fn state(&self) -> ServerState {
        ServerState {
            name: self.name.clone(),
            task: self.task.clone(),
            address: self.address,
            pid: self.child.as_ref().and_then(Child::id),
            ready: self.replica().ready(),
            version: self.replica().active().map(str::to_owned),
            restarts: self.restarts,
        }
    }

    /// Its process, to be ended.
    pub fn into_child(self) -> Option<Child> {
        self.child
    }
}
