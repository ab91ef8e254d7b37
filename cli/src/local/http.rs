//! Asking the gateway.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;

/// How long an answer may take; the gateway's own limits are lower.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Status and body of an answer.
pub async fn ask(address: SocketAddr, method: Method, path: &str, body: Vec<u8>) -> anyhow::Result<(u16, Vec<u8>)> {
    let asked = async {
        let stream = tokio::net::TcpStream::connect(address).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::builder().method(method).uri(path).header("host", address.to_string());
        let answer = sender.send_request(request.body(Full::<Bytes>::from(body))?).await?;
        let status = answer.status().as_u16();
        anyhow::Ok((status, answer.into_body().collect().await?.to_bytes().to_vec()))
    };
    let answer = tokio::time::timeout(TIMEOUT, asked).await.context("no answer")?;
    answer.with_context(|| format!("cannot ask {address}"))
}
