//! The first bytes of a connection within a time. hyper waits for them without a limit, since they decide between
//! HTTP/1.1 and HTTP/2.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// What an HTTP/2 connection begins with (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream of which a read fails when it is not clear in time whether it is HTTP/1.1 or HTTP/2.
pub(super) struct PromptPreface<S> {
    stream: S,
    /// How much of the preface has come, and when the rest is late. None: it is clear.
    waiting: Option<(usize, Pin<Box<Sleep>>)>,
}

impl<S> PromptPreface<S> {
    pub(super) fn new(stream: S, timeout: Duration) -> Self {
        Self { stream, waiting: Some((0, Box::pin(tokio::time::sleep(timeout)))) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PromptPreface<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, waiting } = &mut *self;
        let Some((seen, late)) = waiting else {
            return Pin::new(stream).poll_read(cx, buf);
        };
        let before = buf.filled().len();
        if let Poll::Ready(read) = Pin::new(stream).poll_read(cx, buf) {
            let new = &buf.filled()[before..];
            let rest = &PREFACE[*seen..];
            *seen += new.len();
            if new.is_empty() || !rest.starts_with(new) || new.len() == rest.len() {
                *waiting = None;
            }
            return Poll::Ready(read);
        }
        ready!(late.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PromptPreface<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
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
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
