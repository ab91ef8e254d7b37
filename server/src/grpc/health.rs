//! `grpc.health.v1`: the server as a whole, each service, and each task by its name.

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
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
        let mut readiness = self.0.ranking.readiness();
        readiness.mark_changed();
        // After the last change the stream ends: it must not hold up a server that stops.
        let changes = futures::stream::unfold(Some(readiness), move |readiness| async move {
            let mut readiness = readiness?;
            readiness.changed().await.ok()?;
            let now = readiness.borrow_and_update().clone();
            let answer = if known { response(&now) } else { of(ServingStatus::ServiceUnknown) };
            Some((Ok(answer), (now != Readiness::Stopping).then_some(readiness)))
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
