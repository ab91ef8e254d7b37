//! Compute threads around a [`Queue`].
//!
//! To wake a thread costs as much as a small job. So a few small jobs wait [quietly](Submitted::Quiet): whoever submitted
//! one computes it itself once it has nothing else to do, unless more came meanwhile and woke a thread, or one was awake.

use std::any::Any;
use std::cell::RefCell;
use std::io;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::queue::{Queue, Stage, Ticket, Work};
use crate::compute::scratch::Scratch;
use crate::compute::threads::{allowed_cores, panic_message, pin_current_thread};

/// Something to compute, in stages of one or more pieces.
pub(super) trait Job: Send + Sync + 'static {
    /// Computes a piece of the stage that waits; the last piece of a stage gives the next stage, if there is one.
    fn run(&self, piece: usize, scratch: &mut Scratch) -> Option<Stage>;

    /// It will not be computed, or not to its end.
    fn give_up(&self, why: GivenUp);

    /// Whether somebody still waits for it, and can have it in time.
    fn is_wanted(&self) -> bool;
}

/// Why something is not computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GivenUp {
    /// Its deadline passed.
    Expired,
    /// The compute thread panicked over it.
    Panicked,
}

/// Why work is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Full {
    pub(super) reason: String,
    pub(super) retry_after: Duration,
}

/// A job that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Submitted {
    /// For a compute thread, which takes it when its turn comes.
    Queued(Ticket),
    /// No thread was woken for it: [`Scheduler::help`] is to follow as soon as there is nothing better to do.
    Quiet(Ticket),
}

impl Submitted {
    pub(super) fn ticket(self) -> Ticket {
        match self {
            Self::Queued(ticket) | Self::Quiet(ticket) => ticket,
        }
    }
}

/// So many jobs that wait are worth waking a thread.
const WORTH_WAKING: usize = 8;

thread_local! {
    /// Of a thread that helps.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// What is told of the queue and its threads.
#[derive(Clone, Debug, Default)]
pub(super) struct Gauges {
    /// Jobs that wait.
    pub(super) depth: Gauge,
    /// Rows that wait.
    pub(super) rows: Gauge,
    pub(super) panics: Counter,
}

/// Threads that compute what is submitted. Dropped, it lets them finish their piece and forgets what waits.
pub(super) struct Scheduler<J: Job> {
    shared: Arc<Shared<J>>,
    threads: Vec<JoinHandle<()>>,
    max_rows: usize,
    small: Duration,
}

struct Shared<J> {
    state: Mutex<State<J>>,
    work: Condvar,
    speed: Speed,
    gauges: Gauges,
}

struct State<J> {
    queue: Queue<Arc<J>>,
    idle: usize,
    stopping: bool,
}

/// How long a row takes: a moving average over the last few dozen pieces.
#[derive(Debug, Default)]
struct Speed(AtomicU64);

impl Speed {
    fn nanos_per_row(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    /// Of two threads that learn at the same moment one may be forgotten, which an average bears. A thread that was
    /// interrupted says little about rows: what is far above the average counts as somewhat above it.
    fn learn(&self, rows: usize, elapsed: Duration) {
        let sample = elapsed.as_nanos() as f64 / rows.max(1) as f64;
        let old = self.nanos_per_row();
        let new = if old == 0.0 { sample } else { old + (sample.min(4.0 * old) - old) / 32.0 };
        self.0.store(new.to_bits(), Ordering::Relaxed);
    }

    fn time(&self, rows: usize, threads: usize) -> Duration {
        Duration::from_nanos((rows as f64 * self.nanos_per_row() / threads as f64) as u64)
    }
}

impl<J: Job> Scheduler<J> {
    /// Starts the threads, each on a core of its own as far as there are cores. Jobs that are expected to take less than
    /// `small` may wait quietly.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn start(threads: NonZeroUsize, max_rows: usize, small: Duration, gauges: Gauges) -> io::Result<Self> {
        let state = State { queue: Queue::new(), idle: 0, stopping: false };
        let shared =
            Arc::new(Shared { state: Mutex::new(state), work: Condvar::new(), speed: Speed::default(), gauges });
        let mut scheduler = Self { shared, threads: Vec::new(), max_rows, small };
        let cores = allowed_cores().unwrap_or_default();
        for number in 0..threads.get() {
            let shared = scheduler.shared.clone();
            let core = (!cores.is_empty()).then(|| cores[number % cores.len()]);
            let run = move || {
                if let Some(core) = core
                    && let Err(error) = pin_current_thread(core)
                {
                    tracing::warn!(%error, core, "a compute thread runs on any core");
                }
                // Jobs catch their own panics. What panics beside one must not leave the server with a thread less.
                while let Err(panic) = catch_unwind(AssertUnwindSafe(|| shared.work())) {
                    shared.panicked(&*panic, "a compute thread panicked outside of a job; it begins anew");
                }
            };
            scheduler.threads.push(std::thread::Builder::new().name(format!("compute-{number}")).spawn(run)?);
        }
        Ok(scheduler)
    }

    /// Lets a job of `size` rows in all wait for its turn, if it can have it in time.
    ///
    /// # Errors
    /// [`Full`] when too much waits, or so much that the job would hardly be done by its deadline. A job that finds
    /// nothing waiting is never refused.
    pub(super) fn submit(
        &self,
        job: Arc<J>,
        size: usize,
        first: Stage,
        deadline: Instant,
        now: Instant,
    ) -> Result<Submitted, Full> {
        let mut state = self.shared.lock();
        let (waiting, before) = (state.queue.rows(), state.queue.rows_before(size));
        if waiting > 0 {
            if waiting.saturating_add(size) > self.max_rows {
                drop(state);
                let reason = format!("{waiting} candidates wait, and {size} more are over {}", self.max_rows);
                return Err(Full { reason, retry_after: self.backlog() });
            }
            // Half of the time that is left: what is accepted should be answered, and this is a guess.
            let wait = self.shared.speed.time(before.saturating_add(size), self.threads.len());
            if wait > deadline.saturating_duration_since(now) / 2 {
                drop(state);
                let reason = format!("an answer would take about {wait:?}, too near the deadline");
                return Err(Full { reason, retry_after: self.backlog() });
            }
        }
        let ticket = state.queue.ticket(size, deadline);
        state.queue.push(ticket, first, job);
        let is_small = first.pieces == 1 && first.cost == size && self.shared.speed.time(size, 1) < self.small;
        if is_small && state.idle > 0 && state.queue.len() < WORTH_WAKING {
            self.shared.release(state, 0);
            return Ok(Submitted::Quiet(ticket));
        }
        self.shared.release(state, first.pieces);
        Ok(Submitted::Queued(ticket))
    }

    /// Computes a job of `size` rows that waits quietly on the thread that calls, unless another has begun it.
    pub(super) fn help(&self, ticket: Ticket, size: usize) {
        let mut state = self.shared.lock();
        let Some(item) = state.queue.remove(ticket) else { return };
        self.shared.release(state, 0);
        let work = Work { item, ticket, piece: 0, cost: size };
        SCRATCH.with_borrow_mut(|scratch| self.shared.step(work, scratch));
    }

    /// Takes a job back: what is not begun of it will not be.
    pub(super) fn withdraw(&self, ticket: Ticket) {
        let mut state = self.shared.lock();
        let job = state.queue.remove(ticket);
        self.shared.release(state, 0);
        drop(job);
    }

    /// About how long it takes to compute all that waits, 10 ms at least: when to try again.
    pub(super) fn backlog(&self) -> Duration {
        let rows = usize::try_from(self.shared.gauges.rows.get()).unwrap_or(0);
        let time = self.shared.speed.time(rows, self.threads.len());
        time.clamp(Duration::from_millis(10), Duration::from_secs(10))
    }
}

impl<J: Job> Drop for Scheduler<J> {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl<J: Job> Shared<J> {
    fn lock(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a change of the queue by which so many pieces came in.
    fn release(&self, state: MutexGuard<'_, State<J>>, pieces: usize) {
        self.tell(&state.queue);
        let wake = state.idle.min(pieces);
        drop(state);
        for _ in 0..wake {
            self.work.notify_one();
        }
    }

    fn tell(&self, queue: &Queue<Arc<J>>) {
        self.gauges.depth.set(queue.len() as i64);
        self.gauges.rows.set(queue.rows() as i64);
    }

    /// The life of a compute thread.
    fn work(&self) {
        let mut scratch = Scratch::default();
        let mut expired = Vec::new();
        let mut state = self.lock();
        while !state.stopping {
            let work = state.queue.pop(Instant::now(), &mut expired);
            if work.is_none() && expired.is_empty() {
                state.idle += 1;
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
                continue;
            }
            self.tell(&state.queue);
            drop(state);
            // First what somebody waits for: should the other panic, it would be lost.
            if let Some(work) = work {
                self.step(work, &mut scratch);
            }
            expired.drain(..).for_each(|job| job.give_up(GivenUp::Expired));
            state = self.lock();
        }
    }

    /// Computes a piece, and lets what follows it wait.
    fn step(&self, work: Work<Arc<J>>, scratch: &mut Scratch) {
        match self.run(&work.item, work.piece, work.cost, scratch) {
            Ok(None) => {}
            Ok(Some(stage)) => {
                let mut state = self.lock();
                // Whoever gives up says so first and withdraws then: one of the two sees the other.
                if work.item.is_wanted() {
                    state.queue.push(work.ticket, stage, work.item);
                    self.release(state, stage.pieces);
                } else {
                    drop(state);
                    work.item.give_up(GivenUp::Expired);
                }
            }
            Err(Panicked) => {
                // What a panic leaves in the memory is not known.
                *scratch = Scratch::default();
                let mut state = self.lock();
                state.queue.remove(work.ticket);
                self.release(state, 0);
                work.item.give_up(GivenUp::Panicked);
            }
        }
    }

    fn run(&self, job: &J, piece: usize, cost: usize, scratch: &mut Scratch) -> Result<Option<Stage>, Panicked> {
        if !job.is_wanted() {
            job.give_up(GivenUp::Expired);
            return Ok(None);
        }
        let start = Instant::now();
        let next = catch_unwind(AssertUnwindSafe(|| job.run(piece, scratch))).map_err(|panic| {
            self.panicked(&*panic, "a compute thread panicked; its request fails, the thread goes on");
            Panicked
        })?;
        self.speed.learn(cost, start.elapsed());
        Ok(next)
    }

    fn panicked(&self, panic: &(dyn Any + Send), what: &str) {
        tracing::error!(panic = panic_message(panic).unwrap_or("no message"), "{what}");
        self.gauges.panics.inc();
    }
}

/// A job panicked.
struct Panicked;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    const FAR: Duration = Duration::from_secs(600);

    /// What happened, in order.
    #[derive(Clone, Debug, PartialEq, Eq)]
    enum Event {
        Ran(&'static str, usize),
        GaveUp(&'static str, GivenUp),
    }

    type Run = Box<dyn Fn(usize) -> Option<Stage> + Send + Sync>;

    struct Fake {
        name: &'static str,
        run: Run,
        events: Sender<Event>,
        wanted: AtomicBool,
    }

    impl Job for Fake {
        fn run(&self, piece: usize, _: &mut Scratch) -> Option<Stage> {
            let next = (self.run)(piece);
            self.events.send(Event::Ran(self.name, piece)).unwrap();
            next
        }

        fn give_up(&self, why: GivenUp) {
            self.events.send(Event::GaveUp(self.name, why)).unwrap();
        }

        fn is_wanted(&self) -> bool {
            self.wanted.load(Ordering::Relaxed)
        }
    }

    struct World {
        scheduler: Scheduler<Fake>,
        gauges: Gauges,
        events: Receiver<Event>,
        sender: Sender<Event>,
    }

    impl World {
        fn new(threads: usize) -> Self {
            let gauges = Gauges::default();
            let threads = NonZeroUsize::new(threads).unwrap();
            let scheduler = Scheduler::start(threads, 1000, Duration::ZERO, gauges.clone()).unwrap();
            let (sender, events) = channel();
            Self { scheduler, gauges, events, sender }
        }

        fn job(&self, name: &'static str, run: impl Fn(usize) -> Option<Stage> + Send + Sync + 'static) -> Arc<Fake> {
            let (run, events) = (Box::new(run), self.sender.clone());
            Arc::new(Fake { name, run, events, wanted: AtomicBool::new(true) })
        }

        fn submit(&self, job: &Arc<Fake>, pieces: usize, cost: usize, timeout: Duration) -> Result<Submitted, Full> {
            let now = Instant::now();
            self.scheduler.submit(job.clone(), pieces * cost, Stage { pieces, cost, after: 0 }, now + timeout, now)
        }

        fn plain(&self, name: &'static str, pieces: usize, cost: usize) -> Submitted {
            self.submit(&self.job(name, |_| None), pieces, cost, FAR).unwrap()
        }

        /// The same, where jobs of fewer than ten rows are small, and all threads wait for work.
        fn with_small_jobs(threads: usize) -> Self {
            let mut world = Self::new(threads);
            world.scheduler.small = Duration::from_millis(10);
            world.scheduler.shared.speed.learn(1, Duration::from_millis(1));
            while world.scheduler.shared.lock().idle < threads {
                std::thread::yield_now();
            }
            world
        }

        /// Keeps a thread busy until the sender that it returns is used or dropped.
        fn block(&self) -> Sender<()> {
            let (release, released) = channel::<()>();
            let (begin, begun) = channel();
            let (begin, released) = (Mutex::new(begin), Mutex::new(released));
            let job = self.job("block", move |_| {
                begin.lock().unwrap().send(()).unwrap();
                let _ = released.lock().unwrap().recv();
                None
            });
            self.submit(&job, 1, 20, FAR).unwrap();
            begun.recv().unwrap();
            release
        }

        fn events(&self, count: usize) -> Vec<Event> {
            (0..count).map(|_| self.events.recv_timeout(Duration::from_secs(60)).unwrap()).collect()
        }

        fn ends_at_rest(self) {
            drop(self.scheduler);
            assert_eq!((self.gauges.depth.get(), self.gauges.rows.get()), (0, 0));
            assert_eq!(self.events.try_iter().next(), None);
        }
    }

    #[test]
    fn a_panic_fails_its_own_job_alone() {
        let world = World::new(1);
        let release = world.block();
        let panics = world.job("panics", |piece| {
            // As a panic, without its message on the terminal.
            if piece == 1 {
                std::panic::resume_unwind(Box::new("on purpose"));
            }
            None
        });
        world.submit(&panics, 3, 1, FAR).unwrap();
        world.plain("other", 1, 1);
        drop(release);
        let expected = [
            Event::Ran("block", 0),
            Event::Ran("panics", 0),
            Event::GaveUp("panics", GivenUp::Panicked),
            Event::Ran("other", 0),
        ];
        assert_eq!(world.events(4), expected);
        assert_eq!(world.gauges.panics.get(), 1);
        world.plain("later", 1, 1);
        assert_eq!(world.events(1), [Event::Ran("later", 0)]);
        world.ends_at_rest();
    }

    #[test]
    fn a_panic_outside_of_a_job_does_not_end_the_thread() {
        let world = World::new(1);
        let release = world.block();
        // It panics when it is given up: nobody takes the event.
        let late = Fake { name: "late", run: Box::new(|_| None), events: channel().0, wanted: AtomicBool::new(true) };
        world.submit(&Arc::new(late), 1, 1, Duration::ZERO).unwrap();
        world.plain("beside it", 1, 1);
        drop(release);
        assert_eq!(world.events(2), [Event::Ran("block", 0), Event::Ran("beside it", 0)]);
        world.plain("later", 1, 1);
        assert_eq!(world.events(1), [Event::Ran("later", 0)]);
        assert_eq!(world.gauges.panics.get(), 1);
        world.ends_at_rest();
    }

    #[test]
    fn small_jobs_overtake_large_ones() {
        let world = World::new(1);
        let release = world.block();
        world.plain("large", 3, 300);
        world.plain("small", 1, 1);
        drop(release);
        let expected = [Event::Ran("block", 0), Event::Ran("small", 0)].into_iter();
        let expected = expected.chain((0..3).map(|piece| Event::Ran("large", piece)));
        assert_eq!(world.events(5), expected.collect::<Vec<_>>());
        world.ends_at_rest();
    }

    #[test]
    fn expired_jobs_never_run() {
        let world = World::new(1);
        let release = world.block();
        let late = world.job("late", |_| None);
        world.submit(&late, 2, 1, Duration::ZERO).unwrap();
        drop(release);
        assert_eq!(world.events(2), [Event::Ran("block", 0), Event::GaveUp("late", GivenUp::Expired)]);
        world.ends_at_rest();
    }

    #[test]
    fn jobs_that_are_taken_back_never_run() {
        let world = World::new(1);
        let release = world.block();
        let ticket = world.plain("gone", 2, 10);
        assert_eq!((world.gauges.depth.get(), world.gauges.rows.get()), (1, 20));
        world.scheduler.withdraw(ticket.ticket());
        assert_eq!((world.gauges.depth.get(), world.gauges.rows.get()), (0, 0));
        let unwanted = world.job("unwanted", |_| None);
        unwanted.wanted.store(false, Ordering::Relaxed);
        world.submit(&unwanted, 1, 1, FAR).unwrap();
        drop(release);
        assert_eq!(world.events(2), [Event::Ran("block", 0), Event::GaveUp("unwanted", GivenUp::Expired)]);
        world.ends_at_rest();
    }

    #[test]
    fn a_small_job_is_computed_by_whoever_submitted_it() {
        let world = World::with_small_jobs(1);
        let Submitted::Quiet(ticket) = world.plain("small", 1, 9) else { panic!("a thread was woken") };
        assert_eq!((world.gauges.depth.get(), world.gauges.rows.get()), (1, 9));
        assert_eq!(world.events.try_recv().ok(), None);
        world.scheduler.help(ticket, 9);
        // Here and now.
        assert_eq!(world.events.try_recv().ok(), Some(Event::Ran("small", 0)));
        world.scheduler.help(ticket, 9);
        world.ends_at_rest();
    }

    #[test]
    fn a_small_job_is_not_for_whoever_submitted_it_while_a_thread_is_awake() {
        let world = World::with_small_jobs(1);
        let release = world.block();
        assert!(matches!(world.plain("small", 1, 9), Submitted::Queued(_)));
        drop(release);
        assert_eq!(world.events(2), [Event::Ran("block", 0), Event::Ran("small", 0)]);
        world.ends_at_rest();
    }

    #[test]
    fn many_small_jobs_or_a_large_one_wake_a_thread() {
        let world = World::with_small_jobs(1);
        for _ in 1..WORTH_WAKING {
            assert!(matches!(world.plain("small", 1, 1), Submitted::Quiet(_)));
        }
        assert!(matches!(world.plain("last", 1, 1), Submitted::Queued(_)));
        assert_eq!(world.events(WORTH_WAKING).last(), Some(&Event::Ran("last", 0)));
        world.ends_at_rest();

        let world = World::with_small_jobs(1);
        assert!(matches!(world.plain("small", 1, 1), Submitted::Quiet(_)));
        assert!(matches!(world.plain("pieces", 2, 1), Submitted::Queued(_)));
        assert_eq!(world.events(3).len(), 3);
        world.ends_at_rest();
    }

    #[test]
    fn a_panic_while_helping_fails_its_own_job_alone() {
        let world = World::with_small_jobs(1);
        let panics = world.job("panics", |_| std::panic::resume_unwind(Box::new("on purpose")));
        let Ok(Submitted::Quiet(ticket)) = world.submit(&panics, 1, 1, FAR) else { panic!("a thread was woken") };
        world.scheduler.help(ticket, 1);
        assert_eq!(world.events(1), [Event::GaveUp("panics", GivenUp::Panicked)]);
        let Submitted::Quiet(ticket) = world.plain("next", 1, 1) else { panic!("a thread was woken") };
        world.scheduler.help(ticket, 1);
        assert_eq!(world.events(1), [Event::Ran("next", 0)]);
        world.ends_at_rest();
    }

    #[test]
    fn a_small_job_that_is_not_wanted_any_more_is_given_up() {
        let world = World::with_small_jobs(1);
        let job = world.job("unwanted", |_| None);
        let Ok(Submitted::Quiet(ticket)) = world.submit(&job, 1, 1, FAR) else { panic!("a thread was woken") };
        job.wanted.store(false, Ordering::Relaxed);
        world.scheduler.help(ticket, 1);
        assert_eq!(world.events(1), [Event::GaveUp("unwanted", GivenUp::Expired)]);
        world.ends_at_rest();
    }

    #[test]
    fn threads_share_the_pieces_of_a_job() {
        let world = World::new(2);
        // Each piece waits for the other: one thread alone would wait for ever.
        let both = Barrier::new(2);
        let job = world.job("shared", move |_| {
            both.wait();
            None
        });
        world.submit(&job, 2, 400, FAR).unwrap();
        assert_eq!(world.events(2).len(), 2);
        world.ends_at_rest();
    }

    #[test]
    fn the_last_piece_of_a_stage_begins_the_next() {
        let world = World::new(2);
        let left = AtomicU64::new(3);
        let job = world.job("staged", move |_| {
            (left.fetch_sub(1, Ordering::Relaxed) == 1).then_some(Stage { pieces: 2, cost: 7, after: 0 })
        });
        world.submit(&job, 3, 100, FAR).unwrap();
        let mut events = world.events(5);
        let second = events.split_off(3);
        assert_eq!(second.len(), 2);
        assert!(second.contains(&Event::Ran("staged", 0)) && second.contains(&Event::Ran("staged", 1)));
        world.ends_at_rest();
    }

    #[test]
    fn what_is_over_the_row_budget_is_refused() {
        let world = World::new(1);
        let release = world.block();
        // Nothing waits: let in whatever its size.
        world.plain("huge", 1, 5000);
        let more = world.job("more", |_| None);
        let full = world.submit(&more, 1, 1, FAR).unwrap_err();
        assert_eq!(full.reason, "5000 candidates wait, and 1 more are over 1000");
        assert!(full.retry_after >= Duration::from_millis(10));
        drop(release);
        assert_eq!(world.events(2), [Event::Ran("block", 0), Event::Ran("huge", 0)]);
        world.ends_at_rest();
    }

    #[test]
    fn what_would_be_late_is_refused() {
        let world = World::new(1);
        let release = world.block();
        // One row takes a millisecond.
        world.scheduler.shared.speed.learn(1, Duration::from_millis(1));
        let job = world.job("job", |_| None);
        let submit = |timeout| world.submit(&job, 1, 100, Duration::from_millis(timeout));
        assert!(submit(150).is_ok(), "nothing waits");
        assert!(submit(390).unwrap_err().reason.starts_with("an answer would take about 200ms"));
        assert!(submit(60_000).is_ok());
        let full = submit(390).unwrap_err();
        assert_eq!(full.retry_after, Duration::from_millis(200));
        drop(release);
        assert_eq!(world.events(1), [Event::Ran("block", 0)]);
    }
}
