//! What the encoder promises for any request: absent, null and default are one thing, the order of keys is nothing,
//! and any text is text.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use unimodel_model::catalogue::Catalogue;
use unimodel_model::context::{Context, Value};
use unimodel_model::features::{ContextError, Encoded, EncodedContext, Encoder};
use unimodel_model::network::NetworkConfig;
use unimodel_model::schema::{Element, ElementType, Encoding, Entity, Schema};

const ITEMS: [&str; 3] = ["50", "172", "ünï"];
const MAX_LENGTH: usize = 4;

fn element(name: &str, kind: ElementType, of: Entity, default: Value) -> Element {
    let max_length = (kind == ElementType::IdList).then_some(MAX_LENGTH);
    Element { name: name.into(), kind, of, default, dropout: 0.0, max_length, description: None }
}

/// An element of every type, with and without a default of its own.
fn schema() -> Schema {
    let text = |s: &str| Value::Text(s.into());
    Schema {
        context: vec![
            element("age", ElementType::Number, Entity::Other, Value::Number(30.0)),
            element("hour", ElementType::Number, Entity::Other, Value::Null),
            element("country", ElementType::Category, Entity::Other, text("US")),
            element("source", ElementType::Id, Entity::Item, Value::Null),
            element("history", ElementType::IdList, Entity::Item, Value::List(vec![])),
            element("query", ElementType::Text, Entity::Other, text("")),
        ],
        profile_key: None,
        attributes: vec![],
        heads: vec![],
        network: NetworkConfig::default(),
        context_encodings: BTreeMap::from([
            ("age".into(), Encoding::Standardised { mean: 40.0, deviation: 10.0 }),
            ("hour".into(), Encoding::Standardised { mean: 12.0, deviation: 6.0 }),
            ("country".into(), Encoding::Vocabulary { values: vec!["US".into(), "DE".into()] }),
        ]),
        attribute_encodings: BTreeMap::new(),
    }
}

fn encoder() -> Encoder {
    let catalogue = Catalogue::new(ITEMS, vec![]).unwrap();
    Encoder::new(&schema(), &catalogue)
}

fn encode(context: &Context) -> EncodedContext {
    encoder().encode(context).unwrap()
}

/// Any value that an element takes.
fn value_of(element: &Element) -> BoxedStrategy<Value> {
    let id = || prop_oneof![prop::sample::select(&ITEMS[..]).prop_map(str::to_owned), any::<String>()];
    match element.kind {
        ElementType::Number => any::<f64>().prop_filter("finite", |x| x.is_finite()).prop_map(Value::Number).boxed(),
        ElementType::IdList => prop::collection::vec(id(), 0..9).prop_map(Value::List).boxed(),
        _ => id().prop_map(Value::Text).boxed(),
    }
}

/// Some of the elements, each with a value, as null, or as its default.
fn context() -> impl Strategy<Value = Context> {
    let of_element = |element: &Element| {
        let (default, name) = (element.default.clone(), element.name.clone());
        let given = prop_oneof![3 => value_of(element), 1 => Just(Value::Null), 1 => Just(default)];
        prop::option::of(given).prop_map(move |value| value.map(|value| (name.clone(), value)))
    };
    schema().context.iter().map(of_element).collect::<Vec<_>>().prop_map(|all| all.into_iter().flatten().collect())
}

proptest! {
    #[test]
    fn absent_null_and_default_agree(context in context()) {
        let expected = encode(&context);
        for (element, encoded) in schema().context.iter().zip(&expected) {
            let with = |value: Option<Value>| {
                let mut context = context.clone();
                context.remove(&element.name);
                context.extend(value.map(|value| (element.name.clone(), value)));
                encode(&context)
            };
            let absent = with(None);
            prop_assert_eq!(&absent, &with(Some(Value::Null)));
            prop_assert_eq!(&absent, &with(Some(element.default.clone())));
            let given = context.get(&element.name).is_some_and(|v| *v != Value::Null && *v != element.default);
            prop_assert!(given || *encoded == Encoded::Masked, "{} is not masked", element.name);
        }
    }

    #[test]
    fn the_order_of_json_keys_does_not_matter(context in context(), turn in 0usize..6) {
        let mut members: Vec<String> = context
            .iter()
            .map(|(name, value)| format!("{}:{}", serde_json::json!(name), serde_json::to_string(value).unwrap()))
            .collect();
        if !members.is_empty() {
            let turn = turn % members.len();
            members.rotate_left(turn);
        }
        let turned: Context = serde_json::from_str(&format!("{{{}}}", members.join(","))).unwrap();
        prop_assert_eq!(encode(&turned), encode(&context));
    }

    #[test]
    fn any_text_is_accepted_and_finite(text in any::<String>()) {
        let encoded = encode(&Context::from([("query".into(), Value::Text(text.clone()))]));
        match &encoded[5] {
            Encoded::Text(grams) => prop_assert!(grams.iter().all(|(b, n)| *b < 4096 && n.is_finite() && *n > 0.0)),
            Encoded::Masked => prop_assert!(text.chars().all(|c| !c.is_alphanumeric()), "{text:?} is masked"),
            other => prop_assert!(false, "{other:?}"),
        }
    }

    #[test]
    fn only_the_last_of_a_history_count(ids in prop::collection::vec(prop::sample::select(&ITEMS[..]), 0..12)) {
        let all: Vec<String> = ids.iter().map(|i| (*i).to_owned()).collect();
        let last = all[all.len().saturating_sub(MAX_LENGTH)..].to_vec();
        let encoded = |list: Vec<String>| encode(&Context::from([("history".into(), Value::List(list))]));
        prop_assert_eq!(encoded(all), encoded(last));
    }

    #[test]
    fn numbers_stay_within_three_deviations(x in any::<f64>().prop_filter("finite", |x| x.is_finite())) {
        let encoded = encode(&Context::from([("hour".into(), Value::Number(x))]));
        prop_assert!(matches!(encoded[1], Encoded::Number(z) if z.abs() <= 3.0), "{:?}", encoded[1]);
    }
}

#[test]
fn what_training_did_not_see_has_a_bucket() {
    let encoded = encode(&Context::from([
        ("source".into(), Value::Text("no such item".into())),
        ("country".into(), Value::Text("XX".into())),
        ("history".into(), Value::List(vec!["172".into(), "gone".into()])),
    ]));
    assert_eq!(encoded[3], Encoded::Index(3));
    assert_eq!(encoded[2], Encoded::Index(2));
    assert_eq!(encoded[4], Encoded::Items(vec![1, 3]));
}

#[test]
fn a_text_of_a_megabyte_is_accepted() {
    let encoded = encode(&Context::from([("query".into(), Value::Text("teh matrx ".repeat(100_000)))]));
    assert!(matches!(&encoded[5], Encoded::Text(grams) if !grams.is_empty()));
}

#[test]
fn mistakes_are_named() {
    let refused = |name: &str, value: Value| encoder().encode(&Context::from([(name.into(), value)])).unwrap_err();
    let unknown = refused("qeury", Value::Null).to_string();
    assert!(unknown.contains("`qeury` (did you mean `query`?)"), "{unknown}");
    let mistyped = refused("age", Value::Text("old".into())).to_string();
    assert_eq!(mistyped, "context element `age` takes number, got a string");
    assert!(matches!(refused("age", Value::Number(f64::NAN)), ContextError::NotFinite { .. }));
}
