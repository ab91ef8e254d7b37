//! Whether clients take their answers. One that speaks HTTP/2 and opens no window for an answer (RFC 9113, section 5.2) keeps
//! its connection alive and the answer in memory, and one that reads a byte now and then does so too: no write is ever late.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};

/// The pieces of answers that the client of one connection has not taken yet: how many of this turn, and of the one before
/// it. That is less to do for each than to know when it came.
#[derive(Clone, Default)]
pub(super) struct Untaken(Arc<Counts>);

#[derive(Default)]
struct Counts {
    turn: AtomicUsize,
    /// Of even turns and of odd ones.
    pieces: [AtomicUsize; 2],
}

impl Untaken {
    /// An answer whose pieces are among these.
    pub(super) fn watch<B>(&self, inner: B) -> Answer<B> {
        Answer { inner, untaken: self.clone(), next: Some(self.begin()) }
    }

    fn begin(&self) -> Piece {
        let turn = self.0.turn.load(Ordering::Relaxed) % 2;
        self.0.pieces[turn].fetch_add(1, Ordering::Relaxed);
        Piece { untaken: self.clone(), turn }
    }

    /// Begins the next turn, unless pieces are still there that were there all of this one.
    fn turn(&self) -> bool {
        let next = (self.0.turn.load(Ordering::Relaxed) + 1) % 2;
        let taken = self.0.pieces[next].load(Ordering::Relaxed) == 0;
        if taken {
            self.0.turn.store(next, Ordering::Relaxed);
        }
        taken
    }

    /// Ends when a piece has waited for so long; it may be twice as long.
    pub(super) async fn late(&self, timeout: Duration) {
        loop {
            tokio::time::sleep(timeout).await;
            if !self.turn() {
                return;
            }
        }
    }
}

/// A piece of an answer, until it is dropped.
struct Piece {
    untaken: Untaken,
    turn: usize,
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.untaken.0.pieces[self.turn].fetch_sub(1, Ordering::Relaxed);
    }
}

/// A body that tells how long its pieces wait.
pub(super) struct Answer<B> {
    inner: B,
    untaken: Untaken,
    /// What the client is to ask for. None: it has, and there is nothing yet.
    next: Option<Piece>,
}

impl<B: Body + Unpin> Body for Answer<B> {
    type Data = Held<B::Data>;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let Self { inner, untaken, next } = &mut *self;
        let polled = Pin::new(&mut *inner).poll_frame(cx);
        let asked = next.take();
        polled.map_ok(|frame| {
            *next = Some(untaken.begin());
            frame.map_data(|data| Held { data, _piece: asked.unwrap_or_else(|| untaken.begin()) })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Data that has not been written as long as it is there.
pub(super) struct Held<D> {
    data: D,
    _piece: Piece,
}

impl<D: Buf> Buf for Held<D> {
    fn remaining(&self) -> usize {
        self.data.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.data.chunk()
    }

    fn chunks_vectored<'a>(&'a self, to: &mut [std::io::IoSlice<'a>]) -> usize {
        self.data.chunks_vectored(to)
    }

    fn advance(&mut self, count: usize) {
        self.data.advance(count);
    }

    fn copy_to_bytes(&mut self, count: usize) -> Bytes {
        self.data.copy_to_bytes(count)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::convert::Infallible;

    use futures::channel::mpsc;
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    fn is_late(untaken: &Untaken) -> bool {
        // What came in the middle of a turn must be there all of the next one.
        !(untaken.turn() && untaken.turn())
    }

    #[tokio::test]
    async fn what_nobody_asks_for_or_writes_is_late_and_what_is_taken_is_not() {
        let untaken = Untaken::default();
        assert!(!is_late(&untaken), "nothing was there");
        let (sender, frames) = mpsc::unbounded::<Result<Frame<Bytes>, Infallible>>();
        let mut answer = untaken.watch(StreamBody::new(frames));
        assert!(is_late(&untaken), "nobody asks");
        assert!(futures::poll!(answer.frame()).is_pending());
        assert!(!is_late(&untaken), "there is nothing to take");

        let send = || sender.unbounded_send(Ok(Frame::data(Bytes::from_static(b"abc")))).unwrap();
        send();
        let mut held = answer.frame().await.unwrap().unwrap().into_data().unwrap_or_else(|_| panic!("data"));
        assert!(futures::poll!(answer.frame()).is_pending());
        held.advance(2);
        assert_eq!((held.remaining(), held.chunk()), (1, &b"c"[..]));
        assert!(is_late(&untaken), "it is not written");
        drop(held);
        assert!(!is_late(&untaken), "it is");

        send();
        drop(answer.frame().await.unwrap().unwrap());
        assert!(is_late(&untaken), "nobody asks for the next one");
        drop(answer);
        assert!(!is_late(&untaken));
    }

    #[test]
    fn what_comes_and_goes_is_never_late_and_what_stays_is_after_a_whole_turn() {
        let untaken = Untaken::default();
        for _ in 0..5 {
            let piece = untaken.begin();
            assert!(untaken.turn(), "it came in the turn that ends");
            drop(piece);
        }
        let stays = untaken.begin();
        assert!(untaken.turn());
        let _others = untaken.begin();
        assert!(!untaken.turn());
        drop(stays);
        assert!(untaken.turn());
    }
}
