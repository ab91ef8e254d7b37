//! What Kubernetes is told about the object.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Value, json};

use crate::spec::UnifiedModel;

/// The definition, as `crds/unifiedmodels.yaml` has it.
pub fn crd_yaml() -> String {
    let yaml = serde_yaml::to_string(&definition()).unwrap_or_default();
    format!("# Made by `make generate` from crds/src; edit that.\n{yaml}")
}

/// The schema of the object, with what every object has, which the API server adds by itself.
pub(crate) fn schema() -> Value {
    let definition = serde_json::to_value(definition()).unwrap_or_default();
    let mut schema = definition.pointer("/spec/versions/0/schema/openAPIV3Schema").cloned().unwrap_or_default();
    if let Some(properties) = schema["properties"].as_object_mut() {
        for (name, kind) in [("apiVersion", "string"), ("kind", "string"), ("metadata", "object")] {
            properties.insert(name.to_owned(), json!({"type": kind}));
        }
    }
    schema
}

fn definition() -> CustomResourceDefinition {
    UnifiedModel::crd()
}
