//! The definition that Kubernetes gets: what stands in the repository is what the code says, and it has what an API
//! server asks of it.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use serde_json::Value;
use unimodel_crds::crd_yaml;

fn definition() -> Value {
    serde_yaml::from_str(&crd_yaml()).unwrap()
}

fn schema() -> Value {
    definition().pointer("/spec/versions/0/schema/openAPIV3Schema").unwrap().clone()
}

#[test]
fn the_file_is_what_the_code_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("unifiedmodels.yaml");
    if std::env::var_os("UNIMODEL_WRITE_CRD").is_some() {
        std::fs::write(&file, crd_yaml()).unwrap();
    }
    let published = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(published, crd_yaml(), "run `make generate`");
}

#[test]
fn it_is_small_and_has_the_names_that_people_type() {
    assert!(crd_yaml().len() < 200_000, "{} bytes", crd_yaml().len());
    let definition = definition();
    assert_eq!(definition["spec"]["names"]["shortNames"], serde_json::json!(["um"]));
    assert_eq!(definition["spec"]["names"]["categories"], serde_json::json!(["all"]));
    let version = &definition["spec"]["versions"][0];
    assert_eq!(version["subresources"], serde_json::json!({"status": {}}));
    let columns = version["additionalPrinterColumns"].as_array().unwrap();
    let names: Vec<&str> = columns.iter().map(|column| column["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["Ready", "Reason", "Tasks", "Version", "Skew", "Oldest", "Age"]);
}

/// Calls `visit` with the path and schema of each field that is ours.
fn each(schema: &Value, path: &str, visit: &mut dyn FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        each(inner, &format!("{path}.{name}"), visit);
    }
    for (part, inner) in [("[]", &schema["items"]), ("{}", &schema["additionalProperties"])] {
        if inner.is_object() {
            each(inner, &format!("{path}{part}"), visit);
        }
    }
}

#[test]
fn every_field_has_a_description() {
    let mut silent = Vec::new();
    each(&schema(), "", &mut |path, schema| {
        let entry = path.ends_with("[]") || path.ends_with("{}");
        let whole = path.is_empty() || [".apiVersion", ".kind", ".metadata"].contains(&path);
        if !entry && !whole && schema["description"].as_str().is_none_or(|text| text.len() < 5) {
            silent.push(path.to_owned());
        }
    });
    assert_eq!(silent, Vec::<String>::new());
}

#[test]
fn every_list_map_and_text_that_a_rule_may_read_has_a_bound() {
    let mut open = Vec::new();
    each(&schema()["properties"]["spec"], "spec", &mut |path, schema| {
        // Kubernetes' own type, which no rule reads.
        if path.contains("tolerations[]") || path.contains("nodeSelector{}") || path.contains("metadata") {
            return;
        }
        let bound = match schema["type"].as_str() {
            Some("array") => "maxItems",
            Some("string") if schema["enum"].is_null() => "maxLength",
            Some("object") if schema["additionalProperties"].is_object() => "maxProperties",
            Some("integer") => "maximum",
            _ => return,
        };
        if schema[bound].as_u64().is_none() && schema[bound].as_f64().is_none() {
            open.push(format!("{path} has no {bound}"));
        }
    });
    assert_eq!(open, Vec::<String>::new());
}

#[test]
fn lists_that_several_people_edit_are_merged_by_key() {
    let schema = schema();
    for (path, key) in [
        ("/properties/spec/properties/tasks", "name"),
        ("/properties/spec/properties/hardwareClasses", "name"),
        ("/properties/status/properties/tasks", "name"),
        ("/properties/status/properties/conditions", "type"),
        ("/properties/status/properties/tasks/items/properties/conditions", "type"),
    ] {
        let list = schema.pointer(path).unwrap();
        assert_eq!(list["x-kubernetes-list-type"], "map", "{path}");
        assert_eq!(list["x-kubernetes-list-map-keys"], serde_json::json!([key]), "{path}");
        assert!(list["items"]["required"].as_array().unwrap().contains(&key.into()), "{path}: {key} is not required");
    }
}

#[test]
fn it_is_structural() {
    let mut wrong = Vec::new();
    each(&schema(), "", &mut |path, schema| {
        let typed = schema["type"].is_string()
            || schema["x-kubernetes-int-or-string"] == true
            || schema["x-kubernetes-preserve-unknown-fields"] == true;
        let unwanted = ["$ref", "oneOf", "anyOf", "allOf", "not", "definitions", "$defs", "const"];
        if !typed || unwanted.iter().any(|key| !schema[key].is_null()) || schema["additionalProperties"] == true {
            wrong.push(path.to_owned());
        }
    });
    assert_eq!(wrong, Vec::<String>::new());
}
