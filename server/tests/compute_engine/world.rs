//! Networks over all kinds of elements and attributes, with weights, items and contexts that look random.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{Device, Tensor};
use unimodel_model::catalogue::{AttributeColumn, Catalogue};
use unimodel_model::context::{Context, Value};
use unimodel_model::network::{LINEAR_CONTEXT, LINEAR_ITEM, LOG_POPULARITY, NetworkConfig, Tensors, parameters};
use unimodel_model::schema::{Attribute, AttributeType, Element, ElementType, Encoding, Entity, Head, Schema};
use unimodel_model::weights::Weights;

pub(crate) const HEADS: usize = 3;
const WORDS: [&str; 6] = ["matrix", "toy story", "alien", "the godfather", "x", "1984 §"];
const CATEGORIES: [&str; 4] = ["drama", "comedy", "war", "never seen in training"];

/// Numbers that look random, the same on every machine.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.next() as usize % n
    }

    fn of<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    /// Within ±0.5.
    fn float(&mut self) -> f32 {
        self.next() as f32 / (1u64 << 31) as f32 - 0.5
    }
}

pub(crate) fn schema(network: NetworkConfig) -> Schema {
    let element = |name: &str, kind, of| {
        let default = Value::Null;
        Element { name: name.into(), kind, of, default, dropout: 0.0, max_length: Some(12), description: None }
    };
    let attribute = |name: &str, kind| Attribute { name: name.into(), kind };
    let vocabulary = || Encoding::Vocabulary { values: CATEGORIES[..3].iter().map(|v| (*v).to_owned()).collect() };
    Schema {
        context: vec![
            element("age", ElementType::Number, Entity::Other),
            element("country", ElementType::Category, Entity::Other),
            element("user", ElementType::Id, Entity::Other),
            element("source", ElementType::Id, Entity::Item),
            element("history", ElementType::IdList, Entity::Item),
            element("tags", ElementType::IdList, Entity::Other),
            element("query", ElementType::Text, Entity::Other),
            element("note", ElementType::Text, Entity::Other),
            // For callers and reports: the network has no tensors for it.
            Element { dropout: 1.0, ..element("moment", ElementType::Number, Entity::Other) },
        ],
        profile_key: None,
        attributes: vec![
            attribute("title", AttributeType::Text),
            attribute("genre", AttributeType::Category),
            attribute("genres", AttributeType::CategoryList),
            attribute("year", AttributeType::Number),
        ],
        heads: (0..HEADS).map(|h| Head { name: format!("h{h}"), description: None, elements: vec![] }).collect(),
        network,
        context_encodings: BTreeMap::from([
            ("age".into(), Encoding::Standardised { mean: 30.0, deviation: 10.0 }),
            ("country".into(), vocabulary()),
            ("user".into(), vocabulary()),
            ("tags".into(), vocabulary()),
        ]),
        attribute_encodings: BTreeMap::from([
            ("genre".into(), vocabulary()),
            ("genres".into(), vocabulary()),
            ("year".into(), Encoding::Standardised { mean: 1980.0, deviation: 20.0 }),
        ]),
    }
}

pub(crate) fn catalogue(schema: &Schema, items: usize, numbers: &mut Numbers) -> Catalogue {
    let columns = vec![
        AttributeColumn::Text((0..items).map(|i| (i % 5 > 0).then(|| numbers.of(&WORDS).to_owned())).collect()),
        AttributeColumn::Category(
            (0..items).map(|i| (i % 7 > 0).then(|| numbers.of(&CATEGORIES).to_owned())).collect(),
        ),
        AttributeColumn::CategoryList((0..items).map(|i| vec![numbers.of(&CATEGORIES).to_owned(); i % 3]).collect()),
        AttributeColumn::Number((0..items).map(|i| (i % 4 > 0).then_some(1950.0 + i as f64)).collect()),
    ];
    let ids = (0..items).map(|i| format!("i{i}"));
    Catalogue::new(ids, schema.attributes.iter().cloned().zip(columns).collect()).expect("the ids are unique")
}

pub(crate) fn tensors(schema: &Schema, items: usize, numbers: &mut Numbers) -> Tensors {
    let shapes = parameters(schema, items).into_iter().map(|p| (p.name, p.shape));
    let mut counted = vec![(LOG_POPULARITY, vec![items])];
    if let Some(linear) = &schema.network.linear {
        counted.extend([(LINEAR_CONTEXT, vec![items + 1, linear.width]), (LINEAR_ITEM, vec![items, linear.width])]);
    }
    shapes
        .chain(counted.into_iter().map(|(name, shape)| (name.to_owned(), shape)))
        .map(|(name, shape)| {
            let values: Vec<f32> = (0..shape.iter().product()).map(|_| numbers.float()).collect();
            (name, Tensor::from_vec(values, shape, &Device::Cpu).expect("as many values as the shape asks for"))
        })
        .collect()
}

/// Tensors as a version has them: in a file of that name.
pub(crate) fn write(tensors: &Tensors, path: &Path) -> Weights {
    let by_name = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.clone())).collect::<HashMap<_, _>>();
    candle_core::safetensors::save(&by_name, path).expect("room for the weights");
    Weights::open(path).expect("the weights just written")
}

/// A context with each element there or not, its values known or not.
pub(crate) fn context(items: usize, numbers: &mut Numbers) -> Context {
    let item = |n: &mut Numbers| format!("i{}", n.below(items + 1));
    let history = (0..numbers.below(20)).map(|_| item(numbers)).collect();
    let tags = (0..numbers.below(5)).map(|_| numbers.of(&CATEGORIES).to_owned()).collect();
    let all = [
        ("age", Value::Number(numbers.below(90) as f64)),
        ("country", Value::Text(numbers.of(&CATEGORIES).into())),
        ("user", Value::Text(numbers.of(&CATEGORIES).into())),
        ("source", Value::Text(item(numbers))),
        ("history", Value::List(history)),
        ("tags", Value::List(tags)),
        ("query", Value::Text(numbers.of(&WORDS).into())),
        ("note", Value::Text(numbers.of(&WORDS).into())),
        ("moment", Value::Number(numbers.below(1000) as f64)),
    ];
    all.into_iter().filter(|_| numbers.below(3) > 0).map(|(name, value)| (name.to_owned(), value)).collect()
}
