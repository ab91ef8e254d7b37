//! A retry budget: retries stay a share of requests, so that a failing service is not also flooded.
//!
//! See the Google SRE book, "Handling overload", per-client retry budget.

use std::time::{Duration, Instant};

/// Retries per request.
const SHARE: f64 = 0.1;
/// What a task may always retry within the window: a share of few requests is none.
const FLOOR: f64 = 20.0;
/// Slots of one second that are remembered.
const SLOTS: usize = 10;

/// Requests and retries of the last ten seconds.
#[derive(Clone, Debug)]
pub struct RetryBudget {
    slots: [Slot; SLOTS],
    begun: Instant,
    /// The second that the newest slot is of, counted from `begun`.
    second: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    requests: u32,
    retries: u32,
}

impl RetryBudget {
    /// An empty window.
    pub fn new(now: Instant) -> Self {
        Self { slots: [Slot::default(); SLOTS], begun: now, second: 0 }
    }

    /// A request came.
    pub fn deposit(&mut self, now: Instant) {
        self.slot(now).requests += 1;
    }

    /// Takes one retry; false where the budget has none left.
    pub fn withdraw(&mut self, now: Instant) -> bool {
        self.slot(now);
        let sum = |count: fn(&Slot) -> u32| self.slots.iter().map(|slot| f64::from(count(slot))).sum::<f64>();
        let allowed = FLOOR.max(SHARE * sum(|slot| slot.requests));
        let is_allowed = sum(|slot| slot.retries) + 1.0 <= allowed;
        if is_allowed {
            self.slot(now).retries += 1;
        }
        is_allowed
    }

    /// The slot of this second, with older ones forgotten.
    fn slot(&mut self, now: Instant) -> &mut Slot {
        let second = now.saturating_duration_since(self.begun).as_secs().max(self.second);
        let passed = second - self.second;
        for step in 0..passed.min(SLOTS as u64) {
            self.slots[((second - step) % SLOTS as u64) as usize] = Slot::default();
        }
        self.second = second;
        &mut self.slots[(second % SLOTS as u64) as usize]
    }
}

/// How long the window is.
pub const WINDOW: Duration = Duration::from_secs(SLOTS as u64);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn few_requests_may_be_retried_and_many_by_their_share() {
        let now = Instant::now();
        let mut budget = RetryBudget::new(now);
        assert_eq!((0..99).filter(|_| budget.withdraw(now)).count(), 20);
        (0..1000).for_each(|_| budget.deposit(now));
        assert_eq!((0..999).filter(|_| budget.withdraw(now)).count(), 80);
        let later = now + WINDOW;
        assert_eq!((0..99).filter(|_| budget.withdraw(later)).count(), 20);
    }

    proptest! {
        #[test]
        fn retries_never_exceed_the_budget(events in prop::collection::vec((0_u64..2_000, any::<bool>()), 0..400)) {
            let begun = Instant::now();
            let mut budget = RetryBudget::new(begun);
            let mut at = 0;
            let mut requests: Vec<u64> = Vec::new();
            let mut retries: Vec<u64> = Vec::new();
            for (after, is_retry) in events {
                at += after;
                let now = begun + Duration::from_millis(at);
                // The window as the budget has it: whole seconds.
                let oldest = (at / 1000).saturating_sub(SLOTS as u64 - 1) * 1000;
                let within = |times: &[u64]| times.iter().filter(|time| **time >= oldest).count() as f64;
                if !is_retry {
                    budget.deposit(now);
                    requests.push(at);
                } else {
                    let expected = within(&retries) + 1.0 <= FLOOR.max(SHARE * within(&requests));
                    prop_assert_eq!(budget.withdraw(now), expected);
                    if expected {
                        retries.push(at);
                    }
                }
            }
        }
    }
}
