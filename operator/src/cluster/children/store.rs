//! Where a server's pod finds the store.

use serde_json::{Value, json};
use unimodel_crds::{Complaint, Model};

/// Where a directory with the store is mounted.
const MOUNT: &str = "/store";

/// A store as a server's pod sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Store {
    /// Its URL there.
    pub url: String,
    /// What is mounted for it: the volume's source.
    pub volume: Option<Value>,
}

impl Store {
    /// The model's store.
    ///
    /// # Errors
    /// It names a directory that a pod cannot have.
    pub fn of(model: &Model) -> Result<Self, Complaint> {
        let refuse = |message: &str| {
            Err(Complaint { key: "spec.model.source.uri".into(), message: format!("is `{}`; {message}", model.store) })
        };
        if let Some(rest) = model.store.strip_prefix("pvc://") {
            let (claim, path) = rest.split_once('/').unwrap_or((rest, ""));
            if claim.is_empty() || path.split('/').any(|part| part == "..") {
                return refuse("it must be pvc://CLAIM or pvc://CLAIM/PATH");
            }
            let url = format!("file://{MOUNT}/{path}");
            let volume = json!({"persistentVolumeClaim": {"claimName": claim, "readOnly": true}});
            return Ok(Self { url: url.trim_end_matches('/').to_owned(), volume: Some(volume) });
        }
        if let Some(path) = model.store.strip_prefix("file://") {
            if !path.starts_with('/') || path == "/" || path.split('/').any(|part| part == "..") {
                return refuse("in a cluster it must be file:///PATH, a directory of the node, or pvc://CLAIM/PATH");
            }
            let volume = json!({"hostPath": {"path": path, "type": "Directory"}});
            return Ok(Self { url: format!("file://{MOUNT}"), volume: Some(volume) });
        }
        Ok(Self { url: model.store.clone(), volume: None })
    }

    /// The volume's entry in a pod, and its mount.
    pub(super) fn mounted(&self) -> Option<(Value, Value)> {
        let mut volume = json!({"name": "store"});
        for (name, value) in self.volume.as_ref()?.as_object()? {
            volume[name] = value.clone();
        }
        Some((volume, json!({"name": "store", "mountPath": MOUNT, "readOnly": true})))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn of(uri: &str) -> Result<Store, String> {
        let text = format!(
            "{{apiVersion: unimodel.dev/v1alpha1, kind: UnifiedModel, metadata: {{name: m}}, \
             spec: {{model: {{source: {{uri: '{uri}'}}}}, tasks: [{{name: a}}]}}}}"
        );
        let model = unimodel_crds::check(&text, std::path::Path::new("um.yaml")).unwrap().model;
        Store::of(&model).map_err(|complaint| complaint.message)
    }

    #[test]
    fn directories_are_mounted_and_others_are_asked_as_they_are() {
        assert_eq!(of("s3://models/discovery").unwrap(), Store { url: "s3://models/discovery".into(), volume: None });
        let claim = of("pvc://models/a/b").unwrap();
        assert_eq!(claim.url, "file:///store/a/b");
        assert_eq!(claim.volume.unwrap()["persistentVolumeClaim"]["claimName"], "models");
        assert_eq!(of("pvc://models").unwrap().url, "file:///store");
        let host = of("file:///srv/models").unwrap();
        assert_eq!(
            (host.url.as_str(), &host.volume.unwrap()["hostPath"]["path"]),
            ("file:///store", &json!("/srv/models"))
        );
    }

    #[test]
    fn what_a_pod_cannot_have_is_refused() {
        for uri in ["file://./store", "file:///", "file:///a/../b", "pvc:///x", "pvc://a/../b"] {
            assert!(of(uri).unwrap_err().contains(uri), "{uri}");
        }
    }
}
