//! One request's ranking as work for the compute threads.
//!
//! ```text
//! context and, if they are few, all candidates ──► pieces of candidates ──► pieces of the best, ranked again
//! ```
//! A stage is left out where there is nothing to do or the stage before has done it: small requests are one piece.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use unimodel_model::features::EncodedContext;

use super::prepare::Selection;
use super::queue::Stage;
use super::scheduler::{GivenUp, Job};
use super::version::LoadedVersion;
use crate::compute::engine::{Candidates, Context, Engine};
use crate::compute::pair::Cancelled;
use crate::compute::scratch::Scratch;
use crate::compute::top::{Scored, Top};
use crate::request::{Ids, RankedItems};

/// Rows of a piece: few enough that a small request waits a tenth of a millisecond for it, many enough that the way
/// through the queue does not count.
const PIECE: usize = 1024;

/// A request of up to so many rows is one piece.
const WHOLE: usize = PIECE + PIECE / 2;

/// One request's ranking.
pub(super) struct RankJob {
    version: Arc<LoadedVersion>,
    head: usize,
    context: EncodedContext,
    candidates: Selection,
    limit: usize,
    deadline: Instant,
    submitted: Instant,
    given_up: AtomicBool,
    encoded: OnceLock<Context>,
    progress: Mutex<Progress>,
    waited: OnceLock<Duration>,
    computed_nanos: AtomicU64,
    reply: Mutex<Option<oneshot::Sender<Result<Ranked, GivenUp>>>>,
}

/// A finished ranking.
#[derive(Debug)]
pub(super) struct Ranked {
    pub(super) items: RankedItems,
    /// From its submission to its first piece.
    pub(super) waited: Duration,
    /// On all threads together.
    pub(super) computed: Duration,
}

/// What a piece led to.
enum Step {
    /// Others of the stage are under way or wait.
    Wait,
    /// The stage is done, another follows.
    Next(Stage),
    /// All is done: the best.
    Finished(RankedItems),
}

/// The stage that is being computed.
enum Progress {
    Context,
    Retrieve { left: usize, top: Top },
    Rerank { left: usize, kept: Vec<Scored> },
    Done,
}

impl RankJob {
    pub(super) fn new(
        version: Arc<LoadedVersion>,
        head: usize,
        context: EncodedContext,
        candidates: Selection,
        limit: usize,
        [submitted, deadline]: [Instant; 2],
    ) -> (Arc<Self>, oneshot::Receiver<Result<Ranked, GivenUp>>) {
        let (reply, answer) = oneshot::channel();
        let job = Self {
            version,
            head,
            context,
            candidates,
            limit,
            deadline,
            submitted,
            given_up: AtomicBool::new(false),
            encoded: OnceLock::new(),
            progress: Mutex::new(Progress::Context),
            waited: OnceLock::new(),
            computed_nanos: AtomicU64::new(0),
            reply: Mutex::new(Some(reply)),
        };
        (Arc::new(job), answer)
    }

    /// What it costs in all, and its first stage.
    pub(super) fn cost(&self) -> (usize, Stage) {
        let size = self.size();
        let cost = if self.is_whole() { size } else { self.first_cost() };
        (size, Stage { pieces: 1, cost, after: size - cost })
    }

    /// Nobody waits for it any more.
    pub(super) fn withdraw(&self) {
        self.given_up.store(true, Ordering::Release);
    }

    /// How many candidates there are.
    pub(super) fn rows(&self) -> usize {
        match &self.candidates {
            Selection::AllBut(_) => self.engine().items(),
            Selection::Items(items) => items.len(),
        }
    }

    fn engine(&self) -> &Engine {
        &self.version.parts().engine
    }

    fn size(&self) -> usize {
        self.version.parts().costs.context + self.rows() + self.rerank_size()
    }

    /// Of all that is ranked again.
    fn rerank_size(&self) -> usize {
        let reranked = self.engine().reranked(self.engine().keep(self.limit).min(self.rows()));
        reranked * self.version.parts().costs.rerank
    }

    fn is_whole(&self) -> bool {
        self.size() <= WHOLE
    }

    /// Of the context, and of the candidates if they are one piece.
    fn first_cost(&self) -> usize {
        self.version.parts().costs.context + if self.rows() <= PIECE { self.rows() } else { 0 }
    }

    /// Items that are ranked again as one piece. Each piece folds the weights again, so it may not be too small.
    fn rerank_piece(&self) -> usize {
        (PIECE / self.version.parts().costs.rerank).max(96)
    }

    fn go_on(&self) -> bool {
        !self.given_up.load(Ordering::Acquire) && Instant::now() < self.deadline
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new_top(&self) -> Top {
        let excluded = match &self.candidates {
            Selection::AllBut(excluded) => excluded.len(),
            Selection::Items(_) => 0,
        };
        Top::new(self.engine().keep(self.limit).saturating_add(excluded))
    }

    fn retrieve(&self, context: &Context, part: Range<usize>, scratch: &mut Scratch) -> Result<Top, Cancelled> {
        let mut top = self.new_top();
        let candidates = match &self.candidates {
            Selection::AllBut(_) => Candidates::All,
            Selection::Items(items) => Candidates::Items(items),
        };
        self.engine().retrieve(context, candidates, part, &mut top, scratch, &mut || self.go_on())?;
        Ok(top)
    }

    /// The first piece: the context's half, and everything else of a request that is one piece.
    fn begin(&self, scratch: &mut Scratch) -> Result<Step, Cancelled> {
        let context = self.engine().context(self.head, &self.context);
        let context = self.encoded.get_or_init(|| context);
        let rows = self.rows();
        if self.is_whole() || rows <= PIECE {
            let top = self.retrieve(context, 0..rows, scratch)?;
            return self.retrieved(context, top, scratch);
        }
        let pieces = rows.div_ceil(PIECE);
        *self.progress() = Progress::Retrieve { left: pieces, top: self.new_top() };
        Ok(Step::Next(Stage { pieces, cost: PIECE, after: self.rerank_size() }))
    }

    /// All candidates have their dot product.
    fn retrieved(&self, context: &Context, top: Top, scratch: &mut Scratch) -> Result<Step, Cancelled> {
        let mut kept = top.into_sorted();
        if let Selection::AllBut(excluded) = &self.candidates
            && !excluded.is_empty()
        {
            kept.retain(|scored| excluded.binary_search(&scored.item).is_err());
            kept.truncate(self.engine().keep(self.limit));
        }
        let reranked = self.engine().reranked(kept.len());
        if reranked == 0 || self.is_whole() {
            self.engine().rerank(context, &mut kept[..reranked], scratch, &mut || self.go_on())?;
            return Ok(Step::Finished(self.named(kept)));
        }
        let (pieces, cost) = (reranked.div_ceil(self.rerank_piece()), self.rerank_piece());
        *self.progress() = Progress::Rerank { left: pieces, kept };
        Ok(Step::Next(Stage { pieces, cost: cost * self.version.parts().costs.rerank, after: 0 }))
    }

    fn retrieve_piece(&self, context: &Context, piece: usize, scratch: &mut Scratch) -> Result<Step, Cancelled> {
        let start = piece * PIECE;
        let found = self.retrieve(context, start..self.rows().min(start + PIECE), scratch)?;
        let mut progress = self.progress();
        let Progress::Retrieve { left, top } = &mut *progress else { return Ok(Step::Wait) };
        top.merge(found);
        *left -= 1;
        if *left > 0 {
            return Ok(Step::Wait);
        }
        let Progress::Retrieve { top, .. } = std::mem::replace(&mut *progress, Progress::Done) else {
            return Ok(Step::Wait);
        };
        drop(progress);
        self.retrieved(context, top, scratch)
    }

    fn rerank_piece_of(&self, context: &Context, piece: usize, scratch: &mut Scratch) -> Result<Step, Cancelled> {
        let start = piece * self.rerank_piece();
        let part = |kept: &[Scored]| start..self.engine().reranked(kept.len()).min(start + self.rerank_piece());
        let mut best = match &*self.progress() {
            Progress::Rerank { kept, .. } => kept[part(kept)].to_vec(),
            _ => return Ok(Step::Wait),
        };
        self.engine().rerank(context, &mut best, scratch, &mut || self.go_on())?;
        let mut progress = self.progress();
        let Progress::Rerank { left, kept } = &mut *progress else { return Ok(Step::Wait) };
        let part = part(kept);
        kept[part].copy_from_slice(&best);
        *left -= 1;
        if *left > 0 {
            return Ok(Step::Wait);
        }
        let kept = std::mem::take(kept);
        *progress = Progress::Done;
        drop(progress);
        Ok(Step::Finished(self.named(kept)))
    }

    /// The best, with their ids. Not on the thread that reads and writes, which has more to do than this one.
    fn named(&self, kept: Vec<Scored>) -> RankedItems {
        let best = self.engine().finish(kept, self.limit);
        let catalogue = &self.version.parts().catalogue;
        let mut items =
            RankedItems { ids: Ids::with_capacity(best.len(), 8 * best.len()), scores: Vec::with_capacity(best.len()) };
        best.iter().for_each(|scored| items.push(catalogue.id(scored.item), scored.score));
        items
    }

    fn answer(&self, answer: Result<Ranked, GivenUp>) {
        let reply = self.reply.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(reply) = reply {
            let _ = reply.send(answer);
        }
    }
}

impl Job for RankJob {
    fn run(&self, piece: usize, scratch: &mut Scratch) -> Option<Stage> {
        let start = Instant::now();
        self.waited.get_or_init(|| start.saturating_duration_since(self.submitted));
        let stage = match &*self.progress() {
            Progress::Context => 0,
            Progress::Retrieve { .. } => 1,
            Progress::Rerank { .. } => 2,
            Progress::Done => return None,
        };
        let step = match (stage, self.encoded.get()) {
            (1, Some(context)) => self.retrieve_piece(context, piece, scratch),
            (2, Some(context)) => self.rerank_piece_of(context, piece, scratch),
            _ => self.begin(scratch),
        };
        let elapsed = start.elapsed().as_nanos() as u64;
        let computed = Duration::from_nanos(self.computed_nanos.fetch_add(elapsed, Ordering::Relaxed) + elapsed);
        match step {
            Ok(Step::Wait) => None,
            Ok(Step::Next(stage)) => Some(stage),
            Ok(Step::Finished(items)) => {
                let waited = self.waited.get().copied().unwrap_or_default();
                self.answer(Ok(Ranked { items, waited, computed }));
                None
            }
            Err(Cancelled) => {
                self.give_up(GivenUp::Expired);
                None
            }
        }
    }

    fn give_up(&self, why: GivenUp) {
        self.withdraw();
        self.answer(Err(why));
    }

    fn is_wanted(&self) -> bool {
        self.go_on()
    }
}
