//! All that is written to the API server: only while the lease is held, and each write bounded in time.

use std::time::Instant;

use futures::future::TryFutureExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::runtime::events::{Event, Recorder, Reporter};
use kube::{Api, Client};
use serde_json::{Value, json};
use unimodel_crds::{UnifiedModel, UnifiedModelStatus};

use super::children::{Child, Kind};
use super::leader::{Claim, WRITE};
use super::names;
use super::wire::{WireChild, WireModel};

/// The name under which the number of pods is handed to an autoscaler.
const REPLICAS_MANAGER: &str = "unimodel-operator-replicas";

/// Why something was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Somebody else may write now.
    #[error("the lease is not held")]
    NotLeader,
    /// The API server did not answer in time.
    #[error("the API server did not answer within {WRITE:?}")]
    Late,
    /// What is in the way is about to go.
    #[error("it belongs to an object of that name that was deleted, and goes with it")]
    Leftover,
    /// The API server, or the way to it.
    #[error(transparent)]
    Api(#[from] kube::Error),
}

impl WriteError {
    /// What a person is told: the API server's own words, where it answered.
    pub fn words(&self) -> String {
        match self {
            Self::Api(kube::Error::Api(status)) => status.message.clone(),
            other => other.to_string(),
        }
    }

    /// The API server's own answer.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Api(kube::Error::Api(status)) => Some(status.code),
            _ => None,
        }
    }
}

/// Writes.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    claim: Claim,
    recorder: Recorder,
}

impl Writer {
    /// One that writes while the claim lasts, and signs events with that name.
    pub fn new(client: Client, claim: Claim, identity: &str) -> Self {
        let reporter = Reporter { controller: names::MANAGER.into(), instance: Some(identity.to_owned()) };
        Self { recorder: Recorder::new(client.clone(), reporter), client, claim }
    }

    /// The way to the API server.
    pub fn client(&self) -> &Client {
        &self.client
    }

    async fn write<T>(&self, write: impl Future<Output = kube::Result<T>>) -> Result<T, WriteError> {
        if !self.claim.holds(Instant::now()) {
            return Err(WriteError::NotLeader);
        }
        tokio::time::timeout(WRITE, write.map_err(WriteError::from)).await.unwrap_or(Err(WriteError::Late))
    }

    fn api(&self, kind: Kind, namespace: &str) -> Api<WireChild> {
        Api::namespaced_with(self.client.clone(), namespace, &kind.resource())
    }

    /// Makes a child. 409 where there is one of that name.
    ///
    /// # Errors
    /// [`WriteError`]
    pub async fn create(&self, namespace: &str, child: &Child) -> Result<WireChild, WriteError> {
        // A version that no object has: it is applied only where there is none, and never to what others have made.
        let mut value = Value::clone(&child.value);
        value["metadata"]["resourceVersion"] = "1".into();
        let api = self.api(child.kind, namespace);
        let params = PatchParams::apply(names::MANAGER).force();
        self.write(api.patch(&child.name, &params, &Patch::Apply(&value))).await
    }

    /// Changes a child. 409 where it is another one by now.
    ///
    /// # Errors
    /// [`WriteError`]
    pub async fn update(&self, namespace: &str, child: &Child, uid: &str) -> Result<WireChild, WriteError> {
        let mut value = Value::clone(&child.value);
        value["metadata"]["uid"] = uid.into();
        let api = self.api(child.kind, namespace);
        let params = PatchParams::apply(names::MANAGER).force();
        self.write(api.patch(&child.name, &params, &Patch::Apply(&value))).await
    }

    /// Makes the number of a Deployment's pods stay as it is once we say nothing of it: without an owner it would become 1.
    ///
    /// # Errors
    /// [`WriteError`]
    pub async fn keep_replicas(&self, namespace: &str, name: &str, uid: &str, replicas: u32) -> Result<(), WriteError> {
        let value = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "uid": uid},
            "spec": {"replicas": replicas},
        });
        let api = self.api(Kind::Deployment, namespace);
        let params = PatchParams::apply(REPLICAS_MANAGER);
        match self.write(api.patch(name, &params, &Patch::Apply(&value))).await {
            // Then it is somebody else's already.
            Err(error) if error.code() == Some(409) => Ok(()),
            result => result.map(drop),
        }
    }

    /// Removes a child, unless it is another one by now.
    ///
    /// # Errors
    /// [`WriteError`]
    pub async fn delete(&self, kind: Kind, namespace: &str, name: &str, uid: &str) -> Result<(), WriteError> {
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        let api = self.api(kind, namespace);
        match self.write(api.delete(name, &params)).await {
            Err(error) if matches!(error.code(), Some(404 | 409)) => Ok(()),
            result => result.map(drop),
        }
    }

    /// Writes the status.
    ///
    /// # Errors
    /// [`WriteError`]
    pub async fn status(&self, object: &UnifiedModel, status: &UnifiedModelStatus) -> Result<WireModel, WriteError> {
        let metadata = &object.metadata;
        let (namespace, name) = (metadata.namespace.as_deref(), metadata.name.as_deref());
        let value = json!({
            "apiVersion": unimodel_crds::API_VERSION, "kind": "UnifiedModel",
            "metadata": {"name": name, "uid": metadata.uid},
            "status": status,
        });
        let api: Api<WireModel> = Api::namespaced(self.client.clone(), namespace.unwrap_or_default());
        let params = PatchParams::apply(names::MANAGER).force();
        self.write(api.patch_status(name.unwrap_or_default(), &params, &Patch::Apply(&value))).await
    }

    /// Publishes an event.
    ///
    /// # Errors
    /// [`WriteError`]
    pub async fn event(&self, event: &Event, about: &ObjectReference) -> Result<(), WriteError> {
        self.write(self.recorder.publish(event, about)).await
    }

    /// Reads a Secret.
    ///
    /// # Errors
    /// [`WriteError`]
    pub async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>, WriteError> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        self.write(api.get_opt(name)).await
    }

    /// Makes a Secret, or changes the one with that uid.
    ///
    /// # Errors
    /// [`WriteError`]
    pub async fn put_secret(&self, namespace: &str, name: &str, secret: &Secret) -> Result<Secret, WriteError> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let params = PatchParams::apply(names::MANAGER).force();
        let mut value: Value = serde_json::to_value(secret).unwrap_or_default();
        if secret.metadata.uid.is_none() {
            value["metadata"]["resourceVersion"] = "1".into();
        }
        self.write(api.patch(name, &params, &Patch::Apply(&value))).await
    }

    /// A child as it is. Only where a watch cannot know it: one of that name that is not ours.
    ///
    /// # Errors
    /// [`WriteError`]
    pub async fn read(&self, kind: Kind, namespace: &str, name: &str) -> Result<Option<WireChild>, WriteError> {
        let api = self.api(kind, namespace);
        self.write(api.get_opt(name)).await
    }
}

/// The bytes of a Secret's key.
pub fn bytes(text: &str) -> ByteString {
    ByteString(text.as_bytes().to_vec())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use kube::client::Body;
    use kube::runtime::events::EventType;

    use super::*;

    #[tokio::test]
    async fn no_event_is_published_without_the_lease() {
        let asked = Arc::<AtomicUsize>::default();
        let count = asked.clone();
        let service = tower::service_fn(move |_: http::Request<Body>| {
            count.fetch_add(1, Ordering::Relaxed);
            std::future::ready(Err::<http::Response<Body>, _>(std::io::Error::other("nobody there")))
        });
        let writer = |claim| Writer::new(Client::new(service.clone(), "n"), claim, "me");
        let text = || "Serving".to_owned();
        let event = Event { type_: EventType::Normal, reason: text(), note: None, action: text(), secondary: None };
        let about = ObjectReference { namespace: Some("n".into()), ..ObjectReference::default() };

        let without = writer(Claim::none()).event(&event, &about).await;
        assert!(matches!(without, Err(WriteError::NotLeader)), "{without:?}");
        assert_eq!(asked.load(Ordering::Relaxed), 0);
        let claim = Claim::none();
        claim.set(Some(Instant::now() + WRITE * 3));
        let with = writer(claim).event(&event, &about).await;
        assert!(matches!(with, Err(WriteError::Api(_))), "{with:?}");
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }
}
