//! The requests that `docs/openapi.yaml` shows, sent to the program on a real version.

use http::{HeaderMap, HeaderName, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::document::{Answer, Document, Shown};
use crate::process::{Server, Setup};
use crate::store::Versions;

/// The version that the document shows.
const SHOWN: &str = "20260101T000000Z-1a2b3c4d";

async fn send(server: &Server, shown: &Shown<'_>, version: &str) -> Answer {
    // The version's elements have other names.
    let body = shown.body.replace("user_id", "user").replace("source_item", "source");
    let (method, url, length) = (shown.method, shown.url.replace(SHOWN, version), body.len());
    let headers: String = shown.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let request = format!(
        "{method} {url} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}"
    );
    let mut stream = TcpStream::connect(server.data).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let body = answer.split_off(end + 4);
    let head = String::from_utf8(answer).unwrap();
    let mut lines = head.trim_end().lines();
    let status: StatusCode = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: HeaderMap = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
        .collect();
    Answer { status, headers, body }
}

#[tokio::test]
async fn documented_requests_are_answered_as_documented() {
    let (store, version) = Versions::with_one().await;
    let server = Server::ready(Setup::new(store.url())).await;
    let document = Document::read();
    let mut sent = 0;
    for operation in document.operations() {
        // One that is too busy or too slow is played elsewhere.
        for shown in document.shown(&operation).iter().filter(|shown| ![429, 504].contains(&shown.status)) {
            let answer = send(&server, shown, &version).await;
            document.check_answer(shown, &answer);
            sent += 1;
        }
    }
    assert!(sent > 30, "{sent}");
}
