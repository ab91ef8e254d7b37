//! The network's tensors: names, shapes and how training starts them.

use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::catalogue::Catalogue;
use crate::error::ModelError;
use crate::schema::{AttributeType, ElementType, Encoding, Entity, Schema};

/// How a tensor starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Start {
    /// Normal with this standard deviation.
    Normal(f64),
    /// One value everywhere.
    Constant(f64),
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
    let mut add = |name: String, shape: &[usize], start| all.push(Parameter { name, shape: shape.to_vec(), start });
    let linear = |fan_in: usize| Start::Normal((1.0 / fan_in as f64).sqrt());
    let embedding = Start::Normal(0.1);

    for element in &schema.context {
        let name = |part: &str| format!("context.{}.{part}", element.name);
        match (element.kind, element.of) {
            (ElementType::Number, _) => {
                add(name("weight"), &[1, d], Start::Normal(0.1));
                add(name("bias"), &[1, d], Start::Constant(0.0));
            }
            (ElementType::Category, _) | (ElementType::Id, Entity::Other) => {
                add(name("table"), &[known(schema.context_encodings.get(&element.name)) + 1, d], embedding);
            }
            (ElementType::Id, Entity::Item) => {
                add(name("table"), &[items + 1, d], embedding);
                add(name("tower"), &[d, d], linear(d));
            }
            (ElementType::IdList, _) => {
                let channels = config.history_decay.len();
                let rows = match element.of {
                    Entity::Item => items,
                    Entity::Other => known(schema.context_encodings.get(&element.name)),
                };
                add(name("table"), &[rows + 1, config.history_width], embedding);
                add(name("log_rate"), &[channels, 1], Start::Constant(0.0));
                add(name("project"), &[channels * config.history_width, d], linear(channels * config.history_width));
                add(name("direct"), &[channels * config.history_width, d], Start::Constant(0.0));
            }
            (ElementType::Text, _) => add(name("project"), &[config.text_width, d], linear(config.text_width)),
        }
    }
    add("context.task".into(), &[heads, d], embedding);
    add("block.gain".into(), &[d], Start::Constant(1.0));
    add("block.in".into(), &[d, config.hidden], linear(d));
    add("block.in_bias".into(), &[config.hidden], Start::Constant(0.0));
    add("block.out".into(), &[config.hidden, d], linear(config.hidden));
    add("block.out_bias".into(), &[d], Start::Constant(0.0));

    add("text.table".into(), &[config.text_buckets, config.text_width], embedding);
    add("text.log_idf".into(), &[config.text_buckets], Start::Constant(0.0));

    add("item.table".into(), &[items, d], Start::Normal(0.05));
    add("item.bias".into(), &[items], Start::Constant(0.0));
    for attribute in &schema.attributes {
        let name = |part: &str| format!("item.{}.{part}", attribute.name);
        match attribute.kind {
            AttributeType::Number => add(name("weight"), &[1, d], Start::Normal(0.05)),
            AttributeType::Category | AttributeType::CategoryList => {
                let rows = known(schema.attribute_encodings.get(&attribute.name)) + 1;
                add(name("table"), &[rows, d], Start::Normal(0.05));
                add(format!("head.prior.{}", attribute.name), &[rows, heads], Start::Constant(0.0));
            }
            AttributeType::Text => {}
        }
    }
    if schema.attributes.iter().any(|a| a.kind == AttributeType::Text) {
        add("item.text.project".into(), &[config.text_width, d], Start::Normal(0.02));
    }
    add("head.log_scale".into(), &[heads], Start::Constant(0.0));
    add("head.log_text".into(), &[heads], Start::Constant(10f64.ln()));
    add("head.popularity".into(), &[heads], Start::Constant(0.5));
    if let Some(linear) = &config.linear {
        add("head.log_linear".into(), &[heads], Start::Constant(8f64.ln()));
        for element in schema.context.iter().filter(|e| e.kind == ElementType::IdList && e.of == Entity::Item) {
            add(format!("context.{}.linear_log_rate", element.name), &[1], Start::Constant(linear.decay.ln()));
        }
    }
    if let Some(ranker) = &config.ranker {
        let mut width = ranker.hidden[0];
        add("ranker.head".into(), &[heads, width], Start::Constant(0.0));
        for part in ["context", "item", "product"] {
            add(format!("ranker.{part}"), &[d, width], linear(d));
        }
        for (layer, &next) in ranker.hidden.iter().enumerate().skip(1) {
            add(format!("ranker.{layer}.weight"), &[width, next], linear(width));
            add(format!("ranker.{layer}.bias"), &[next], Start::Constant(0.0));
            width = next;
        }
        add("ranker.out".into(), &[width, 1], Start::Constant(0.0));
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

/// Whether the tensors are those of the schema.
///
/// # Errors
/// Names the first tensor that is missing or of another shape.
pub fn check(tensors: &Tensors, schema: &Schema, catalogue: &Catalogue) -> Result<(), ModelError> {
    let popularity =
        Parameter { name: LOG_POPULARITY.into(), shape: vec![catalogue.len()], start: Start::Constant(0.0) };
    for parameter in parameters(schema, catalogue.len()).iter().chain([&popularity]) {
        let Some(tensor) = tensors.get(&parameter.name) else {
            return Err(ModelError::Weights(format!("tensor `{}` is missing", parameter.name)));
        };
        if tensor.dims() != parameter.shape {
            return Err(ModelError::Weights(format!(
                "tensor `{}` is {:?}, the schema asks for {:?}",
                parameter.name,
                tensor.dims(),
                parameter.shape
            )));
        }
    }
    Ok(())
}
