//! What a structural schema says of a value: types, bounds, names, and keys of lists. The API server checks the same; its
//! rules in CEL are checked elsewhere, by the library that reads them.

use std::collections::HashMap;

use regex::Regex;
use serde_json::Value;

/// Something that the schema refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// The field, such as `spec.tasks[2].replicas.min`.
    pub key: String,
    /// What is there and what would be right.
    pub message: String,
}

/// All that the schema refuses in a value.
pub(crate) fn violations(schema: &Value, value: &Value) -> Vec<Violation> {
    let mut walk = Walk { found: Vec::new() };
    walk.visit(schema, value, "");
    walk.found
}

struct Walk {
    found: Vec<Violation>,
}

impl Walk {
    fn say(&mut self, key: &str, message: String) {
        self.found.push(Violation { key: key.to_owned(), message });
    }

    fn visit(&mut self, schema: &Value, value: &Value, key: &str) {
        let flag = |name: &str| schema[name].as_bool() == Some(true);
        if value.is_null() && (flag("nullable") || flag("x-kubernetes-preserve-unknown-fields")) {
            return;
        }
        let expected = match schema["type"].as_str() {
            Some(kind) => kind,
            None if flag("x-kubernetes-int-or-string") => {
                if !(value.is_string() || value.is_i64()) {
                    self.say(key, format!("is {}; it must be a text or a whole number", described(value)));
                }
                return;
            }
            None => return,
        };
        let right = match expected {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64(),
            _ => value.is_number(),
        };
        if !right {
            let must = match expected {
                "object" => "a mapping",
                "array" => "a list",
                "string" => "a text (in quotes where it looks like something else)",
                "boolean" => "true or false",
                "integer" => "a whole number",
                _ => "a number",
            };
            self.say(key, format!("is {}; it must be {must}", described(value)));
            return;
        }
        match value {
            Value::Object(members) => self.object(schema, members, key),
            Value::Array(entries) => self.list(schema, entries, key),
            Value::String(text) => self.text(schema, text, key),
            Value::Number(number) => self.number(schema, number.as_f64().unwrap_or(f64::NAN), key),
            _ => {}
        }
    }

    fn object(&mut self, schema: &Value, members: &serde_json::Map<String, Value>, key: &str) {
        let below = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !members.contains_key(name) {
                self.say(&below(name), "is missing".into());
            }
        }
        self.count(schema, "maxProperties", "minProperties", members.len(), "entries", key);
        let properties = schema["properties"].as_object();
        for (name, value) in members {
            let known = properties.and_then(|properties| properties.get(name));
            let each = Some(&schema["additionalProperties"]).filter(|each| each.is_object());
            match known.or(each) {
                Some(inner) => self.visit(inner, value, &below(name)),
                None if schema["x-kubernetes-preserve-unknown-fields"].as_bool() == Some(true) => {}
                // Of metadata the schema says nothing: the API server knows it.
                None if properties.is_none() => {}
                None => {
                    let known: Vec<&str> = properties.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
                    self.say(&below(name), format!("is no field; there are {}", known.join(", ")));
                }
            }
        }
    }

    fn list(&mut self, schema: &Value, entries: &[Value], key: &str) {
        self.count(schema, "maxItems", "minItems", entries.len(), "entries", key);
        for (index, entry) in entries.iter().enumerate() {
            self.visit(&schema["items"], entry, &format!("{key}[{index}]"));
        }
        // The lists of this object have at most one key.
        let Some(name) = schema["x-kubernetes-list-map-keys"][0].as_str() else { return };
        let mut seen: HashMap<&str, usize> = HashMap::new();
        for (index, entry) in entries.iter().enumerate() {
            let Some(text) = entry[name].as_str() else { continue };
            if let Some(first) = seen.get(text) {
                let message = format!("`{text}` is the {name} of {key}[{first}] already; give it another");
                self.say(&format!("{key}[{index}].{name}"), message);
            } else {
                seen.insert(text, index);
            }
        }
    }

    fn text(&mut self, schema: &Value, text: &str, key: &str) {
        self.count(schema, "maxLength", "minLength", text.chars().count(), "characters", key);
        if let Some(values) = schema["enum"].as_array() {
            let values: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
            if !values.contains(&text) {
                self.say(key, format!("is `{text}`; it must be one of {}", values.join(", ")));
            }
        }
        if let Some(pattern) = schema["pattern"].as_str()
            && !Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text))
        {
            self.say(key, format!("is `{text}`; it must match `{pattern}`"));
        }
    }

    fn number(&mut self, schema: &Value, number: f64, key: &str) {
        let (low, high) = (schema["minimum"].as_f64(), schema["maximum"].as_f64());
        if low.is_some_and(|low| number < low) || high.is_some_and(|high| number > high) {
            let must = match (low, high) {
                (Some(low), Some(high)) => format!("from {low} to {high}"),
                (Some(low), None) => format!("at least {low}"),
                (_, high) => format!("at most {}", high.unwrap_or_default()),
            };
            self.say(key, format!("is {number}; it must be {must}"));
        }
    }

    fn count(&mut self, schema: &Value, most: &str, least: &str, count: usize, what: &str, key: &str) {
        let bound = |name: &str| schema[name].as_u64().map(|bound| bound as usize);
        if let Some(most) = bound(most).filter(|most| count > *most) {
            self.say(key, format!("has {count} {what}; it must have at most {most}"));
        }
        if let Some(least) = bound(least).filter(|least| count < *least) {
            self.say(key, format!("has {count} {what}; it must have at least {least}"));
        }
    }
}

/// A value for people: what it is, and not all of it.
fn described(value: &Value) -> String {
    match value {
        Value::Null => "empty".into(),
        Value::Object(_) => "a mapping".into(),
        Value::Array(_) => "a list".into(),
        Value::String(text) => format!("the text `{}`", text.chars().take(40).collect::<String>()),
        other => format!("`{other}`"),
    }
}
