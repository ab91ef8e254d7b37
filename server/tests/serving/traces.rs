//! Traces, where somebody collects them.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Request;

use crate::collector::{Collector, hex};
use crate::process::{Server, Setup, all_items};
use crate::store::Versions;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

#[tokio::test]
async fn a_request_is_a_child_of_the_callers_span_by_any_protocol() {
    let collector = Collector::start().await;
    let (store, _) = Versions::with_one().await;
    let environment = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", collector.address))];
    let mut server = Server::ready(Setup { environment, ..Setup::new(store.url()) }).await;
    let traceparent = format!("00-{TRACE}-{PARENT}-01");

    let mut request = Request::new(all_items("search"));
    request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
    server.grpc().await.rank(request).await.unwrap();
    let mut stream = TcpStream::connect(server.data).await.unwrap();
    let head = format!("GET /v1/tasks HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntraceparent: {traceparent}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.read_to_end(&mut Vec::new()).await.unwrap();

    // What has not been sent by then is sent when the server stops.
    server.signal("TERM");
    assert!(server.exited().await.success(), "{}", server.log_text());
    let spans = collector.spans("unimodel-server");
    for name in ["POST /unimodel.v1.RankingService/Rank", "GET /v1/tasks"] {
        let span = spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name} in {spans:?}"));
        assert_eq!((hex(&span.trace_id), hex(&span.parent_span_id)), (TRACE.into(), PARENT.into()));
    }
}
