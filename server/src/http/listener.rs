//! The router on a port.

use std::time::Duration;

use axum::Router;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
pub use unimodel_transport::listener::ConnectionLimits;

/// See [`unimodel_transport::listener::serve`].
pub async fn serve(
    listener: TcpListener,
    service: Router,
    limits: ConnectionLimits,
    stop: impl Future<Output = ()>,
    grace: Duration,
) -> usize {
    unimodel_transport::listener::serve(listener, TowerToHyperService::new(service), limits, stop, grace).await
}
