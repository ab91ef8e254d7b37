//! Certificates of the control ports: a CA that is made at each start, and that nobody else has.

use anyhow::Context;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use super::place::Place;

/// The name in the servers' certificate.
const NAME: &str = "localhost";

/// Makes a CA and the servers' certificate, and returns what this process shows to them. The CA's and the client's keys
/// stay in memory.
pub fn make(place: &Place) -> anyhow::Result<ClientTlsConfig> {
    issue(place).context("cannot make certificates of the control ports")
}

fn issue(place: &Place) -> anyhow::Result<ClientTlsConfig> {
    let mut params = CertificateParams::new(vec![])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let pair = |name: &str| -> anyhow::Result<(String, String)> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec![name.to_owned()])?.signed_by(&key, &authority)?;
        Ok((certificate.pem(), key.serialize_pem()))
    };
    let (certificate, key) = pair(NAME)?;
    place.write("tls/tls.crt", certificate.as_bytes())?;
    place.write("tls/ca.crt", authority.pem().as_bytes())?;
    // Readable for others of the machine it must never be.
    let path = place.path("tls/tls.key");
    let _ = std::fs::remove_file(&path);
    let mut options = std::fs::OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::mode(options.write(true).create_new(true), 0o600);
    std::io::Write::write_all(&mut options.open(&path)?, key.as_bytes())?;
    let (certificate, key) = pair("unimodel-up")?;
    Ok(ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(authority.pem()))
        .identity(Identity::from_pem(certificate, key))
        .domain_name(NAME))
}
