//! Servers as the core sees them, and a shell that does what a plan says. Whatever it remembers between two rounds is in
//! the status.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use unimodel_crds::{Model, RefreshPhase, TaskStatus, UnifiedModelStatus, check};
use unimodel_operator::{Answer, Call, Facts, Held, Operation, Phase, Plan, Replica, Snapshot, Start, Trouble, plan};

pub(crate) const V1: &str = "20260101T000000Z-aaaaaaaa";
pub(crate) const V2: &str = "20260102T000000Z-bbbbbbbb";
pub(crate) const V3: &str = "20260103T000000Z-cccccccc";

pub(crate) fn model(spec: &str) -> Model {
    let text = format!("apiVersion: unimodel.dev/v1alpha1\nkind: UnifiedModel\nmetadata: {{name: m}}\nspec:\n{spec}");
    check(&text, Path::new("um.yaml")).unwrap().model
}

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(crate) struct World {
    pub(crate) model: Model,
    pub(crate) status: UnifiedModelStatus,
    pub(crate) servers: Vec<Replica>,
    pub(crate) channel: String,
    /// Versions that servers cannot prepare.
    pub(crate) broken: BTreeSet<String>,
    /// A store that does not answer.
    pub(crate) store_away: bool,
    pub(crate) requests: BTreeMap<String, String>,
    /// What an autoscaler asks for.
    pub(crate) scaled: BTreeMap<String, u32>,
    pub(crate) now: Timestamp,
    resolved: BTreeMap<String, Result<String, Trouble>>,
    /// Every call that was made.
    pub(crate) calls: Vec<Call>,
    started: usize,
}

pub(crate) fn facts() -> BTreeMap<String, Facts> {
    let facts = |day: &str, heads: &[&str]| Facts {
        heads: heads.iter().map(ToString::to_string).collect(),
        data_time: at(&format!("{day}T00:00:00Z")),
        popularity: true,
    };
    BTreeMap::from([
        (V1.into(), facts("2025-12-01", &["search", "related"])),
        (V2.into(), facts("2025-12-02", &["search", "related"])),
        (V3.into(), facts("2025-12-03", &["related"])),
    ])
}

impl World {
    pub(crate) fn new(spec: &str) -> Self {
        Self {
            model: model(spec),
            status: UnifiedModelStatus::default(),
            servers: Vec::new(),
            channel: V1.into(),
            broken: BTreeSet::new(),
            store_away: false,
            requests: BTreeMap::new(),
            scaled: BTreeMap::new(),
            now: at("2026-01-05T12:00:00Z"),
            resolved: BTreeMap::new(),
            calls: Vec::new(),
            started: 0,
        }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            model: self.model.clone(),
            generation: 1,
            created: at("2026-01-05T12:00:00Z"),
            previous: self.status.clone(),
            replicas: self.servers.clone(),
            scaled: self.scaled.clone(),
            resolved: self.resolved.clone(),
            requests: self.requests.clone(),
            facts: facts(),
            gateway: None,
            now: self.now,
        }
    }

    /// One round: plan, and do it.
    pub(crate) fn round(&mut self) -> Plan {
        let plan = plan(&self.snapshot());
        self.resolved.clear();
        for workload in &plan.workloads {
            let mine = |server: &Replica| server.task == workload.task;
            while self.servers.iter().filter(|server| mine(server)).count() < workload.replicas as usize {
                self.started += 1;
                let version = match &workload.start {
                    Start::Channel(_) => self.channel.clone(),
                    Start::Version(version) => version.clone(),
                };
                self.servers.push(Replica {
                    task: workload.task.clone(),
                    name: format!("{}-{}", workload.task, self.started),
                    environment: workload.environment.clone(),
                    address: format!("127.0.0.1:{}", 9000 + self.started),
                    outdated: false,
                    probe: None,
                    answer: Some(Answer { active: Some(version), ..Answer::default() }),
                    trouble: None,
                });
            }
        }
        self.calls.extend(plan.calls.iter().cloned());
        for call in &plan.calls {
            self.make(call);
        }
        self.status = plan.status.clone();
        plan
    }

    fn make(&mut self, call: &Call) {
        if let Operation::Resolve { .. } = call.operation {
            let away = Trouble::new("StoreUnavailable", "the store does not answer");
            let answer = if self.store_away { Err(away) } else { Ok(self.channel.clone()) };
            self.resolved.insert(call.task.clone(), answer);
            return;
        }
        let broken = self.broken.clone();
        let Some(server) = self.servers.iter_mut().find(|server| server.name == call.replica) else { return };
        let Some(answer) = &mut server.answer else { return };
        match &call.operation {
            Operation::Resolve { .. } => {}
            Operation::Prepare { version } => {
                let room =
                    answer.held.iter().all(|held| held.version == *version || matches!(held.phase, Phase::Failed(_)));
                assert!(room, "{call:?} beside {:?}", answer.held);
                answer.held.retain(|held| held.version != *version);
                let trouble = Trouble::new("DigestMismatch", format!("{version} is damaged"));
                let phase = if broken.contains(version) { Phase::Failed(trouble) } else { Phase::Preparing };
                answer.held.push(Held { version: version.clone(), phase });
            }
            Operation::Activate { version } => {
                let held = answer.held.iter().position(|held| held.version == *version).unwrap();
                assert_eq!(answer.held.remove(held).phase, Phase::Prepared);
                answer.active = Some(version.clone());
            }
            Operation::Discard { version } => answer.held.retain(|held| held.version != *version),
        }
    }

    /// All that is being prepared is ready.
    pub(crate) fn prepare_all(&mut self) {
        for held in self.servers.iter_mut().filter_map(|server| server.answer.as_mut()).flat_map(|a| &mut a.held) {
            if held.phase == Phase::Preparing {
                held.phase = Phase::Prepared;
            }
        }
    }

    /// Rounds until nothing is called any more.
    pub(crate) fn settle(&mut self) -> Plan {
        for _ in 0..30 {
            let before = self.status.clone();
            let plan = self.round();
            self.prepare_all();
            if plan.calls.is_empty() && self.status == before {
                return plan;
            }
            self.now = self.now.checked_add(SignedDuration::from_millis(100)).unwrap();
        }
        panic!("does not settle: {:?}", self.status.tasks);
    }

    /// A server that ends and starts again with what the status says.
    pub(crate) fn restart(&mut self, index: usize) {
        let task = self.servers[index].task.clone();
        let pin = self.task(&task).active_version.clone().unwrap_or_else(|| self.channel.clone());
        self.servers[index].answer = Some(Answer { active: Some(pin), ..Answer::default() });
    }

    pub(crate) fn task(&self, name: &str) -> &TaskStatus {
        self.status.tasks.iter().find(|task| task.name == name).unwrap()
    }

    pub(crate) fn phase(&self, name: &str) -> RefreshPhase {
        self.task(name).refresh.phase
    }

    pub(crate) fn active(&self) -> BTreeSet<&str> {
        self.servers.iter().filter_map(Replica::active).collect()
    }

    pub(crate) fn request(&mut self, task: &str, token: &str) {
        self.requests.insert(task.into(), token.into());
    }
}
