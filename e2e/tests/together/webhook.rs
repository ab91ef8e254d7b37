//! An admission webhook that does not answer.

use serde_json::json;
use unimodel_e2e::{ONE, Place, kubectl, kubectl_with, on_cluster, sample_of, seconds};

#[test]
#[ignore = "needs a cluster: make e2e"]
fn what_a_webhook_keeps_from_being_written_is_said() {
    on_cluster("webhook", seconds(180), async |place: Place| {
        let store = place.store().await;
        let service = json!({"namespace": place.namespace, "name": "nowhere", "path": "/"});
        let webhook = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": place.namespace},
            "webhooks": [{
                "name": "nowhere.example.com", "clientConfig": {"service": service}, "failurePolicy": "Fail",
                "sideEffects": "None", "admissionReviewVersions": ["v1"], "timeoutSeconds": 1,
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": place.namespace}},
                "rules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"],
                    "resources": ["deployments"]}],
            }],
        });
        kubectl_with("apply -f -", &webhook.to_string()).well();
        place.apply(&sample_of(&store, ONE));
        let model = place.model("shop");
        let said = model.reason("search", "ApiError", seconds(60)).await;
        assert!(said.contains("Deployment shop-search") && said.contains("nowhere.example.com"), "{said}");

        kubectl(&format!("delete validatingwebhookconfiguration {}", place.namespace)).well();
        model.ready(seconds(120)).await;
    });
}
