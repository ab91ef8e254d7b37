//! What is to be worked on next: each object at most once at a time, what was begun before what is new, and what failed
//! later and later.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::observed::Key;

/// The first wait after a failure, and the longest.
const WAIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Every so many picks the oldest of what is new comes first, so that it is not put off for ever.
const TURN: u64 = 8;

/// So many objects that wait to be worked on are much.
const MUCH: usize = 16;

/// What comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// It has been begun: finish it.
    Begun,
    /// It is new.
    New,
}

/// How often in a row work on an object has failed.
#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    /// When it is tried again though nothing changes.
    retry: Instant,
}

/// The queue, without waiting.
#[derive(Debug, Default)]
pub struct Order {
    ready: BTreeSet<(Class, u64, Key)>,
    places: HashMap<Key, (Class, u64)>,
    later: BTreeSet<(Instant, Key)>,
    due: HashMap<Key, (Instant, Class)>,
    running: HashMap<Key, Option<(Instant, Class)>>,
    failures: HashMap<Key, Failures>,
    number: u64,
    picks: u64,
    /// When many waited last, as far as somebody asked.
    busy: Option<Instant>,
}

impl Order {
    /// Asks for work on an object at that time, or before, if that was asked for already.
    pub fn add(&mut self, key: Key, class: Class, when: Instant, now: Instant) {
        if let Some(again) = self.running.get_mut(&key) {
            if again.is_none_or(|(before, _)| when < before) {
                *again = Some((when, class));
            }
            return;
        }
        if self.places.contains_key(&key) {
            return;
        }
        if when <= now {
            self.forget_due(&key);
            self.number += 1;
            self.places.insert(key.clone(), (class, self.number));
            self.ready.insert((class, self.number, key));
        } else if self.due.get(&key).is_none_or(|(before, _)| when < *before) {
            self.forget_due(&key);
            self.due.insert(key.clone(), (when, class));
            self.later.insert((when, key));
        }
    }

    fn forget_due(&mut self, key: &Key) {
        if let Some((when, _)) = self.due.remove(key) {
            self.later.remove(&(when, key.clone()));
        }
    }

    /// The next object to work on; else when one will be due.
    pub fn take(&mut self, now: Instant) -> Result<Key, Option<Instant>> {
        while let Some((when, key)) = self.later.first().filter(|(when, _)| *when <= now).cloned() {
            let class = self.due.get(&key).map_or(Class::Begun, |(_, class)| *class);
            self.add(key, class, when, now);
        }
        let new = || self.ready.range((Class::New, 0, super::observed::key("", ""))..).next();
        let first =
            if self.picks % TURN == TURN - 1 { new().or_else(|| self.ready.first()) } else { self.ready.first() };
        let Some(first) = first.cloned() else { return Err(self.later.first().map(|(when, _)| *when)) };
        self.picks += 1;
        self.ready.remove(&first);
        let (_, _, key) = first;
        self.places.remove(&key);
        self.running.insert(key.clone(), None);
        Ok(key)
    }

    /// Work on an object has ended well. `next`: when to look at it again though nothing changes.
    pub fn succeed(&mut self, key: &Key, next: Option<Instant>, now: Instant) {
        self.failures.remove(key);
        let again = self.running.remove(key).flatten();
        for (when, class) in again.into_iter().chain(next.map(|when| (when, Class::Begun))) {
            self.add(key.clone(), class, when, now);
        }
    }

    /// Work on an object has failed: it is tried again after a wait that doubles. A change is looked at when it comes, and
    /// lengthens no wait: what a person does about the cause must not put off that it is seen. `random` in 0..1.
    pub fn fail(&mut self, key: &Key, now: Instant, random: f64) -> Duration {
        let failures = match self.failures.get(key) {
            Some(failures) if failures.retry > now => *failures,
            failures => {
                let count = failures.map_or(0, |failures| failures.count);
                let wait = WAIT.0.saturating_mul(2u32.saturating_pow(count)).min(WAIT.1).mul_f64(1.0 - random / 2.0);
                Failures { count: count + 1, retry: now + wait }
            }
        };
        self.failures.insert(key.clone(), failures);
        let again = self.running.remove(key).flatten();
        for (when, class) in again.into_iter().chain([(failures.retry, Class::Begun)]) {
            self.add(key.clone(), class, when, now);
        }
        failures.retry - now
    }

    /// Objects that wait to be worked on now.
    pub fn waiting(&self) -> usize {
        self.ready.len()
    }

    /// Whether many do, or did within that time.
    pub fn was_busy(&mut self, within: Duration, now: Instant) -> bool {
        if self.ready.len() > MUCH {
            self.busy = Some(now);
        }
        self.busy.is_some_and(|last| now.duration_since(last) < within)
    }
}

/// The queue.
#[derive(Debug, Default)]
pub struct Queue {
    order: Mutex<Order>,
    changed: Notify,
    open: AtomicBool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for work on an object after a while.
    pub fn add(&self, key: Key, class: Class, after: Duration) {
        let now = Instant::now();
        self.lock().add(key, class, now + after, now);
        self.changed.notify_one();
    }

    /// From now on there is something to work on.
    pub fn open(&self) {
        self.open.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    /// Whoever else has the lease works on it now.
    pub fn close(&self) {
        self.open.store(false, Ordering::Release);
    }

    /// The next object to work on.
    pub async fn next(&self) -> Key {
        loop {
            if !self.open.load(Ordering::Acquire) {
                self.changed.notified().await;
                continue;
            }
            let taken = self.lock().take(Instant::now());
            match taken {
                Ok(key) => {
                    // Another worker may find another one.
                    self.changed.notify_one();
                    return key;
                }
                Err(None) => self.changed.notified().await,
                Err(Some(when)) => {
                    let due = tokio::time::sleep_until(when.into());
                    tokio::select! {
                        () = self.changed.notified() => {}
                        () = due => {}
                    }
                }
            }
        }
    }

    /// Work on an object has ended well.
    pub fn succeed(&self, key: &Key, next: Option<Duration>) {
        let now = Instant::now();
        self.lock().succeed(key, next.map(|wait| now + wait), now);
        self.changed.notify_one();
    }

    /// Work on an object has failed. Returns how long it waits.
    pub fn fail(&self, key: &Key) -> Duration {
        let wait = self.lock().fail(key, Instant::now(), rand::random());
        self.changed.notify_one();
        wait
    }

    /// Objects that wait to be worked on now.
    pub fn waiting(&self) -> usize {
        self.lock().waiting()
    }

    /// Whether many do.
    pub fn is_busy(&self) -> bool {
        self.waiting() > MUCH
    }

    /// Whether many do, or did within that time.
    pub fn was_busy(&self, within: Duration) -> bool {
        self.lock().was_busy(within, Instant::now())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::observed::key;
    use super::*;

    fn second(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn what_was_begun_is_finished_first_and_nothing_runs_twice_at_a_time() {
        let now = Instant::now();
        let mut order = Order::default();
        let (old, new) = (key("n", "old"), key("n", "new"));
        order.add(new.clone(), Class::New, now, now);
        order.add(old.clone(), Class::Begun, now, now);
        order.add(old.clone(), Class::Begun, now, now);
        assert_eq!(order.take(now), Ok(old.clone()));
        order.add(old.clone(), Class::Begun, now, now);
        assert_eq!(order.take(now), Ok(new.clone()));
        assert_eq!(order.take(now), Err(None), "it runs already");
        order.succeed(&old, None, now);
        assert_eq!(order.take(now), Ok(old.clone()), "asked for while it ran");
        order.succeed(&old, Some(now + second(9)), now);
        order.succeed(&new, None, now);
        assert_eq!(order.take(now), Err(Some(now + second(9))));
        order.add(old.clone(), Class::Begun, now + second(3), now);
        assert_eq!(order.take(now), Err(Some(now + second(3))), "the earlier time counts");
        assert_eq!(order.take(now + second(3)), Ok(old));
    }

    #[test]
    fn what_is_new_gets_its_turn() {
        let now = Instant::now();
        let mut order = Order::default();
        for i in 0..100 {
            order.add(key("n", &format!("begun{i}")), Class::Begun, now, now);
        }
        order.add(key("n", "new"), Class::New, now, now);
        let place = (0..100).position(|_| order.take(now).unwrap() == key("n", "new")).unwrap();
        assert!(place < 8, "{place}");
    }

    #[test]
    fn it_is_busy_for_a_while_after_many_have_waited() {
        let now = Instant::now();
        let mut order = Order::default();
        assert!(!order.was_busy(second(20), now));
        for i in 0..=MUCH {
            order.add(key("n", &format!("a{i}")), Class::New, now, now);
        }
        assert!(order.was_busy(second(20), now));
        for _ in 0..=MUCH {
            order.take(now).unwrap();
        }
        assert!(order.was_busy(second(20), now + second(19)));
        assert!(!order.was_busy(second(20), now + second(20)));
    }

    #[test]
    fn what_fails_waits_longer_each_time() {
        let now = Instant::now();
        let mut order = Order::default();
        let object = key("n", "a");
        let mut waits = Vec::new();
        let mut at = now;
        for _ in 0..11 {
            order.add(object.clone(), Class::Begun, at, at);
            assert_eq!(order.take(at), Ok(object.clone()));
            let wait = order.fail(&object, at, 0.0);
            waits.push(wait.as_secs());
            assert_eq!(order.take(at), Err(Some(at + wait)));
            at += wait;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60]);
    }

    #[test]
    fn a_change_is_looked_at_when_it_comes_and_lengthens_no_wait() {
        let now = Instant::now();
        let mut order = Order::default();
        let object = key("n", "a");
        order.add(object.clone(), Class::Begun, now, now);
        assert_eq!(order.take(now), Ok(object.clone()));
        assert_eq!(order.fail(&object, now, 0.0), second(1));
        for tenth in 1..10 {
            let at = now + Duration::from_millis(100 * tenth);
            order.add(object.clone(), Class::Begun, at, at);
            assert_eq!(order.take(at), Ok(object.clone()));
            order.fail(&object, at, 0.0);
            assert_eq!(order.take(at), Err(Some(now + second(1))));
        }
        // What changes while it is worked on is not lost either.
        assert_eq!(order.take(now + second(1)), Ok(object.clone()));
        order.add(object.clone(), Class::Begun, now + second(1), now + second(1));
        assert_eq!(order.fail(&object, now + second(1), 0.0), second(2));
        assert_eq!(order.take(now + second(1)), Ok(object));
    }
}
