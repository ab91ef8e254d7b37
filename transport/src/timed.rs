//! A connection whose client lets it go on. hyper waits without a limit for the first bytes, since they decide between
//! HTTP/1.1 and HTTP/2, and for a client that takes nothing of its answer, and so holds a connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// What an HTTP/2 connection begins with (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream of which a read fails when it is not clear in time whether it is HTTP/1.1 or HTTP/2, and a write when the other
/// side has taken nothing for some time.
pub(super) struct TimedStream<S> {
    stream: S,
    /// How much of the preface has come, and when the rest is late. None: it is clear.
    preface: Option<(usize, Pin<Box<Sleep>>)>,
    write_timeout: Duration,
    /// When the write that waits is given up.
    late: Option<Pin<Box<Sleep>>>,
}

impl<S> TimedStream<S> {
    pub(super) fn new(stream: S, preface_timeout: Duration, write_timeout: Duration) -> Self {
        let preface = Some((0, Box::pin(tokio::time::sleep(preface_timeout))));
        Self { stream, preface, write_timeout, late: None }
    }

    fn watch<T>(&mut self, cx: &mut Context<'_>, write: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if write.is_ready() {
            self.late = None;
            return write;
        }
        let timeout = self.write_timeout;
        ready!(self.late.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout))).as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, preface, .. } = &mut *self;
        let Some((seen, late)) = preface else {
            return Pin::new(stream).poll_read(cx, buf);
        };
        let before = buf.filled().len();
        if let Poll::Ready(read) = Pin::new(stream).poll_read(cx, buf) {
            let new = &buf.filled()[before..];
            let rest = &PREFACE[*seen..];
            *seen += new.len();
            if new.is_empty() || !rest.starts_with(new) || new.len() == rest.len() {
                *preface = None;
            }
            return Poll::Ready(read);
        }
        ready!(late.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(cx, write)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch(cx, write)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn a_write_ends_when_nothing_is_taken_and_goes_on_when_something_is() {
        let (near, mut far) = duplex(4);
        let mut near = TimedStream::new(near, Duration::from_secs(60), Duration::from_millis(50));
        let error = near.write_all(&[1; 9]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        // The same again, with a reader.
        let mut taken = [0; 4];
        far.read_exact(&mut taken).await.unwrap();
        let write = async {
            near.write_all(&[1; 1000]).await.unwrap();
            near.shutdown().await.unwrap();
        };
        let mut rest = Vec::new();
        let (_, read) = tokio::join!(write, far.read_to_end(&mut rest));
        assert_eq!(read.unwrap(), 1000);
    }
}
