//! `docs/openapi.yaml`: the requests that it shows, and whether an answer is one that it describes.

use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

pub(crate) struct Document(Value);

/// A response as a client of HTTP sees it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// A method of an address.
pub(crate) struct Operation<'a> {
    pub(crate) method: String,
    /// With the names of its parameters.
    pub(crate) path: &'a str,
    /// With their examples.
    pub(crate) url: String,
    value: &'a Value,
}

/// A request that the document shows.
pub(crate) struct Shown<'a> {
    pub(crate) what: String,
    pub(crate) method: &'a str,
    pub(crate) url: &'a str,
    pub(crate) headers: Vec<(&'a str, &'a str)>,
    pub(crate) body: String,
    /// The status of its answer.
    pub(crate) status: u16,
    operation: &'a Operation<'a>,
}

impl Document {
    pub(crate) fn read() -> Self {
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

    /// All operations but those that the gateway alone has: they are tested there.
    pub(crate) fn operations(&self) -> Vec<Operation<'_>> {
        let paths = self.0["paths"].as_object().unwrap().iter().filter(|(_, item)| item.get("x-served-by").is_none());
        paths
            .flat_map(|(path, item)| {
                let methods =
                    item.as_object().unwrap().iter().filter(|(name, _)| ["get", "post"].contains(&name.as_str()));
                methods.map(move |(method, value)| {
                    let url = self.example_path(path, item);
                    Operation { method: method.to_uppercase(), path, url, value }
                })
            })
            .collect()
    }

    /// The path with its parameters' examples in their places.
    fn example_path(&self, path: &str, item: &Value) -> String {
        let parameters = item["parameters"].as_array().into_iter().flatten().map(|p| self.resolve(p));
        parameters.fold(path.to_owned(), |path, parameter| {
            let name = format!("{{{}}}", parameter["name"].as_str().unwrap());
            path.replace(&name, parameter["example"].as_str().unwrap())
        })
    }

    /// The requests that are shown for an operation; without a body there is one.
    pub(crate) fn shown<'a>(&self, operation: &'a Operation<'a>) -> Vec<Shown<'a>> {
        let Operation { method, path, url, value } = operation;
        let request = |what, headers, body, status| Shown { what, method, url, headers, body, status, operation };
        let Some(contents) = value["requestBody"]["content"].as_object() else {
            return vec![request((*path).to_owned(), vec![], String::new(), 200)];
        };
        let mut shown = Vec::new();
        for (media, content) in contents {
            for (name, example) in content["examples"].as_object().unwrap() {
                let what = format!("{path}: {media}: {name}");
                let status = example["x-status"].as_u64().map_or(200, |status| status as u16);
                let body = &example["value"];
                if media == "application/json" && status == 200 {
                    self.check(&content["schema"], body, &what);
                }
                let headers = example["x-headers"].as_object().into_iter().flatten();
                let headers = headers.map(|(name, value)| (name.as_str(), value.as_str().unwrap())).collect();
                let body = body.as_str().map_or_else(|| body.to_string(), str::to_owned);
                shown.push(request(what, headers, body, status));
            }
        }
        shown
    }

    /// Asserts that an answer has the status that is documented, and the form.
    pub(crate) fn check_answer(&self, shown: &Shown<'_>, answer: &Answer) {
        let what = &shown.what;
        assert_eq!(answer.status.as_u16(), shown.status, "{what}: {answer:?}");
        let responses = shown.operation.value["responses"].as_object().unwrap();
        let documented = responses.get(answer.status.as_str()).unwrap_or_else(|| panic!("{what}: {answer:?}"));
        let documented = self.resolve(documented);
        let content = documented["content"].as_object().unwrap();
        let media = answer.header("content-type").unwrap();
        assert!(content.contains_key(media), "{what}: {media}");
        let is_binary = media == "application/octet-stream";
        let json = if is_binary {
            let length = answer.header("inference-header-content-length").unwrap().parse::<usize>().unwrap();
            assert!(length < answer.body.len(), "{what}: no bytes of tensors");
            serde_json::from_slice(&answer.body[..length]).unwrap()
        } else {
            answer.json()
        };
        let form = if is_binary { "application/json" } else { media };
        self.check(&content[form]["schema"], &json, what);
        for (name, header) in documented["headers"].as_object().unwrap_or(&Map::new()) {
            assert!(answer.header(name).is_some() || header["required"] != true, "{what}: no header {name}");
        }
    }

    /// Asserts that the answers that are shown fit their schemas, and counts them.
    pub(crate) fn check_shown_answers(&self) -> usize {
        let mut count = 0;
        for Operation { path, value, .. } in self.operations() {
            for (status, response) in value["responses"].as_object().unwrap() {
                for (_, media) in self.resolve(response)["content"].as_object().unwrap() {
                    for (name, example) in media["examples"].as_object().unwrap_or(&Map::new()) {
                        self.check(&media["schema"], &example["value"], &format!("{path}: {status}: {name}"));
                        count += 1;
                    }
                }
            }
        }
        count
    }
}
