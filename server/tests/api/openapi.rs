//! `docs/openapi.yaml` describes what the server does: every documented request is sent, and every answer fits its schema.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use http::Request;
use serde_json::{Map, Value, json};

use crate::plain::{Answer, Plain, router, send};

struct Document(Value);

impl Document {
    fn read() -> Self {
        let mut document: serde_yaml::Value = serde_yaml::from_str(include_str!("../../../docs/openapi.yaml")).unwrap();
        document.apply_merge().unwrap();
        Self(serde_json::to_value(document).unwrap())
    }

    /// What a reference names, or the value itself.
    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value.get("$ref").and_then(Value::as_str) {
            Some(reference) => self.0.pointer(reference.strip_prefix('#').unwrap()).unwrap(),
            None => value,
        }
    }

    /// Asserts that a value fits a schema of the document.
    fn check(&self, schema: &Value, value: &Value, what: &str) {
        let whole = json!({ "allOf": [schema], "components": self.0["components"] });
        let validator = jsonschema::options().should_validate_formats(true).build(&whole).unwrap();
        let errors: Vec<_> = validator.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{what}: {errors:?}: {value}");
    }

    fn operations(&self) -> impl Iterator<Item = (&String, &String, &Value, &Value)> {
        // What the gateway alone serves is tested there.
        let paths = self.0["paths"].as_object().unwrap().iter().filter(|(_, item)| item.get("x-served-by").is_none());
        paths.flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().iter().filter(|(name, _)| ["get", "post"].contains(&name.as_str()));
            methods.map(move |(method, operation)| (path, method, item, operation))
        })
    }

    /// The path with its parameters' examples in their places.
    fn example_path(&self, path: &str, item: &Value) -> String {
        let parameters = item["parameters"].as_array().into_iter().flatten().map(|p| self.resolve(p));
        parameters.fold(path.to_owned(), |path, parameter| {
            let name = format!("{{{}}}", parameter["name"].as_str().unwrap());
            path.replace(&name, parameter["example"].as_str().unwrap())
        })
    }

    /// Asserts that an answer is one that the operation documents.
    fn check_answer(&self, operation: &Value, answer: &Answer, what: &str) {
        let responses = operation["responses"].as_object().unwrap();
        let documented = responses.get(answer.status.as_str()).unwrap_or_else(|| panic!("{what}: {answer:?}"));
        let content = self.resolve(documented)["content"].as_object().unwrap();
        let media = &content[answer.header("content-type").unwrap()];
        self.check(&media["schema"], &answer.json(), what);
        for (name, _) in self.resolve(documented)["headers"].as_object().unwrap_or(&Map::new()) {
            assert!(answer.header(name).is_some(), "{what}: no header {name}");
        }
    }
}

#[tokio::test]
async fn documented_requests_are_answered_as_documented() {
    let document = Document::read();
    let router = router(Arc::new(Plain::new()));
    let mut statuses = BTreeSet::new();
    for (path, method, item, operation) in document.operations() {
        let url = document.example_path(path, item);
        let request = || Request::builder().method(method.to_uppercase().as_str()).uri(&url);
        let body = &operation["requestBody"]["content"]["application/json"];
        let Some(examples) = body["examples"].as_object() else {
            assert!(operation.get("requestBody").is_none(), "{path} has a body without an example");
            let answer = send(&router, request().body(Body::empty()).unwrap()).await;
            assert_eq!(answer.status, 200, "{path}");
            document.check_answer(operation, &answer, path);
            continue;
        };
        for (name, example) in examples {
            let what = format!("{path}: {name}");
            let answer = send(&router, request().body(Body::from(example["value"].to_string())).unwrap()).await;
            let expected = example["x-status"].as_u64().unwrap_or(200);
            assert_eq!(u64::from(answer.status.as_u16()), expected, "{what}: {answer:?}");
            document.check_answer(operation, &answer, &what);
            if expected == 200 {
                document.check(&body["schema"], &example["value"], &what);
            }
            statuses.insert(expected);
        }
    }
    assert_eq!(statuses.into_iter().collect::<Vec<_>>(), [200, 400, 404, 429, 504]);
}

#[test]
fn documented_answers_fit_their_schemas() {
    let document = Document::read();
    let mut count = 0;
    for (path, _, _, operation) in document.operations() {
        for (status, response) in operation["responses"].as_object().unwrap() {
            for (_, media) in document.resolve(response)["content"].as_object().unwrap() {
                for (name, example) in media["examples"].as_object().unwrap_or(&Map::new()) {
                    document.check(&media["schema"], &example["value"], &format!("{path}: {status}: {name}"));
                    count += 1;
                }
            }
        }
    }
    assert!(count > 0);
}

#[tokio::test]
async fn undocumented_addresses_do_not_answer() {
    // What the router serves by REST is in the document: each documented path answers, and a documented method only.
    let document = Document::read();
    let router = router(Arc::new(Plain::new()));
    for (path, method, item, _) in document.operations() {
        let other = if method == "get" { "POST" } else { "GET" };
        let request = Request::builder().method(other).uri(document.example_path(path, item));
        assert_eq!(send(&router, request.body(Body::empty()).unwrap()).await.status, 405, "{path}");
    }
}
