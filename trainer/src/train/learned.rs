//! What one pass over the training rows learns before the first step: vocabularies, scales and counts.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use unimodel_model::catalogue::{AttributeColumn, Catalogue};
use unimodel_model::context::Value;
use unimodel_model::error::ModelError;
use unimodel_model::schema::{Element, ElementType, Encoding, Entity, Head, Schema};

use crate::label_table::{LabelTable, POSITIVE, Part};
use crate::pipeline::Pipeline;

/// Mean and deviation of a stream of numbers (Welford 1962).
#[derive(Default)]
struct Scale {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Scale {
    fn add(&mut self, x: f64) {
        self.count += 1.0;
        let gap = x - self.mean;
        self.mean += gap / self.count;
        self.squares += gap * (x - self.mean);
    }

    fn encoding(&self) -> Encoding {
        let deviation = (self.squares / self.count.max(1.0)).sqrt();
        let deviation = if deviation > 0.0 && deviation.is_finite() { deviation } else { 1.0 };
        Encoding::Standardised { mean: self.mean, deviation }
    }
}

/// What the pass found.
pub struct Learned {
    /// The contract.
    pub schema: Schema,
    /// By item: how often it was a positive, over the tasks.
    pub popularity: Vec<f64>,
    /// The latest event, seconds since 1970.
    pub data_time: i64,
}

/// Reads the training rows of every task once.
///
/// # Errors
/// A table that cannot be read, or a task without any positive.
pub fn learn(pipeline: &Pipeline, labels: &Path, catalogue: &Catalogue) -> Result<Learned, ModelError> {
    let mut values: BTreeMap<&str, HashMap<String, usize>> = BTreeMap::new();
    let mut scales: BTreeMap<&str, Scale> = BTreeMap::new();
    let mut popularity = vec![0.0; catalogue.len()];
    let mut data_time = i64::MIN;
    let mut heads = Vec::new();
    for task in &pipeline.tasks {
        let table = LabelTable::open(labels, &task.name, &pipeline.context)?;
        let mut asks = 0;
        let mut carried = vec![false; pipeline.context.len()];
        for chunk in table.chunks() {
            let rows = table.read(chunk, catalogue)?;
            for row in (0..rows.len()).filter(|&r| rows.part(r) == Some(Part::Train)) {
                data_time = data_time.max(rows.event_time(row));
                if rows.label(row) >= POSITIVE {
                    asks += 1;
                    popularity[rows.item(row) as usize] += 1.0;
                }
                let context = rows.context(row);
                for (element, carried) in pipeline.context.iter().zip(&mut carried) {
                    let Some(value) = context.get(&element.name) else { continue };
                    *carried |= *value != element.default;
                    match value {
                        Value::Number(x) if x.is_finite() && *value != element.default => {
                            scales.entry(&element.name).or_default().add(*x);
                        }
                        Value::Text(id) if has_vocabulary(element) && *value != element.default => {
                            *values.entry(&element.name).or_default().entry(id.clone()).or_default() += 1;
                        }
                        _ => {}
                    }
                }
            }
        }
        if asks == 0 {
            let problem = format!("no training row has a label of {POSITIVE} or more; the task has nothing to learn");
            return Err(ModelError::Value { table: task.name.clone(), row: 0, problem });
        }
        let elements = pipeline.context.iter().zip(carried).filter(|(_, c)| *c).map(|(e, _)| e.name.clone());
        heads.push(Head {
            name: task.name.clone(),
            description: task.description.clone(),
            elements: elements.collect(),
        });
    }
    let mut context_encodings: BTreeMap<String, Encoding> =
        scales.into_iter().map(|(name, scale)| (name.to_owned(), scale.encoding())).collect();
    for (name, counts) in values {
        let mut known: Vec<String> = counts.into_keys().collect();
        known.sort_unstable();
        context_encodings.insert(name.to_owned(), Encoding::Vocabulary { values: known });
    }
    let schema = Schema {
        context: pipeline.context.clone(),
        profile_key: pipeline.users.as_ref().map(|u| u.key.clone()),
        attributes: pipeline.items.attributes.clone(),
        heads,
        network: pipeline.model.clone(),
        context_encodings,
        attribute_encodings: attribute_encodings(catalogue),
    };
    Ok(Learned { schema, popularity, data_time })
}

fn has_vocabulary(element: &Element) -> bool {
    matches!((element.kind, element.of), (ElementType::Category, _) | (ElementType::Id, Entity::Other))
}

fn attribute_encodings(catalogue: &Catalogue) -> BTreeMap<String, Encoding> {
    let mut encodings = BTreeMap::new();
    for (attribute, column) in catalogue.attributes() {
        let vocabulary =
            |values: BTreeSet<&str>| Encoding::Vocabulary { values: values.into_iter().map(str::to_owned).collect() };
        let encoding = match column {
            AttributeColumn::Text(_) => continue,
            AttributeColumn::Category(values) => vocabulary(values.iter().flatten().collect()),
            AttributeColumn::CategoryList(values) => vocabulary(values.iter().flatten().collect()),
            AttributeColumn::Number(values) => {
                let mut scale = Scale::default();
                values.iter().flatten().for_each(|x| scale.add(*x));
                scale.encoding()
            }
        };
        encodings.insert(attribute.name.clone(), encoding);
    }
    encodings
}
