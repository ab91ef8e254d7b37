//! One request to one server and its whole answer.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use h2::{Reason, RecvStream};
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, Uri, Version};
use tonic::Code;

use crate::backend::Lease;
use crate::body::Body;
use crate::timeout;

/// An answer up to this size is held until it is whole, so that a server that dies in the middle of it is not noticed.
/// Larger ones are passed on as they come.
const HELD: usize = 1 << 20;

/// A request as it goes to a server.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Method.
    pub method: Method,
    /// Path and query.
    pub path: PathAndQuery,
    /// Headers, without those that are between the caller and the gateway.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// Whether it is gRPC.
    pub is_grpc: bool,
}

/// A server's answer.
#[derive(Debug)]
pub struct Answer {
    /// Status of HTTP.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// The body, or its begin where there is a `rest`.
    pub body: Bytes,
    /// Trailers after the body.
    pub trailers: Option<HeaderMap>,
    /// What has not come yet of a large body.
    pub rest: Option<RecvStream>,
}

/// Why a server gave no answer that is one.
#[derive(Debug)]
pub struct Failure {
    /// Which kind.
    pub kind: FailureKind,
    /// What happened, for people.
    pub reason: String,
    /// The server's own words, where it said something.
    pub answer: Option<Box<Answer>>,
}

/// Kinds of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// No connection.
    Connect,
    /// The server was closing the connection, and did not begin with the request.
    Closing,
    /// The server did not begin with the request.
    RefusedStream,
    /// The connection or the stream ended before the answer did.
    ConnectionLost,
    /// The server, or the task's queue here, has too much to do.
    Overloaded,
    /// The server has no version, or stops.
    NotReady,
    /// A fault of the server.
    Internal,
    /// No answer in time.
    DeadlineExceeded,
    /// Something that is no answer.
    BadGateway,
}

impl FailureKind {
    /// As metrics and callers read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect | Self::Closing => "connect",
            Self::RefusedStream => "refused-stream",
            Self::ConnectionLost => "connection-lost",
            Self::Overloaded => "overloaded",
            Self::NotReady => "not-ready",
            Self::Internal => "internal",
            Self::DeadlineExceeded => "deadline-exceeded",
            Self::BadGateway => "bad-gateway",
        }
    }

    /// Whether another endpoint may be asked. Ranking only reads, so that a request whose connection died may be sent
    /// again although a server may have begun with it.
    pub fn is_retryable(self) -> bool {
        match self {
            Self::Connect
            | Self::Closing
            | Self::RefusedStream
            | Self::ConnectionLost
            | Self::Overloaded
            | Self::NotReady => true,
            Self::Internal | Self::DeadlineExceeded | Self::BadGateway => false,
        }
    }

    /// Whether the same endpoint may be asked again, by another connection.
    pub fn is_of_connection(self) -> bool {
        matches!(self, Self::RefusedStream | Self::ConnectionLost)
    }
}

impl Failure {
    /// A failure without an answer.
    pub fn new(kind: FailureKind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into(), answer: None }
    }

    fn of(error: &h2::Error) -> Self {
        let kind = if error.is_go_away() && error.is_remote() && error.reason() == Some(Reason::NO_ERROR) {
            // Of streams that a server began with it says nothing when it closes a connection.
            FailureKind::Closing
        } else if error.reason() == Some(Reason::REFUSED_STREAM) {
            FailureKind::RefusedStream
        } else {
            FailureKind::ConnectionLost
        };
        Self::new(kind, error.to_string())
    }
}

/// Headers between the caller and the gateway alone (RFC 9110, section 7.6.1), and what the gateway writes itself.
const OWN: [HeaderName; 8] = [
    CONNECTION,
    CONTENT_LENGTH,
    EXPECT,
    HOST,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// What goes on of a request's headers.
pub fn forwarded(mut headers: HeaderMap) -> HeaderMap {
    if let Some(connection) = headers.get(CONNECTION).cloned() {
        // What it names is between the caller and the gateway too.
        for name in connection.to_str().unwrap_or_default().split(',') {
            if let Ok(name) = HeaderName::try_from(name.trim()) {
                headers.remove(name);
            }
        }
    }
    for name in &OWN {
        headers.remove(name);
    }
    if headers.get(TE).is_some_and(|te| te != "trailers") {
        headers.remove(TE);
    }
    headers
}

impl Outgoing {
    fn request(&self, authority: &str, remaining: Duration) -> Result<Request<()>, Failure> {
        let invalid = |reason: String| Failure::new(FailureKind::BadGateway, reason);
        let authority: Authority = authority.parse().map_err(|e| invalid(format!("{authority}: {e}")))?;
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(authority);
        uri.path_and_query = Some(self.path.clone());
        let mut request = Request::new(());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::from_parts(uri).map_err(|e| invalid(e.to_string()))?;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = self.headers.clone();
        timeout::write(request.headers_mut(), remaining, self.is_grpc);
        Ok(request)
    }
}

/// Sends a request and waits for its answer. Dropping the future cancels the request at the server.
///
/// # Errors
/// What failed; also an answer that says that the server cannot answer.
pub async fn send(lease: &mut Lease, authority: &str, outgoing: &Outgoing, until: Instant) -> Result<Answer, Failure> {
    let remaining = until.saturating_duration_since(Instant::now());
    let request = outgoing.request(authority, remaining)?;
    let is_empty = outgoing.body.is_empty();
    let (response, mut stream) = lease
        .send
        .send_request(request, is_empty)
        .map_err(|error| Failure::new(FailureKind::Closing, error.to_string()))?;
    if !is_empty {
        stream.send_data(outgoing.body.clone(), true).map_err(|e| Failure::of(&e))?;
    }
    let response = response.await.map_err(|e| Failure::of(&e))?;
    let answer = collect(response).await.map_err(|e| Failure::of(&e))?;
    judge(answer, outgoing.is_grpc)
}

async fn collect(response: Response<RecvStream>) -> Result<Answer, h2::Error> {
    let (parts, mut stream) = response.into_parts();
    let mut answer =
        Answer { status: parts.status, headers: parts.headers, body: Bytes::new(), trailers: None, rest: None };
    if stream.is_end_stream() {
        return Ok(answer);
    }
    let mut more = BytesMut::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        if answer.body.is_empty() && more.is_empty() {
            answer.body = data;
            continue;
        }
        if more.is_empty() {
            more.extend_from_slice(&answer.body);
            answer.body = Bytes::new();
        }
        more.extend_from_slice(&data);
        if more.len() > HELD {
            answer.body = more.freeze();
            answer.rest = Some(stream);
            return Ok(answer);
        }
    }
    if !more.is_empty() {
        answer.body = more.freeze();
    }
    answer.trailers = stream.trailers().await?;
    Ok(answer)
}

/// Tells answers from failures.
fn judge(answer: Answer, is_grpc: bool) -> Result<Answer, Failure> {
    let code = is_grpc.then(|| answer.code()).flatten();
    let kind = if is_grpc && answer.status == StatusCode::OK && answer.rest.is_none() {
        match code {
            None => Some(FailureKind::BadGateway),
            Some(Code::ResourceExhausted) => Some(FailureKind::Overloaded),
            Some(Code::Unavailable) => Some(FailureKind::NotReady),
            Some(Code::Internal | Code::Unknown) => Some(FailureKind::Internal),
            Some(Code::DeadlineExceeded) => Some(FailureKind::DeadlineExceeded),
            Some(_) => None,
        }
    } else {
        match answer.status {
            StatusCode::TOO_MANY_REQUESTS => Some(FailureKind::Overloaded),
            StatusCode::SERVICE_UNAVAILABLE => Some(FailureKind::NotReady),
            StatusCode::GATEWAY_TIMEOUT => Some(FailureKind::DeadlineExceeded),
            StatusCode::BAD_GATEWAY => Some(FailureKind::BadGateway),
            status if status.is_server_error() => Some(FailureKind::Internal),
            status if is_grpc && status != StatusCode::OK => Some(FailureKind::BadGateway),
            _ => None,
        }
    };
    let Some(kind) = kind else { return Ok(answer) };
    let reason = match code {
        Some(code) => format!("it answered {code:?}"),
        None if is_grpc && answer.status == StatusCode::OK => "it answered without a gRPC status".to_owned(),
        None => format!("it answered {}", answer.status),
    };
    // A caller of gRPC can do nothing with another protocol's answer.
    let is_answer = kind != FailureKind::BadGateway || !is_grpc;
    Err(Failure { kind, reason, answer: is_answer.then(|| Box::new(answer)) })
}

impl Answer {
    /// The code of gRPC: in the trailers, or in the headers of an answer without a body.
    pub fn code(&self) -> Option<Code> {
        let find = |headers: &HeaderMap| headers.get("grpc-status").map(|code| Code::from_bytes(code.as_bytes()));
        self.trailers.as_ref().and_then(find).or_else(|| find(&self.headers))
    }

    /// What the caller gets.
    pub fn into_response(self) -> Response<Body> {
        let body = match self.rest {
            Some(rest) => Body::Passing { first: VecDeque::from([self.body]), rest },
            None if self.body.is_empty() && self.trailers.is_none() => Body::Empty,
            None => Body::Whole { bytes: self.body, trailers: self.trailers },
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn headers_of_one_hop_stay_there() {
        let given = [
            ("connection", "close, x-private"),
            ("x-private", "1"),
            ("transfer-encoding", "chunked"),
            ("host", "gateway"),
            ("te", "gzip"),
            ("traceparent", "00-1"),
        ];
        let headers =
            given.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let forwarded = forwarded(headers.collect());
        assert_eq!(forwarded.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["traceparent"]);
        let trailers = HeaderMap::from_iter([(TE, HeaderValue::from_static("trailers"))]);
        assert_eq!(super::forwarded(trailers.clone()), trailers);
    }

    fn judged(is_grpc: bool, status: u16, code: Option<&'static str>) -> Option<FailureKind> {
        let trailers = code.map(|code| {
            HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static(code))])
        });
        let status = StatusCode::from_u16(status).unwrap_or_default();
        let answer = Answer { status, headers: HeaderMap::new(), body: Bytes::new(), trailers, rest: None };
        judge(answer, is_grpc).err().map(|failure| failure.kind)
    }

    #[test]
    fn what_a_caller_did_wrong_is_an_answer_and_what_a_server_cannot_is_a_failure() {
        use FailureKind as K;
        let rest =
            [(200, None), (404, None), (429, Some(K::Overloaded)), (503, Some(K::NotReady)), (500, Some(K::Internal))];
        for (status, expected) in rest {
            assert_eq!(judged(false, status, None), expected, "{status}");
        }
        let grpc = [
            ("0", None),
            ("3", None),
            ("5", None),
            ("8", Some(K::Overloaded)),
            ("14", Some(K::NotReady)),
            ("4", Some(K::DeadlineExceeded)),
        ];
        for (code, expected) in grpc {
            assert_eq!(judged(true, 200, Some(code)), expected, "{code}");
        }
        assert_eq!(judged(true, 200, None), Some(K::BadGateway));
        assert_eq!(judged(true, 404, None), Some(K::BadGateway));
    }
}
