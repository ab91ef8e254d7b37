//! A store and a cache that are directories of the node, or claims on them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::json;
use unimodel_e2e::{
    ONE, Place, cluster_is_anothers, kubectl, kubectl_with, on_cluster, query, sample_of, seconds, secret_of_none,
    trained, versions,
};

/// Whether the node is this machine, whose directories a test can make.
fn node_is_elsewhere() -> bool {
    let elsewhere = cluster_is_anothers();
    if elsewhere {
        println!("left out: the directories of another cluster's nodes are not this test's");
    }
    elsewhere
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_store_is_mounted_from_the_node_or_by_a_claim() {
    if node_is_elsewhere() {
        return;
    }
    on_cluster("mounted", seconds(240), async |place: Place| {
        let [first, _] = versions();
        let folder = trained();
        let document = |uri: &str, volume: &str| {
            format!(
                "{{apiVersion: unimodel.dev/v1alpha1, kind: UnifiedModel, metadata: {{name: {volume}}}, spec: {{\
                 model: {{source: {{uri: '{uri}'}}, version: {first}}}, gateway: {{replicas: 1}}, \
                 hardwareClasses: [{{name: small, resources: {{requests: {{cpu: 50m}}}}}}], \
                 tasks: [{{name: search, hardwareClass: small, timeout: {{default: 3s, max: 5s}}}}]}}}}"
            )
        };
        let claim = format!("{}-models", place.namespace);
        let source = json!({"path": folder, "type": "Directory"});
        let volume = json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": claim},
            "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadOnlyMany"], "hostPath": source,
                "storageClassName": "", "claimRef": {"namespace": place.namespace, "name": "models"},
            },
        });
        kubectl_with("apply -f -", &volume.to_string()).well();
        let wanted = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "models"},
            "spec": {
                "accessModes": ["ReadOnlyMany"], "storageClassName": "", "volumeName": claim,
                "resources": {"requests": {"storage": "1Gi"}},
            },
        });
        place.kubectl_with("apply -f -", &wanted.to_string()).well();
        place.apply(&document(&format!("file://{}", folder.display()), "node"));
        place.apply(&document("pvc://models", "claim"));
        for model in ["node", "claim"] {
            place.model(model).ready(seconds(120)).await;
            let answer = place.gateway(model).await.answers("search", &query(), seconds(20)).await;
            assert_eq!(answer["modelVersion"], first.as_str());
        }
        place.kubectl("delete um node claim --wait").well();
        place.kubectl("delete pvc models --wait=false").well();
        kubectl(&format!("delete persistentvolume {claim} --wait=false")).well();
    });
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_pod_that_starts_finds_what_another_has_fetched() {
    if node_is_elsewhere() {
        return;
    }
    on_cluster("cache", seconds(240), async |place: Place| {
        let folder = std::env::temp_dir().join(&place.namespace);
        std::fs::create_dir(&folder).unwrap();
        let _gone = Gone(&folder);
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
        let store = place.store().await;
        let volume = format!("cpu: 50m}}}}, cacheVolume: {{hostPath: {}}}}}", folder.display());
        let document = sample_of(&store, ONE).replacen("cpu: 50m}}}", &volume, 1);
        let (model, gateway) = place.serve(&document).await;
        let kept = || {
            let of_store = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
            let versions = std::fs::read_dir(of_store).unwrap();
            versions.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
        };
        let [first, _] = versions();
        let before = kept();
        assert!(before.len() == 1 && before[0].starts_with(&first), "{before:?}");

        // The next pod comes up though the store is away, as far as it can see.
        secret_of_none(&place, "store");
        let old = model.servers("search").await;
        place.kubectl(&format!("delete pod {} --wait=false", old[0].metadata.name.as_ref().unwrap())).well();
        model.replaces("search", &old, seconds(90)).await;
        gateway.answers("search", &query(), seconds(60)).await;
        assert_eq!(kept(), before);
    });
}

/// Removes a directory when a test ends, however it ends.
struct Gone<'a>(&'a Path);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.0);
    }
}
