//! gRPC: ranking, health and reflection.

mod health;
mod ranking;

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse;
use http::Request;
use tonic::server::NamedService;
use tower::util::MapRequestLayer;
use tower::{Layer, Service};
use unimodel_protocol::inference::grpc_inference_service_server::{self, GrpcInferenceServiceServer};
use unimodel_protocol::v1::ranking_service_server::{self, RankingServiceServer};

use crate::front::Front;
use crate::http::body::TimedBody;
use crate::oip::grpc::InferenceGrpc;

/// Names of the services that are the server's own.
pub(crate) const SERVICES: [&str; 2] =
    [ranking_service_server::SERVICE_NAME, grpc_inference_service_server::SERVICE_NAME];

/// The paths of all services.
pub(crate) fn routes(front: Arc<Front>) -> Router {
    let max = front.body.max_bytes;
    let ranking = RankingServiceServer::new(ranking::RankingGrpc(front.clone())).max_decoding_message_size(max);
    let mut router = add(Router::new(), &front, ranking);
    let inference = GrpcInferenceServiceServer::new(InferenceGrpc(front.clone())).max_decoding_message_size(max);
    router = add(router, &front, inference);
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

fn add<S>(router: Router, front: &Front, service: S) -> Router
where
    S: Service<Request<Body>, Error = Infallible> + NamedService + Clone + Send + Sync + 'static,
    S::Response: IntoResponse,
    S::Future: Send + 'static,
{
    let limits = front.body;
    let timed =
        MapRequestLayer::new(move |request: Request<Body>| request.map(|body| Body::new(TimedBody::new(body, limits))));
    router.route_service(&format!("/{}/{{*method}}", S::NAME), timed.layer(service))
}
