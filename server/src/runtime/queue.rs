//! Which work comes next: a data structure that knows neither threads nor clocks.
//!
//! Work falls into classes by its size. Between classes it is weighted fair queueing (Demers, Keshav and Shenker 1989,
//! with the self-clocked virtual time of Golestani 1994): a row of large work costs more virtual time than one of small
//! work, and the class whose next piece would finish first in virtual time is served. So what is small goes first as long
//! as there is little of it, and however much there is of it, what is large gets its share. Within a class the nearest
//! deadline goes first.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Instant;

/// The largest size of each class, in rows, and the virtual time of a row.
const CLASSES: [(usize, u64); 3] = [(512, 1), (8192, 4), (usize::MAX, 16)];

/// What waits.
#[derive(Debug)]
pub(super) struct Queue<T> {
    classes: [Class<T>; CLASSES.len()],
    /// Virtual time at which the last served piece began.
    now: u64,
    next: u64,
}

#[derive(Debug)]
struct Class<T> {
    waiting: BTreeMap<(Instant, u64), Waiting<T>>,
    /// Virtual time up to which the class has been served.
    served: u64,
    /// Rows of all its pieces, and of what follows them.
    rows: usize,
}

#[derive(Debug)]
struct Waiting<T> {
    item: T,
    pieces: Range<usize>,
    cost: usize,
    after: usize,
}

impl<T> Waiting<T> {
    /// Rows that are still to be done, those of later stages too.
    fn rows(&self) -> usize {
        self.pieces.len() * self.cost + self.after
    }
}

/// The place of a piece of work among others, for as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    class: usize,
    deadline: Instant,
    number: u64,
}

/// Pieces of work that may be done in any order and at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stage {
    /// How many, at least one.
    pub(super) pieces: usize,
    /// Rows of each.
    pub(super) cost: usize,
    /// Rows of the stages that will follow: they are as good as waiting.
    pub(super) after: usize,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Work<T> {
    pub(super) item: T,
    pub(super) ticket: Ticket,
    /// Which piece, from 0.
    pub(super) piece: usize,
    pub(super) cost: usize,
}

impl<T: Clone> Queue<T> {
    pub(super) fn new() -> Self {
        let class = || Class { waiting: BTreeMap::new(), served: 0, rows: 0 };
        Self { classes: std::array::from_fn(|_| class()), now: 0, next: 0 }
    }

    /// A place for work of so many rows in all.
    pub(super) fn ticket(&mut self, size: usize, deadline: Instant) -> Ticket {
        self.next += 1;
        Ticket { class: class(size), deadline, number: self.next }
    }

    /// Lets a stage of some work wait. There is at most one of a ticket.
    pub(super) fn push(&mut self, ticket: Ticket, stage: Stage, item: T) {
        let class = &mut self.classes[ticket.class];
        if class.waiting.is_empty() {
            // A class that had nothing to do has saved nothing up.
            class.served = class.served.max(self.now);
        }
        let waiting = Waiting { item, pieces: 0..stage.pieces, cost: stage.cost, after: stage.after };
        class.rows += waiting.rows();
        class.waiting.insert((ticket.deadline, ticket.number), waiting);
    }

    /// The next piece. Work whose deadline has passed goes to `expired` instead.
    pub(super) fn pop(&mut self, now: Instant, expired: &mut Vec<T>) -> Option<Work<T>> {
        self.expire(now, expired);
        let finish = |class: &Class<T>, price| {
            class.waiting.first_key_value().map(|(_, waiting)| class.served + waiting.cost as u64 * price)
        };
        let (_, index) = self
            .classes
            .iter()
            .zip(CLASSES)
            .enumerate()
            .filter_map(|(index, (class, (_, price)))| Some((finish(class, price)?, index)))
            .min()?;
        let class = &mut self.classes[index];
        let mut first = class.waiting.first_entry()?;
        let (deadline, number) = *first.key();
        let waiting = first.get_mut();
        let (piece, cost) = (waiting.pieces.start, waiting.cost);
        waiting.pieces.start += 1;
        class.rows -= cost;
        let item = if waiting.pieces.is_empty() {
            // What follows waits again once it is pushed.
            class.rows -= waiting.after;
            first.remove().item
        } else {
            waiting.item.clone()
        };
        self.now = class.served;
        class.served += cost as u64 * CLASSES[index].1;
        Some(Work { item, ticket: Ticket { class: index, deadline, number }, piece, cost })
    }

    fn expire(&mut self, now: Instant, expired: &mut Vec<T>) {
        for class in &mut self.classes {
            while let Some(first) = class.waiting.first_entry() {
                if first.key().0 > now {
                    break;
                }
                let waiting = first.remove();
                class.rows -= waiting.rows();
                expired.push(waiting.item);
            }
        }
    }

    /// Takes back what waits of some work.
    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<T> {
        let class = &mut self.classes[ticket.class];
        let waiting = class.waiting.remove(&(ticket.deadline, ticket.number))?;
        class.rows -= waiting.rows();
        Some(waiting.item)
    }

    /// How much work waits, whatever its pieces.
    pub(super) fn len(&self) -> usize {
        self.classes.iter().map(|class| class.waiting.len()).sum()
    }

    /// Rows that wait.
    pub(super) fn rows(&self) -> usize {
        self.classes.iter().map(|class| class.rows).sum()
    }

    /// Rows that wait and are likely to come before work of this size.
    pub(super) fn rows_before(&self, size: usize) -> usize {
        self.classes[..=class(size)].iter().map(|class| class.rows).sum()
    }
}

fn class(size: usize) -> usize {
    CLASSES.iter().position(|(largest, _)| size <= *largest).unwrap_or(CLASSES.len() - 1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::LazyLock;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    static START: LazyLock<Instant> = LazyLock::new(Instant::now);

    fn at(ms: u64) -> Instant {
        *START + Duration::from_millis(ms)
    }

    const FAR: u64 = 1_000_000;

    fn push(queue: &mut Queue<u32>, item: u32, pieces: usize, cost: usize, deadline: u64) -> Ticket {
        let ticket = queue.ticket(pieces * cost, at(deadline));
        queue.push(ticket, Stage { pieces, cost, after: 0 }, item);
        ticket
    }

    fn drain(queue: &mut Queue<u32>, now: u64) -> Vec<u32> {
        let mut order = Vec::new();
        while let Some(work) = queue.pop(at(now), &mut Vec::new()) {
            order.push(work.item);
        }
        order
    }

    #[test]
    fn small_work_overtakes_large_between_its_pieces() {
        let mut queue = Queue::new();
        push(&mut queue, 1, 100, 1024, 10);
        assert_eq!(queue.pop(at(0), &mut Vec::new()).unwrap().item, 1);
        for small in 2..5 {
            push(&mut queue, small, 1, 64, FAR);
        }
        let order = drain(&mut queue, 0);
        assert_eq!(order[..3], [2, 3, 4]);
        assert_eq!(order.len(), 3 + 99);
    }

    #[test]
    fn what_follows_a_stage_waits_with_it() {
        let mut queue = Queue::new();
        let ticket = queue.ticket(5000, at(FAR));
        queue.push(ticket, Stage { pieces: 2, cost: 100, after: 4800 }, 1);
        assert_eq!((queue.rows(), queue.rows_before(10_000)), (5000, 5000));
        queue.pop(at(0), &mut Vec::new()).unwrap();
        assert_eq!(queue.rows(), 4900);
        queue.pop(at(0), &mut Vec::new()).unwrap();
        assert_eq!(queue.rows(), 0);
        queue.push(ticket, Stage { pieces: 1, cost: 100, after: 4700 }, 1);
        assert_eq!(queue.remove(ticket), Some(1));
        assert_eq!(queue.rows(), 0);
    }

    #[test]
    fn within_a_class_the_nearest_deadline_goes_first() {
        let mut queue = Queue::new();
        push(&mut queue, 1, 1, 64, 30);
        push(&mut queue, 2, 1, 64, 10);
        push(&mut queue, 3, 1, 64, 20);
        push(&mut queue, 4, 1, 64, 10);
        assert_eq!(drain(&mut queue, 0), [2, 4, 3, 1]);
    }

    #[test]
    fn expired_work_is_handed_back_and_never_done() {
        let mut queue = Queue::new();
        push(&mut queue, 1, 50, 1024, 10);
        push(&mut queue, 2, 1, 64, 10);
        push(&mut queue, 3, 1, 64, 11);
        let mut expired = Vec::new();
        let first = queue.pop(at(9), &mut expired).unwrap();
        assert_eq!((first.item, expired.len()), (2, 0));
        assert_eq!(queue.pop(at(10), &mut expired).unwrap().item, 3);
        assert_eq!(expired, [1], "between its pieces too");
        assert_eq!((queue.len(), queue.rows()), (0, 0));
    }

    #[test]
    fn a_stage_that_follows_keeps_its_place() {
        let mut queue = Queue::new();
        let ticket = push(&mut queue, 1, 1, 10_000, 10);
        push(&mut queue, 2, 1, 10_000, 20);
        assert_eq!(queue.pop(at(0), &mut Vec::new()).unwrap().ticket, ticket);
        queue.push(ticket, Stage { pieces: 2, cost: 500, after: 0 }, 1);
        assert_eq!(drain(&mut queue, 0), [1, 1, 2]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push { pieces: usize, cost: usize, deadline: u64 },
        Pop,
        Remove(prop::sample::Index),
        Wait(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let push = (1usize..5, prop_oneof![1usize..600, 600usize..20_000], 0u64..100);
        prop::collection::vec(
            prop_oneof![
                4 => push.prop_map(|(pieces, cost, deadline)| Step::Push { pieces, cost, deadline }),
                4 => Just(Step::Pop),
                1 => any::<prop::sample::Index>().prop_map(Step::Remove),
                1 => (0u64..20).prop_map(Step::Wait),
            ],
            0..200,
        )
    }

    proptest! {
        /// Whatever happens, each piece is handed out once, or not at all once its work is expired or removed; what the
        /// queue says of itself is what a plain model says.
        #[test]
        fn nothing_is_lost_or_done_twice(steps in steps()) {
            let mut queue = Queue::new();
            let mut model: BTreeMap<u32, (Ticket, Stage, usize, u64)> = BTreeMap::new();
            let (mut now, mut next) = (0, 0);
            for step in steps {
                match step {
                    Step::Push { pieces, cost, deadline } => {
                        next += 1;
                        let deadline = now + 1 + deadline;
                        let ticket = push(&mut queue, next, pieces, cost, deadline);
                        model.insert(next, (ticket, Stage { pieces, cost, after: 0 }, 0, deadline));
                    }
                    Step::Pop => {
                        let mut expired = Vec::new();
                        let work = queue.pop(at(now), &mut expired);
                        for item in expired {
                            let (.., deadline) = model.remove(&item).unwrap();
                            prop_assert!(deadline <= now);
                        }
                        prop_assert!(model.values().all(|(.., deadline)| *deadline > now));
                        prop_assert_eq!(work.is_none(), model.is_empty());
                        if let Some(work) = work {
                            let (ticket, stage, done, _) = model.get_mut(&work.item).unwrap();
                            prop_assert_eq!((work.ticket, work.piece, work.cost), (*ticket, *done, stage.cost));
                            *done += 1;
                            // None of its class has a nearer deadline.
                            let nearest = model.values().filter(|(t, ..)| t.class == work.ticket.class);
                            prop_assert!(nearest.into_iter().all(|(t, ..)| t.deadline >= work.ticket.deadline));
                            model.retain(|_, (_, stage, done, _)| *done < stage.pieces);
                        }
                    }
                    Step::Remove(index) if !model.is_empty() => {
                        let item = *model.keys().nth(index.index(model.len())).unwrap();
                        let (ticket, ..) = model.remove(&item).unwrap();
                        prop_assert_eq!(queue.remove(ticket), Some(item));
                        prop_assert_eq!(queue.remove(ticket), None);
                    }
                    Step::Remove(_) => {}
                    Step::Wait(time) => now += time,
                }
                let rows: usize = model.values().map(|(_, stage, done, _)| (stage.pieces - done) * stage.cost).sum();
                prop_assert_eq!((queue.len(), queue.rows()), (model.len(), rows));
            }
        }

        /// However much small work comes, large work gets a piece after so many rows of it at the latest.
        #[test]
        fn large_work_is_never_starved(smalls in prop::collection::vec(1usize..=8192, 500), large in 1usize..2000) {
            let mut queue = Queue::new();
            let ticket = queue.ticket(usize::MAX, at(FAR));
            queue.push(ticket, Stage { pieces: usize::MAX / 4000, cost: large, after: 0 }, 0);
            let mut since = 0;
            for (item, cost) in (1..).zip(smalls.iter().cycle().take(5000)) {
                // More comes in than can be done.
                push(&mut queue, item, 1, *cost, FAR);
                push(&mut queue, item + 10_000, 1, *cost, FAR);
                let work = queue.pop(at(0), &mut Vec::new()).unwrap();
                since = if work.item == 0 { 0 } else { since + work.cost };
                prop_assert!(since <= 2 * 16 * large + 2 * 8192 * 4, "{since} rows");
            }
        }

        /// However much large work waits, small work waits for one piece of it at most.
        #[test]
        fn small_work_goes_before_large_that_waits(larges in prop::collection::vec(600usize..5000, 1..20), before in 0usize..40) {
            let mut queue = Queue::new();
            for (item, cost) in (0..).zip(&larges) {
                push(&mut queue, item, 20, *cost, 10);
            }
            for _ in 0..before.min(20 * larges.len() - 1) {
                queue.pop(at(0), &mut Vec::new()).unwrap();
            }
            push(&mut queue, 1000, 1, 64, FAR);
            prop_assert_eq!(queue.pop(at(0), &mut Vec::new()).unwrap().item, 1000);
        }
    }
}
