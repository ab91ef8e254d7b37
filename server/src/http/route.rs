//! What answers at which address, as a list: the router is made of it, and what is documented is compared with it.

use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::routing::{self, MethodRouter};
use http::Method;

use crate::front::Front;

/// What answers a method at an address.
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) path: String,
    handler: MethodRouter<Arc<Front>>,
}

pub(crate) fn get<H: Handler<T, Arc<Front>>, T: 'static>(path: impl Into<String>, handler: H) -> Route {
    Route { method: Method::GET, path: path.into(), handler: routing::get(handler) }
}

pub(crate) fn post<H: Handler<T, Arc<Front>>, T: 'static>(path: impl Into<String>, handler: H) -> Route {
    Route { method: Method::POST, path: path.into(), handler: routing::post(handler) }
}

pub(crate) fn router(routes: Vec<Route>) -> Router<Arc<Front>> {
    routes.into_iter().fold(Router::new(), |router, route| router.route(&route.path, route.handler))
}
