//! An operator of a test's own.

use k8s_openapi::api::coordination::v1::Lease;

use crate::place::Place;
use crate::shell::helm;
use crate::until;

/// A helm release in the test's namespace that hosts what is in it, and sees nothing else.
pub struct Release {
    place: Place,
}

impl Release {
    pub fn install(place: &Place, more: &str) -> Self {
        let release = Self { place: place.clone() };
        release.upgrade(more);
        release
    }

    /// Installs it or changes it, and waits until it runs.
    pub fn upgrade(&self, more: &str) {
        let image = image();
        let (repository, tag) = image.rsplit_once(':').unwrap();
        helm(&format!(
            "upgrade --install operator charts/unimodel -n {} --wait --timeout 90s --set clusterWide=false \
             --set image.repository={repository},image.tag={tag} {more}",
            self.place.namespace
        ))
        .well();
    }

    pub fn uninstall(&self) {
        helm(&format!("uninstall operator -n {} --wait", self.place.namespace)).well();
    }

    /// Ends every operator without a word.
    pub fn kill(&self) {
        self.place
            .kubectl("delete pods -l app.kubernetes.io/component=operator --force --grace-period=0 --wait=false")
            .well();
    }

    pub async fn lease(&self) -> Lease {
        self.place.api::<Lease>().get("operator-unimodel-operator").await.unwrap()
    }

    /// Who writes.
    pub async fn leader(&self) -> String {
        until("somebody leads", crate::seconds(60), async || {
            let holder = self.lease().await.spec.and_then(|spec| spec.holder_identity);
            holder.filter(|holder| !holder.is_empty()).ok_or_else(|| "nobody does".to_owned())
        })
        .await
    }
}

/// The image that is tested.
pub fn image() -> String {
    std::env::var("UNIMODEL_E2E_IMAGE").expect("UNIMODEL_E2E_IMAGE: `make e2e` sets it")
}
