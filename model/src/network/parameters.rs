//! The network's tensors: names, shapes and how training starts them.

use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::catalogue::Catalogue;
use crate::error::ModelError;
use crate::schema::{AttributeType, ElementType, Encoding, Entity, Schema};

/// `[items, heads]`: what makes an item right for a task whatever the context.
pub const ITEM_BIAS: &str = "head.item_bias";

/// How a tensor starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Start {
    /// Normal with this standard deviation.
    Normal(f64),
    /// One value everywhere.
    Constant(f64),
}

/// What the indexes of a tensor's dimension stand for, so that a later version can take over what an earlier one
/// learned although catalogue, vocabularies and heads have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Axis {
    /// Nothing but a position.
    Plain,
    /// Items of the catalogue.
    Items,
    /// Items of the catalogue, and after them the unknown ones.
    ItemsAndUnknown,
    /// Known values of a context element, and after them the unknown ones.
    Element(String),
    /// Known values of an item attribute, and after them the unknown ones.
    Attribute(String),
    /// Heads.
    Heads,
}

impl Axis {
    /// A name for each index; `None` where an index is nothing but a position.
    pub fn names<'a>(&self, schema: &'a Schema, catalogue: &'a Catalogue) -> Option<Vec<&'a str>> {
        const UNKNOWN: &str = "\0unknown";
        let values = |encoding: Option<&'a Encoding>| match encoding {
            Some(Encoding::Vocabulary { values }) => values.iter().map(String::as_str).chain([UNKNOWN]).collect(),
            _ => vec![UNKNOWN],
        };
        let items = || catalogue.ids().iter();
        match self {
            Self::Plain => None,
            Self::Items => Some(items().collect()),
            Self::ItemsAndUnknown => Some(items().chain([UNKNOWN]).collect()),
            Self::Element(name) => Some(values(schema.context_encodings.get(name))),
            Self::Attribute(name) => Some(values(schema.attribute_encodings.get(name))),
            Self::Heads => Some(schema.heads.iter().map(|h| h.name.as_str()).collect()),
        }
    }
}

/// One tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Name in `model.safetensors`.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// How training starts it.
    pub start: Start,
    /// What rows and columns stand for; a vector has rows only.
    pub axes: [Axis; 2],
}

/// Tensors by name.
pub type Tensors = BTreeMap<String, Tensor>;

/// Logarithm of how often an item was a positive, `[items]`, standardised: counted, not trained.
pub const LOG_POPULARITY: &str = "item.log_popularity";

/// History side of the linear term, `[items + 1, linear.width]`: computed from the events, not trained.
pub const LINEAR_CONTEXT: &str = "linear.context";

/// Item side of the linear term, `[items, linear.width]`: computed from the events, not trained.
pub const LINEAR_ITEM: &str = "linear.item";

/// The trained tensors of a schema over a catalogue of `items` items.
pub fn parameters(schema: &Schema, items: usize) -> Vec<Parameter> {
    let config = &schema.network;
    let (d, heads) = (config.width, schema.heads.len());
    let mut all = Vec::new();
    let mut add = |name: String, shape: &[usize], start, rows: Axis| {
        // A vector of heads is told by its rows; priors and biases have heads as columns.
        let columns = if name.starts_with("head.prior.") || name == ITEM_BIAS { Axis::Heads } else { Axis::Plain };
        all.push(Parameter { name, shape: shape.to_vec(), start, axes: [rows, columns] });
    };
    let linear = |fan_in: usize| Start::Normal((1.0 / fan_in as f64).sqrt());
    let embedding = Start::Normal(0.1);

    for element in schema.context.iter().filter(|e| e.is_seen()) {
        let name = |part: &str| format!("context.{}.{part}", element.name);
        match (element.kind, element.of) {
            (ElementType::Number, _) => {
                add(name("weight"), &[1, d], Start::Normal(0.1), Axis::Plain);
                add(name("bias"), &[1, d], Start::Constant(0.0), Axis::Plain);
            }
            (ElementType::Category, _) | (ElementType::Id, Entity::Other) => {
                add(
                    name("table"),
                    &[known(schema.context_encodings.get(&element.name)) + 1, d],
                    embedding,
                    Axis::Element(element.name.clone()),
                );
            }
            (ElementType::Id, Entity::Item) => {
                add(name("table"), &[items + 1, d], embedding, Axis::ItemsAndUnknown);
                add(name("tower"), &[d, d], linear(d), Axis::Plain);
            }
            (ElementType::IdList, _) => {
                let channels = config.history_decay.len();
                let (rows, axis) = match element.of {
                    Entity::Item => (items, Axis::ItemsAndUnknown),
                    Entity::Other => {
                        let rows = known(schema.context_encodings.get(&element.name));
                        (rows, Axis::Element(element.name.clone()))
                    }
                };
                add(name("table"), &[rows + 1, config.history_width], embedding, axis);
                add(name("log_rate"), &[channels, 1], Start::Constant(0.0), Axis::Plain);
                add(
                    name("project"),
                    &[channels * config.history_width, d],
                    linear(channels * config.history_width),
                    Axis::Plain,
                );
                add(name("direct"), &[channels * config.history_width, d], Start::Constant(0.0), Axis::Plain);
            }
            (ElementType::Text, _) => {
                add(name("project"), &[config.text_width, d], linear(config.text_width), Axis::Plain)
            }
        }
    }
    add("context.task".into(), &[heads, d], embedding, Axis::Heads);
    add("block.gain".into(), &[d], Start::Constant(1.0), Axis::Plain);
    add("block.in".into(), &[d, config.hidden], linear(d), Axis::Plain);
    add("block.in_bias".into(), &[config.hidden], Start::Constant(0.0), Axis::Plain);
    add("block.out".into(), &[config.hidden, d], linear(config.hidden), Axis::Plain);
    add("block.out_bias".into(), &[d], Start::Constant(0.0), Axis::Plain);

    add("text.table".into(), &[config.text_buckets, config.text_width], embedding, Axis::Plain);
    add("text.log_idf".into(), &[config.text_buckets], Start::Constant(0.0), Axis::Plain);

    add("item.table".into(), &[items, d], Start::Normal(0.05), Axis::Items);
    add(ITEM_BIAS.into(), &[items, heads], Start::Constant(0.0), Axis::Items);
    for attribute in &schema.attributes {
        let name = |part: &str| format!("item.{}.{part}", attribute.name);
        match attribute.kind {
            AttributeType::Number => add(name("weight"), &[1, d], Start::Normal(0.05), Axis::Plain),
            AttributeType::Category | AttributeType::CategoryList => {
                let rows = known(schema.attribute_encodings.get(&attribute.name)) + 1;
                let axis = || Axis::Attribute(attribute.name.clone());
                add(name("table"), &[rows, d], Start::Normal(0.05), axis());
                add(format!("head.prior.{}", attribute.name), &[rows, heads], Start::Constant(0.0), axis());
            }
            AttributeType::Text => {}
        }
    }
    if schema.attributes.iter().any(|a| a.kind == AttributeType::Text) {
        add("item.text.project".into(), &[config.text_width, d], Start::Normal(0.02), Axis::Plain);
    }
    add("head.log_scale".into(), &[heads], Start::Constant(0.0), Axis::Heads);
    add("head.log_text".into(), &[heads], Start::Constant(10f64.ln()), Axis::Heads);
    add("head.popularity".into(), &[heads], Start::Constant(0.5), Axis::Heads);
    if let Some(linear) = &config.linear {
        add("head.log_linear".into(), &[heads], Start::Constant(8f64.ln()), Axis::Heads);
        for element in
            schema.context.iter().filter(|e| e.is_seen() && e.kind == ElementType::IdList && e.of == Entity::Item)
        {
            add(
                format!("context.{}.linear_log_rate", element.name),
                &[1],
                Start::Constant(linear.decay.ln()),
                Axis::Plain,
            );
        }
    }
    if let Some(ranker) = &config.ranker {
        let mut width = ranker.hidden[0];
        add("ranker.head".into(), &[heads, width], Start::Constant(0.0), Axis::Heads);
        for part in ["context", "item", "product"] {
            add(format!("ranker.{part}"), &[d, width], linear(d), Axis::Plain);
        }
        for (layer, &next) in ranker.hidden.iter().enumerate().skip(1) {
            add(format!("ranker.{layer}.weight"), &[width, next], linear(width), Axis::Plain);
            add(format!("ranker.{layer}.bias"), &[next], Start::Constant(0.0), Axis::Plain);
            width = next;
        }
        add("ranker.out".into(), &[width, 1], Start::Constant(0.0), Axis::Plain);
    }
    all
}

/// How many values an encoding knows.
pub(crate) fn known(encoding: Option<&Encoding>) -> usize {
    match encoding {
        Some(Encoding::Vocabulary { values }) => values.len(),
        _ => 0,
    }
}

/// Whether tensors of these shapes are those of the schema over so many items.
///
/// # Errors
/// Names the first tensor that is missing or of another shape.
pub(crate) fn check_shapes<'a>(
    shape_of: impl Fn(&str) -> Option<&'a [usize]>,
    schema: &Schema,
    items: usize,
) -> Result<(), ModelError> {
    let trained = parameters(schema, items).into_iter().map(|p| (p.name, p.shape));
    let mut computed = vec![(LOG_POPULARITY.to_owned(), vec![items])];
    if let Some(linear) = &schema.network.linear {
        computed.push((LINEAR_CONTEXT.to_owned(), vec![items + 1, linear.width]));
        computed.push((LINEAR_ITEM.to_owned(), vec![items, linear.width]));
    }
    for (name, shape) in trained.chain(computed) {
        let Some(found) = shape_of(&name) else {
            return Err(ModelError::Weights(format!("tensor `{name}` is missing")));
        };
        if found != shape {
            return Err(ModelError::Weights(format!("tensor `{name}` is {found:?}, the schema asks for {shape:?}")));
        }
    }
    Ok(())
}
