//! The API server refuses what makes no sense, and says what would.

use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::{Api, Resource};
use serde_json::{Value, json};
use unimodel_crds::UnifiedModel;
use unimodel_e2e::{Place, on_cluster, seconds};

const RULES: &str = include_str!("../../../crds/tests/rules.yaml");

#[test]
#[ignore = "needs a cluster: make e2e"]
fn each_rule_lets_pass_and_refuses_with_its_message() {
    on_cluster("definition", seconds(60), async |place: Place| {
        let api: Api<DynamicObject> =
            Api::namespaced_with(place.client.clone(), &place.namespace, &ApiResource::erase::<UnifiedModel>(&()));
        let dry = PostParams { dry_run: true, field_manager: None };
        let examples: Vec<Value> = serde_yaml::from_str(RULES).unwrap();
        assert!(!examples.is_empty());
        for example in examples {
            let message = example["message"].as_str().unwrap();
            for (part, well) in [("accepted", true), ("refused", false)] {
                let name = example[part]["name"].as_str().unwrap_or("example");
                let object = json!({
                    "apiVersion": UnifiedModel::api_version(&()), "kind": UnifiedModel::kind(&()),
                    "metadata": {"name": name}, "spec": example[part]["spec"],
                });
                let answer = api.create(&dry, &serde_json::from_value(object).unwrap()).await;
                match answer {
                    Ok(_) => assert!(well, "{message}: was not refused"),
                    Err(kube::Error::Api(status)) => {
                        assert!(!well, "{message}: {}", status.message);
                        assert_eq!(status.code, 422, "{message}: {}", status.message);
                        assert!(status.message.contains(message), "{message}: {}", status.message);
                    }
                    Err(error) => panic!("{message}: {error}"),
                }
            }
        }
    });
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn kubectl_explains_every_field() {
    let explained = unimodel_e2e::kubectl("explain um.spec --recursive=false").well();
    for field in ["tasks", "hardwareClasses", "model", "gateway"] {
        assert!(explained.contains(field), "{explained}");
    }
    let field = unimodel_e2e::kubectl("explain um.spec.tasks.refresh.schedule").well();
    assert!(field.contains("DESCRIPTION") && !field.contains("<empty>"), "{field}");
}
