//! Each rule of the definition lets pass what it should, and refuses what it should with its message.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;

use kube::core::cel::{Validator, apply_defaults};
use serde_json::{Value, json};
use unimodel_crds::{check, crd_yaml};

fn read(name: &str) -> Vec<Value> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name);
    serde_yaml::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

/// The field and the message of an example's rule.
fn rule(example: &Value) -> (String, String) {
    (example["field"].as_str().unwrap().to_owned(), example["message"].as_str().unwrap().to_owned())
}

fn object(example: &Value) -> Value {
    json!({
        "apiVersion": "unimodel.dev/v1alpha1",
        "kind": "UnifiedModel",
        "metadata": {"name": example["name"].as_str().unwrap_or("example")},
        "spec": example["spec"],
    })
}

fn checked(object: &Value) -> Result<(), String> {
    let text = serde_yaml::to_string(object).unwrap();
    check(&text, Path::new("example.yaml")).map(drop).map_err(|error| error.to_string())
}

/// What the definition's rules say, and of which fields: `check` has words of its own for some of it, which name the value.
fn refusals(object: &Value) -> BTreeSet<(String, String)> {
    let definition: Value = serde_yaml::from_str(&crd_yaml()).unwrap();
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let refused = Validator::new().validate(schema, &apply_defaults(schema, object), None).unwrap_err();
    // Any entry of a list: `spec.tasks[0].name` is `spec.tasks[].name`.
    let field = |path: &str| path.split(['[', ']']).step_by(2).collect::<Vec<_>>().join("[]");
    refused.into_vec().into_iter().map(|error| (field(&error.field_path), error.message)).collect()
}

#[test]
fn each_rule_lets_pass_and_refuses() {
    for example in read("rules.yaml") {
        let rule = rule(&example);
        assert_eq!(checked(&object(&example["accepted"])), Ok(()), "{rule:?}");
        let refused = object(&example["refused"]);
        assert!(checked(&refused).is_err(), "{rule:?}");
        let refusals = refusals(&refused);
        assert!(refusals.contains(&rule), "{rule:?}: {refusals:?}");
    }
}

#[test]
fn each_rule_of_the_definition_has_its_examples() {
    fn rules(schema: &Value, path: &str, found: &mut BTreeSet<(String, String)>) {
        let of_field = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
        found.extend(of_field.map(|rule| (path.to_owned(), rule["message"].as_str().unwrap().to_owned())));
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            rules(field, format!("{path}.{name}").trim_start_matches('.'), found);
        }
        for (part, inner) in [("[]", &schema["items"]), ("{}", &schema["additionalProperties"])] {
            if inner.is_object() {
                rules(inner, &format!("{path}{part}"), found);
            }
        }
    }
    let definition: Value = serde_yaml::from_str(&crd_yaml()).unwrap();
    let mut found = BTreeSet::new();
    rules(&definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"], "", &mut found);
    assert_eq!(found.len(), crd_yaml().matches(" rule: ").count(), "a rule stands elsewhere: {found:#?}");
    assert_eq!(found, read("rules.yaml").iter().map(rule).collect());
}

#[test]
fn what_an_api_server_refuses_without_a_rule_is_refused_offline() {
    for example in read("shapes.yaml") {
        assert!(checked(&object(&example)).is_err(), "{:?}", rule(&example));
    }
}
