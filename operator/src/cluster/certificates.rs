//! Certificates of control ports: a CA for each object, which nobody else has, and the servers' certificate. They lie in a
//! Secret; the client's certificate never leaves the operator.

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, date_time_ymd,
};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// The name in the servers' certificate.
const NAME: &str = "unimodel-server";

/// How long a CA lasts, and a server's certificate. Each is renewed after two thirds of that.
const LAST: (i64, i64) = (3650, 90);

/// Why certificates cannot be made or used.
#[derive(Debug, thiserror::Error)]
#[error("certificates of control ports: {0}")]
pub struct CertificateError(#[from] rcgen::Error);

/// What the Secret holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificates {
    /// The CA.
    pub ca: String,
    /// Its key.
    pub ca_key: String,
    /// The servers' certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
    /// When a new CA is made.
    pub ca_renewal: Timestamp,
    /// When a new server's certificate is made.
    pub renewal: Timestamp,
}

impl Certificates {
    /// A new CA and what it signs.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn new(name: &str, now: Timestamp) -> Result<Self, CertificateError> {
        let authority = CertifiedIssuer::self_signed(authority(name, now)?, KeyPair::generate()?)?;
        let (certificate, key) = pair(&authority, NAME, ExtendedKeyUsagePurpose::ServerAuth, now)?;
        let ca_key = authority.key().serialize_pem();
        Ok(Self {
            ca: authority.pem(),
            ca_key,
            certificate,
            key,
            ca_renewal: after(now, LAST.0 * 2 / 3),
            renewal: after(now, LAST.1 * 2 / 3),
        })
    }

    /// What takes the place of these, where it is time for that.
    ///
    /// # Errors
    /// The CA's key is none.
    pub fn renewed(&self, name: &str, now: Timestamp) -> Result<Option<Self>, CertificateError> {
        if now >= self.ca_renewal {
            return Self::new(name, now).map(Some);
        }
        if now < self.renewal {
            return Ok(None);
        }
        let issuer = self.issuer(name, now)?;
        let (certificate, key) = pair(&issuer, NAME, ExtendedKeyUsagePurpose::ServerAuth, now)?;
        Ok(Some(Self { certificate, key, renewal: after(now, LAST.1 * 2 / 3), ..self.clone() }))
    }

    /// What the operator shows to servers, and what it trusts.
    ///
    /// # Errors
    /// The CA's key is none.
    pub fn client(&self, name: &str, now: Timestamp) -> Result<ClientTlsConfig, CertificateError> {
        let issuer = self.issuer(name, now)?;
        let (certificate, key) = pair(&issuer, "unimodel-operator", ExtendedKeyUsagePurpose::ClientAuth, now)?;
        Ok(ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.ca))
            .identity(Identity::from_pem(certificate, key))
            .domain_name(NAME))
    }

    /// The CA again: by its name and key, which is all that a signature needs.
    fn issuer(&self, name: &str, now: Timestamp) -> Result<Issuer<'static, KeyPair>, CertificateError> {
        Ok(Issuer::new(authority(name, now)?, KeyPair::from_pem(&self.ca_key)?))
    }
}

fn authority(name: &str, now: Timestamp) -> Result<CertificateParams, CertificateError> {
    let mut params = CertificateParams::new(vec![])?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("unimodel {name}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    last(&mut params, now, LAST.0);
    Ok(params)
}

fn pair(
    issuer: &Issuer<'_, KeyPair>,
    name: &str,
    usage: ExtendedKeyUsagePurpose,
    now: Timestamp,
) -> Result<(String, String), CertificateError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.extended_key_usages = vec![usage];
    last(&mut params, now, LAST.1);
    Ok((params.signed_by(&key, issuer)?.pem(), key.serialize_pem()))
}

/// From yesterday, since clocks differ.
fn last(params: &mut CertificateParams, now: Timestamp, days: i64) {
    let day = |time: Timestamp| {
        let date = time.to_zoned(jiff::tz::TimeZone::UTC).date();
        date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    params.not_before = day(after(now, -1));
    params.not_after = day(after(now, days));
}

fn after(now: Timestamp, days: i64) -> Timestamp {
    now.saturating_add(SignedDuration::from_hours(24 * days)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_before_it_ends_and_the_authority_stays() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        let first = Certificates::new("n/m", now).unwrap();
        assert_eq!(first.renewed("n/m", after(now, 59)).unwrap(), None);
        let second = first.renewed("n/m", after(now, 60)).unwrap().unwrap();
        assert_eq!((&second.ca, &second.ca_key), (&first.ca, &first.ca_key));
        assert_ne!(second.certificate, first.certificate);
        assert_eq!(second.renewal, after(now, 120));
        let later = second.renewed("n/m", after(now, 2433)).unwrap().unwrap();
        assert_ne!(later.ca, first.ca);
        assert!(first.client("n/m", now).is_ok());
    }
}
