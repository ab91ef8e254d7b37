//! An operator of a test's own.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;

use crate::objects::Child;
use crate::place::{Place, is_ready};
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

    pub async fn operators(&self) -> Vec<Pod> {
        self.place.pods("app.kubernetes.io/component=operator").await
    }

    /// Ends every operator without a word, and waits until there is another.
    pub async fn kill(&self) {
        let old = self.operators().await;
        self.place.kill(&old);
        self.follows(&old).await;
    }

    /// Waits until there are other operators than these, and they know all that there is.
    pub async fn follows(&self, old: &[Pod]) {
        let old: Vec<Child> = old.iter().map(Child::of).collect();
        until("another operator is there", crate::seconds(60), async || {
            let now = self.operators().await;
            let is_next = |pod: &Pod| is_ready(pod) && !old.contains(&Child::of(pod));
            if !now.is_empty() && now.iter().all(is_next) { Ok(()) } else { Err(format!("{now:#?}")) }
        })
        .await;
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
