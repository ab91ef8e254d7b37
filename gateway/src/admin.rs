//! The admin port: liveness, readiness, metrics, and the table as it is.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::{Value, json};
use unimodel_protocol::duration;

use crate::backend::Link;
use crate::body::{self, Body};
use crate::error::{Form, GatewayError};
use crate::gateway::Gateway;
use crate::metrics;
use crate::pool::Pool;
use crate::table::{Split, Task};

/// Everything that the admin port answers.
#[derive(Clone)]
pub struct Admin(pub Arc<Gateway>);

impl hyper::service::Service<Request<Incoming>> for Admin {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Body>, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        std::future::ready(Ok(answer(&self.0, request.method(), request.uri().path())))
    }
}

fn answer(gateway: &Arc<Gateway>, method: &Method, path: &str) -> Response<Body> {
    let text = |status, text: &'static str| body::respond(status, "text/plain; charset=utf-8", text);
    let response = match path {
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
    json!({
        "name": &*task.name,
        "modelVersion": task.version.as_ref().map(|version| version.facts.name.as_str()),
        "inFlight": limiter.in_flight(),
        "maxConcurrency": limiter.limit(),
        "queued": limiter.waiting(),
        "p50": task.state.quantile(0.5).map(duration::print),
        "p95": task.state.quantile(0.95).map(duration::print),
        "endpoints": of_pool(&task.pool, now),
        "canary": split(&task.canary),
        "mirror": split(&task.mirror),
    })
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
