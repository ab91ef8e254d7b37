//! The API server refuses what makes no sense, and says what would.

use std::path::Path;

use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::core::response::StatusCause;
use kube::{Api, Resource};
use serde_json::{Value, json};
use unimodel_crds::{UnifiedModel, check};
use unimodel_e2e::{Place, on_cluster, seconds};

const RULES: &str = include_str!("../../../crds/tests/rules.yaml");
const SHAPES: &str = include_str!("../../../crds/tests/shapes.yaml");
const FULL: &str = include_str!("../../../crds/tests/full.yaml");

fn examples(text: &str) -> Vec<Value> {
    let examples: Vec<Value> = serde_yaml::from_str(text).unwrap();
    assert!(!examples.is_empty());
    examples
}

fn object(example: &Value) -> Value {
    json!({
        "apiVersion": UnifiedModel::api_version(&()), "kind": UnifiedModel::kind(&()),
        "metadata": {"name": example["name"].as_str().unwrap_or("example")}, "spec": example["spec"],
    })
}

/// What the API server makes of an object, or all that it has against it. It keeps nothing.
async fn tried(place: &Place, object: Value) -> Result<Value, Vec<StatusCause>> {
    let api: Api<DynamicObject> =
        Api::namespaced_with(place.client.clone(), &place.namespace, &ApiResource::erase::<UnifiedModel>(&()));
    let dry = PostParams { dry_run: true, field_manager: None };
    match api.create(&dry, &serde_json::from_value(object).unwrap()).await {
        Ok(taken) => Ok(taken.data["spec"].clone()),
        Err(kube::Error::Api(status)) if status.code == 422 => Err(status.details.unwrap().causes),
        Err(error) => panic!("{error}"),
    }
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn each_rule_lets_pass_and_refuses_with_its_message() {
    on_cluster("definition", seconds(60), async |place: Place| {
        // Any entry of a list: `spec.tasks[0].name` is `spec.tasks[].name`.
        let any = |path: &str| path.split(['[', ']']).step_by(2).collect::<Vec<_>>().join("[]");
        for example in examples(RULES) {
            let (field, message) = (example["field"].as_str().unwrap(), example["message"].as_str().unwrap());
            let taken = tried(&place, object(&example["accepted"])).await;
            same(
                &object(&example["accepted"]),
                &taken.unwrap_or_else(|causes| panic!("{field} {message}: {causes:?}")),
            );
            let causes = tried(&place, object(&example["refused"])).await.expect_err(message);
            let is = |cause: &StatusCause| {
                (any(&cause.field) == field || (field.is_empty() && cause.field == "<nil>"))
                    && cause.message.contains(message)
            };
            assert!(causes.iter().any(is), "{field} {message}: {causes:?}");
        }
        same(&serde_yaml::from_str(FULL).unwrap(), &tried(&place, serde_yaml::from_str(FULL).unwrap()).await.unwrap());
    });
}

/// What an API server makes of an object, with all defaults, is what is made of it offline, and nothing is lost.
fn same(sent: &Value, taken: &Value) {
    let offline = check(&serde_yaml::to_string(sent).unwrap(), Path::new("example.yaml")).unwrap().object;
    let read: UnifiedModel = serde_json::from_value(json!({
        "apiVersion": sent["apiVersion"], "kind": sent["kind"], "metadata": sent["metadata"], "spec": taken,
    }))
    .unwrap();
    assert_eq!(read, offline);
    assert!(has(taken, &sent["spec"]), "of {} there is {taken}", sent["spec"]);
}

/// Whether all that was said is there.
fn has(whole: &Value, said: &Value) -> bool {
    match said {
        Value::Object(fields) => fields.iter().all(|(name, field)| has(&whole[name], field)),
        Value::Array(entries) => whole
            .as_array()
            .is_some_and(|all| all.len() == entries.len() && all.iter().zip(entries).all(|(a, b)| has(a, b))),
        other => whole == other,
    }
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn types_bounds_names_and_keys_are_refused_with_their_fields() {
    on_cluster("shapes", seconds(60), async |place: Place| {
        for example in examples(SHAPES) {
            let (field, message) = (example["field"].as_str().unwrap(), example["message"].as_str().unwrap());
            // As a person meets it: kubectl asks for unknown fields to be refused.
            let said = place.kubectl_with("create --dry-run=server -f -", &object(&example).to_string()).refused();
            assert!(said.contains(field) && said.contains(message), "{field} {message}: {said}");
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
