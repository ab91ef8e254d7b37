//! Hands on what the operator owns, and on what it does not.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use unimodel_e2e::{Place, on_cluster, sample_of, seconds, until};

#[test]
#[ignore = "needs a cluster: make e2e"]
fn children_are_put_back_and_others_are_left_alone() {
    on_cluster("hands", seconds(240), async |place: Place| {
        let store = place.store().await;
        // Somebody else's, under a name that a child would have.
        place.kubectl("create configmap shop-related --from-literal=whose=theirs").well();
        place.apply(&sample_of(
            &store,
            "  - {name: search, hardwareClass: small}\n  - {name: related, hardwareClass: small}",
        ));
        let model = place.model("shop");
        let said = model.reason("related", "NameTaken", seconds(60)).await;
        assert!(said.contains("shop-related") && said.contains("ConfigMap"), "{said}");
        model.reason("search", "Serving", seconds(120)).await;
        let theirs = place.api::<ConfigMap>().get("shop-related").await.unwrap();
        assert_eq!(theirs.data.unwrap().get("whose").map(String::as_str), Some("theirs"));
        assert_eq!(theirs.metadata.owner_references, None);
        place.kubectl("delete configmap shop-related").well();
        model.ready(seconds(120)).await;

        // Edited by hand.
        place.kubectl("scale deployment shop-search --replicas=3").well();
        place.kubectl("label service shop-search app.kubernetes.io/component-").well();
        until("the edits are undone", seconds(30), async || {
            let deployment = place.api::<Deployment>().get("shop-search").await.map_err(|error| error.to_string())?;
            let service = place.api::<Service>().get("shop-search").await.map_err(|error| error.to_string())?;
            let replicas = deployment.spec.and_then(|spec| spec.replicas);
            let labels = service.metadata.labels.unwrap_or_default();
            let undone = replicas == Some(1) && labels.contains_key("app.kubernetes.io/component");
            if undone { Ok(()) } else { Err(format!("{replicas:?} {labels:?}")) }
        })
        .await;

        // Deleted by hand.
        let uid = place.api::<Service>().get("shop-search").await.unwrap().metadata.uid;
        place.kubectl("delete service,configmap,deployment shop-search").well();
        until("they are back", seconds(30), async || {
            for kind in ["configmap", "deployment", "service"] {
                let found = place.kubectl(&format!("get {kind} shop-search"));
                if !found.succeeded {
                    return Err(found.said);
                }
            }
            Ok(())
        })
        .await;
        assert_ne!(place.api::<Service>().get("shop-search").await.unwrap().metadata.uid, uid);
        model.ready(seconds(60)).await;
    });
}
