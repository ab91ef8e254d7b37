//! Each rule of the definition lets pass what it should, and refuses what it should with its message.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;

use kube::core::cel::{Validator, apply_defaults};
use serde_json::{Value, json};
use unimodel_crds::{check, crd_yaml};

fn examples() -> Vec<Value> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rules.yaml");
    serde_yaml::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
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

/// What the definition's rules say: `check` has words of its own for some of it, which name the value.
fn refusals(object: &Value) -> String {
    let definition: Value = serde_yaml::from_str(&crd_yaml()).unwrap();
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let refused = Validator::new().validate(schema, &apply_defaults(schema, object), None).unwrap_err();
    refused.into_vec().into_iter().map(|error| error.message).collect::<Vec<_>>().join("\n")
}

#[test]
fn each_rule_lets_pass_and_refuses() {
    for example in examples() {
        let message = example["message"].as_str().unwrap();
        assert_eq!(checked(&object(&example["accepted"])), Ok(()), "{message}");
        let refused = object(&example["refused"]);
        assert!(checked(&refused).is_err(), "{message}");
        let refusals = refusals(&refused);
        assert!(refusals.contains(message), "{message}: {refusals}");
    }
}

#[test]
fn each_rule_of_the_definition_has_its_examples() {
    fn messages(schema: &Value, found: &mut BTreeSet<String>) {
        match schema {
            Value::Object(fields) => {
                let rules = fields.get("x-kubernetes-validations").and_then(Value::as_array);
                found.extend(rules.into_iter().flatten().map(|rule| rule["message"].as_str().unwrap().to_owned()));
                fields.values().for_each(|field| messages(field, found));
            }
            Value::Array(entries) => entries.iter().for_each(|entry| messages(entry, found)),
            _ => {}
        }
    }
    let definition: Value = serde_yaml::from_str(&crd_yaml()).unwrap();
    let mut rules = BTreeSet::new();
    messages(&definition, &mut rules);
    let tried: BTreeSet<String> = examples().iter().map(|e| e["message"].as_str().unwrap().to_owned()).collect();
    assert_eq!(rules, tried);
}
