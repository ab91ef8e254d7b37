//! Where members of a JSON object stand, without reading their values.

use std::ops::Range;

/// Where the values of the outermost object's members of those names stand. None: the bytes are not a JSON object as far
/// as can be seen without reading values.
pub fn members<const N: usize>(json: &[u8], names: [&str; N]) -> Option<[Option<Range<usize>>; N]> {
    let mut found = [const { None }; N];
    let mut at = skip_space(json, 0);
    if json.get(at) != Some(&b'{') {
        return None;
    }
    at = skip_space(json, at + 1);
    if json.get(at) == Some(&b'}') {
        return Some(found);
    }
    loop {
        let key_end = end_of_string(json, at)?;
        let key = &json[at..key_end];
        at = skip_space(json, key_end);
        if json.get(at) != Some(&b':') {
            return None;
        }
        let start = skip_space(json, at + 1);
        let end = end_of_value(json, start)?;
        if let Some(index) = names.iter().position(|name| is(key, name)) {
            found[index] = Some(start..end);
        }
        at = skip_space(json, end);
        match json.get(at)? {
            b',' => at = skip_space(json, at + 1),
            b'}' => return Some(found),
            _ => return None,
        }
    }
}

/// The text of a value that is a string.
pub fn text(value: &[u8]) -> Option<String> {
    match value {
        [b'"', inner @ .., b'"'] if !inner.contains(&b'\\') => std::str::from_utf8(inner).ok().map(str::to_owned),
        [b'"', .., b'"'] => serde_json::from_slice(value).ok(),
        _ => None,
    }
}

/// Whether a quoted key is that name. A key may be written with escapes.
fn is(key: &[u8], name: &str) -> bool {
    let inner = &key[1..key.len() - 1];
    inner == name.as_bytes() || (inner.contains(&b'\\') && text(key).is_some_and(|text| text == name))
}

fn skip_space(json: &[u8], mut at: usize) -> usize {
    while matches!(json.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

/// Where the string that begins here ends, after its quote.
fn end_of_string(json: &[u8], at: usize) -> Option<usize> {
    if json.get(at) != Some(&b'"') {
        return None;
    }
    let mut at = at + 1;
    loop {
        match json.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

fn end_of_value(json: &[u8], at: usize) -> Option<usize> {
    match json.get(at)? {
        b'"' => end_of_string(json, at),
        b'{' | b'[' => {
            let (mut at, mut depth) = (at, 0_usize);
            loop {
                match json.get(at)? {
                    b'"' => {
                        at = end_of_string(json, at)?;
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => depth -= 1,
                    _ => {}
                }
                at += 1;
                if depth == 0 {
                    return Some(at);
                }
            }
        }
        _ => {
            let rest = &json[at..];
            let length = rest.iter().position(|b| matches!(b, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r'))?;
            (length > 0).then_some(at + length)
        }
    }
}

/// The object with one member set: in place where it has the member, else as its last.
pub fn set_member(json: &[u8], name: &str, value: &str) -> Option<Vec<u8>> {
    let [found] = members(json, [name])?;
    let mut set = Vec::with_capacity(json.len() + name.len() + value.len() + 4);
    match found {
        Some(at) => {
            set.extend(&json[..at.start]);
            set.extend(value.as_bytes());
            set.extend(&json[at.end..]);
        }
        None => {
            let end = json.iter().rposition(|b| *b == b'}')?;
            let inner = &json[..end];
            let is_empty = inner.iter().all(|b| matches!(b, b'{' | b' ' | b'\t' | b'\n' | b'\r'));
            set.extend(inner);
            let comma = if is_empty { "" } else { "," };
            set.extend(format!("{comma}\"{name}\":{value}").as_bytes());
            set.extend(&json[end..]);
        }
    }
    Some(set)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_member_is_set_in_place_or_appended() {
        let set = |json: &str| String::from_utf8(set_member(json.as_bytes(), "f", "[1]").unwrap()).unwrap();
        assert_eq!(set(r#"{"a":1,"f":null,"b":2}"#), r#"{"a":1,"f":[1],"b":2}"#);
        assert_eq!(set(r#"{"a":{"f":1}}"#), r#"{"a":{"f":1},"f":[1]}"#);
        assert_eq!(set("{ }\n"), "{ \"f\":[1]}\n");
        assert_eq!(set_member(b"[1]", "f", "1"), None);
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((any::<String>(), inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_member_stands_where_a_parser_finds_it(
            before in values(), sought in values(), after in values(), is_pretty: bool
        ) {
            let object = serde_json::json!({ "before": before, "sought": sought, "after": after });
            let printed =
                if is_pretty { serde_json::to_string_pretty(&object).unwrap() } else { object.to_string() };
            let [at, none] = members(printed.as_bytes(), ["sought", "none"]).unwrap();
            let value: Value = serde_json::from_str(&printed[at.unwrap()]).unwrap();
            prop_assert_eq!((&value, none), (&object["sought"], None));

            let set = set_member(printed.as_bytes(), "sought", "7").unwrap();
            let set: Value = serde_json::from_slice(&set).unwrap();
            prop_assert_eq!(set, serde_json::json!({ "before": before, "sought": 7, "after": after }));
        }
    }
}
