//! Ejection: an endpoint that keeps failing rests, each time for longer, and comes back by one request that tries it.

use std::time::{Duration, Instant};

/// Failures in a row that eject.
const FAILURES: u32 = 5;
/// The first rest.
const FIRST_REST: Duration = Duration::from_secs(1);
/// The longest rest.
const LONGEST_REST: Duration = Duration::from_secs(30);

/// Whether requests may go to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Yes.
    Open,
    /// One may, to try it.
    HalfOpen,
    /// No.
    Ejected,
}

/// What an endpoint's failures have led to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ejection {
    failures: u32,
    /// How often it was ejected since its last success.
    rests: u32,
    until: Option<Instant>,
    is_tried: bool,
}

impl Ejection {
    /// Whether a request may go to it now.
    pub fn admission(&self, now: Instant) -> Admission {
        match self.until {
            None => Admission::Open,
            Some(until) if now < until || self.is_tried => Admission::Ejected,
            Some(_) => Admission::HalfOpen,
        }
    }

    /// A request goes to it.
    pub fn begin(&mut self, now: Instant) {
        if self.admission(now) == Admission::HalfOpen {
            self.is_tried = true;
        }
    }

    /// It answered.
    pub fn succeed(&mut self) {
        *self = Self::default();
    }

    /// A request ended without showing anything.
    pub fn give_up(&mut self) {
        self.is_tried = false;
    }

    /// It failed. Returns how long it rests, when it does from now on.
    pub fn fail(&mut self, now: Instant) -> Option<Duration> {
        self.failures += 1;
        let was_tried = std::mem::take(&mut self.is_tried);
        let is_resting = self.until.is_some_and(|until| now < until);
        // What was in flight when the rest began does not make it longer.
        if is_resting || !(was_tried || self.failures >= FAILURES) {
            return None;
        }
        let rest = FIRST_REST.saturating_mul(1 << self.rests.min(10)).min(LONGEST_REST);
        self.rests += 1;
        self.until = Some(now + rest);
        Some(rest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ejected(now: Instant) -> Ejection {
        let mut ejection = Ejection::default();
        assert!((0..4).all(|_| ejection.fail(now).is_none()));
        assert_eq!(ejection.admission(now), Admission::Open);
        assert_eq!(ejection.fail(now), Some(FIRST_REST));
        ejection
    }

    #[test]
    fn failures_in_a_row_eject_and_a_success_between_them_does_not() {
        let now = Instant::now();
        let mut ejection = ejected(now);
        assert_eq!(ejection.admission(now), Admission::Ejected);
        ejection.succeed();
        assert!((0..4).all(|_| ejection.fail(now).is_none()));
        ejection.succeed();
        assert!((0..4).all(|_| ejection.fail(now).is_none()));
    }

    #[test]
    fn one_request_tries_and_decides() {
        let now = Instant::now();
        let mut ejection = ejected(now);
        let later = now + FIRST_REST;
        assert_eq!(ejection.admission(later), Admission::HalfOpen);
        ejection.begin(later);
        assert_eq!(ejection.admission(later), Admission::Ejected);
        assert_eq!(ejection.fail(later), Some(2 * FIRST_REST));
        let later = later + 2 * FIRST_REST;
        ejection.begin(later);
        ejection.give_up();
        assert_eq!(ejection.admission(later), Admission::HalfOpen);
        ejection.begin(later);
        ejection.succeed();
        assert_eq!(ejection, Ejection::default());
    }

    proptest! {
        #[test]
        fn an_ejected_endpoint_is_always_tried_again(events in prop::collection::vec((0_u64..5_000, 0..4), 0..60)) {
            let mut now = Instant::now();
            let mut ejection = Ejection::default();
            for (after, event) in events {
                now += Duration::from_millis(after);
                match event {
                    0 => ejection.begin(now),
                    1 => ejection.succeed(),
                    2 => ejection.give_up(),
                    _ => {
                        let rest = ejection.fail(now);
                        prop_assert!(rest.is_none_or(|rest| (FIRST_REST..=LONGEST_REST).contains(&rest)));
                    }
                }
                let mut end = ejection;
                end.give_up();
                prop_assert_ne!(end.admission(now + LONGEST_REST), Admission::Ejected);
            }
        }
    }
}
