//! A server's control port: what it says, and what it is asked to do.

use std::net::SocketAddr;
use std::time::Duration;

use tonic::Status;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint, Error};
use unimodel_protocol::control::v1::control_service_client::ControlServiceClient;
use unimodel_protocol::control::v1::{
    ActivateRequest, DescribeRequest, DescribeResponse, DiscardRequest, GetStateRequest, Phase as Stage,
    PrepareRequest, ResolveRequest, VersionState,
};

use crate::refresh::Operation;
use crate::snapshot::{Answer, Held, Phase, Trouble};

/// How long one call may take. A store that is asked for a channel may be far away.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long a server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(3);

/// A client of one server. It connects when it is first needed, and again when it must.
#[derive(Clone)]
pub struct Control(ControlServiceClient<Channel>);

impl Control {
    /// A client of the server there.
    pub fn new(address: SocketAddr, tls: &ClientTlsConfig) -> Result<Self, Error> {
        let endpoint = Endpoint::from_shared(format!("https://{address}"))?.tls_config(tls.clone())?;
        let channel = endpoint.connect_timeout(CONNECT).timeout(TIMEOUT).connect_lazy();
        Ok(Self(ControlServiceClient::new(channel)))
    }

    /// What it says, if it answers within that time.
    pub async fn state(&mut self, within: Duration) -> Option<Answer> {
        let ask = self.0.get_state(GetStateRequest {});
        let state = tokio::time::timeout(within, ask).await.ok()?.ok()?.into_inner();
        let name = |state: &VersionState| Some(state.version.clone()).filter(|version| !version.is_empty());
        Some(Answer {
            active: state.active.as_ref().and_then(name),
            held: state.others.iter().map(held).collect(),
            problem: state.problems.first().map(|problem| problem.message.clone()),
            draining: state.draining,
            tasks: state.tasks,
            failure: state.start_failure.map(|failure| Trouble::new(failure.reason, failure.message)),
        })
    }

    /// What callers may know of a version that it has prepared or active.
    ///
    /// # Errors
    /// It does not answer, or does not hold the version.
    pub async fn describe(&mut self, version: &str) -> Result<DescribeResponse, Status> {
        let answer = self.0.describe(DescribeRequest { version: version.to_owned() }).await?;
        Ok(answer.into_inner())
    }

    /// Does it; for [`Operation::Resolve`] with the version that it answers.
    pub async fn call(&mut self, operation: &Operation) -> Result<Option<String>, Trouble> {
        let client = &mut self.0;
        let done = |_| None;
        let answer = match operation {
            Operation::Resolve { channel } => {
                let request = ResolveRequest { channel: channel.clone() };
                client.resolve(request).await.map(|answer| Some(answer.into_inner().version))
            }
            Operation::Prepare { version } => {
                let request = PrepareRequest { version: version.clone(), schema_hash: String::new() };
                client.prepare(request).await.map(done_of).map(done)
            }
            Operation::Activate { version } => {
                client.activate(ActivateRequest { version: version.clone() }).await.map(done_of).map(done)
            }
            Operation::Discard { version } => {
                client.discard(DiscardRequest { version: version.clone() }).await.map(done_of).map(done)
            }
        };
        answer.map_err(|status| trouble(&status))
    }
}

fn done_of<T>(_: tonic::Response<T>) {}

fn trouble(status: &Status) -> Trouble {
    let reason = match status.code() {
        tonic::Code::NotFound => "ChannelNotFound",
        tonic::Code::Unavailable => "StoreUnavailable",
        tonic::Code::PermissionDenied => "StoreDenied",
        _ => "StoreError",
    };
    Trouble::new(reason, status.message())
}

fn held(state: &VersionState) -> Held {
    let phase = match state.phase() {
        Stage::Prepared | Stage::Active => Phase::Prepared,
        Stage::Failed => {
            let failure = state.failure.clone().unwrap_or_default();
            Phase::Failed(Trouble::new(failure.reason, failure.message))
        }
        Stage::Unspecified | Stage::Downloading | Stage::Loading | Stage::Warming | Stage::Checking => Phase::Preparing,
    };
    Held { version: state.version.clone(), phase }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_store_said_is_known_by_its_code() {
        let reason = |status: Status| trouble(&status).reason;
        assert_eq!(reason(Status::not_found("")), "ChannelNotFound");
        assert_eq!(reason(Status::permission_denied("")), "StoreDenied");
        assert_eq!(reason(Status::unavailable("")), "StoreUnavailable");
        assert_eq!(reason(Status::failed_precondition("")), "StoreError");
    }
}
