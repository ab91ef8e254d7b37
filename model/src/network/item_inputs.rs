//! What the item tower takes of a catalogue.

use std::collections::HashMap;
use std::iter::once;

use super::parameters::known;
use crate::catalogue::{AttributeColumn, Catalogue};
use crate::schema::{Encoding, Schema};
use crate::strings::{StringLists, Strings};
use crate::text;

/// Reads what the item tower takes of one item at a time.
pub struct ItemReader<'a> {
    categories: Vec<Categories<'a>>,
    numbers: Vec<Numbers<'a>>,
    texts: Vec<&'a Strings>,
}

/// An attribute of categories, each a row of the attribute's tables.
pub struct Categories<'a> {
    /// Name of the attribute.
    pub attribute: &'a str,
    column: Column<'a>,
    rows: HashMap<&'a str, u32>,
    unknown: u32,
}

enum Column<'a> {
    One(&'a Strings),
    Several(&'a StringLists),
}

/// An attribute that is a number.
pub struct Numbers<'a> {
    /// Name of the attribute.
    pub attribute: &'a str,
    column: &'a [Option<f64>],
    mean: f64,
    deviation: f64,
}

impl<'a> ItemReader<'a> {
    /// Of a catalogue whose attributes the schema declares.
    pub fn new(schema: &'a Schema, catalogue: &'a Catalogue) -> Self {
        let mut reader = Self { categories: Vec::new(), numbers: Vec::new(), texts: Vec::new() };
        for (attribute, column) in catalogue.attributes() {
            let encoding = schema.attribute_encodings.get(&attribute.name);
            let attribute = attribute.name.as_str();
            let categories = |column| {
                let rows = match encoding {
                    Some(Encoding::Vocabulary { values }) => values.iter().map(String::as_str).zip(0..).collect(),
                    _ => HashMap::new(),
                };
                Categories { attribute, column, rows, unknown: known(encoding) as u32 }
            };
            match column {
                AttributeColumn::Text(values) => reader.texts.push(values),
                AttributeColumn::Category(values) => reader.categories.push(categories(Column::One(values))),
                AttributeColumn::CategoryList(values) => reader.categories.push(categories(Column::Several(values))),
                AttributeColumn::Number(column) => {
                    let (mean, deviation) = match encoding {
                        Some(Encoding::Standardised { mean, deviation }) => (*mean, *deviation),
                        _ => (0.0, 1.0),
                    };
                    reader.numbers.push(Numbers { attribute, column, mean, deviation });
                }
            }
        }
        reader
    }

    /// Attributes of categories, in declaration order.
    pub fn categories(&self) -> &[Categories<'a>] {
        &self.categories
    }

    /// Attributes that are numbers, in declaration order.
    pub fn numbers(&self) -> &[Numbers<'a>] {
        &self.numbers
    }

    /// All of an item's texts together, with a space before each.
    pub fn text(&self, item: u32) -> impl Iterator<Item = char> {
        let texts = self.texts.iter().filter_map(move |column| column.get(item));
        texts.flat_map(|text| once(' ').chain(text.chars()))
    }
}

impl Categories<'_> {
    /// Rows of the item's categories.
    pub fn rows(&self, item: u32) -> impl Iterator<Item = u32> + Clone {
        let (one, several) = match self.column {
            Column::One(values) => (values.get(item), None),
            Column::Several(values) => (None, Some(values.get(item))),
        };
        let values = one.into_iter().chain(several.into_iter().flatten());
        values.map(|value| self.rows.get(value).copied().unwrap_or(self.unknown))
    }
}

impl Numbers<'_> {
    /// The item's number, standardised and within ±3; 0 where absent.
    pub fn value(&self, item: u32) -> f32 {
        let standard = |x: f64| (((x - self.mean) / self.deviation) as f32).clamp(-3.0, 3.0);
        self.column[item as usize].map(standard).unwrap_or(0.0)
    }
}

/// The same of all items: what is read again in every step of training.
pub(super) struct ItemInputs {
    pub(super) text: Vec<Vec<(u32, f32)>>,
    /// By attribute: rows of the attribute's table.
    pub(super) categories: Vec<(String, Vec<Vec<u32>>)>,
    /// By attribute: the standardised value.
    pub(super) numbers: Vec<(String, Vec<f32>)>,
}

impl ItemInputs {
    pub(super) fn new(schema: &Schema, catalogue: &Catalogue) -> Self {
        let reader = ItemReader::new(schema, catalogue);
        let items = || 0..catalogue.len() as u32;
        let categories =
            |of: &Categories<'_>| (of.attribute.to_owned(), items().map(|item| of.rows(item).collect()).collect());
        let numbers = |of: &Numbers<'_>| (of.attribute.to_owned(), items().map(|item| of.value(item)).collect());
        Self {
            text: items().map(|item| text::ngrams_of(reader.text(item), schema.network.text_buckets)).collect(),
            categories: reader.categories().iter().map(categories).collect(),
            numbers: reader.numbers().iter().map(numbers).collect(),
        }
    }
}
