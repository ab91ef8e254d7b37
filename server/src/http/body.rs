//! Bodies within their limits.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::time::Sleep;

use crate::error::RankError;
use crate::front::BodyLimits;

/// The whole body.
///
/// # Errors
/// Compressed, too large, too slow, or broken off.
pub(crate) async fn read(headers: &HeaderMap, body: Body, limits: BodyLimits) -> Result<Bytes, RankError> {
    let too_large = || RankError::BodyTooLarge { max: limits.max_bytes };
    if let Some(encoding) = headers.get(CONTENT_ENCODING)
        && encoding != "identity"
    {
        return Err(RankError::UnsupportedEncoding { encoding: String::from_utf8_lossy(encoding.as_bytes()).into() });
    }
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limits.max_bytes as u64) {
        return Err(too_large());
    }
    let whole = Limited::new(body, limits.max_bytes).collect();
    match tokio::time::timeout(limits.timeout, whole).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(RankError::invalid_body(format!("it broke off: {error}"))),
        Err(_) => Err(RankError::SlowBody { timeout: limits.timeout }),
    }
}

/// A body that fails when it has not arrived in time. The clock starts at the first wait.
pub(crate) struct TimedBody {
    inner: Body,
    limits: BodyLimits,
    late: Option<Pin<Box<Sleep>>>,
}

impl TimedBody {
    pub(crate) fn new(inner: Body, limits: BodyLimits) -> Self {
        Self { inner, limits, late: None }
    }
}

impl http_body::Body for TimedBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let timeout = self.limits.timeout;
        ready!(self.late.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout))).as_mut().poll(cx));
        // tonic answers with the status that it finds in a body's error.
        Poll::Ready(Some(Err(RankError::SlowBody { timeout }.problem().status().into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
