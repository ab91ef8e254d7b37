//! Each rule of the definition lets pass what it should, and refuses what it should with its message.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};
use unimodel_crds::{check, crd_yaml};

fn examples() -> Vec<Value> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rules.yaml");
    serde_yaml::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

fn told(example: &Value) -> Result<(), String> {
    let object = json!({
        "apiVersion": "unimodel.dev/v1alpha1",
        "kind": "UnifiedModel",
        "metadata": {"name": example["name"].as_str().unwrap_or("example")},
        "spec": example["spec"],
    });
    let text = serde_yaml::to_string(&object).unwrap();
    check(&text, Path::new("example.yaml")).map(drop).map_err(|error| error.to_string())
}

#[test]
fn each_rule_lets_pass_and_refuses() {
    for example in examples() {
        let message = example["message"].as_str().unwrap();
        assert_eq!(told(&example["accepted"]), Ok(()), "{message}");
        let refused = told(&example["refused"]).unwrap_err();
        assert!(refused.contains(message), "{message}: {refused}");
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
