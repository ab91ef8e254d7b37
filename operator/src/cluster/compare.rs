//! Whether the cluster has what we want, so that nothing is written that changes nothing.

use serde_json::Value;

use super::child::Observed;
use super::children::Child;

/// What is to be done for a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// It is as it should be.
    Nothing,
    /// There is none.
    Create,
    /// It is ours and differs. With the uid of the one that was seen.
    Update(String),
    /// An object of that name belongs to somebody else.
    Foreign,
}

/// What is to be done for a child. `owner`: the uid of whom it must belong to.
pub fn need(child: &Child, observed: Option<&Observed>, owner: &str) -> Need {
    let Some(observed) = observed else { return Need::Create };
    if observed.owner_uid.as_deref() != Some(owner) {
        return Need::Foreign;
    }
    if observed.is_as(&child.value) { Need::Nothing } else { Need::Update(observed.uid.clone()) }
}

/// Whether an object has all that is wanted; what it has beyond that is its own matter, or the API server's.
pub fn holds(wanted: &Value, found: &Value) -> bool {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => wanted.iter().all(|(name, wanted)| match found.get(name) {
            Some(found) => holds(wanted, found),
            // What is empty is not stored.
            None => is_empty(wanted),
        }),
        (Value::Array(wanted), Value::Array(found)) => list_holds(wanted, found),
        (Value::String(wanted), Value::String(found)) => wanted == found || same_quantity(wanted, found),
        (wanted, found) => wanted == found,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(entries) => entries.is_empty(),
        _ => false,
    }
}

/// Entries with a name are found by it, since others may add their own; those without stand where they are.
fn list_holds(wanted: &[Value], found: &[Value]) -> bool {
    let name = |value: &Value| value["name"].as_str().map(str::to_owned);
    if wanted.iter().all(|entry| name(entry).is_some()) && !wanted.is_empty() {
        return wanted.iter().all(|entry| found.iter().any(|f| name(f) == name(entry) && holds(entry, f)));
    }
    wanted.len() == found.len() && wanted.iter().zip(found).all(|(wanted, found)| holds(wanted, found))
}

/// The API server writes quantities in its own way: `1000m` becomes `1`.
fn same_quantity(one: &str, other: &str) -> bool {
    matches!((quantity(one), quantity(other)), (Some(one), Some(other)) if one == other)
}

/// A quantity in thousandths.
fn quantity(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || whole.len() > 15 || part.len() > 9 {
        return None;
    }
    let (up, down): (i128, i128) = match suffix {
        "n" => (1, 1_000_000),
        "u" => (1, 1_000),
        "m" => (1, 1),
        "" => (1_000, 1),
        "k" => (1_000_000, 1),
        "M" => (1_000_000_000, 1),
        "G" => (1_000_000_000_000, 1),
        "T" => (1_000_000_000_000_000, 1),
        "Ki" => (1_000 << 10, 1),
        "Mi" => (1_000 << 20, 1),
        "Gi" => (1_000 << 30, 1),
        "Ti" => (1_000 << 40, 1),
        _ => return None,
    };
    // Nine places, so that no part is lost before the unit is known.
    let digits: i128 = format!("{whole}{part:0<9}").parse().ok()?;
    let scaled = digits.checked_mul(up)?;
    let divisor = 1_000_000_000 * down;
    (scaled % divisor == 0).then_some(scaled / divisor)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_others_add_is_no_difference() {
        let wanted = json!({"spec": {"a": 1, "list": [{"name": "x", "v": 1}], "empty": {}, "plain": ["a"]}});
        let found = json!({"spec": {"a": 1, "more": 2, "list": [{"name": "side"}, {"name": "x", "v": 1, "d": 0}], "plain": ["a"]}});
        assert!(holds(&wanted, &found));
        for (path, other) in [("/spec/a", json!(2)), ("/spec/list/1/v", json!(2)), ("/spec/plain", json!(["a", "b"]))] {
            let mut changed = found.clone();
            *changed.pointer_mut(path).unwrap() = other;
            assert!(!holds(&wanted, &changed), "{path}");
        }
        assert!(!holds(&json!({"a": [{"containerPort": 1}]}), &json!({"a": []})));
    }

    #[test]
    fn quantities_are_compared_by_what_they_say() {
        for (one, other) in [("1000m", "1"), ("0.5", "500m"), ("1024Mi", "1Gi"), ("1.5Gi", "1536Mi"), ("700m", "700m")]
        {
            assert!(holds(&json!(one), &json!(other)), "{one} {other}");
        }
        for (one, other) in [("1", "2"), ("1Gi", "1G"), ("a", "b"), ("", "0"), ("1e3", "1000")] {
            assert!(!holds(&json!(one), &json!(other)), "{one} {other}");
        }
    }
}
