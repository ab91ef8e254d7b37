//! `unimodel.control.v1.ControlService`, by mutual TLS.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, async_trait};
use unimodel_model::schema::Element;
use unimodel_model::store::StoreError;
use unimodel_model::version::{ChannelName, Digest, Manifest, VersionId};
use unimodel_protocol::control::v1;
use unimodel_protocol::control::v1::control_service_server::{ControlService, ControlServiceServer};

use super::tls::accept;
use super::{Control, Failure, Held, Phase, Prepared, Refused};
use crate::config::DeviceKind;
use crate::ranking::Ranking;

/// Serves the control port until `stop` ends.
///
/// # Errors
/// A fault of the transport.
pub async fn serve(
    control: Arc<Control>,
    device: DeviceKind,
    listener: TcpListener,
    tls: Arc<ArcSwap<ServerConfig>>,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let (sender, accepted) = mpsc::channel(1);
    tokio::spawn(accept(listener, tls, sender));
    Server::builder()
        .add_service(ControlServiceServer::new(ControlGrpc { control, device }))
        .serve_with_incoming_shutdown(ReceiverStream::new(accepted), stop)
        .await
}

struct ControlGrpc {
    control: Arc<Control>,
    device: DeviceKind,
}

#[async_trait]
impl ControlService for ControlGrpc {
    async fn get_state(&self, _: Request<v1::GetStateRequest>) -> Result<Response<v1::GetStateResponse>, Status> {
        let versions = self.control.versions();
        // Whoever borrows them once more here waits for whoever waits to change them, and the other way round.
        let versions = versions.borrow();
        let start_failure = self.control.start_failure().filter(|_| versions.active().is_none());
        Ok(Response::new(v1::GetStateResponse {
            tasks: self.control.runtime.tasks().iter().map(|task| task.name.to_string()).collect(),
            active: versions.active().map(|(version, held)| state(version, held)),
            others: versions.others().iter().map(|(version, held)| state(version, held)).collect(),
            store: self.control.cache().url().to_owned(),
            device: self.device.name().to_owned(),
            draining: self.control.draining(),
            start_failure: start_failure.as_ref().map(failure),
            problems: versions
                .active()
                .map_or_else(Vec::new, |_| self.control.runtime.unfit())
                .into_iter()
                .map(|(task, message)| v1::TaskProblem { task: task.to_string(), message })
                .collect(),
        }))
    }

    async fn resolve(&self, request: Request<v1::ResolveRequest>) -> Result<Response<v1::ResolveResponse>, Status> {
        let channel: ChannelName = parse(request.into_inner().channel, "channel")?;
        let resolve = async { self.control.cache().store()?.resolve_channel(&channel).await };
        let version = resolve.await.map_err(|error| {
            let text = error.to_string();
            match error {
                StoreError::NoChannel { .. } => Status::not_found(text),
                StoreError::Denied { .. } => Status::permission_denied(text),
                StoreError::Channel { .. } => Status::failed_precondition(text),
                _ => Status::unavailable(text),
            }
        })?;
        Ok(Response::new(v1::ResolveResponse { version: version.into() }))
    }

    async fn prepare(&self, request: Request<v1::PrepareRequest>) -> Result<Response<v1::PrepareResponse>, Status> {
        self.going_on()?;
        let v1::PrepareRequest { version, schema_hash } = request.into_inner();
        let version: VersionId = parse(version, "version")?;
        let schema: Option<Digest> = match &*schema_hash {
            "" => None,
            _ => Some(parse(schema_hash, "schema_hash")?),
        };
        self.control.prepare(&version, schema).map_err(refused)?;
        Ok(Response::new(v1::PrepareResponse { state: self.state(&version) }))
    }

    async fn activate(&self, request: Request<v1::ActivateRequest>) -> Result<Response<v1::ActivateResponse>, Status> {
        self.going_on()?;
        let version: VersionId = parse(request.into_inner().version, "version")?;
        let replaced = self.control.activate(&version).map_err(refused)?;
        let replaced = replaced.map(String::from).unwrap_or_default();
        Ok(Response::new(v1::ActivateResponse { active: self.state(&version), replaced }))
    }

    async fn discard(&self, request: Request<v1::DiscardRequest>) -> Result<Response<v1::DiscardResponse>, Status> {
        let version: VersionId = parse(request.into_inner().version, "version")?;
        let discarded = self.control.discard(&version).map_err(refused)?;
        Ok(Response::new(v1::DiscardResponse { discarded }))
    }

    async fn describe(&self, request: Request<v1::DescribeRequest>) -> Result<Response<v1::DescribeResponse>, Status> {
        let version: VersionId = parse(request.into_inner().version, "version")?;
        let Some(prepared) = self.control.prepared(&version) else {
            return Err(Status::failed_precondition(format!("version `{version}` is neither prepared nor active")));
        };
        let popularity = prepared.loaded.popularity().map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(describe(&prepared, popularity)))
    }
}

impl ControlGrpc {
    fn state(&self, version: &VersionId) -> Option<v1::VersionState> {
        let versions = self.control.versions();
        let versions = versions.borrow();
        versions.get(version).map(|held| state(version, held))
    }

    fn going_on(&self) -> Result<(), Status> {
        if self.control.draining() { Err(Status::unavailable("the server stops")) } else { Ok(()) }
    }
}

fn parse<T>(text: String, field: &str) -> Result<T, Status>
where
    T: TryFrom<String>,
    T::Error: std::fmt::Display,
{
    text.try_into().map_err(|error: T::Error| Status::invalid_argument(format!("{field}: {error}")))
}

fn refused(refused: Refused) -> Status {
    Status::failed_precondition(refused.to_string())
}

fn state(version: &VersionId, held: &Held<Prepared>) -> v1::VersionState {
    let (phase, failed, prepared) = match &held.phase {
        Phase::Downloading => (v1::Phase::Downloading, None, None),
        Phase::Loading => (v1::Phase::Loading, None, None),
        Phase::Warming => (v1::Phase::Warming, None, None),
        Phase::Checking => (v1::Phase::Checking, None, None),
        Phase::Prepared(prepared) => (v1::Phase::Prepared, None, Some(prepared)),
        Phase::Active(prepared) => (v1::Phase::Active, None, Some(prepared)),
        Phase::Failed(failed) => (v1::Phase::Failed, Some(failed), None),
    };
    v1::VersionState {
        version: version.to_string(),
        phase: phase.into(),
        since: Some(timestamp(held.since)),
        schema_hash: held.facts.map(|facts| facts.schema_hash.to_string()).unwrap_or_default(),
        data_time: held.facts.map(|facts| timestamp(facts.data_time)),
        fetched_bytes: held.fetched.load(Ordering::Relaxed),
        total_bytes: held.facts.map_or(0, |facts| facts.total_bytes),
        failure: failed.map(failure),
        checks: prepared.map(|prepared| checks(prepared)).unwrap_or_default(),
    }
}

fn failure(failure: &Failure) -> v1::Failure {
    v1::Failure { reason: failure.reason.to_owned(), message: failure.message.clone() }
}

fn describe(prepared: &Prepared, popularity: Option<Vec<u8>>) -> v1::DescribeResponse {
    let version = prepared.loaded.facts();
    let schema = &version.schema;
    let element = |element: &Element| v1::ContextElement {
        name: element.name.clone(),
        r#type: element.kind.name().to_owned(),
        description: element.description.clone().unwrap_or_default(),
        default: serde_json::to_string(&element.default).unwrap_or_default(),
    };
    v1::DescribeResponse {
        version: version.name.to_string(),
        data_time: Some(timestamp(version.data_time)),
        items: version.items as u64,
        context: schema.context.iter().map(element).collect(),
        attributes: schema
            .attributes
            .iter()
            .map(|a| v1::ItemAttribute { name: a.name.clone(), r#type: a.kind.name().to_owned() })
            .collect(),
        heads: schema
            .heads
            .iter()
            .map(|head| v1::Head {
                name: head.name.clone(),
                description: head.description.clone().unwrap_or_default(),
                elements: head.elements.clone(),
            })
            .collect(),
        popularity: popularity.unwrap_or_default(),
    }
}

fn checks(prepared: &Prepared) -> Vec<v1::HeadCheck> {
    let manifest: &Manifest = prepared.loaded.manifest();
    let check = |check: &crate::runtime::HeadCheck| v1::HeadCheck {
        head: check.head.clone(),
        golden_requests: u32::try_from(check.requests).unwrap_or(u32::MAX),
        max_difference: check.largest_difference,
        tolerance: check.tolerance,
        latency_p99: check.latency_p99.and_then(|latency| latency.try_into().ok()),
        metrics: manifest.metrics.get(&check.head).into_iter().flatten().map(|(k, v)| (k.clone(), *v)).collect(),
    };
    prepared.checks.iter().map(check).collect()
}

fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    let nanos = time.as_nanosecond();
    // `nanos` counts forward, before 1970 too.
    let (seconds, nanos) = (nanos.div_euclid(1_000_000_000) as i64, nanos.rem_euclid(1_000_000_000) as i32);
    prost_types::Timestamp { seconds, nanos }
}
