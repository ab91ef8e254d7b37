//! gRPC services of the gateway's own: health, by task too, and reflection, so that tools need no `.proto` files.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::Stream;
use tonic::service::Routes;
use tonic::{Request, Response, Status, async_trait};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use unimodel_protocol::inference::grpc_inference_service_server;
use unimodel_protocol::v1::ranking_service_server;

use crate::gateway::Gateway;

/// Names of the services that requests go through.
const SERVICES: [&str; 2] = [ranking_service_server::SERVICE_NAME, grpc_inference_service_server::SERVICE_NAME];

/// How often a watched status is looked at.
const LOOK: Duration = Duration::from_millis(250);

const COMPILED: &str = "descriptors are checked when they are compiled";

pub(crate) fn all(gateway: Arc<Gateway>) -> Routes {
    // Clients ask for either version of reflection.
    Routes::new(HealthServer::new(HealthGrpc(gateway)))
        .add_service(reflection().build_v1().expect(COMPILED))
        .add_service(reflection().build_v1alpha().expect(COMPILED))
        .prepare()
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(unimodel_protocol::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        // So that tools can print the details of an error.
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
}

struct HealthGrpc(Arc<Gateway>);

/// None: there is no such service or task.
fn status(gateway: &Gateway, service: &str) -> Option<ServingStatus> {
    let is_ready = if service.is_empty() || SERVICES.contains(&service) {
        true
    } else {
        gateway.table().task(service)?.can_answer(Instant::now())
    };
    let serves = is_ready && !gateway.is_stopping();
    Some(if serves { ServingStatus::Serving } else { ServingStatus::NotServing })
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[async_trait]
impl Health for HealthGrpc {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let service = &request.get_ref().service;
        let unknown = || Status::not_found(format!("unknown service or task `{service}`"));
        Ok(Response::new(response(status(&self.0, service).ok_or_else(unknown)?)))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let service = request.into_inner().service;
        let gateway = self.0.clone();
        let state = (gateway, service, None);
        // After the gateway has begun to stop the stream ends: it must not hold it up.
        let changes = futures::stream::unfold(Some(state), |state| async move {
            let (gateway, service, last) = state?;
            let mut stopping = gateway.stopping();
            loop {
                // The protocol wants a stream for an unknown service too.
                let now = status(&gateway, &service).unwrap_or(ServingStatus::ServiceUnknown);
                if last != Some(now) {
                    let next = (!gateway.is_stopping()).then_some((gateway, service, Some(now)));
                    return Some((Ok(response(now)), next));
                }
                tokio::select! {
                    _ = stopping.changed() => if gateway.is_stopping() && last == Some(ServingStatus::NotServing) { return None; },
                    () = tokio::time::sleep(LOOK) => {}
                }
            }
        });
        Ok(Response::new(Box::pin(changes)))
    }
}
