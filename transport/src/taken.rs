//! Whether clients take their answers. One that speaks HTTP/2 and opens no window for an answer (RFC 9113, section 5.2) keeps
//! its connection alive and the answer in memory, and one that reads a byte now and then does so too: no write is ever late.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};

/// The pieces of answers that the client of one connection has not taken yet.
#[derive(Clone, Default)]
pub(super) struct Untaken(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    number: u64,
    /// By when they came: the oldest first.
    since: BTreeMap<u64, Instant>,
}

impl Untaken {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An answer whose pieces are among these.
    pub(super) fn watch<B>(&self, inner: B) -> Answer<B> {
        Answer { inner, untaken: self.clone(), next: Some(self.begin()) }
    }

    fn begin(&self) -> Piece {
        let mut state = self.lock();
        state.number += 1;
        let number = state.number;
        state.since.insert(number, Instant::now());
        drop(state);
        Piece { untaken: self.clone(), number }
    }

    /// When the oldest piece, or one that may come now, will have waited for so long. None: it has.
    fn due(&self, now: Instant, timeout: Duration) -> Option<Instant> {
        let oldest = self.lock().since.first_key_value().map(|(_, since)| *since);
        Some(oldest.unwrap_or(now) + timeout).filter(|due| *due > now)
    }

    /// Ends when a piece has waited for so long.
    pub(super) async fn late(&self, timeout: Duration) {
        while let Some(due) = self.due(Instant::now(), timeout) {
            tokio::time::sleep_until(due.into()).await;
        }
    }
}

/// A piece of an answer, until it is dropped.
struct Piece {
    untaken: Untaken,
    number: u64,
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.untaken.lock().since.remove(&self.number);
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

    const LIMIT: Duration = Duration::from_secs(120);

    fn is_late(untaken: &Untaken) -> bool {
        untaken.due(Instant::now() + LIMIT, LIMIT).is_none()
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
    fn the_oldest_counts_and_not_before_its_time() {
        let untaken = Untaken::default();
        let second = Duration::from_secs(1);
        let first = untaken.begin();
        let between = Instant::now();
        let _second = untaken.begin();
        let due = untaken.due(between, LIMIT).unwrap();
        assert!(due <= between + LIMIT && due > between + LIMIT - second);
        assert_eq!(untaken.due(due, LIMIT), None);
        drop(first);
        let later = untaken.due(due, LIMIT);
        assert!(later.is_some_and(|later| later >= between + LIMIT), "{later:?}");
    }
}
