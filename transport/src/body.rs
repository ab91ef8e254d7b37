//! Bodies of requests within their limits.

use std::fmt::Display;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::Sleep;

use crate::budget::{Budget, Full, Held};

/// What requests' bodies may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyLimits {
    /// The most bytes of one.
    pub max_bytes: usize,
    /// How long one may take to arrive.
    pub timeout: Duration,
    /// The most bytes of all requests that have begun to arrive and are not answered yet.
    pub held_bytes: usize,
}

impl Default for BodyLimits {
    fn default() -> Self {
        Self { max_bytes: 4 << 20, timeout: Duration::from_secs(10), held_bytes: 64 << 20 }
    }
}

/// Why a body is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It is compressed.
    #[error("content encoding `{encoding}` is not accepted")]
    Encoding {
        /// As sent.
        encoding: String,
    },
    /// It is too large.
    #[error("it is larger than {max} bytes")]
    TooLarge {
        /// The limit.
        max: usize,
    },
    /// It did not come in time.
    #[error("it did not arrive within {timeout:?}")]
    Slow {
        /// The limit.
        timeout: Duration,
    },
    /// It ended before its end.
    #[error("it broke off: {reason}")]
    Broken {
        /// Why.
        reason: String,
    },
    /// All requests together are more than can be held.
    #[error(transparent)]
    Full(#[from] Full),
}

/// What takes requests in.
pub struct Intake {
    /// Its limits.
    pub limits: BodyLimits,
    budget: Arc<Budget>,
}

impl Intake {
    /// With those limits.
    pub fn new(limits: BodyLimits) -> Self {
        Self { limits, budget: Budget::new(limits.held_bytes) }
    }

    /// The whole body, and what it takes of the budget: to be kept until the request is answered.
    ///
    /// # Errors
    /// Compressed, too large, too slow, broken off, or more than can be held.
    pub async fn read<B>(&self, headers: &HeaderMap, body: B) -> Result<(Bytes, Held), BodyError>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Display,
    {
        if let Some(encoding) = headers.get(CONTENT_ENCODING)
            && encoding != "identity"
        {
            return Err(BodyError::Encoding { encoding: String::from_utf8_lossy(encoding.as_bytes()).into() });
        }
        let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        let max = self.limits.max_bytes;
        if announced.is_some_and(|length| length > max as u64) {
            return Err(BodyError::TooLarge { max });
        }
        let mut body = self.bound(body)?;
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

    /// The body within the limits, as it comes.
    ///
    /// # Errors
    /// Nothing more can be held.
    pub fn bound<B>(&self, inner: B) -> Result<BoundedBody<B>, Full> {
        Ok(BoundedBody { inner, limits: self.limits, seen: 0, held: self.budget.hold()?, late: None })
    }
}

/// A body that fails where it is too large, has not arrived in time, or is more than can be held.
pub struct BoundedBody<B> {
    inner: B,
    limits: BodyLimits,
    seen: usize,
    held: Held,
    /// From the first wait on: most bodies are there already, and need no timer.
    late: Option<Pin<Box<Sleep>>>,
}

impl<B> BoundedBody<B> {
    fn take(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, BodyError> {
        if let Some(data) = frame.data_ref() {
            self.seen += data.len();
            if self.seen > self.limits.max_bytes {
                return Err(BodyError::TooLarge { max: self.limits.max_bytes });
            }
            self.held.add(data.len())?;
        }
        Ok(frame)
    }
}

impl<B> Body for BoundedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Display,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| match frame {
                Ok(frame) => self.take(frame),
                Err(error) => Err(BodyError::Broken { reason: error.to_string() }),
            }));
        }
        let timeout = self.limits.timeout;
        ready!(self.late.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout))).as_mut().poll(cx));
        Poll::Ready(Some(Err(BodyError::Slow { timeout })))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
