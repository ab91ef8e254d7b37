//! The sample that the project shows, as it is written but for the store.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use unimodel_e2e::{Place, on_cluster, seconds};

const SAMPLE: &str = include_str!("../../../manifests/samples/movielens/unifiedmodel-cluster.yaml");

/// The sample over the test's store.
fn sample(store: &str) -> serde_yaml::Value {
    let mut document: serde_yaml::Value = serde_yaml::from_str(SAMPLE).unwrap();
    document["spec"]["model"]["source"] =
        serde_yaml::to_value(json!({"uri": store, "secretRef": {"name": "store"}})).unwrap();
    document
}

fn requested(pod: &Pod, what: &str) -> Option<String> {
    let container = &pod.spec.as_ref().unwrap().containers[0];
    container.resources.as_ref()?.requests.as_ref()?.get(what).map(|quantity| quantity.0.clone())
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn four_tasks_answer_each_in_its_environment() {
    on_cluster("sample", seconds(180), async |place: Place| {
        place.restrict();
        let store = place.store().await;
        let document = sample(&store.uri);
        place.apply(&serde_yaml::to_string(&document).unwrap());
        let name = document["metadata"]["name"].as_str().unwrap();
        let model = place.model(name);
        let status = model.ready(seconds(120)).await;
        assert_eq!(status.ready_tasks.as_deref(), Some("4/4"));

        let gateway = place.gateway(name).await;
        let contexts = BTreeMap::from([
            ("notifications", json!({"user_id": "7"})),
            ("related", json!({"source_item": "1"})),
            ("search", json!({"query": "gounnounisk"})),
            ("category", json!({"genre": "Comedy"})),
        ]);
        for (task, context) in &contexts {
            let answer = gateway.answers(task, context, seconds(20)).await;
            assert_eq!(answer["task"], *task);
            assert_eq!(answer["modelVersion"].as_str(), model.task(task).await.unwrap().active_version.as_deref());
        }
        // What a task must be told it says.
        let refused = gateway.rank("related", &json!({})).await.unwrap_err();
        assert!(refused.contains("400") && refused.contains("source_item"), "{refused}");

        let counts = [("notifications", 1), ("related", 1), ("search", 2), ("category", 1)];
        for (task, count) in counts {
            assert_eq!(model.servers(task).await.len(), count, "{task}");
        }
        let wide = model.servers("category").await.remove(0);
        let narrow = model.servers("related").await.remove(0);
        assert_eq!(requested(&wide, "cpu").as_deref(), Some("200m"));
        assert_eq!(requested(&narrow, "cpu").as_deref(), Some("100m"));

        // What a person reads.
        let listed = place.kubectl("get um").well();
        assert!(listed.contains("4/4") && listed.contains("True"), "{listed}");
    });
}
