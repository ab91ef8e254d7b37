//! A client that keeps so many requests in flight, or sends so many a second.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use prost::Message;
use tokio::net::TcpStream;
use unimodel_gateway::peek::grpc_frame;
use unimodel_protocol::v1;

/// What to send.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) in_flight: usize,
    pub(crate) time: Duration,
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    pub(crate) rate: f64,
    /// Microseconds.
    pub(crate) p50: f64,
    /// Microseconds.
    pub(crate) p99: f64,
    pub(crate) errors: usize,
}

/// Keeps this process on a core.
pub(crate) fn pin(core: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    rustix::thread::sched_setaffinity(None, &set).unwrap();
}

/// A request of a hundred candidates, as a page of a catalogue asks.
pub(crate) fn message(task: &str) -> Bytes {
    let ids = (0..100).map(|i| (i * 17).to_string()).collect();
    let candidates = Some(v1::Candidates { ids, ..Default::default() });
    let text = |text: &str| prost_types::Value { kind: Some(prost_types::value::Kind::StringValue(text.to_owned())) };
    let context = [("query", "star wars"), ("user_id", "4711"), ("country", "US")];
    let fields = context.map(|(name, value)| (name.to_owned(), text(value))).into();
    let context = Some(prost_types::Struct { fields });
    let request = v1::RankRequest { task: task.to_owned(), context, candidates, limit: Some(10), ..Default::default() };
    grpc_frame(&request.encode_to_vec())
}

pub(crate) async fn connect(address: SocketAddr) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (send, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    send
}

/// Sends one request; the code of gRPC, or None where there is no answer.
pub(crate) async fn send(mut send: SendRequest<Bytes>, address: SocketAddr, body: Bytes) -> Option<u8> {
    let request = Request::post(format!("http://{address}/unimodel.v1.RankingService/Rank"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", "2S")
        .body(())
        .unwrap();
    let (response, mut stream) = send.send_request(request, false).ok()?;
    stream.send_data(body, true).ok()?;
    let (parts, mut answer) = response.await.ok()?.into_parts();
    while let Some(data) = answer.data().await {
        let data = data.ok()?;
        answer.flow_control().release_capacity(data.len()).ok()?;
    }
    let trailers = answer.trailers().await.ok()?.unwrap_or(parts.headers);
    trailers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// Keeps requests in flight.
pub(crate) async fn run(address: SocketAddr, load: Load) -> Figures {
    const CONNECTIONS: usize = 4;
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(connect(address).await);
    }
    let body = message("search");
    for connection in &connections {
        // The first request of a connection is not measured.
        send(connection.clone(), address, body.clone()).await;
    }
    let begun = Instant::now();
    let workers = (0..load.in_flight).map(|worker| {
        let (connection, body) = (connections[worker % CONNECTIONS].clone(), body.clone());
        tokio::spawn(async move {
            let (mut times, mut errors) = (Vec::with_capacity(1 << 14), 0);
            while begun.elapsed() < load.time {
                let sent = Instant::now();
                match send(connection.clone(), address, body.clone()).await {
                    Some(0) => times.push(sent.elapsed()),
                    _ => errors += 1,
                }
            }
            (times, errors)
        })
    });
    let workers: Vec<_> = workers.collect();
    let (mut times, mut errors) = (Vec::new(), 0);
    for worker in workers {
        let (of_worker, of_worker_errors) = worker.await.unwrap();
        times.extend(of_worker);
        errors += of_worker_errors;
    }
    figures(times, errors, begun.elapsed())
}

/// Sends so many a second whatever comes back; latencies of those that were answered, errors of those that were not.
pub(crate) async fn open(address: SocketAddr, task: &'static str, rate: f64, time: Duration) -> Figures {
    let mut connections = Vec::new();
    for _ in 0..4 {
        connections.push(connect(address).await);
    }
    let body = message(task);
    let begun = Instant::now();
    let mut sent = Vec::new();
    let mut number = 0_u32;
    loop {
        let due = begun + Duration::from_secs_f64(f64::from(number) / rate);
        if due.duration_since(begun) >= time {
            break;
        }
        // A timer is not exact to less than a millisecond: what is due is sent together.
        if due > Instant::now() {
            tokio::time::sleep_until(due.into()).await;
        }
        let (connection, body) = (connections[number as usize % 4].clone(), body.clone());
        sent.push(tokio::spawn(async move {
            let begun = Instant::now();
            let code = send(connection, address, body).await;
            (code, begun.elapsed())
        }));
        number += 1;
    }
    let (mut times, mut errors) = (Vec::new(), 0);
    for one in sent {
        match one.await.unwrap() {
            (Some(0), took) => times.push(took),
            _ => errors += 1,
        }
    }
    figures(times, errors, time)
}

fn figures(mut times: Vec<Duration>, errors: usize, took: Duration) -> Figures {
    times.sort_unstable();
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).map_or(f64::NAN, |t| t.as_secs_f64() * 1e6);
    Figures { rate: times.len() as f64 / took.as_secs_f64(), p50: at(0.5), p99: at(0.99), errors }
}
