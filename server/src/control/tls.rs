//! Mutual TLS whose files may change while the server runs: a connection uses what the files said last.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::config::TlsConfig;

/// How long a client may take for its handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Handshakes at a time; more connections wait to be accepted.
const HANDSHAKES: usize = 64;

/// Why the files of a [`TlsConfig`] cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: {problem}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// Each file is right, but not together.
    #[error("certificate {} and key {}: {source}", certificate.display(), key.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
}

/// The content of the files of a [`TlsConfig`].
#[derive(Clone, PartialEq, Eq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Vec<u8>,
}

impl Files {
    fn read(config: &TlsConfig) -> Result<Self, TlsError> {
        let read = |path: &Path| fs::read(path).map_err(|source| TlsError::Read { path: path.into(), source });
        Ok(Self {
            certificate: read(&config.certificate)?,
            key: read(&config.key)?,
            client_ca: read(&config.client_ca)?,
        })
    }

    /// A server's side of TLS that takes only clients with a certificate of `client_ca`.
    fn server(&self, config: &TlsConfig) -> Result<ServerConfig, TlsError> {
        let wrong = |path: &Path, problem: String| TlsError::Pem { path: path.into(), problem };
        let certificates = |pem: &[u8], path: &Path| {
            let found: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(pem).collect();
            let found = found.map_err(|error| wrong(path, error.to_string()))?;
            if found.is_empty() { Err(wrong(path, "no certificate in it; give PEM".into())) } else { Ok(found) }
        };
        let chain = certificates(&self.certificate, &config.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|error| wrong(&config.key, format!("no private key in it ({error}); give PEM")))?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.client_ca, &config.client_ca)? {
            roots.add(certificate).map_err(|error| wrong(&config.client_ca, error.to_string()))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map_err(|error| wrong(&config.client_ca, error.to_string()))?;
        let pair = |source| TlsError::Pair { certificate: config.certificate.clone(), key: config.key.clone(), source };
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(pair)?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, key)
            .map_err(pair)?;
        server.alpn_protocols = vec![b"h2".to_vec()];
        Ok(server)
    }
}

/// Mutual TLS as the files said it last.
pub struct MutualTls {
    config: TlsConfig,
    files: Files,
    server: Arc<ArcSwap<ServerConfig>>,
    complained: Option<String>,
}

impl MutualTls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn load(config: TlsConfig) -> Result<Self, TlsError> {
        let files = Files::read(&config)?;
        let server = Arc::new(ArcSwap::from_pointee(files.server(&config)?));
        Ok(Self { config, files, server, complained: None })
    }

    /// Reads the files again. Whether connections from now on use others; an error is told once, and changes nothing.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn refresh(&mut self) -> Result<bool, TlsError> {
        let read = Files::read(&self.config).and_then(|files| {
            if files == self.files {
                return Ok(None);
            }
            let server = files.server(&self.config)?;
            Ok(Some((files, server)))
        });
        match read {
            Ok(None) => {
                self.complained = None;
                Ok(false)
            }
            Ok(Some((files, server))) => {
                self.files = files;
                self.server.store(Arc::new(server));
                self.complained = None;
                Ok(true)
            }
            Err(error) if self.complained.as_ref() == Some(&error.to_string()) => Ok(false),
            Err(error) => {
                self.complained = Some(error.to_string());
                Err(error)
            }
        }
    }

    /// What new connections use.
    pub fn server(&self) -> Arc<ArcSwap<ServerConfig>> {
        self.server.clone()
    }
}

/// Accepts connections for as long as somebody takes them, and refuses those without TLS or without a certificate.
pub async fn accept(
    listener: TcpListener,
    server: Arc<ArcSwap<ServerConfig>>,
    accepted: mpsc::Sender<io::Result<TlsStream<TcpStream>>>,
) {
    let free = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let Ok(permit) = free.clone().acquire_owned().await else { return };
        let connection = tokio::select! {
            connection = listener.accept() => connection,
            () = accepted.closed() => return,
        };
        match connection {
            Ok((stream, peer)) => {
                let acceptor = TlsAcceptor::from(server.load_full());
                tokio::spawn(shake_hands(acceptor, stream, peer, accepted.clone(), permit));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a control connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn shake_hands(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    peer: SocketAddr,
    accepted: mpsc::Sender<io::Result<TlsStream<TcpStream>>>,
    _permit: OwnedSemaphorePermit,
) {
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        // Nobody takes it once the server stops.
        Ok(Ok(stream)) => drop(accepted.send(Ok(stream)).await),
        Ok(Err(error)) => tracing::warn!(%peer, %error, "refused a control connection"),
        Err(_) => tracing::warn!(%peer, "a control connection took too long to shake hands"),
    }
}
