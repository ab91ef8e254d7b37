//! gRPC: ranking, health and reflection.

mod health;
mod ranking;
pub(crate) mod unary;

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse;
use http::Request;
use http_body_util::BodyExt;
use tonic::server::NamedService;
use tower::{Service, service_fn};
use unimodel_protocol::inference::grpc_inference_service_server::{self, GrpcInferenceServiceServer};
use unimodel_protocol::v1::ranking_service_server::{self, RankingServiceServer};

use crate::error::RankError;
use crate::front::Front;
use crate::oip::grpc::InferenceGrpc;
use crate::ranking::Protocol;

/// Names of the services that are the server's own.
pub(crate) const SERVICES: [&str; 2] =
    [ranking_service_server::SERVICE_NAME, grpc_inference_service_server::SERVICE_NAME];

/// The paths of all services.
pub(crate) fn routes(front: Arc<Front>) -> Router {
    let max = front.intake.limits.max_bytes;
    let ranking = RankingServiceServer::new(ranking::RankingGrpc(front.clone())).max_decoding_message_size(max);
    let mut router = add_unary(Router::new(), &front, Protocol::Grpc, "/Rank", ranking);
    let inference = GrpcInferenceServiceServer::new(InferenceGrpc(front.clone())).max_decoding_message_size(max);
    router = add_unary(router, &front, Protocol::InferenceGrpc, "/ModelInfer", inference);
    router = add(router, &front, health::service(front.clone()));
    // Clients ask for either version of reflection.
    router = add(router, &front, reflection().build_v1().expect(COMPILED));
    add(router, &front, reflection().build_v1alpha().expect(COMPILED))
}

const COMPILED: &str = "descriptors are checked when they are compiled";

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(unimodel_protocol::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        // So that tools can print the details of an error.
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
}

fn path<S: NamedService>() -> String {
    format!("/{}/{{*method}}", S::NAME)
}

/// A service whose calls are one message each, of which the method `ranks` is counted.
fn add_unary<S>(router: Router, front: &Arc<Front>, protocol: Protocol, ranks: &'static str, service: S) -> Router
where
    S: Service<Request<Body>, Response = http::Response<tonic::body::Body>, Error = Infallible>
        + NamedService
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    let front = front.clone();
    let answer = service_fn(move |request| {
        let (front, service) = (front.clone(), service.clone());
        async move { Ok::<_, Infallible>(unary::answer(&front, protocol, ranks, service, request).await) }
    });
    router.route_service(&path::<S>(), answer)
}

fn add<S>(router: Router, front: &Arc<Front>, service: S) -> Router
where
    S: Service<Request<Body>, Error = Infallible> + NamedService + Clone + Send + Sync + 'static,
    S::Response: IntoResponse,
    S::Future: Send + 'static,
{
    let front = front.clone();
    let answer = service_fn(move |request: Request<Body>| {
        let (front, mut service) = (front.clone(), service.clone());
        async move {
            let (parts, body) = request.into_parts();
            let body = match front.intake.bound(body) {
                // tonic answers with the status that it finds in a body's error.
                Ok(body) => Body::new(body.map_err(|error| RankError::from(error).problem().status())),
                Err(full) => return Ok::<_, Infallible>(RankError::from(full).problem().status().into_http()),
            };
            let Ok(response) = service.call(Request::from_parts(parts, body)).await;
            Ok(response.into_response())
        }
    });
    router.route_service(&path::<S>(), answer)
}
