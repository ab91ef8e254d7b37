//! Certificates of a CA of the test's own, and the control port behind them.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Error, Identity};
use unimodel_protocol::control::v1;
use unimodel_protocol::control::v1::control_service_client::ControlServiceClient;

use crate::process::{Server, Setup};

/// A CA.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn issue(&self, name: &str) -> Pair {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.into()]).unwrap().signed_by(&key, &self.0).unwrap();
        Pair { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

/// The files of a control port.
pub(crate) struct ControlFiles {
    dir: tempfile::TempDir,
    pub(crate) authority: Authority,
}

impl ControlFiles {
    pub(crate) fn new() -> Self {
        let files = Self { dir: tempfile::tempdir().unwrap(), authority: Authority::new() };
        files.write(&files.authority);
        files
    }

    /// Writes a server certificate of that CA, which clients must come from too.
    pub(crate) fn write(&self, authority: &Authority) {
        let Pair { certificate, key } = authority.issue("localhost");
        for (name, content) in [("tls.crt", certificate), ("tls.key", key), ("ca.crt", authority.pem())] {
            std::fs::write(self.path(name), content).unwrap();
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The lines of a configuration with a control port of these files.
    pub(crate) fn yaml(&self) -> String {
        let path = |name| Path::display(&self.path(name)).to_string();
        format!(
            "control: {{listen: \"127.0.0.1:0\", tls: {{certificate: {}, key: {}, clientCa: {}}}}}",
            path("tls.crt"),
            path("tls.key"),
            path("ca.crt")
        )
    }

    /// A server with a control port, and a client of it.
    pub(crate) async fn serve(&self, setup: Setup) -> (Server, Control) {
        let server = Server::start(Setup { more: format!("{}\n{}", self.yaml(), setup.more), ..setup }).await;
        let control = self.client(&server, &self.authority).await.unwrap();
        (server, Control(control))
    }

    /// A client with a certificate of that CA.
    pub(crate) async fn client(&self, server: &Server, of: &Authority) -> Result<ControlServiceClient<Channel>, Error> {
        let Pair { certificate, key } = of.issue("operator");
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(of.pem()))
            .identity(Identity::from_pem(certificate, key))
            .domain_name("localhost");
        connect(server, tls).await
    }
}

pub(crate) async fn connect(server: &Server, tls: ClientTlsConfig) -> Result<ControlServiceClient<Channel>, Error> {
    let url = format!("https://{}", server.control.unwrap());
    let channel = Endpoint::from_shared(url)?.tls_config(tls)?.connect().await?;
    Ok(ControlServiceClient::new(channel))
}

/// Calls of the control port that succeed.
pub(crate) struct Control(pub(crate) ControlServiceClient<Channel>);

impl Control {
    pub(crate) async fn state(&mut self) -> v1::GetStateResponse {
        self.0.get_state(v1::GetStateRequest {}).await.unwrap().into_inner()
    }

    pub(crate) async fn prepare(&mut self, version: &str) -> v1::VersionState {
        let request = v1::PrepareRequest { version: version.into(), schema_hash: String::new() };
        self.0.prepare(request).await.unwrap().into_inner().state.unwrap()
    }

    /// Prepares and waits for the end of it.
    pub(crate) async fn prepared(&mut self, version: &str) -> v1::VersionState {
        loop {
            let state = self.prepare_or_look(version).await;
            if [v1::Phase::Prepared, v1::Phase::Active, v1::Phase::Failed].contains(&state.phase()) {
                return state;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Prepares at the first call; a failed version is not tried again.
    async fn prepare_or_look(&mut self, version: &str) -> v1::VersionState {
        let state = self.state().await;
        match state.active.into_iter().chain(state.others).find(|state| state.version == version) {
            Some(state) => state,
            None => self.prepare(version).await,
        }
    }

    pub(crate) async fn activate(&mut self, version: &str) -> v1::ActivateResponse {
        self.0.activate(v1::ActivateRequest { version: version.into() }).await.unwrap().into_inner()
    }

    pub(crate) async fn discard(&mut self, version: &str) -> bool {
        self.0.discard(v1::DiscardRequest { version: version.into() }).await.unwrap().into_inner().discarded
    }
}
