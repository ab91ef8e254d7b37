//! The server behind a hop: it answers ten items after a fixed time, without looking at the request.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use prost::Message;
use tokio::net::TcpListener;
use unimodel_gateway::peek::grpc_frame;
use unimodel_protocol::v1;

/// The argument that makes this program the server.
pub(crate) const ARGUMENT: &str = "--server";

/// Serves until it is killed.
pub(crate) fn run(address: SocketAddr, service_time: Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await.unwrap();
        let answer = answer();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            tokio::spawn(serve(stream, answer.clone(), service_time));
        }
    });
}

async fn serve(stream: tokio::net::TcpStream, answer: Bytes, service_time: Duration) {
    let Ok(mut connection) = h2::server::Builder::new()
        .max_concurrent_streams(1024)
        .initial_window_size(1 << 20)
        .initial_connection_window_size(8 << 20)
        .handshake(stream)
        .await
    else {
        return;
    };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let answer = answer.clone();
        let work = async move {
            let mut body = request.into_body();
            while let Some(Ok(data)) = body.data().await {
                let _ = body.flow_control().release_capacity(data.len());
            }
            if !service_time.is_zero() {
                tokio::time::sleep(service_time).await;
            }
            let response = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
            if let Ok(mut stream) = respond.send_response(response, false) {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                let _ = stream.send_data(answer, false);
                let _ = stream.send_trailers(trailers);
            }
        };
        tokio::spawn(work);
    }
}

fn answer() -> Bytes {
    let mut items = v1::RankedItems::default();
    (0..10).for_each(|i| items.push(&(i * 17).to_string(), 1.0 - i as f32 / 10.0));
    let (task, model_version) = ("search".to_owned(), "20260101T000000Z-1a2b3c4d".to_owned());
    grpc_frame(&v1::RankResponse { items, task, model_version, ..Default::default() }.encode_to_vec())
}
