//! How a task moves from one version to another: Idle → Resolving → Preparing → Activating → Idle, or Failed.
//!
//! One step is a function of what the status says and of what the servers say. It asks for calls that may be repeated, so
//! a step that was lost is made again by the next one, and whoever takes over goes on from the status alone.
//!
//! - *Resolving*: a server asks the store which version the channel names. A pinned version needs no such question.
//! - *Preparing*: every server that answers its control port prepares the version beside the active one. If one of them
//!   cannot, or they take too long, all discard it, and the refresh has failed: the version before serves on.
//! - *Activating*: from here on servers start with the new version, so there is no way back but another refresh. It lasts
//!   until every server that answers answers by it.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use unimodel_crds::{RefreshPhase, RefreshStatus, Task, TaskStatus, Want};

use crate::snapshot::{Facts, Phase, Replica, Trouble};

/// A call to a server's control port.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Call {
    /// The task.
    pub task: String,
    /// The server.
    pub replica: String,
    /// What it shall do.
    pub operation: Operation,
}

/// What a server shall do.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub enum Operation {
    /// Say which version the channel names. The answer belongs into the next snapshot.
    Resolve {
        /// The channel.
        channel: String,
    },
    /// Begin to prepare a version.
    Prepare {
        /// The version.
        version: String,
    },
    /// Answer by a version that it has prepared.
    Activate {
        /// The version.
        version: String,
    },
    /// Drop a version that it has prepared or is preparing.
    Discard {
        /// The version.
        version: String,
    },
}

/// What one task's step depends on.
#[derive(Clone, Copy, Debug)]
pub struct Watch<'a> {
    /// The task.
    pub task: &'a Task,
    /// Which version is asked for.
    pub want: &'a Want,
    /// What was so at the last step.
    pub previous: &'a TaskStatus,
    /// The task's servers.
    pub replicas: &'a [&'a Replica],
    /// What the store said since the last step.
    pub resolved: Option<&'a Result<String, Trouble>>,
    /// The latest request for a refresh.
    pub request: Option<&'a str>,
    /// What is known of a version.
    pub facts: &'a dyn Lookup,
    /// When the object was made.
    pub created: Timestamp,
    /// Now.
    pub now: Timestamp,
}

/// Where facts of versions are found.
pub trait Lookup: std::fmt::Debug {
    /// What is known of that version.
    fn facts(&self, version: &str) -> Option<&Facts>;
}

impl Lookup for std::collections::BTreeMap<String, Facts> {
    fn facts(&self, version: &str) -> Option<&Facts> {
        self.get(version)
    }
}

/// What a step leads to.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The version that every server starts with. `None`: what the channel names then.
    pub active: Option<String>,
    /// The refresh.
    pub refresh: RefreshStatus,
    /// When a refresh last ended well.
    pub last: Option<Timestamp>,
    /// When the next one begins by itself.
    pub next: Option<Timestamp>,
    /// What servers are asked to do now.
    pub calls: Vec<Call>,
}

/// One step.
pub fn step(watch: Watch<'_>) -> Step {
    let previous = watch.previous;
    let mut machine = Machine {
        watch,
        active: previous.active_version.clone(),
        refresh: previous.refresh.clone(),
        last: previous.last_refresh.as_ref().map(|time| time.0),
        calls: Vec::new(),
    };
    // What follows from one phase at once is done at once: each phase leads on, and none leads back to one before it.
    match machine.refresh.phase {
        RefreshPhase::Idle | RefreshPhase::Failed => machine.rest(),
        RefreshPhase::Resolving => machine.resolving(),
        RefreshPhase::Preparing => machine.preparing(),
        RefreshPhase::Activating => machine.activating(),
    }
    let next = machine.next();
    let Machine { active, refresh, last, calls, .. } = machine;
    Step { active, refresh, last, next, calls }
}

struct Machine<'a> {
    watch: Watch<'a>,
    active: Option<String>,
    refresh: RefreshStatus,
    last: Option<Timestamp>,
    calls: Vec<Call>,
}

impl Machine<'_> {
    /// Nothing is on its way: take what the first server found, keep all on one version, or begin.
    fn rest(&mut self) {
        let Some(active) = self.active.clone() else {
            return self.first();
        };
        // A request that is about a refresh, and the pin, are asked for; the schedule asks by itself.
        let requested = self.watch.request.filter(|request| self.refresh.request.as_deref() != Some(request));
        let pinned = match self.watch.want {
            // A pin that failed is not tried again until somebody asks.
            Want::Version(version) => *version != active && self.refresh.target.as_ref() != Some(version),
            Want::Channel(_) => false,
        };
        let due = matches!(self.watch.want, Want::Channel(_)) && self.due().is_some_and(|due| due <= self.watch.now);
        if requested.is_some() || pinned || due {
            self.begin(requested.map(str::to_owned));
        } else {
            self.bring_all_to(&active);
        }
    }

    /// The task has no version yet: the one that its first server found becomes that of all.
    fn first(&mut self) {
        if let Want::Version(version) = self.watch.want {
            self.active = Some(version.clone());
            return;
        }
        let found = self.watch.replicas.iter().find_map(|replica| replica.active());
        if let Some(version) = found {
            self.active = Some(version.to_owned());
            self.last = Some(self.watch.now);
            self.refresh.request = self.watch.request.map(str::to_owned).or(self.refresh.request.take());
        }
    }

    fn begin(&mut self, request: Option<String>) {
        let request = request.or(self.refresh.request.take());
        let started = Some(Time(self.watch.now));
        self.refresh = RefreshStatus { phase: RefreshPhase::Resolving, started, request, ..RefreshStatus::default() };
        self.resolving();
    }

    fn resolving(&mut self) {
        match (self.watch.want, self.watch.resolved) {
            (Want::Version(version), _) => self.found(version.clone()),
            (_, Some(Ok(version))) => self.found(version.clone()),
            (_, Some(Err(trouble))) => self.fail(trouble.clone()),
            (Want::Channel(channel), None) => match self.watch.replicas.iter().find(|r| r.answer.is_some()) {
                Some(replica) => self.call(replica, Operation::Resolve { channel: channel.clone() }),
                None if self.late() => self.fail(Trouble::new("NoServer", "no server of the task answers")),
                None => {}
            },
        }
    }

    fn found(&mut self, version: String) {
        if self.active.as_ref() == Some(&version) {
            return self.done();
        }
        if let Some(trouble) = self.missing_head(&version) {
            self.refresh.target = Some(version);
            return self.fail(trouble);
        }
        self.refresh.target = Some(version);
        self.refresh.phase = RefreshPhase::Preparing;
        self.preparing();
    }

    fn missing_head(&self, version: &str) -> Option<Trouble> {
        let facts = self.watch.facts.facts(version)?;
        let head = &self.watch.task.head;
        (!facts.heads.contains(head)).then(|| {
            let message = format!("version {version} has no head `{head}`; it has {}", facts.heads.join(", "));
            Trouble::new("HeadMissing", message)
        })
    }

    fn preparing(&mut self) {
        let Some(target) = self.refresh.target.clone() else {
            // Only a status that was written by hand has none.
            self.refresh.phase = RefreshPhase::Resolving;
            return self.resolving();
        };
        let replicas: Vec<&Replica> = self.watch.replicas.iter().copied().filter(|r| r.answer.is_some()).collect();
        let failed = replicas.iter().find_map(|replica| match replica.held(&target)?.phase {
            // What failed before this refresh began is tried again by asking for it; a server says so only once.
            Phase::Failed(ref trouble) => Some((replica.name.clone(), trouble.clone())),
            _ => None,
        });
        if let Some((name, trouble)) = failed {
            return self.fail(Trouble { message: format!("{name}: {}", trouble.message), ..trouble });
        }
        let prepared = |replica: &&Replica| {
            replica.active() == Some(&target) || replica.held(&target).is_some_and(|held| held.phase == Phase::Prepared)
        };
        if !replicas.is_empty() && replicas.iter().all(prepared) {
            self.active = Some(target);
            self.refresh.phase = RefreshPhase::Activating;
            return self.activating();
        }
        if self.late() {
            let waits: Vec<&str> = replicas.iter().filter(|r| !prepared(r)).map(|r| r.name.as_str()).collect();
            let who = if waits.is_empty() {
                "no server answers".to_owned()
            } else {
                format!("{} not ready", waits.join(", "))
            };
            let limit = self.watch.task.refresh.load_timeout;
            return self.fail(Trouble::new("LoadTimeout", format!("not prepared within {limit:?}: {who}")));
        }
        for replica in replicas.iter().filter(|replica| !prepared(replica)) {
            self.make_room(replica, &target);
            if replica.held(&target).is_none() {
                self.call(replica, Operation::Prepare { version: target.clone() });
            }
        }
    }

    fn activating(&mut self) {
        let Some(target) = self.refresh.target.clone() else { return self.done() };
        self.active = Some(target.clone());
        if self.bring_all_to(&target) && self.watch.replicas.iter().any(|replica| replica.active() == Some(&target)) {
            self.done();
        }
    }

    /// Brings every server that answers to that version; true where all are there.
    fn bring_all_to(&mut self, version: &str) -> bool {
        let mut all = true;
        for replica in self.watch.replicas {
            let active = replica.active();
            if active == Some(version) {
                continue;
            }
            let held = replica.held(version).map(|held| &held.phase);
            if active.is_none() && held != Some(&Phase::Prepared) {
                // A server that starts takes the version by itself.
                continue;
            }
            all = false;
            match held {
                // Also in a server that cannot start with what it was told at first.
                Some(Phase::Prepared) => self.call(replica, Operation::Activate { version: version.to_owned() }),
                Some(Phase::Preparing) => {}
                // Another try: it could once, or its neighbours can.
                None | Some(Phase::Failed(_)) => {
                    self.make_room(replica, version);
                    self.call(replica, Operation::Prepare { version: version.to_owned() });
                }
            }
        }
        all
    }

    /// A server holds one version beside the active one.
    fn make_room(&mut self, replica: &Replica, version: &str) {
        let others = replica.answer.iter().flat_map(|answer| &answer.held).filter(|held| held.version != version);
        for held in others.filter(|held| !matches!(held.phase, Phase::Failed(_))) {
            self.call(replica, Operation::Discard { version: held.version.clone() });
        }
    }

    fn done(&mut self) {
        self.last = Some(self.watch.now);
        self.refresh.phase = RefreshPhase::Idle;
        self.refresh.reason = None;
        self.refresh.message = None;
    }

    fn fail(&mut self, trouble: Trouble) {
        if let Some(target) = self.refresh.target.clone() {
            for replica in self.watch.replicas.iter().filter(|replica| replica.held(&target).is_some()) {
                self.call(replica, Operation::Discard { version: target.clone() });
            }
        }
        self.refresh.phase = RefreshPhase::Failed;
        self.refresh.reason = Some(trouble.reason);
        self.refresh.message = Some(trouble.message.chars().take(4096).collect());
    }

    fn call(&mut self, replica: &Replica, operation: Operation) {
        self.calls.push(Call { task: self.watch.task.name.clone(), replica: replica.name.clone(), operation });
    }

    /// Whether the refresh has taken longer than it may.
    fn late(&self) -> bool {
        let Some(Time(started)) = self.refresh.started else { return false };
        let limit = SignedDuration::try_from(self.watch.task.refresh.load_timeout).unwrap_or(SignedDuration::MAX);
        self.watch.now.duration_since(started) > limit
    }

    /// When the schedule asks for a refresh: the first time after the last one began, however many have passed since.
    fn due(&self) -> Option<Timestamp> {
        let schedule = self.watch.task.refresh.schedule.as_ref()?;
        let started = self.refresh.started.as_ref().map(|time| time.0);
        let base = started.into_iter().chain(self.last).max().unwrap_or(self.watch.created);
        schedule.next(base)
    }

    /// When the next refresh begins: while one is on its way, counted from now.
    fn next(&self) -> Option<Timestamp> {
        match self.watch.want {
            Want::Version(_) => None,
            Want::Channel(_) => self.due(),
        }
    }
}
