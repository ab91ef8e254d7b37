//! Load by h2load.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use prost::Message;
use prost_types::value::Kind;
use serde_json::Value as Json;
use tokio::process::Command;
use unimodel_protocol::v1;

/// What h2load sends.
pub(crate) struct Load {
    request: tempfile::NamedTempFile,
    url: String,
    headers: &'static [&'static str],
    connections: usize,
    streams: usize,
    /// A second, on each connection; as fast as answers come where there is none.
    rate: Option<usize>,
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) per_second: f64,
    pub(crate) failed: u64,
    /// By the hundreds of their HTTP status, from 2xx on.
    pub(crate) statuses: [u64; 4],
    /// Of each request, in milliseconds, rising.
    latencies: Vec<f64>,
}

impl Outcome {
    pub(crate) fn percentile(&self, share: f64) -> f64 {
        let at = (self.latencies.len() as f64 * share) as usize;
        self.latencies[at.min(self.latencies.len() - 1)]
    }
}

/// How long a load lasts.
#[derive(Clone, Copy)]
pub(crate) enum Length {
    Requests(usize),
    Time(Duration),
}

impl Load {
    /// The same request by gRPC, `streams` at a time on each connection.
    pub(crate) fn new(address: SocketAddr, request: &v1::RankRequest, connections: usize, streams: usize) -> Self {
        let message = request.encode_to_vec();
        let file = tempfile::NamedTempFile::new().expect("a file");
        // gRPC over HTTP/2, "Length-Prefixed-Message".
        let frame = [&[0][..], &(message.len() as u32).to_be_bytes(), &message].concat();
        std::fs::write(file.path(), frame).expect("to write the request");
        let url = format!("http://{address}/unimodel.v1.RankingService/Rank");
        let headers = &["content-type: application/grpc", "te: trailers"];
        Self { request: file, url, headers, connections, streams, rate: None }
    }

    /// The same request by REST, on HTTP/2.
    pub(crate) fn json(address: SocketAddr, task: &str, body: &Json, connections: usize, streams: usize) -> Self {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), body.to_string()).expect("to write the request");
        let url = format!("http://{address}/v1/tasks/{task}:rank");
        Self { request: file, url, headers: &["content-type: application/json"], connections, streams, rate: None }
    }

    /// The same at so many a second in all, whatever becomes of them, as far as `streams` reach.
    pub(crate) fn at_rate(self, per_second: f64) -> Self {
        Self { rate: Some((per_second / self.connections as f64).ceil() as usize), ..self }
    }

    pub(crate) async fn run(&self, length: Length) -> Outcome {
        let log = tempfile::NamedTempFile::new().expect("a file");
        std::fs::remove_file(log.path()).expect("to make way for the log");
        let mut command = Command::new("h2load");
        command
            .args(["-c", &self.connections.to_string(), "-m", &self.streams.to_string()])
            .args(self.headers.iter().flat_map(|header| ["-H", header]))
            .args(self.rate.map(|rate| format!("--rps={rate}")))
            .arg("-d")
            .arg(self.request.path())
            .arg(format!("--log-file={}", log.path().display()));
        match length {
            Length::Requests(count) => command.args(["-n", &count.to_string()]),
            Length::Time(time) => command.args(["-D", &time.as_secs_f64().to_string()]),
        };
        let output =
            command.arg(&self.url).stdin(Stdio::null()).output().await.expect("h2load (Debian nghttp2-client)");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        let number = |after: &str, before: &str| -> Option<f64> {
            let (_, rest) = text.split_once(after)?;
            rest.split_once(before)?.0.rsplit([' ', ',']).next()?.parse().ok()
        };
        let log = std::fs::read_to_string(log.path()).expect("h2load's log");
        // Start, status and duration, in microseconds.
        let mut latencies: Vec<f64> = log
            .lines()
            .filter_map(|line| line.split('\t').nth(2)?.parse::<f64>().ok())
            .map(|microseconds| microseconds / 1000.0)
            .collect();
        latencies.sort_by(f64::total_cmp);
        let seconds = match length {
            Length::Time(time) => Some(time.as_secs_f64()),
            Length::Requests(_) => None,
        };
        Outcome {
            per_second: seconds
                .map(|seconds| latencies.len() as f64 / seconds)
                .or_else(|| number("finished in", " req/s"))
                .unwrap_or_else(|| panic!("no rate in {text}")),
            statuses: ["2xx", "3xx", "4xx", "5xx"].map(|of| {
                number("status codes:", &format!(" {of}")).unwrap_or_else(|| panic!("no statuses in {text}")) as u64
            }),
            failed: number("succeeded,", " failed").unwrap_or_else(|| panic!("no count in {text}")) as u64,
            latencies,
        }
    }
}

/// The ids that a MovieLens version has, from the first on.
pub(crate) fn movies(task: &str, count: usize) -> v1::RankRequest {
    let ids = (1..=count).map(|id| id.to_string()).collect();
    let value = |kind| prost_types::Value { kind: Some(kind) };
    let history = (1..=20).map(|i| value(Kind::StringValue((i * 37).to_string()))).collect();
    let history = value(Kind::ListValue(prost_types::ListValue { values: history }));
    v1::RankRequest {
        task: task.into(),
        context: Some(prost_types::Struct { fields: [("history".to_owned(), history)].into() }),
        candidates: Some(v1::Candidates { ids, ..v1::Candidates::default() }),
        ..v1::RankRequest::default()
    }
}
