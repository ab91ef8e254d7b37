//! What the server serves and what it has prepared, as a value: every change is a function of it and of the time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use jiff::Timestamp;
use unimodel_model::version::{Digest, VersionId};

use super::failure::Failure;

/// Failures that are remembered, the latest.
const REMEMBERED_FAILURES: usize = 8;

/// All versions that the server holds; `P` is what a prepared one is made of.
#[derive(Debug)]
pub struct Versions<P> {
    active: Option<(VersionId, Held<P>)>,
    previous: Option<VersionId>,
    others: BTreeMap<VersionId, Held<P>>,
    next_ticket: u64,
}

impl<P> Default for Versions<P> {
    fn default() -> Self {
        Self { active: None, previous: None, others: BTreeMap::new(), next_ticket: 0 }
    }
}

/// A version that the server holds.
#[derive(Debug)]
pub struct Held<P> {
    ticket: u64,
    /// When it entered the phase.
    pub since: Timestamp,
    /// From its manifest, once that has been read.
    pub facts: Option<Facts>,
    /// Bytes of it in local files.
    pub fetched: Arc<AtomicU64>,
    /// How far it is.
    pub phase: Phase<P>,
}

/// What a manifest says of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Digest of its schema.
    pub schema_hash: Digest,
    /// The newest event that it has learned from.
    pub data_time: Timestamp,
    /// Size of its files.
    pub total_bytes: u64,
}

/// How far a version is.
#[derive(Debug, PartialEq, Eq)]
pub enum Phase<P> {
    /// Its files are fetched and verified.
    Downloading,
    /// Its files are read into memory.
    Loading,
    /// It is used for the first time.
    Warming,
    /// Its golden requests are asked.
    Checking,
    /// It can answer.
    Prepared(Arc<P>),
    /// It answers.
    Active(Arc<P>),
    /// It cannot.
    Failed(Failure),
}

impl<P> Phase<P> {
    /// Its name, in lower case.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Downloading => "downloading",
            Self::Loading => "loading",
            Self::Warming => "warming",
            Self::Checking => "checking",
            Self::Prepared(_) => "prepared",
            Self::Active(_) => "active",
            Self::Failed(_) => "failed",
        }
    }

    fn is_running(&self) -> bool {
        matches!(self, Self::Downloading | Self::Loading | Self::Warming | Self::Checking)
    }
}

/// A step between being asked for and being prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// [`Phase::Loading`]
    Loading,
    /// [`Phase::Warming`]
    Warming,
    /// [`Phase::Checking`]
    Checking,
}

/// The right to report on one preparation. It ends when the preparation is discarded, ends or fails.
#[derive(Clone, Debug)]
pub struct Ticket {
    /// The version.
    pub version: VersionId,
    /// [`Held::fetched`] of the version.
    pub fetched: Arc<AtomicU64>,
    number: u64,
}

/// Why a change is refused. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Each prepared version takes as much memory as the active one.
    #[error("version `{other}` is {phase}; discard or activate it before `{version}` is prepared")]
    Busy {
        /// As asked.
        version: VersionId,
        /// The version in the way.
        other: VersionId,
        /// How far that one is.
        phase: &'static str,
    },
    /// There is nothing to activate.
    #[error("version `{version}` is {phase}, and only a prepared version can be activated")]
    NotPrepared {
        /// As asked.
        version: VersionId,
        /// How far it is.
        phase: &'static str,
    },
    /// The active version cannot be dropped.
    #[error("version `{version}` is active; activate another one first")]
    Active {
        /// As asked.
        version: VersionId,
    },
    /// A version that is there has another schema than asked for.
    #[error("version `{version}` has the schema {found}, not {expected}")]
    OtherSchema {
        /// As asked.
        version: VersionId,
        /// Digest of its schema.
        found: Digest,
        /// As asked.
        expected: Digest,
    },
}

impl<P> Versions<P> {
    /// The version that answers.
    pub fn active(&self) -> Option<(&VersionId, &Held<P>)> {
        self.active.as_ref().map(|(version, held)| (version, held))
    }

    /// The version that answered before the active one.
    pub fn previous(&self) -> Option<&VersionId> {
        self.previous.as_ref()
    }

    /// Versions being prepared, prepared or failed, by name.
    pub fn others(&self) -> &BTreeMap<VersionId, Held<P>> {
        &self.others
    }

    /// What is held of a version.
    pub fn get(&self, version: &VersionId) -> Option<&Held<P>> {
        match &self.active {
            Some((active, held)) if active == version => Some(held),
            _ => self.others.get(version),
        }
    }

    /// The versions whose files must stay: the active one, the one before it, and those that are or become prepared.
    pub fn needed(&self) -> impl Iterator<Item = &VersionId> {
        let others = self.others.iter().filter(|(_, held)| !matches!(held.phase, Phase::Failed(_))).map(|(v, _)| v);
        self.active.iter().map(|(version, _)| version).chain(&self.previous).chain(others)
    }

    /// All versions that can answer.
    pub fn prepared(&self) -> impl Iterator<Item = (&VersionId, &Arc<P>)> {
        let active = self.active.iter().map(|(version, held)| (version, held));
        active.chain(&self.others).filter_map(|(version, held)| match &held.phase {
            Phase::Prepared(prepared) | Phase::Active(prepared) => Some((version, prepared)),
            _ => None,
        })
    }

    /// Puts something else in the place of what a prepared version was made of, if it still is made of that.
    pub fn replace(&mut self, version: &VersionId, old: &Arc<P>, new: Arc<P>) {
        let active = self.active.iter_mut().map(|(version, held)| (&*version, held));
        let mut all = active.chain(self.others.iter_mut());
        if let Some((_, held)) = all.find(|(name, _)| *name == version)
            && let Phase::Prepared(prepared) | Phase::Active(prepared) = &mut held.phase
            && Arc::ptr_eq(prepared, old)
        {
            *prepared = new;
        }
    }

    /// Begins to prepare a version. `None`: it is there, or under way. One that failed begins anew.
    ///
    /// # Errors
    /// [`Refused::Busy`] beside another one; [`Refused::OtherSchema`] where the version is there with another schema.
    pub fn prepare(
        &mut self,
        version: &VersionId,
        schema: Option<&Digest>,
        now: Timestamp,
    ) -> Result<Option<Ticket>, Refused> {
        if let Some(held) = self.get(version).filter(|held| !matches!(held.phase, Phase::Failed(_))) {
            return match (schema, held.facts) {
                (Some(expected), Some(facts)) if facts.schema_hash != *expected => Err(Refused::OtherSchema {
                    version: version.clone(),
                    found: facts.schema_hash,
                    expected: *expected,
                }),
                _ => Ok(None),
            };
        }
        if let Some((other, held)) = self.others.iter().find(|(_, held)| !matches!(held.phase, Phase::Failed(_))) {
            let (version, other, phase) = (version.clone(), other.clone(), held.phase.name());
            return Err(Refused::Busy { version, other, phase });
        }
        let number = self.next_ticket;
        self.next_ticket += 1;
        let fetched = Arc::<AtomicU64>::default();
        let held =
            Held { ticket: number, since: now, facts: None, fetched: fetched.clone(), phase: Phase::Downloading };
        self.others.insert(version.clone(), held);
        Ok(Some(Ticket { version: version.clone(), fetched, number }))
    }

    /// Whether the preparation is still wanted.
    pub fn wants(&self, ticket: &Ticket) -> bool {
        self.others.get(&ticket.version).is_some_and(|held| held.ticket == ticket.number && held.phase.is_running())
    }

    /// The manifest has been read.
    pub fn learn(&mut self, ticket: &Ticket, facts: Facts) {
        if let Some(held) = self.running(ticket) {
            held.facts = Some(facts);
        }
    }

    /// The preparation has come to its next step.
    pub fn advance(&mut self, ticket: &Ticket, step: Step, now: Timestamp) {
        if let Some(held) = self.running(ticket) {
            held.since = now;
            held.phase = match step {
                Step::Loading => Phase::Loading,
                Step::Warming => Phase::Warming,
                Step::Checking => Phase::Checking,
            };
        }
    }

    /// The preparation has ended. Whether it still mattered.
    pub fn finish(&mut self, ticket: &Ticket, result: Result<P, Failure>, now: Timestamp) -> bool {
        let Some(held) = self.running(ticket) else { return false };
        held.since = now;
        held.phase = match result {
            Ok(prepared) => Phase::Prepared(Arc::new(prepared)),
            Err(failure) => Phase::Failed(failure),
        };
        self.forget_old_failures();
        true
    }

    /// Lets a prepared version answer. What answers now, and what answered before where that has changed.
    ///
    /// # Errors
    /// [`Refused::NotPrepared`].
    pub fn activate(&mut self, version: &VersionId, now: Timestamp) -> Result<(Arc<P>, Option<VersionId>), Refused> {
        if let Some((active, Held { phase: Phase::Active(prepared), .. })) = &self.active
            && active == version
        {
            return Ok((prepared.clone(), None));
        }
        let phase = self.others.get(version).map(|held| &held.phase);
        let Some(Phase::Prepared(prepared)) = phase else {
            let phase = phase.map_or("not here", Phase::name);
            return Err(Refused::NotPrepared { version: version.clone(), phase });
        };
        let prepared = prepared.clone();
        if let Some(held) = self.others.remove(version) {
            let held = Held { since: now, phase: Phase::Active(prepared.clone()), ..held };
            let replaced = self.active.replace((version.clone(), held)).map(|(version, _)| version);
            self.previous.clone_from(&replaced);
            return Ok((prepared, replaced));
        }
        Ok((prepared, None))
    }

    /// Drops a version, or stops preparing it. False where there is none of that name.
    ///
    /// # Errors
    /// [`Refused::Active`].
    pub fn discard(&mut self, version: &VersionId) -> Result<bool, Refused> {
        if self.active.as_ref().is_some_and(|(active, _)| active == version) {
            return Err(Refused::Active { version: version.clone() });
        }
        Ok(self.others.remove(version).is_some())
    }

    fn running(&mut self, ticket: &Ticket) -> Option<&mut Held<P>> {
        self.others.get_mut(&ticket.version).filter(|held| held.ticket == ticket.number && held.phase.is_running())
    }

    fn forget_old_failures(&mut self) {
        let mut failures: Vec<(Timestamp, u64, VersionId)> = self
            .others
            .iter()
            .filter(|(_, held)| matches!(held.phase, Phase::Failed(_)))
            .map(|(version, held)| (held.since, held.ticket, version.clone()))
            .collect();
        failures.sort_unstable();
        failures.reverse();
        for (_, _, version) in failures.drain(..).skip(REMEMBERED_FAILURES) {
            self.others.remove(&version);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn id(name: &str) -> VersionId {
        name.parse().unwrap()
    }

    fn failure() -> Failure {
        Failure { reason: "DigestMismatch", message: "it is damaged".into() }
    }

    fn facts(schema: &[u8]) -> Facts {
        Facts { schema_hash: Digest::of(schema), data_time: at(0), total_bytes: 9 }
    }

    fn phase(versions: &Versions<u8>, name: &str) -> Option<&'static str> {
        versions.get(&id(name)).map(|held| held.phase.name())
    }

    fn begin(versions: &mut Versions<u8>, name: &str) -> Ticket {
        versions.prepare(&id(name), None, at(0)).unwrap().unwrap()
    }

    fn activate(versions: &mut Versions<u8>, name: &str) {
        let ticket = begin(versions, name);
        assert!(versions.finish(&ticket, Ok(1), at(1)));
        versions.activate(&id(name), at(2)).unwrap();
    }

    #[test]
    fn a_version_goes_through_all_phases() {
        let mut versions = Versions::default();
        let ticket = begin(&mut versions, "a");
        assert_eq!(phase(&versions, "a"), Some("downloading"));
        for (step, name) in [(Step::Loading, "loading"), (Step::Warming, "warming"), (Step::Checking, "checking")] {
            versions.advance(&ticket, step, at(3));
            assert_eq!(phase(&versions, "a"), Some(name));
        }
        assert!(versions.finish(&ticket, Ok(7), at(4)));
        assert_eq!(phase(&versions, "a"), Some("prepared"));
        assert_eq!(versions.activate(&id("a"), at(5)).unwrap(), (Arc::new(7), None));
        let (active, held) = versions.active().unwrap();
        assert_eq!((active, held.since), (&id("a"), at(5)));
        assert!(versions.others().is_empty());
    }

    #[test]
    fn what_is_repeated_is_answered_by_what_is_there() {
        let mut versions = Versions::default();
        let ticket = begin(&mut versions, "a");
        assert!(versions.prepare(&id("a"), None, at(1)).unwrap().is_none());
        versions.finish(&ticket, Ok(7), at(1));
        assert!(versions.prepare(&id("a"), None, at(2)).unwrap().is_none());
        versions.activate(&id("a"), at(3)).unwrap();
        assert!(versions.prepare(&id("a"), None, at(4)).unwrap().is_none());
        assert_eq!(versions.activate(&id("a"), at(4)).unwrap(), (Arc::new(7), None));
        assert_eq!(versions.active().unwrap().1.since, at(3));
    }

    #[test]
    fn a_failure_changes_nothing_and_may_be_tried_again() {
        let mut versions = Versions::default();
        activate(&mut versions, "a");
        let ticket = begin(&mut versions, "b");
        assert!(versions.finish(&ticket, Err(failure()), at(3)));
        assert_eq!(versions.active().unwrap().0, &id("a"));
        assert_eq!(phase(&versions, "b"), Some("failed"));
        let error = versions.activate(&id("b"), at(4)).unwrap_err();
        assert_eq!(error.to_string(), "version `b` is failed, and only a prepared version can be activated");
        begin(&mut versions, "b");
    }

    #[test]
    fn one_version_beside_the_active_one() {
        let mut versions = Versions::default();
        activate(&mut versions, "a");
        let ticket = begin(&mut versions, "b");
        let error = versions.prepare(&id("c"), None, at(3)).unwrap_err();
        assert_eq!(error.to_string(), "version `b` is downloading; discard or activate it before `c` is prepared");
        versions.finish(&ticket, Ok(1), at(3));
        assert!(matches!(versions.prepare(&id("c"), None, at(3)), Err(Refused::Busy { .. })));
        assert!(versions.discard(&id("b")).unwrap());
        begin(&mut versions, "c");
    }

    #[test]
    fn a_discarded_preparation_reports_in_vain() {
        let mut versions = Versions::default();
        let stale = begin(&mut versions, "a");
        assert!(versions.wants(&stale));
        assert!(versions.discard(&id("a")).unwrap());
        assert!(!versions.discard(&id("a")).unwrap());
        assert!(!versions.wants(&stale));
        let fresh = begin(&mut versions, "a");
        versions.advance(&stale, Step::Checking, at(1));
        versions.learn(&stale, facts(b"x"));
        assert!(!versions.finish(&stale, Ok(1), at(1)));
        assert_eq!(phase(&versions, "a"), Some("downloading"));
        assert!(versions.wants(&fresh) && versions.get(&id("a")).unwrap().facts.is_none());
    }

    #[test]
    fn the_active_version_cannot_be_discarded() {
        let mut versions = Versions::default();
        activate(&mut versions, "a");
        assert_eq!(versions.discard(&id("a")), Err(Refused::Active { version: id("a") }));
    }

    #[test]
    fn what_a_version_is_made_of_is_replaced_once() {
        let mut versions = Versions::default();
        activate(&mut versions, "a");
        let (old, _) = versions.activate(&id("a"), at(3)).unwrap();
        versions.replace(&id("a"), &old, Arc::new(2));
        versions.replace(&id("a"), &old, Arc::new(3));
        assert_eq!(versions.prepared().map(|(_, made)| **made).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn another_schema_is_refused() {
        let mut versions = Versions::default();
        let ticket = begin(&mut versions, "a");
        versions.learn(&ticket, facts(b"x"));
        assert!(versions.prepare(&id("a"), Some(&Digest::of(b"x")), at(1)).unwrap().is_none());
        let error = versions.prepare(&id("a"), Some(&Digest::of(b"y")), at(1)).unwrap_err();
        assert!(matches!(error, Refused::OtherSchema { .. }));
    }

    #[test]
    fn files_of_what_may_answer_soon_are_needed() {
        let mut versions = Versions::default();
        for name in ["a", "b"] {
            activate(&mut versions, name);
        }
        let ticket = begin(&mut versions, "c");
        let needed = |versions: &Versions<u8>| versions.needed().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(needed(&versions), ["b", "a", "c"]);
        versions.finish(&ticket, Err(failure()), at(9));
        assert_eq!(needed(&versions), ["b", "a"]);
    }

    #[test]
    fn only_the_latest_failures_are_remembered() {
        let mut versions = Versions::default();
        for i in 0..20 {
            let ticket = begin(&mut versions, &format!("v{i}"));
            versions.finish(&ticket, Err(failure()), at(i));
        }
        let names: Vec<_> = versions.others().keys().map(ToString::to_string).collect();
        assert_eq!(names, ["v12", "v13", "v14", "v15", "v16", "v17", "v18", "v19"]);
    }

    proptest! {
        /// Whatever is asked in whatever order: at most one version beside the active one, never one twice, and what was
        /// active stays so unless another takes its place.
        #[test]
        fn the_server_never_holds_more_than_it_may(calls in prop::collection::vec((0..6u8, 0..4u8), 0..60)) {
            let mut versions = Versions::default();
            let mut tickets: Vec<Ticket> = Vec::new();
            for (i, (call, name)) in calls.into_iter().enumerate() {
                let (version, now) = (id(&format!("v{name}")), at(i as i64));
                let active = versions.active().map(|(version, _)| version.clone());
                match call {
                    0 => tickets.extend(versions.prepare(&version, None, now).ok().flatten()),
                    1 => { let _ = versions.discard(&version); }
                    2 => { let _ = versions.activate(&version, now); }
                    call => if let Some(ticket) = tickets.pop() {
                        let result = if call == 3 { Err(failure()) } else { Ok(call) };
                        versions.finish(&ticket, result, now);
                    }
                }
                let live = versions.others().values().filter(|held| !matches!(held.phase, Phase::Failed(_))).count();
                prop_assert!(live <= 1);
                if let Some(active) = active {
                    prop_assert!(versions.active().is_some());
                    prop_assert!(call == 2 || versions.active().unwrap().0 == &active);
                }
                if let Some((active, held)) = versions.active() {
                    prop_assert!(matches!(held.phase, Phase::Active(_)) && !versions.others().contains_key(active));
                }
                prop_assert!(versions.others().values().all(|held| !matches!(held.phase, Phase::Active(_))));
            }
        }
    }
}
