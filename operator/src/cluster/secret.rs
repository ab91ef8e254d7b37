//! The Secret with the certificates of an object's control ports.
//!
//! Secrets are not watched: nobody could be let watch one without all others. It is read once, when it is first needed, and
//! again where servers wait for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use tonic::transport::ClientTlsConfig;

use super::apply::is_leftover;
use super::certificates::Certificates;
use super::children::Owner;
use super::failure::{Failure, failed};
use super::names;
use super::writer::{WriteError, Writer, bytes};
use crate::snapshot::Trouble;

/// How long the operator's own certificate is used: far shorter than it lasts.
const FRESH: Duration = Duration::from_secs(24 * 3600);

/// How often the Secret is read again while servers wait.
const AGAIN: Duration = Duration::from_secs(30);

/// Annotations with times of renewal.
const RENEWAL: &str = "unimodel.dev/renewal";
const CA_RENEWAL: &str = "unimodel.dev/ca-renewal";

/// What is known of the Secret.
#[derive(Default)]
pub struct Secrets {
    known: Option<Known>,
    client: Option<(Instant, Arc<ClientTlsConfig>)>,
    changed: bool,
}

struct Known {
    uid: String,
    certificates: Certificates,
    read: Instant,
}

impl Secrets {
    /// Sees to it that the Secret is there and not about to end. What is in the way, where something is.
    ///
    /// # Errors
    /// The API server, or the way to it.
    pub async fn keep(
        &mut self,
        writer: &Writer,
        owner: &Owner,
        is_begun: bool,
        waits: bool,
        now: Timestamp,
    ) -> Result<Option<Trouble>, Failure> {
        let is_old = |known: &Known| waits && known.read.elapsed() > AGAIN;
        if self.known.as_ref().is_some_and(is_old) {
            self.known = None;
        }
        let what = || failed(format!("Secret {}", names::tls(&owner.name)));
        if self.known.is_none() {
            let name = names::tls(&owner.name);
            // Of what is new there is none.
            let made = if is_begun { None } else { self.make(writer, owner, now).await? };
            if made.is_none() {
                let found = writer.secret(&owner.namespace, &name).await.map_err(what())?;
                match found {
                    Some(found) if owners(&found).any(|reference| is_leftover(reference, owner)) => {
                        return Err(what()(WriteError::Leftover));
                    }
                    Some(found) if owners(&found).all(|reference| reference.uid != owner.uid) => {
                        let message =
                            format!("there is a Secret {name} already, and it does not belong to this object");
                        return Ok(Some(Trouble::new("NameTaken", message)));
                    }
                    Some(found) => self.take(&found, None),
                    None => drop(self.make(writer, owner, now).await?),
                }
            }
        }
        let name = full(owner);
        // What cannot be read is made anew.
        let (uid, renewed) = match &self.known {
            Some(known) => (Some(known.uid.clone()), known.certificates.renewed(&name, now)?),
            None => (None, None),
        };
        if let (Some(uid), Some(renewed)) = (uid, renewed) {
            let secret = secret(owner, &renewed, Some(uid));
            let written =
                writer.put_secret(&owner.namespace, &names::tls(&owner.name), &secret).await.map_err(what())?;
            tracing::info!(object = name, "certificates renewed");
            self.take(&written, Some(renewed));
        }
        let stale = self.client.as_ref().is_none_or(|(made, _)| made.elapsed() > FRESH);
        if let Some(known) = self.known.as_ref().filter(|_| stale) {
            self.client = Some((Instant::now(), Arc::new(known.certificates.client(&name, now)?)));
            self.changed = true;
        }
        Ok(None)
    }

    /// Makes the Secret; none where there is one of that name.
    async fn make(&mut self, writer: &Writer, owner: &Owner, now: Timestamp) -> Result<Option<()>, Failure> {
        let certificates = Certificates::new(&full(owner), now)?;
        let (name, secret) = (names::tls(&owner.name), secret(owner, &certificates, None));
        match writer.put_secret(&owner.namespace, &name, &secret).await {
            Ok(written) => {
                self.take(&written, Some(certificates));
                Ok(Some(()))
            }
            Err(error) if error.code() == Some(409) => Ok(None),
            Err(error) => Err(failed(format!("Secret {name}"))(error)),
        }
    }

    fn take(&mut self, secret: &Secret, certificates: Option<Certificates>) {
        let uid = secret.metadata.uid.clone().unwrap_or_default();
        let certificates = certificates.or_else(|| read(secret)).unwrap_or_else(|| Certificates {
            ca: String::new(),
            ca_key: String::new(),
            certificate: String::new(),
            key: String::new(),
            // Whatever stands there makes no sense: it is made anew at once.
            ca_renewal: Timestamp::MIN,
            renewal: Timestamp::MIN,
        });
        let same = self.known.as_ref().is_some_and(|known| known.certificates.ca_key == certificates.ca_key);
        if !same {
            self.client = None;
        }
        self.known = Some(Known { uid, certificates, read: Instant::now() });
    }

    /// When certificates are renewed next.
    pub fn renewal(&self) -> Option<Timestamp> {
        self.known.as_ref().map(|known| known.certificates.renewal.min(known.certificates.ca_renewal))
    }

    /// What the operator shows to servers.
    pub fn client(&self) -> Option<Arc<ClientTlsConfig>> {
        self.client.as_ref().map(|(_, client)| client.clone())
    }

    /// Whether that has changed since this was asked last.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }
}

fn full(owner: &Owner) -> String {
    format!("{}/{}", owner.namespace, owner.name)
}

fn owners(secret: &Secret) -> impl Iterator<Item = &OwnerReference> {
    secret.metadata.owner_references.iter().flatten()
}

fn secret(owner: &Owner, certificates: &Certificates, uid: Option<String>) -> Secret {
    let mut labels = names::labels(&owner.name, None);
    labels.remove("app.kubernetes.io/component");
    Secret {
        metadata: ObjectMeta {
            name: Some(names::tls(&owner.name)),
            namespace: Some(owner.namespace.clone()),
            uid,
            labels: Some(labels),
            annotations: Some(BTreeMap::from([
                (RENEWAL.to_owned(), certificates.renewal.to_string()),
                (CA_RENEWAL.to_owned(), certificates.ca_renewal.to_string()),
            ])),
            owner_references: Some(vec![OwnerReference {
                api_version: unimodel_crds::API_VERSION.into(),
                kind: "UnifiedModel".into(),
                name: owner.name.clone(),
                uid: owner.uid.clone(),
                controller: Some(true),
                block_owner_deletion: None,
            }]),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".into()),
        data: Some(BTreeMap::from([
            ("ca.crt".to_owned(), bytes(&certificates.ca)),
            ("ca.key".to_owned(), bytes(&certificates.ca_key)),
            ("tls.crt".to_owned(), bytes(&certificates.certificate)),
            ("tls.key".to_owned(), bytes(&certificates.key)),
        ])),
        ..Secret::default()
    }
}

fn read(secret: &Secret) -> Option<Certificates> {
    let text = |name: &str| {
        let ByteString(bytes) = secret.data.as_ref()?.get(name)?;
        String::from_utf8(bytes.clone()).ok()
    };
    let time = |name: &str| secret.metadata.annotations.as_ref()?.get(name)?.parse().ok();
    Some(Certificates {
        ca: text("ca.crt")?,
        ca_key: text("ca.key")?,
        certificate: text("tls.crt")?,
        key: text("tls.key")?,
        ca_renewal: time(CA_RENEWAL)?,
        renewal: time(RENEWAL)?,
    })
}
