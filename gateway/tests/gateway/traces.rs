//! Traces, where somebody collects them.

use http::Request;
use http_body_util::Full;

use crate::collector::{Collector, hex};
use crate::process::Program;
use crate::server::Server;
use crate::world::{ALL, Client, task};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

#[tokio::test]
async fn a_request_is_a_child_of_the_callers_span_and_the_servers_parent() {
    let collector = Collector::start().await;
    let server = Server::start("server").await;
    let endpoint = format!("http://{}", collector.address);
    let mut program =
        Program::with(&task("search", &[server.address], ""), &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]).await;
    let request = Request::post("/v1/tasks/search:rank").header("traceparent", format!("00-{TRACE}-{PARENT}-01"));
    let answer = Client::connect(program.address).await.send(request.body(Full::from(ALL)).unwrap()).await;
    assert_eq!(answer.status, 200);
    program.signal("TERM");
    assert!(program.exited().await.success());

    let spans = collector.spans("unimodel-gateway");
    let [span] = &spans[..] else { panic!("one request, and {spans:?}") };
    assert_eq!((hex(&span.trace_id), hex(&span.parent_span_id)), (TRACE.into(), PARENT.into()));
    let attributes = format!("{:?}", span.attributes);
    assert!(attributes.contains("\"search\"") && attributes.contains("\"ok\""), "{attributes}");
    let passed_on = format!("00-{TRACE}-{}-01", hex(&span.span_id));
    assert_eq!(server.only().header("traceparent"), Some(&*passed_on));
}
