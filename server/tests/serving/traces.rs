//! Traces, where somebody collects them.

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, async_trait};

use crate::process::{Server, Setup, all_items};
use crate::store::Versions;

struct Collector(mpsc::UnboundedSender<ExportTraceServiceRequest>);

#[async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.send(request.into_inner()).unwrap();
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_request_is_a_child_of_the_callers_span_by_any_protocol() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, mut received) = mpsc::unbounded_channel();
    let collector = tonic::transport::Server::builder().add_service(TraceServiceServer::new(Collector(sender)));
    let collector = tokio::spawn(collector.serve_with_incoming(TcpListenerStream::new(listener)));

    let (store, _) = Versions::with_one().await;
    let environment = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}"))];
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
    collector.abort();
    let mut spans: Vec<Span> = Vec::new();
    while let Ok(request) = received.try_recv() {
        for resource in request.resource_spans {
            let service = resource.resource.unwrap().attributes.into_iter().find(|a| a.key == "service.name").unwrap();
            assert!(format!("{service:?}").contains("unimodel-server"), "{service:?}");
            spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }
    for name in ["POST /unimodel.v1.RankingService/Rank", "GET /v1/tasks"] {
        let span = spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name} in {spans:?}"));
        assert_eq!((hex(&span.trace_id), hex(&span.parent_span_id)), (TRACE.into(), PARENT.into()));
    }
}
