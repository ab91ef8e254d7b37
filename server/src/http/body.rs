//! Bodies within their limits.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::Sleep;

use crate::error::RankError;
use crate::front::{BodyLimits, Front};
use crate::http::budget::Held;

/// The whole body, and what it takes of the budget: to be kept until the request is answered.
///
/// # Errors
/// Compressed, too large, too slow, broken off, or more than the server can hold.
pub(crate) async fn read(front: &Front, headers: &HeaderMap, body: Body) -> Result<(Bytes, Held), RankError> {
    if let Some(encoding) = headers.get(CONTENT_ENCODING)
        && encoding != "identity"
    {
        return Err(RankError::UnsupportedEncoding { encoding: String::from_utf8_lossy(encoding.as_bytes()).into() });
    }
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let max = front.body.max_bytes;
    if announced.is_some_and(|length| length > max as u64) {
        return Err(RankError::BodyTooLarge { max });
    }
    let mut body = BoundedBody::new(front, body)?;
    let mut first = Bytes::new();
    let mut more = BytesMut::new();
    while let Some(frame) = body.frame().await {
        // Trailers of a request say nothing.
        let Ok(data) = frame?.into_data() else { continue };
        if first.is_empty() {
            // Most bodies are one piece, and need no copy.
            first = data;
            continue;
        }
        if more.is_empty() {
            more.extend_from_slice(&first);
        }
        more.extend_from_slice(&data);
    }
    Ok((if more.is_empty() { first } else { more.freeze() }, body.held))
}

/// A body that fails where it is too large, has not arrived in time, or is more than the server can hold.
pub(crate) struct BoundedBody {
    inner: Body,
    limits: BodyLimits,
    seen: usize,
    held: Held,
    /// From the first wait on: most bodies are there already, and need no timer.
    late: Option<Pin<Box<Sleep>>>,
}

impl BoundedBody {
    /// # Errors
    /// The server can hold nothing more.
    pub(crate) fn new(front: &Front, inner: Body) -> Result<Self, RankError> {
        Ok(Self { inner, limits: front.body, seen: 0, held: front.budget.hold()?, late: None })
    }

    fn take(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, RankError> {
        if let Some(data) = frame.data_ref() {
            self.seen += data.len();
            if self.seen > self.limits.max_bytes {
                return Err(RankError::BodyTooLarge { max: self.limits.max_bytes });
            }
            self.held.add(data.len())?;
        }
        Ok(frame)
    }
}

impl http_body::Body for BoundedBody {
    type Data = Bytes;
    type Error = RankError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, RankError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| match frame {
                Ok(frame) => self.take(frame),
                Err(error) => Err(RankError::invalid_body(format!("it broke off: {error}"))),
            }));
        }
        let timeout = self.limits.timeout;
        ready!(self.late.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout))).as_mut().poll(cx));
        Poll::Ready(Some(Err(RankError::SlowBody { timeout })))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
