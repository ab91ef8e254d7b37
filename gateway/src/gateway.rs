//! The gateway as a whole: the table that holds now, and what outlives tables.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;
use tonic::service::Routes as Services;
use unimodel_transport::body::Intake;

use crate::body::BodyLimits;
use crate::metrics::GatewayMetrics;
use crate::routes::Routes;
use crate::services;
use crate::table::Table;

/// What a gateway does beside its routes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// What requests' bodies may be.
    pub body: BodyLimits,
    /// The share of requests in the access log, from 0 to 1.
    pub access_log: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { body: BodyLimits::default(), access_log: 0.0 }
    }
}

/// The gateway.
pub struct Gateway {
    table: ArcSwap<Table>,
    /// Its settings.
    pub settings: Settings,
    /// Counts that belong to no task.
    pub metrics: GatewayMetrics,
    pub(crate) intake: Intake,
    stopping: watch::Sender<bool>,
    has_routes: AtomicBool,
}

impl Gateway {
    /// A gateway with checked routes.
    pub fn new(routes: Routes, settings: Settings) -> Arc<Self> {
        let gateway = Self::without_routes(settings);
        gateway.apply(routes);
        gateway
    }

    /// A gateway that is not ready before routes are applied.
    pub fn without_routes(settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            table: ArcSwap::from_pointee(Table::default()),
            settings,
            intake: Intake::new(settings.body),
            metrics: GatewayMetrics::default(),
            stopping: watch::Sender::new(false),
            has_routes: AtomicBool::new(false),
        })
    }

    /// The table that holds now.
    pub fn table(&self) -> Guard<Arc<Table>> {
        self.table.load()
    }

    /// Puts checked routes in place of those before. Requests in flight finish with the table that they began with.
    /// Callers apply one file after the other.
    pub fn apply(&self, routes: Routes) {
        let table = Table::new(routes, &self.table.load(), Instant::now());
        self.table.store(Arc::new(table));
        self.has_routes.store(true, Ordering::Relaxed);
        self.metrics.applied.fetch_add(1, Ordering::Relaxed);
    }

    /// From now on the gateway says that it is not ready.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Whether it has had routes.
    pub fn has_routes(&self) -> bool {
        self.has_routes.load(Ordering::Relaxed)
    }

    /// Whether it stops.
    pub fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Tells when it begins to stop.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// The gRPC services that the gateway answers itself: health and reflection.
    pub fn services(self: &Arc<Self>) -> Services {
        services::all(self.clone())
    }
}
