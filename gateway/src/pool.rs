//! The endpoints that one group of a task's requests may go to, and the choice between them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::Rng;

use crate::backend::{Backend, Lease, Link};
use crate::balance::choice;
use crate::balance::ejection::{Admission, Ejection};
use crate::balance::ewma::PeakEwma;
use crate::routes;

/// A server as one task sees it.
#[derive(Debug)]
pub struct Endpoint {
    /// Its connections, shared with other tasks that it serves.
    pub backend: Arc<Backend>,
    tracked: Mutex<Tracked>,
}

#[derive(Clone, Copy, Debug)]
struct Tracked {
    load: PeakEwma,
    ejection: Ejection,
}

impl Endpoint {
    fn tracked(&self) -> MutexGuard<'_, Tracked> {
        self.tracked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Latency and requests in flight, for people.
    pub fn load(&self, now: Instant) -> (Duration, u32) {
        let tracked = self.tracked();
        (Duration::from_secs_f64(tracked.load.latency(now)), tracked.load.pending())
    }

    /// What requests find here.
    pub fn state(&self, now: Instant) -> &'static str {
        match (self.tracked().ejection.admission(now), self.backend.link()) {
            (Admission::Ejected, _) => "ejected",
            (_, Link::Up) => "up",
            (_, Link::Idle | Link::Connecting) => "idle",
            (_, Link::Down(_)) => "down",
        }
    }
}

/// The states of [`Endpoint::state`].
pub const STATES: [&str; 4] = ["up", "idle", "down", "ejected"];

/// A request at an endpoint. Dropped without an end it says nothing about the endpoint.
pub struct Visit {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// When it began.
    pub begun: Instant,
    is_ended: bool,
}

impl Visit {
    /// It answered.
    pub fn succeed(mut self, now: Instant) {
        self.is_ended = true;
        let mut tracked = self.endpoint.tracked();
        tracked.load.end();
        tracked.load.observe(now, now - self.begun);
        tracked.ejection.succeed();
    }

    /// It answered that it has too much to do: others are better, and it is not broken.
    pub fn push_back(mut self, now: Instant) {
        self.is_ended = true;
        let mut tracked = self.endpoint.tracked();
        tracked.load.end();
        tracked.load.penalise(now, now - self.begun);
        tracked.ejection.succeed();
    }

    /// It failed. Returns how long it rests, when it does from now on.
    pub fn fail(mut self, now: Instant) -> Option<Duration> {
        self.is_ended = true;
        let mut tracked = self.endpoint.tracked();
        tracked.load.end();
        tracked.load.penalise(now, now - self.begun);
        tracked.ejection.fail(now)
    }

    /// It did not answer in a time that may have been too short.
    pub fn run_late(mut self, now: Instant) {
        self.is_ended = true;
        let mut tracked = self.endpoint.tracked();
        tracked.load.end();
        tracked.load.observe(now, now - self.begun);
        tracked.ejection.give_up();
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if !self.is_ended {
            let mut tracked = self.endpoint.tracked();
            tracked.load.end();
            tracked.ejection.give_up();
        }
    }
}

/// Endpoints with their weights.
#[derive(Debug, Default)]
pub struct Pool {
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    endpoint: Arc<Endpoint>,
    weight: f64,
}

/// What a choice found.
pub enum Chosen {
    /// A request may go out.
    Ready(Visit, Lease),
    /// No endpoint is connected; one of these may soon be.
    Wait(Vec<Arc<Backend>>),
    /// There is none, or none that can be used.
    None {
        /// Why, by endpoint.
        reason: String,
    },
}

/// How many endpoints are connected to at once for one request.
const DIALS: usize = 3;

impl Pool {
    /// The endpoints of a routes file. Those that were there before keep what is known about them.
    pub fn new(
        endpoints: &[routes::Endpoint],
        before: Option<&Pool>,
        now: Instant,
        mut backend: impl FnMut(&str) -> Arc<Backend>,
    ) -> Self {
        let known: HashMap<&str, &Arc<Endpoint>> = before
            .into_iter()
            .flat_map(|pool| &pool.members)
            .map(|member| (&**member.endpoint.backend.address(), &member.endpoint))
            .collect();
        let latencies = || known.values().map(|endpoint| endpoint.tracked().load.latency(now));
        let members = endpoints
            .iter()
            .map(|endpoint| Member {
                endpoint: known.get(endpoint.address.as_str()).map_or_else(
                    || {
                        let load = PeakEwma::new(now, latencies());
                        let tracked = Mutex::new(Tracked { load, ejection: Ejection::default() });
                        Arc::new(Endpoint { backend: backend(&endpoint.address), tracked })
                    },
                    |known| (*known).clone(),
                ),
                weight: endpoint.weight,
            })
            .collect();
        Self { members }
    }

    /// Endpoints and weights.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Arc<Endpoint>, f64)> {
        self.members.iter().map(|member| (&member.endpoint, member.weight))
    }

    /// Number of endpoints.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// How many endpoints are in each of [`STATES`].
    pub fn states(&self, now: Instant) -> [(&'static str, usize); 4] {
        let mut counts = STATES.map(|state| (state, 0));
        for member in &self.members {
            let state = member.endpoint.state(now);
            if let Some((_, count)) = counts.iter_mut().find(|(known, _)| *known == state) {
                *count += 1;
            }
        }
        counts
    }

    /// Chooses an endpoint that the request has not tried yet. `at_any_rate`: where all are ejected, one of them after
    /// all, since nothing else is left to ask.
    pub fn choose(&self, now: Instant, tried: &[Arc<Endpoint>], at_any_rate: bool, rng: &mut impl Rng) -> Chosen {
        let is_untried = |endpoint: &Arc<Endpoint>| !tried.iter().any(|tried| Arc::ptr_eq(tried, endpoint));
        let connected = |index: usize| {
            let member = &self.members[index];
            if !is_untried(&member.endpoint) {
                return None;
            }
            if !member.endpoint.backend.is_up() {
                // Ready for those to come.
                member.endpoint.backend.want();
                return None;
            }
            Some(member)
        };
        let open = choice::choose(self.members.len(), rng, |index| {
            let member = connected(index)?;
            let tracked = member.endpoint.tracked();
            let is_open = tracked.ejection.admission(now) != Admission::Ejected;
            is_open.then(|| tracked.load.load(now, member.weight))
        });
        let open = match open {
            None if at_any_rate => choice::choose(self.members.len(), rng, |index| {
                let member = connected(index)?;
                Some(member.endpoint.tracked().load.load(now, member.weight))
            }),
            open => open,
        };
        if let Some(index) = open {
            let endpoint = self.members[index].endpoint.clone();
            if let Some(lease) = endpoint.backend.lease() {
                let mut tracked = endpoint.tracked();
                tracked.load.begin();
                tracked.ejection.begin(now);
                drop(tracked);
                return Chosen::Ready(Visit { endpoint, begun: now, is_ended: false }, lease);
            }
        }
        self.wait(now, tried, rng)
    }

    /// Whether the request could go to an endpoint other than those tried.
    pub fn has_other(&self, tried: &[Arc<Endpoint>]) -> bool {
        self.members.iter().any(|member| !tried.iter().any(|tried| Arc::ptr_eq(tried, &member.endpoint)))
    }

    /// Connects to a few of those that may come up.
    fn wait(&self, now: Instant, tried: &[Arc<Endpoint>], rng: &mut impl Rng) -> Chosen {
        let start = if self.members.is_empty() { 0 } else { rng.random_range(0..self.members.len()) };
        let (before, after) = self.members.split_at(start);
        let mut dialled = Vec::new();
        let mut reasons = Vec::new();
        for Member { endpoint, .. } in after.iter().chain(before) {
            let address = endpoint.backend.address();
            if tried.iter().any(|tried| Arc::ptr_eq(tried, endpoint)) {
                continue;
            }
            match (endpoint.tracked().ejection.admission(now), endpoint.backend.link()) {
                (_, Link::Down(reason)) => reasons.push(format!("{address}: {reason}")),
                (Admission::Ejected, _) => reasons.push(format!("{address}: failed too often, rests")),
                (_, Link::Up | Link::Idle | Link::Connecting) => {
                    endpoint.backend.want();
                    dialled.push(endpoint.backend.clone());
                    if dialled.len() == DIALS {
                        break;
                    }
                }
            }
        }
        if !dialled.is_empty() {
            return Chosen::Wait(dialled);
        }
        reasons.truncate(DIALS);
        let reason = if self.members.is_empty() { "it has none now".to_owned() } else { reasons.join("; ") };
        Chosen::None { reason }
    }
}
