//! Bodies of answers: what a caller gets.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
pub use unimodel_transport::body::BodyLimits;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a caller gets.
#[derive(Default)]
pub enum Body {
    /// Nothing.
    #[default]
    Empty,
    /// All of it at once.
    Whole {
        /// The bytes.
        bytes: Bytes,
        /// Trailers after them.
        trailers: Option<HeaderMap>,
    },
    /// What has come, and the rest as it comes.
    Passing {
        /// What has come.
        first: VecDeque<Bytes>,
        /// The rest.
        rest: h2::RecvStream,
    },
    /// Of a gRPC service of the gateway's own.
    Service(tonic::body::Body),
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Self {
        Self::Whole { bytes: bytes.into(), trailers: None }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Whole { bytes, trailers } => {
                if !bytes.is_empty() {
                    let bytes = std::mem::take(bytes);
                    if trailers.is_none() {
                        *self = Self::Empty;
                    }
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                let trailers = trailers.take();
                *self = Self::Empty;
                Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
            }
            Self::Passing { first, rest } => {
                if let Some(bytes) = first.pop_front() {
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                match ready!(rest.poll_data(cx)) {
                    Some(Ok(bytes)) => {
                        let _ = rest.flow_control().release_capacity(bytes.len());
                        Poll::Ready(Some(Ok(Frame::data(bytes))))
                    }
                    Some(Err(error)) => Poll::Ready(Some(Err(error.into()))),
                    None => match ready!(rest.poll_trailers(cx)) {
                        Ok(trailers) => {
                            *self = Self::Empty;
                            Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
                        }
                        Err(error) => Poll::Ready(Some(Err(error.into()))),
                    },
                }
            }
            Self::Service(body) => {
                Pin::new(body).poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(Into::into)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole { bytes, trailers } => bytes.is_empty() && trailers.is_none(),
            Self::Passing { .. } => false,
            Self::Service(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole { bytes, .. } => SizeHint::with_exact(bytes.len() as u64),
            Self::Passing { .. } => SizeHint::default(),
            Self::Service(body) => body.size_hint(),
        }
    }
}

/// A response with that body.
pub fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::from(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A JSON response.
pub fn json(status: StatusCode, value: &serde_json::Value) -> Response<Body> {
    respond(status, "application/json", value.to_string())
}

/// For services whose errors cannot happen.
pub fn never<T>(result: Result<T, Infallible>) -> T {
    match result {
        Ok(value) => value,
        Err(never) => match never {},
    }
}
