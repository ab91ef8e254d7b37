//! One encoder for the union of all tasks' context elements, in training and in serving.
//!
//! What is absent, null or equal to its declared default is masked: it adds nothing to the network's input. An id or a
//! category that training did not see falls into a bucket of its own.

use std::collections::HashMap;
use std::sync::Arc;

use crate::catalogue::Catalogue;
use crate::context::{Context, Value};
use crate::item_ids::ItemIds;
use crate::schema::{Element, ElementType, Encoding, Entity, Schema};
use crate::text;

/// Why a request's context cannot be encoded.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ContextError {
    /// No such element.
    #[error("unknown context element `{element}`{}; known are {}", suggestion(.nearest), .known.join(", "))]
    UnknownElement {
        /// The name as given.
        element: String,
        /// The known name that is most like it, if one is.
        nearest: Option<String>,
        /// All known names.
        known: Vec<String>,
    },
    /// A value of the wrong type.
    #[error("context element `{element}` takes {expected}, got {got}")]
    WrongType {
        /// The element.
        element: String,
        /// Its type.
        expected: &'static str,
        /// The type of what was given.
        got: &'static str,
    },
    /// NaN or infinite.
    #[error("context element `{element}` is {value}; a number must be finite")]
    NotFinite {
        /// The element.
        element: String,
        /// The value.
        value: f64,
    },
}

fn suggestion(name: &Option<String>) -> String {
    name.as_ref().map(|n| format!(" (did you mean `{n}`?)")).unwrap_or_default()
}

/// One element as the network takes it.
#[derive(Clone, Debug, PartialEq)]
pub enum Encoded {
    /// Absent: adds nothing.
    Masked,
    /// Row of the element's table; the row after the last known value is the bucket of unknown ones.
    Index(u32),
    /// A standardised number, within ±3.
    Number(f32),
    /// Items, the most recent last; `Catalogue::len()` stands for an unknown one.
    Items(Vec<u32>),
    /// N-gram buckets with their counts.
    Text(Vec<(u32, f32)>),
}

/// A context as the network takes it: one entry per declared element, in declaration order.
pub type EncodedContext = Vec<Encoded>;

/// Encodes contexts for one schema and catalogue.
pub struct Encoder {
    elements: Vec<(Element, Lookup)>,
    positions: HashMap<String, usize>,
    text_buckets: usize,
}

enum Lookup {
    Items(Arc<ItemIds>),
    Vocabulary(HashMap<String, u32>),
    Standardised { mean: f64, deviation: f64 },
    Text,
}

impl Lookup {
    /// The value's row; the one after the last for a value that is not known.
    fn row(&self, value: &str) -> u32 {
        match self {
            Self::Items(known) => known.find(value).unwrap_or(known.len() as u32),
            Self::Vocabulary(known) => known.get(value).copied().unwrap_or(known.len() as u32),
            Self::Standardised { .. } | Self::Text => 0,
        }
    }
}

impl Encoder {
    /// An encoder for that contract. An element without a learned encoding has an empty vocabulary, so that all its
    /// values are unknown ones.
    pub fn new(schema: &Schema, catalogue: &Catalogue) -> Self {
        let elements: Vec<(Element, Lookup)> = schema
            .context
            .iter()
            .map(|element| {
                let lookup = match (element.kind, element.of) {
                    (ElementType::Text, _) => Lookup::Text,
                    (ElementType::Id, Entity::Item) | (ElementType::IdList, Entity::Item) => {
                        Lookup::Items(catalogue.ids().clone())
                    }
                    _ => match schema.context_encodings.get(&element.name) {
                        Some(Encoding::Standardised { mean, deviation }) => {
                            Lookup::Standardised { mean: *mean, deviation: *deviation }
                        }
                        Some(Encoding::Vocabulary { values }) => {
                            Lookup::Vocabulary(values.iter().cloned().zip(0..).collect())
                        }
                        None => Lookup::Vocabulary(HashMap::new()),
                    },
                };
                (element.clone(), lookup)
            })
            .collect();
        let positions = elements.iter().enumerate().map(|(i, (e, _))| (e.name.clone(), i)).collect();
        Self { elements, positions, text_buckets: schema.network.text_buckets }
    }

    /// Encodes one context.
    pub fn encode(&self, context: &Context) -> Result<EncodedContext, ContextError> {
        let mut encoded = vec![Encoded::Masked; self.elements.len()];
        for (name, value) in context {
            let position = *self.positions.get(name).ok_or_else(|| self.unknown(name))?;
            let (element, lookup) = &self.elements[position];
            check(element, value)?;
            if *value != element.default && element.is_seen() {
                encoded[position] = self.encode_value(element, lookup, value);
            }
        }
        Ok(encoded)
    }

    fn encode_value(&self, element: &Element, lookup: &Lookup, value: &Value) -> Encoded {
        match (value, lookup) {
            (Value::Null, _) => Encoded::Masked,
            (Value::Number(x), Lookup::Standardised { mean, deviation }) => {
                Encoded::Number((((x - mean) / deviation) as f32).clamp(-3.0, 3.0))
            }
            (Value::Number(_), _) => Encoded::Masked,
            (Value::Text(text), Lookup::Text) => match text::ngrams(text, self.text_buckets) {
                grams if grams.is_empty() => Encoded::Masked,
                grams => Encoded::Text(grams),
            },
            (Value::Text(id), Lookup::Items(_) | Lookup::Vocabulary(_)) => Encoded::Index(lookup.row(id)),
            (Value::List(ids), Lookup::Items(_) | Lookup::Vocabulary(_)) => {
                let from = ids.len().saturating_sub(element.max_length.unwrap_or(usize::MAX));
                match &ids[from..] {
                    [] => Encoded::Masked,
                    last => Encoded::Items(last.iter().map(|id| lookup.row(id)).collect()),
                }
            }
            (Value::Text(_) | Value::List(_), _) => Encoded::Masked,
        }
    }

    fn unknown(&self, name: &str) -> ContextError {
        let known: Vec<String> = self.elements.iter().map(|(e, _)| e.name.clone()).collect();
        ContextError::UnknownElement { element: name.to_owned(), nearest: nearest_name(name, &known), known }
    }
}

/// Whether the value has the element's type; null has every type.
pub fn check(element: &Element, value: &Value) -> Result<(), ContextError> {
    match (element.kind, value) {
        (_, Value::Null)
        | (ElementType::Id | ElementType::Category | ElementType::Text, Value::Text(_))
        | (ElementType::IdList, Value::List(_)) => Ok(()),
        (ElementType::Number, Value::Number(x)) if x.is_finite() => Ok(()),
        (ElementType::Number, Value::Number(x)) => {
            Err(ContextError::NotFinite { element: element.name.clone(), value: *x })
        }
        (kind, value) => Err(ContextError::WrongType {
            element: element.name.clone(),
            expected: kind.name(),
            got: match value {
                Value::Null => "null",
                Value::Number(_) => "a number",
                Value::Text(_) => "a string",
                Value::List(_) => "a list",
            },
        }),
    }
}

/// The candidate within an edit distance of a third of the name's length that is nearest to it.
pub fn nearest_name(name: &str, candidates: &[String]) -> Option<String> {
    let length = name.chars().count();
    let most = length.div_ceil(3);
    candidates
        .iter()
        // No distance is below the difference of the lengths: a name of a megabyte costs nothing.
        .filter(|c| c.chars().count().abs_diff(length) <= most)
        .map(|c| (edit_distance(name, c), c))
        .filter(|(d, _)| *d <= most)
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c.clone())
}

/// Levenshtein distance in characters.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substitution = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substitution.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
