//! `grpc.health.v1`: the server as a whole, each service, and each task by its name.

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use tokio::sync::watch;
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
    /// `None`: there is no such service and no such task.
    fn status(&self, service: &str, readiness: &Readiness) -> Option<ServingStatus> {
        let serves = if service.is_empty() || SERVICES.contains(&service) {
            *readiness == Readiness::Ready
        } else {
            readiness.problem(&*self.0.ranking.task(service)?).is_none()
        };
        Some(if serves { ServingStatus::Serving } else { ServingStatus::NotServing })
    }
}

#[async_trait]
impl Health for HealthGrpc {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let service = &request.get_ref().service;
        let readiness = self.0.ranking.readiness().borrow().clone();
        let unknown = || Status::not_found(format!("unknown service or task `{service}`"));
        let status = self.status(service, &readiness).ok_or_else(unknown)?;
        Ok(Response::new(of(status)))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let service = request.into_inner().service;
        let health = Self(self.0.clone());
        let mut readiness = self.0.ranking.readiness();
        readiness.mark_changed();
        let changes =
            futures::stream::unfold(Some(Watched { health, service, readiness, told: None }), |watched| async {
                let mut watched = watched?;
                let (status, is_last) = watched.next().await?;
                // After the last one the stream ends: it must not hold up a server that stops.
                Some((Ok(of(status)), (!is_last).then_some(watched)))
            });
        Ok(Response::new(Box::pin(changes)))
    }
}

/// What one stream tells of.
struct Watched {
    health: HealthGrpc,
    service: String,
    readiness: watch::Receiver<Readiness>,
    told: Option<ServingStatus>,
}

impl Watched {
    /// The next status that is another than the one before, and whether it is the last one.
    async fn next(&mut self) -> Option<(ServingStatus, bool)> {
        loop {
            self.readiness.changed().await.ok()?;
            let readiness = self.readiness.borrow_and_update().clone();
            // The protocol wants a stream for an unknown service too.
            let status = self.health.status(&self.service, &readiness).unwrap_or(ServingStatus::ServiceUnknown);
            let is_last = readiness == Readiness::Stopping;
            if is_last || self.told.replace(status) != Some(status) {
                return Some((status, is_last));
            }
        }
    }
}

fn of(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}
