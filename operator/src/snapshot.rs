//! What a shell observes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use unimodel_crds::{Model, UnifiedModelStatus};

/// All that a plan depends on.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What is asked for.
    pub model: Model,
    /// The generation of the object that says so.
    pub generation: i64,
    /// When the object was made: no schedule is due before.
    pub created: Timestamp,
    /// What was so at the last round.
    pub previous: UnifiedModelStatus,
    /// The servers that there are, of tasks that are no longer asked for too.
    pub replicas: Vec<Replica>,
    /// How many servers autoscalers ask for, by task. As many as are asked for at least where it has none.
    pub scaled: BTreeMap<String, u32>,
    /// What servers answered to [`crate::Operation::Resolve`] since the last round, by task.
    pub resolved: BTreeMap<String, Result<String, Trouble>>,
    /// Who asked for a refresh, by task: a text that is another one with each request.
    pub requests: BTreeMap<String, String>,
    /// What is known of versions.
    pub facts: BTreeMap<String, Facts>,
    /// Why the gateway does not answer as it should. `None`: it does, or that is another's matter.
    pub gateway: Option<Trouble>,
    /// Now.
    pub now: Timestamp,
}

/// What is known of a version.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// Its heads.
    pub heads: Vec<String>,
    /// The newest event that it has learned from.
    pub data_time: Timestamp,
    /// Whether it has a list of the most popular items.
    pub popularity: bool,
}

/// A server: a process, or a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Replica {
    /// The task that it is for.
    pub task: String,
    /// Its name, by which the shell finds it.
    pub name: String,
    /// What it runs on, as [`crate::Workload::environment`] of when it was started says.
    pub environment: String,
    /// It is about to be replaced by one that runs on what is asked for now.
    pub outdated: bool,
    /// Host and port where it answers requests.
    pub address: String,
    /// Whether whoever runs it found it ready, such as a kubelet. `None`: nobody looks but by its control port.
    pub probe: Option<bool>,
    /// What its control port says. `None`: it does not answer.
    pub answer: Option<Answer>,
    /// Why it does not run as it should, in the words of whoever runs it, such as `CrashLoop`.
    pub trouble: Option<Trouble>,
}

impl Replica {
    /// The version that it answers by.
    pub fn active(&self) -> Option<&str> {
        self.answer.as_ref().and_then(|answer| answer.active.as_deref())
    }

    /// Whether it answers for its task.
    pub fn ready(&self) -> bool {
        let says = |a: &Answer| a.active.is_some() && !a.draining && a.problem.is_none();
        match self.probe {
            None => self.answer.as_ref().is_some_and(says),
            Some(found) => found && self.answer.as_ref().is_none_or(says),
        }
    }

    /// What it holds of a version that is not active.
    pub fn held(&self, version: &str) -> Option<&Held> {
        self.answer.as_ref().and_then(|answer| answer.held.iter().find(|held| held.version == version))
    }
}

/// What a server's control port says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// The version that answers.
    pub active: Option<String>,
    /// Versions beside it.
    pub held: Vec<Held>,
    /// Why the task does not answer though a version is active.
    pub problem: Option<String>,
    /// It has been told to stop.
    pub draining: bool,
    /// The tasks that it answers for.
    pub tasks: Vec<String>,
    /// Why no version is active yet.
    pub failure: Option<Trouble>,
}

/// A version that a server holds beside the active one.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// The version.
    pub version: String,
    /// How far it is.
    pub phase: Phase,
}

/// How far a server is with a version.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    /// It fetches, verifies, loads, warms or checks it.
    Preparing,
    /// It could answer by it.
    Prepared,
    /// It cannot.
    Failed(Trouble),
}

/// Why something is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// One word for programs.
    pub reason: String,
    /// One sentence for people.
    pub message: String,
}

impl Trouble {
    /// Both of them.
    pub fn new(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { reason: reason.into(), message: message.into() }
    }
}
