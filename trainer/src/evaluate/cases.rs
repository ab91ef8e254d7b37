//! Test cases: a request as it was, and the item that was right.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type};
use serde::{Deserialize, Serialize};
use unimodel_model::catalogue::{AttributeColumn, Catalogue};
use unimodel_model::columns::{ElementColumn, required};
use unimodel_model::context::{Context, Value};
use unimodel_model::error::ModelError;
use unimodel_model::schema::Element;

use super::error::EvaluateError;
use super::rows;
use crate::pipeline::Evaluation;

/// Cases that are held and scored at once: what bounds the memory of an evaluation.
pub const CHUNK: usize = 256;

/// One request with its right answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// The request.
    pub context: Context,
    /// Whose event it was, where the label table says so.
    pub sequence: Option<String>,
    /// When it was, in Unix seconds.
    pub event_time: i64,
    /// The right item, by its row in the catalogue.
    pub target: u32,
}

/// Which held-out events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Split {
    /// What models are chosen on.
    Validation,
    /// What is reported.
    Test,
}

impl Split {
    /// The value of the column `split`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

/// The cases of a label table: its rows of that split with a label of at least 0.5, in chunks of at most [`CHUNK`].
pub struct Cases<'a> {
    path: PathBuf,
    split: Split,
    elements: &'a [Element],
    catalogue: &'a Catalogue,
    batches: Box<dyn Iterator<Item = Result<RecordBatch, ModelError>>>,
    read: VecDeque<Case>,
    row: usize,
}

impl<'a> Cases<'a> {
    /// Opens `tasks/<task>.parquet`, a file or a folder of part files.
    ///
    /// # Errors
    /// The table cannot be read; while iterating also: a column is missing or mistyped, or a row's item or event time
    /// is null, or its item is not in the catalogue.
    pub fn read(
        table: &Path,
        split: Split,
        elements: &'a [Element],
        catalogue: &'a Catalogue,
    ) -> Result<Self, EvaluateError> {
        let batches = rows::positives(table, split.name())?;
        Ok(Self { path: table.to_owned(), split, elements, catalogue, batches, read: VecDeque::new(), row: 0 })
    }

    fn add(&mut self, batch: &RecordBatch) -> Result<(), EvaluateError> {
        let table = rows::table_name(&self.path);
        let items = required(batch, "item_id", &DataType::Utf8, &table)?;
        let times = required(batch, "event_time", &DataType::Int64, &table)?;
        let (items, times) = (items.as_string::<i32>(), times.as_primitive::<Int64Type>());
        let sequences = match batch.column_by_name("sequence") {
            Some(_) => Some(required(batch, "sequence", &DataType::Utf8, &table)?),
            None => None,
        };
        let sequence =
            |row: usize| sequences.as_ref().filter(|s| s.is_valid(row)).map(|s| s.as_string::<i32>().value(row));
        let mut elements = Vec::new();
        for element in self.elements {
            if let Some(column) = ElementColumn::of(batch, element, &table)? {
                elements.push((element, column));
            }
        }
        for row in 0..batch.num_rows() {
            let problem = |problem: String| EvaluateError::Case {
                path: self.path.clone(),
                split: self.split.name(),
                row: self.row,
                problem,
            };
            if items.is_null(row) || times.is_null(row) {
                return Err(problem("item_id or event_time is null; a label needs both".into()));
            }
            let id = items.value(row);
            let target = self.catalogue.find(id).ok_or_else(|| {
                problem(format!("item_id `{id}` is not in the catalogue; label only what the items' SQL gives"))
            })?;
            let context = elements.iter().map(|(e, column)| (e.name.clone(), column.value(row)));
            self.read.push_back(Case {
                context: context.filter(|(_, value)| *value != Value::Null).collect(),
                sequence: sequence(row).map(str::to_owned),
                event_time: times.value(row),
                target,
            });
            self.row += 1;
        }
        Ok(())
    }
}

impl Iterator for Cases<'_> {
    type Item = Result<Vec<Case>, EvaluateError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.read.len() < CHUNK {
            match self.batches.next() {
                Some(batch) => {
                    if let Err(e) = batch.map_err(EvaluateError::from).and_then(|b| self.add(&b)) {
                        return Some(Err(e));
                    }
                }
                None => break,
            }
        }
        let chunk: Vec<Case> = self.read.drain(..self.read.len().min(CHUNK)).collect();
        (!chunk.is_empty()).then_some(Ok(chunk))
    }
}

/// The items that may answer a task's requests: the catalogue, narrowed by `within` and without `exclude`.
pub struct Candidates<'a> {
    catalogue: &'a Catalogue,
    exclude: &'a [String],
    /// For each `within`: the context element, and the items by category.
    within: Vec<(&'a str, HashMap<&'a str, Vec<u32>>)>,
}

impl<'a> Candidates<'a> {
    /// Prepares a task's rule.
    ///
    /// # Errors
    /// `within` names an attribute that is not declared or has no categories.
    pub fn new(task: &str, evaluation: &'a Evaluation, catalogue: &'a Catalogue) -> Result<Self, EvaluateError> {
        let mut within = Vec::new();
        for (attribute, element) in &evaluation.within {
            let mut items: HashMap<&str, Vec<u32>> = HashMap::new();
            match catalogue.attribute(attribute) {
                Some(AttributeColumn::Category(values)) => {
                    for (item, value) in values.iter().enumerate() {
                        if let Some(value) = value {
                            items.entry(value).or_default().push(item as u32);
                        }
                    }
                }
                Some(AttributeColumn::CategoryList(values)) => {
                    for (item, values) in values.iter().enumerate() {
                        for value in values {
                            items.entry(value).or_default().push(item as u32);
                        }
                    }
                }
                _ => return Err(EvaluateError::Within { task: task.to_owned(), attribute: attribute.clone() }),
            }
            within.push((element.as_str(), items));
        }
        Ok(Self { catalogue, exclude: &evaluation.exclude, within })
    }

    /// Says for each item whether it may answer the case; the target always may. A null element neither narrows nor
    /// excludes.
    pub fn of(&self, case: &Case, mask: &mut [bool]) {
        mask.fill(true);
        for (element, items) in &self.within {
            let Some(Value::Text(category)) = case.context.get(*element) else { continue };
            let mut inside = vec![false; mask.len()];
            for &item in items.get(category.as_str()).map_or(&[][..], Vec::as_slice) {
                inside[item as usize] = true;
            }
            mask.iter_mut().zip(inside).for_each(|(m, i)| *m &= i);
        }
        let mut exclude = |id: &str| {
            if let Some(item) = self.catalogue.find(id) {
                mask[item as usize] = false;
            }
        };
        for element in self.exclude {
            match case.context.get(element) {
                Some(Value::Text(id)) => exclude(id),
                Some(Value::List(ids)) => ids.iter().for_each(|id| exclude(id)),
                _ => {}
            }
        }
        mask[case.target as usize] = true;
    }
}
