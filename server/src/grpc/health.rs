//! `grpc.health.v1`: the server as a whole, each service, and each task by its name.

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status, async_trait};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::front::Front;
use crate::grpc::SERVICES;
use crate::ranking::Readiness;

pub(super) fn service(front: Arc<Front>) -> HealthServer<HealthGrpc> {
    HealthServer::new(HealthGrpc(front))
}

pub(super) struct HealthGrpc(Arc<Front>);

impl HealthGrpc {
    fn knows(&self, service: &str) -> bool {
        service.is_empty() || SERVICES.contains(&service) || self.0.ranking.task(service).is_some()
    }
}

#[async_trait]
impl Health for HealthGrpc {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let service = &request.get_ref().service;
        if !self.knows(service) {
            return Err(Status::not_found(format!("unknown service or task `{service}`")));
        }
        let readiness = self.0.ranking.readiness().borrow().clone();
        Ok(Response::new(response(&readiness)))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        // The protocol wants a stream for an unknown service too.
        let known = self.knows(&request.get_ref().service);
        let changes = WatchStream::new(self.0.ranking.readiness()).scan(false, move |stopped, readiness| {
            // After the last change the stream ends: it must not hold up a server that stops.
            let answer =
                (!*stopped).then(|| if known { response(&readiness) } else { of(ServingStatus::ServiceUnknown) });
            *stopped |= readiness == Readiness::Stopping;
            futures::future::ready(answer.map(Ok))
        });
        Ok(Response::new(Box::pin(changes)))
    }
}

fn response(readiness: &Readiness) -> HealthCheckResponse {
    of(match readiness {
        Readiness::Ready => ServingStatus::Serving,
        Readiness::NotReady { .. } | Readiness::Stopping => ServingStatus::NotServing,
    })
}

fn of(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}
