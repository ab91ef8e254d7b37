//! One port for HTTP/1.1, HTTP/2 without TLS, and gRPC, that slow and flooding clients cannot hold.

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::taken::Untaken;
use crate::timed::TimedStream;

/// What a connection may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Connections at a time; more wait to be accepted.
    pub connections: usize,
    /// How long the first bytes, and the header of an HTTP/1.1 request, may take. An idle HTTP/1.1 connection ends after
    /// it too.
    pub header_timeout: Duration,
    /// How long a client may take nothing of its answer.
    pub write_timeout: Duration,
    /// How long a client may take for an answer, or a piece of one that comes in pieces, from when it is there. It may take
    /// twice as long until it is cut.
    pub answer_timeout: Duration,
    /// Header fields of an HTTP/1.1 request.
    pub headers: usize,
    /// Bytes of a request's header.
    pub header_bytes: usize,
    /// Requests in flight on an HTTP/2 connection.
    pub streams: u32,
    /// How often a quiet HTTP/2 connection is asked whether it still lives, and how long it may take to say so.
    pub keep_alive: (Duration, Duration),
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections: 4096,
            header_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            answer_timeout: Duration::from_secs(60),
            headers: 64,
            header_bytes: 16 << 10,
            streams: 1024,
            keep_alive: (Duration::from_secs(30), Duration::from_secs(10)),
        }
    }
}

/// Serves until `stop` ends, then lets the requests in flight finish for at most `grace`.
///
/// Returns the number of connections that had not finished then, and are cut.
pub async fn serve<S, B>(
    listener: TcpListener,
    service: S,
    limits: ConnectionLimits,
    stop: impl Future<Output = ()>,
    grace: Duration,
) -> usize
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let builder = builder(limits);
    let connections = GracefulShutdown::new();
    let free = Arc::new(Semaphore::new(limits.connections));
    let mut tasks = tokio::task::JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = async {
            let permit = free.clone().acquire_owned().await;
            (accept(&listener).await, permit)
        };
        let (stream, permit) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut stop => break,
            // Finished connections are collected as they end.
            Some(_) = tasks.join_next() => continue,
        };
        let io = TokioIo::new(TimedStream::new(stream, limits.header_timeout, limits.write_timeout));
        let untaken = Untaken::default();
        let (service, answers) = (service.clone(), untaken.clone());
        let service = service_fn(move |request| {
            let (answer, answers) = (service.call(request), answers.clone());
            async move { answer.await.map(|response| response.map(|body| answers.watch(body))) }
        });
        let connection = connections.watch(builder.serve_connection(io, service).into_owned());
        tasks.spawn(async move {
            tokio::select! {
                biased;
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(error, "connection ended");
                },
                () = untaken.late(limits.answer_timeout) => {
                    tracing::debug!("a client does not take its answers: its connection is cut");
                }
            }
            drop(permit);
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(grace, connections.shutdown()).await;
    while tasks.try_join_next().is_some() {}
    tasks.len()
}

fn builder(limits: ConnectionLimits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_headers(limits.headers)
        .max_buf_size(limits.header_bytes.max(8 << 10));
    let header_bytes = u32::try_from(limits.header_bytes).unwrap_or(u32::MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(header_bytes)
        .max_concurrent_streams(limits.streams)
        .keep_alive_interval(limits.keep_alive.0)
        .keep_alive_timeout(limits.keep_alive.1);
    builder
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Answers are small and wanted at once.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "cannot turn Nagle's algorithm off");
                }
                return stream;
            }
            Err(error) => {
                // One connection that broke off, or no file descriptor left: that passes.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
