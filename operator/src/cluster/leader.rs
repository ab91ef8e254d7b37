//! Who may write: one operator at a time, by a Lease.
//!
//! Whoever holds it knows until when, by a clock of its own that counts from before it asked. Before each write it looks at
//! that clock: one that is cut off from the API server stops to write before another begins.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;

use super::names;
use crate::rbac::Rule;

/// What this needs, in the Lease's namespace.
pub const RULES: &[Rule] = &[Rule::new("coordination.k8s.io", &["leases"], &["get", "create", "update"])];

/// How long a claim lasts.
const LASTS: Duration = Duration::from_secs(15);
/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(4);
/// How often others look whether they may take it.
const LOOK: Duration = Duration::from_secs(2);
/// How long a write may take: one that begins while the claim lasts so much longer ends within it.
pub const WRITE: Duration = Duration::from_secs(5);

/// The claim, as those who write see it.
#[derive(Clone, Debug)]
pub struct Claim {
    until: Arc<Mutex<Option<Instant>>>,
    held: watch::Sender<bool>,
}

impl Claim {
    /// One that nobody has gained yet.
    pub(super) fn none() -> Self {
        Self { until: Arc::default(), held: watch::Sender::new(false) }
    }

    /// Whether a write may begin.
    pub fn holds(&self, now: Instant) -> bool {
        self.until.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| now + WRITE <= until)
    }

    /// Tells when it is gained and lost.
    pub fn held(&self) -> watch::Receiver<bool> {
        self.held.subscribe()
    }

    pub(super) fn set(&self, until: Option<Instant>) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = until;
        let held = until.is_some();
        let changed = self.held.send_if_modified(|before| std::mem::replace(before, held) != held);
        if changed {
            tracing::info!(held, "leadership");
        }
    }
}

/// Which Lease, and who asks for it.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Who asks.
    pub identity: String,
}

/// What is to be done with a Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Create,
    Take,
    Renew,
    Wait,
}

/// What is to be done. `unchanged`: for how long it has been as it is, by the clock of whoever looks.
fn step(lease: Option<&Lease>, identity: &str, unchanged: Duration) -> Step {
    let Some(spec) = lease.map(|lease| lease.spec.clone().unwrap_or_default()) else { return Step::Create };
    match spec.holder_identity.as_deref() {
        Some(holder) if holder == identity => Step::Renew,
        None | Some("") => Step::Take,
        Some(_) => {
            let lasts = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(15);
            if unchanged > Duration::from_secs(lasts) { Step::Take } else { Step::Wait }
        }
    }
}

/// The Lease as whoever holds it writes it.
fn written(before: Option<&Lease>, candidate: &Candidate, step: Step, now: Timestamp) -> Lease {
    let mut lease = before.cloned().unwrap_or_default();
    lease.metadata.name = Some(candidate.name.clone());
    lease.metadata.namespace = Some(candidate.namespace.clone());
    lease.metadata.managed_fields = None;
    let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
    if step != Step::Renew {
        spec.acquire_time = Some(MicroTime(now));
        spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(-1).saturating_add(1));
    }
    spec.holder_identity = Some(candidate.identity.clone());
    spec.lease_duration_seconds = i32::try_from(LASTS.as_secs()).ok();
    spec.renew_time = Some(MicroTime(now));
    lease
}

/// Asks for the Lease again and again.
pub struct Election {
    api: Api<Lease>,
    candidate: Candidate,
    claim: Claim,
    /// The Lease as it was seen last, and since when it is so.
    seen: Option<(Lease, Instant)>,
}

impl Election {
    /// One that has not begun.
    pub fn new(client: Client, candidate: Candidate) -> Self {
        let api = Api::namespaced(client, &candidate.namespace);
        Self { api, candidate, claim: Claim::none(), seen: None }
    }

    /// What it leads to.
    pub fn claim(&self) -> Claim {
        self.claim.clone()
    }

    /// Goes on until `stop` ends; then somebody else may have it at once.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        loop {
            let begun = Instant::now();
            let result = tokio::time::timeout(WRITE, self.round(begun)).await;
            let error = match result {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("no answer".to_owned()),
            };
            if let Some(error) = error {
                tracing::warn!(error, "cannot ask for the lease");
                // What is seen may be old: look again.
                if !self.claim.holds(Instant::now()) {
                    self.claim.set(None);
                }
            }
            let wait = if *self.claim.held.borrow() { RENEW } else { LOOK };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = &mut stop => break,
            }
        }
        self.vacate().await;
    }

    async fn round(&mut self, begun: Instant) -> kube::Result<()> {
        let holds = self.claim.holds(begun);
        if !holds || self.seen.is_none() {
            let found = self.api.get_opt(&self.candidate.name).await?;
            self.see(found, begun);
        }
        let lease = self.seen.as_ref().map(|(lease, _)| lease);
        let unchanged = self.seen.as_ref().map_or(Duration::ZERO, |(_, since)| begun - *since);
        let step = step(lease, &self.candidate.identity, unchanged);
        let new = written(lease, &self.candidate, step, Timestamp::now());
        let params = PostParams { field_manager: Some(names::MANAGER.into()), ..PostParams::default() };
        let result = match step {
            Step::Wait => {
                self.claim.set(None);
                return Ok(());
            }
            Step::Create => self.api.create(&params, &new).await,
            Step::Take | Step::Renew => self.api.replace(&self.candidate.name, &params, &new).await,
        };
        match result {
            Ok(lease) => {
                self.seen = Some((lease, begun));
                self.claim.set(Some(begun + LASTS));
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 409 || status.code == 404 => {
                // Somebody else was there first.
                self.seen = None;
                self.claim.set(None);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn see(&mut self, found: Option<Lease>, now: Instant) {
        let version = |lease: &Lease| lease.metadata.resource_version.clone();
        self.seen = found.map(|found| match &self.seen {
            Some((before, since)) if version(before) == version(&found) => (found, *since),
            _ => (found, now),
        });
    }

    async fn vacate(mut self) {
        let held = *self.claim.held.borrow();
        self.claim.set(None);
        let Some((mut lease, _)) = self.seen.take().filter(|_| held) else { return };
        lease.metadata.managed_fields = None;
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
        }
        let params = PostParams::default();
        let replaced = self.api.replace(&self.candidate.name, &params, &lease);
        match tokio::time::timeout(WRITE, replaced).await {
            Ok(Ok(_)) => tracing::info!("the lease is free"),
            Ok(Err(error)) => tracing::warn!(%error, "the lease could not be given back; it ends by itself"),
            Err(_) => tracing::warn!("the lease could not be given back in time; it ends by itself"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn lease(holder: Option<&str>) -> Lease {
        let spec = LeaseSpec {
            holder_identity: holder.map(str::to_owned),
            lease_duration_seconds: Some(15),
            lease_transitions: Some(3),
            ..LeaseSpec::default()
        };
        Lease { spec: Some(spec), ..Lease::default() }
    }

    #[test]
    fn a_lease_is_taken_when_nobody_has_renewed_it_for_its_time() {
        let second = Duration::from_secs;
        assert_eq!(step(None, "a", second(0)), Step::Create);
        assert_eq!(step(Some(&lease(None)), "a", second(0)), Step::Take);
        assert_eq!(step(Some(&lease(Some("a"))), "a", second(99)), Step::Renew);
        assert_eq!(step(Some(&lease(Some("b"))), "a", second(15)), Step::Wait);
        assert_eq!(step(Some(&lease(Some("b"))), "a", second(16)), Step::Take);
    }

    #[test]
    fn a_change_of_holder_is_counted() {
        let candidate = Candidate { namespace: "n".into(), name: "l".into(), identity: "a".into() };
        let now = Timestamp::UNIX_EPOCH;
        let transitions =
            |step, before: Option<&Lease>| written(before, &candidate, step, now).spec.unwrap().lease_transitions;
        assert_eq!(transitions(Step::Create, None), Some(0));
        assert_eq!(transitions(Step::Take, Some(&lease(Some("b")))), Some(4));
        assert_eq!(transitions(Step::Renew, Some(&lease(Some("a")))), Some(3));
    }

    #[test]
    fn whoever_is_cut_off_stops_before_another_begins() {
        let claim = Claim::none();
        let begun = Instant::now();
        assert!(!claim.holds(begun));
        claim.set(Some(begun + LASTS));
        assert!(claim.holds(begun) && claim.holds(begun + LASTS - WRITE));
        // A write that would begin now might end when somebody else has the lease.
        assert!(!claim.holds(begun + LASTS - WRITE + Duration::from_millis(1)));
    }
}
