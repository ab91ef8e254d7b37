//! A collector of traces, as the OpenTelemetry protocol has it.

use std::net::SocketAddr;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, async_trait};

pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    received: mpsc::UnboundedReceiver<ExportTraceServiceRequest>,
    served: JoinHandle<Result<(), tonic::transport::Error>>,
}

struct Receiving(mpsc::UnboundedSender<ExportTraceServiceRequest>);

#[async_trait]
impl TraceService for Receiving {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.send(request.into_inner()).unwrap();
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, received) = mpsc::unbounded_channel();
        let collector = tonic::transport::Server::builder().add_service(TraceServiceServer::new(Receiving(sender)));
        let served = tokio::spawn(collector.serve_with_incoming(TcpListenerStream::new(listener)));
        Self { address, received, served }
    }

    /// The spans that came from a program of that name, once it has ended.
    pub(crate) fn spans(mut self, service: &str) -> Vec<Span> {
        self.served.abort();
        let mut spans = Vec::new();
        while let Ok(request) = self.received.try_recv() {
            for resource in request.resource_spans {
                let name = resource.resource.unwrap().attributes.into_iter().find(|a| a.key == "service.name").unwrap();
                assert!(format!("{name:?}").contains(service), "{name:?}");
                spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
            }
        }
        spans
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
