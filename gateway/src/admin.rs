//! The admin port: a page for people, liveness, readiness, metrics, and the table as it is.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use http::header::CONTENT_SECURITY_POLICY;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::{Value, json};
use unimodel_protocol::duration;

use crate::backend::Link;
use crate::body::{self, Body};
use crate::error::{Form, GatewayError};
use crate::front::Front;
use crate::gateway::Gateway;
use crate::metrics;
use crate::pool::Pool;
use crate::routes::Fallback;
use crate::table::{Split, Task};

/// The page: it shows `/debug/state` and asks `/v1`, which this port answers as the data port does, since a page may ask
/// only where it came from.
const PAGE: &str = include_str!("page.html");

/// The page loads nothing from elsewhere and talks to nobody else.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; \
                           connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// Everything that the admin port answers.
#[derive(Clone)]
pub struct Admin {
    gateway: Arc<Gateway>,
    front: Front,
}

impl Admin {
    /// The admin port of a gateway.
    pub fn new(gateway: Arc<Gateway>) -> Self {
        Self { front: Front::new(gateway.clone()), gateway }
    }
}

impl hyper::service::Service<Request<Incoming>> for Admin {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        if request.uri().path().starts_with("/v1/") {
            let front = self.front.clone();
            return Box::pin(async move { Ok(front.handle(request).await) });
        }
        let response = answer(&self.gateway, request.method(), request.uri().path());
        Box::pin(std::future::ready(Ok(response)))
    }
}

fn answer(gateway: &Arc<Gateway>, method: &Method, path: &str) -> Response<Body> {
    let text = |status, text: &'static str| body::respond(status, "text/plain; charset=utf-8", text);
    let response = match path {
        "/" => {
            let mut page = body::respond(StatusCode::OK, "text/html; charset=utf-8", PAGE);
            page.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
            page
        }
        "/livez" => text(StatusCode::OK, "ok\n"),
        "/readyz" if gateway.is_stopping() => text(StatusCode::SERVICE_UNAVAILABLE, "the gateway stops\n"),
        "/readyz" if !gateway.has_routes() => text(StatusCode::SERVICE_UNAVAILABLE, "there are no routes yet\n"),
        "/readyz" => text(StatusCode::OK, "ok\n"),
        "/metrics" => {
            let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            body::respond(StatusCode::OK, content_type, metrics::print(gateway))
        }
        "/debug/state" => body::json(StatusCode::OK, &state(gateway)),
        _ => {
            let path = path.chars().take(200).collect();
            return GatewayError::NoResource { method: method.to_string(), path }.response(Form::Rest);
        }
    };
    if method == Method::GET {
        return response;
    }
    let error = GatewayError::MethodNotAllowed { method: method.to_string(), path: path.to_owned(), allow: "GET" };
    error.response(Form::Rest)
}

/// The table as it is: what a person looks at when requests do not go where they should.
fn state(gateway: &Gateway) -> Value {
    let table = gateway.table();
    let now = Instant::now();
    json!({
        "stopping": gateway.is_stopping(),
        "tasks": table.tasks().iter().map(|task| of_task(task, now)).collect::<Vec<_>>(),
        "backends": table.backends().map(|backend| json!({
            "address": &**backend.address(),
            "connections": backend.connections(),
            "error": match backend.link() {
                Link::Down(error) => Value::from(&*error),
                Link::Idle | Link::Connecting | Link::Up => Value::Null,
            },
        })).collect::<Vec<_>>(),
    })
}

fn of_task(task: &Task, now: Instant) -> Value {
    let limiter = &task.state.limiter;
    let split = |split: &Option<Split>| {
        split.as_ref().map(|split| json!({ "percent": split.percent, "endpoints": of_pool(&split.pool, now) }))
    };
    let version = task.version.as_ref().map(|version| &version.facts);
    let metrics = &task.state.metrics;
    let [answered, failed] = metrics.answered();
    let by_fallback: u64 = metrics.by_task.iter().chain(metrics.by_list.iter()).map(|(_, count)| count).sum();
    json!({
        "name": &*task.name,
        "head": task.facts.head.as_deref().unwrap_or(&task.name),
        "modelVersion": version.map(|version| version.name.as_str()),
        "dataTime": version.map(|version| version.data_time),
        "answered": answered,
        "failed": failed,
        "byFallback": by_fallback,
        "fallback": task.facts.fallback.iter().map(of_fallback).collect::<Vec<_>>(),
        "inFlight": limiter.in_flight(),
        "maxConcurrency": limiter.limit(),
        "queued": limiter.waiting(),
        "p50": task.state.quantile(0.5).map(duration::print),
        "p95": task.state.quantile(0.95).map(duration::print),
        "p99": task.state.quantile(0.99).map(duration::print),
        "endpoints": of_pool(&task.pool, now),
        "canary": split(&task.canary),
        "mirror": split(&task.mirror),
    })
}

fn of_fallback(step: &Fallback) -> Value {
    match &step.task {
        Some(task) => Value::from(format!("task {task}")),
        None => Value::from("popular items"),
    }
}

fn of_pool(pool: &Pool, now: Instant) -> Vec<Value> {
    let of_endpoint = |(endpoint, weight): (&Arc<crate::pool::Endpoint>, f64)| {
        let (latency, in_flight) = endpoint.load(now);
        json!({
            "address": &**endpoint.backend.address(),
            "weight": weight,
            "state": endpoint.state(now),
            "latency": duration::print(latency),
            "inFlight": in_flight,
        })
    };
    pool.iter().map(of_endpoint).collect()
}
