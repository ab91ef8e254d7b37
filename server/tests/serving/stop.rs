//! SIGTERM: unready, what is in flight is answered, exit 0.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::body::Body;
use futures::channel::mpsc::unbounded;
use futures::poll;
use prost::Message;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::Code;
use tonic::transport::Channel;
use tower::{Service, ServiceExt};
use unimodel_model::network::RankerConfig;
use unimodel_protocol::control::v1;
use unimodel_protocol::v1::ranking_service_client::RankingServiceClient;

use crate::fixture::Recipe;
use crate::process::{Server, Setup, all_items, http};
use crate::store::Versions;
use crate::tls::ControlFiles;

/// Together they keep one thread busy for long after they have come.
const ITEMS: usize = 4_000;
const REQUESTS: usize = 24;

#[tokio::test]
async fn what_is_in_flight_is_answered_before_the_server_exits() {
    let store = Versions::new();
    let mut recipe = Recipe { items: ITEMS, ..Recipe::default() };
    recipe.network.ranker = Some(RankerConfig { hidden: vec![128, 128], candidates: 400 });
    let version = store.publish_changed(&recipe, |_| {}).await;
    store.promote(&version).await;
    for signal in ["TERM", "INT"] {
        let more = "admission: {maxQueuedRows: 10000000}".into();
        let mut server = Server::ready(Setup { more, ..Setup::new(store.url()) }).await;
        let mut requests = JoinSet::new();
        for i in 0..REQUESTS {
            let body = json!({ "context": { "age": i }, "candidates": { "all": true }, "limit": 3 }).to_string();
            let data = server.data;
            requests.spawn(async move { http(data, "POST", "/v1/tasks/search:rank", &body).await });
        }
        server
            .until(async |server| {
                let waiting = server.metric("unimodel_in_flight{task=\"search\"}").await;
                let answered = server.metric("unimodel_requests_total{task=\"search\",protocol=\"rest\"}").await;
                (waiting + answered >= REQUESTS as f64).then_some(())
            })
            .await;
        server.signal(signal);
        while let Some(answer) = requests.join_next().await {
            let (status, body) = answer.unwrap();
            assert_eq!(status, 200, "{body}");
        }
        assert!(server.exited().await.success(), "{}", server.log_text());
        let stopping = server.logged("stopping").await;
        assert_eq!(stopping["signal"], format!("SIG{signal}"));
        assert!(stopping["in_flight"].as_u64().unwrap() > 0, "all were answered before: {stopping}");
        server.logged("stopped").await;
    }
}

/// A request whose body has begun to arrive, and does not go on.
struct HalfSent {
    stream: TcpStream,
    rest: String,
}

impl HalfSent {
    async fn to(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut body = json!({ "candidates": { "all": true }, "limit": 1 }).to_string();
        let head = format!(
            "POST /v1/tasks/search:rank HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // The server says so once it waits for the body.
        let expected = b"HTTP/1.1 100 Continue\r\n\r\n";
        let mut answer = vec![0; expected.len()];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, expected);
        let rest = body.split_off(10);
        stream.write_all(body.as_bytes()).await.unwrap();
        Self { stream, rest }
    }

    /// Sends the rest: the answer.
    async fn go_on(mut self) -> String {
        self.stream.write_all(self.rest.as_bytes()).await.unwrap();
        self.end().await
    }

    /// What comes until the connection ends.
    async fn end(mut self) -> String {
        let mut answer = Vec::new();
        let _ = self.stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }
}

/// The same by gRPC: the status of a call whose message comes after `meanwhile`.
async fn grpc_status(server: &Server, meanwhile: impl Future<Output = ()>) -> String {
    let url = format!("http://{}", server.data);
    let mut channel = Channel::builder(url.parse().unwrap()).connect().await.unwrap();
    let (frames, body) = unbounded::<Result<Vec<u8>, std::io::Error>>();
    let request = ::http::Request::post(format!("{url}/unimodel.v1.RankingService/Rank"))
        .header("content-type", "application/grpc")
        .body(tonic::body::Body::new(Body::from_stream(body)))
        .unwrap();
    let mut call = channel.ready().await.unwrap().call(request);
    assert!(poll!(&mut call).is_pending());
    // What comes later on the connection is answered: so it has the head of the first.
    RankingServiceClient::new(channel.clone()).rank(all_items("search")).await.unwrap();
    meanwhile.await;
    let message = all_items("search").encode_to_vec();
    let frame = [&[0][..], &(message.len() as u32).to_be_bytes(), &message].concat();
    frames.unbounded_send(Ok(frame)).unwrap();
    drop(frames);
    call.await.unwrap().headers()["grpc-status"].to_str().unwrap().to_owned()
}

async fn unready(server: &Server) {
    server.until(async |server| (server.admin("/readyz").await == (503, "stopping\n".into())).then_some(())).await;
}

#[tokio::test]
async fn after_the_grace_what_is_stuck_is_cut_and_the_server_exits() {
    let (store, _) = Versions::with_one().await;
    let grace = Duration::from_secs(2);
    let mut server = Server::ready(Setup { more: "grace: 2s".into(), ..Setup::new(store.url()) }).await;
    let stuck = HalfSent::to(server.data).await;
    let start = Instant::now();
    server.signal("TERM");
    unready(&server).await;
    assert!(server.exited().await.success(), "{}", server.log_text());
    assert!(start.elapsed() >= grace);
    assert_eq!(server.logged("stopped, with connections cut").await["cut"], 1);
    assert_eq!(stuck.end().await, "");
}

#[tokio::test]
async fn a_server_that_stops_takes_nothing_new_and_a_second_signal_ends_it_at_once() {
    let (store, first) = Versions::with_one().await;
    let second = store.publish(2).await;
    let files = ControlFiles::new();
    // Longer than the test may take.
    let (mut server, mut control) = files.serve(Setup { more: "grace: 1h".into(), ..Setup::new(store.url()) }).await;
    server.logged("active").await;
    control.prepared(&second).await;
    let (stuck, late) = (HalfSent::to(server.data).await, HalfSent::to(server.data).await);
    let signal = async {
        server.signal("TERM");
        unready(&server).await;
    };
    assert_eq!(grpc_status(&server, signal).await, (Code::Unavailable as i32).to_string());
    assert_eq!(server.admin("/livez").await.0, 200);

    let answer = late.go_on().await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("the server stops"), "{answer}");
    server.until(async |server| TcpStream::connect(server.data).await.is_err().then_some(())).await;

    assert!(control.state().await.draining);
    let prepare = v1::PrepareRequest { version: first, schema_hash: String::new() };
    assert_eq!(control.0.prepare(prepare).await.unwrap_err().code(), Code::Unavailable);
    let activate = v1::ActivateRequest { version: second };
    assert_eq!(control.0.activate(activate).await.unwrap_err().code(), Code::Unavailable);

    server.signal("TERM");
    assert!(server.exited().await.success(), "{}", server.log_text());
    assert_eq!(server.logged("stopped at once").await["signal"], "SIGTERM");
    assert_eq!(stuck.end().await, "");
}
