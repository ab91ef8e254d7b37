//! The items that a version ranks, with their attributes.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::columns::required;
use crate::error::ModelError;
use crate::item_ids::{ItemIds, TakenBy};
use crate::schema::{Attribute, AttributeType};
use crate::strings::{StringLists, StringListsBuilder, Strings, StringsBuilder};

/// Rows of a table that are read together.
const BATCH_ROWS: usize = 8192;

/// One attribute of all items, in item order.
#[derive(Clone, Debug, PartialEq)]
pub enum AttributeColumn {
    /// Numbers.
    Number(Vec<Option<f64>>),
    /// One category an item.
    Category(Strings),
    /// Several categories an item; none where absent.
    CategoryList(StringLists),
    /// Text.
    Text(Strings),
}

/// The items in a fixed order: an item's index here is its row in every matrix of the network. Clones share them.
#[derive(Clone, Debug)]
pub struct Catalogue {
    ids: Arc<ItemIds>,
    attributes: Arc<Vec<(Attribute, AttributeColumn)>>,
}

impl Catalogue {
    /// Builds a catalogue from its columns, each as long as there are ids.
    ///
    /// # Errors
    /// An id that occurs twice, or no item at all.
    pub fn new(
        ids: impl IntoIterator<Item = impl AsRef<str>>,
        attributes: Vec<(Attribute, AttributeColumn)>,
    ) -> Result<Self, ModelError> {
        let mut all = ItemIds::default();
        ids.into_iter().try_for_each(|id| push(&mut all, id.as_ref()))?;
        Self::of(all, attributes)
    }

    fn of(ids: ItemIds, attributes: Vec<(Attribute, AttributeColumn)>) -> Result<Self, ModelError> {
        if ids.is_empty() {
            let problem = "the catalogue is empty; it needs one item at least".into();
            return Err(ModelError::Value { table: "items".into(), row: 0, problem });
        }
        Ok(Self { ids: Arc::new(ids), attributes: Arc::new(attributes) })
    }

    /// Reads `items.parquet`, a file or a folder of part files: `item_id` and the declared attributes.
    pub fn read(path: &Path, attributes: &[Attribute]) -> Result<Self, ModelError> {
        let mut ids = ItemIds::default();
        let mut columns: Vec<ColumnBuilder> = attributes.iter().map(|a| ColumnBuilder::new(a.kind)).collect();
        for batch in batches(path)? {
            let batch = batch?;
            let id = required(&batch, "item_id", &DataType::Utf8, "items")?;
            for (row, id) in id.as_string::<i32>().iter().enumerate() {
                let Some(id) = id else {
                    let problem = "item_id is null; every item needs an id".to_owned();
                    return Err(ModelError::Value { table: "items".into(), row, problem });
                };
                push(&mut ids, id)?;
            }
            for (attribute, column) in attributes.iter().zip(&mut columns) {
                column.append(&batch, &attribute.name)?;
            }
        }
        let columns = columns.into_iter().map(ColumnBuilder::finish);
        Self::of(ids, attributes.iter().cloned().zip(columns).collect())
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none; never so for a catalogue that was built.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The item's id.
    pub fn id(&self, item: u32) -> &str {
        self.ids.id(item)
    }

    /// All ids, in item order.
    pub fn ids(&self) -> &Arc<ItemIds> {
        &self.ids
    }

    /// The item of that id.
    pub fn find(&self, id: &str) -> Option<u32> {
        self.ids.find(id)
    }

    /// The attribute columns, in declaration order.
    pub fn attributes(&self) -> &[(Attribute, AttributeColumn)] {
        &self.attributes
    }

    /// The column of that attribute.
    pub fn attribute(&self, name: &str) -> Option<&AttributeColumn> {
        self.attributes.iter().find(|(a, _)| a.name == name).map(|(_, c)| c)
    }

    /// The items whose attribute is, or holds, that category; `None` for an attribute that has no categories.
    pub fn with_category(&self, attribute: &str, category: &str) -> Option<Vec<u32>> {
        let rows = 0..self.ids.len() as u32;
        match self.attribute(attribute)? {
            AttributeColumn::Category(values) => Some(rows.filter(|r| values.get(*r) == Some(category)).collect()),
            AttributeColumn::CategoryList(values) => {
                Some(rows.filter(|r| values.get(*r).any(|v| v == category)).collect())
            }
            AttributeColumn::Number(_) | AttributeColumn::Text(_) => None,
        }
    }

    /// The first text attribute: what a person reads, and what queries are matched with.
    pub fn title(&self) -> Option<&Strings> {
        self.attributes.iter().find_map(|(_, c)| match c {
            AttributeColumn::Text(values) => Some(values),
            _ => None,
        })
    }
}

fn push(ids: &mut ItemIds, id: &str) -> Result<(), ModelError> {
    ids.push(id).map_err(|TakenBy(first)| {
        let problem = format!("item_id `{id}` is in row {first} already; item ids must be unique");
        ModelError::Value { table: "items".into(), row: ids.len(), problem }
    })
}

/// An attribute that comes batch by batch.
enum ColumnBuilder {
    Number(Vec<Option<f64>>),
    Category(StringsBuilder),
    CategoryList(StringListsBuilder),
    Text(StringsBuilder),
}

impl ColumnBuilder {
    fn new(kind: AttributeType) -> Self {
        match kind {
            AttributeType::Number => Self::Number(Vec::new()),
            AttributeType::Category => Self::Category(StringsBuilder::default()),
            AttributeType::CategoryList => Self::CategoryList(StringListsBuilder::default()),
            AttributeType::Text => Self::Text(StringsBuilder::default()),
        }
    }

    fn finish(self) -> AttributeColumn {
        match self {
            Self::Number(values) => AttributeColumn::Number(values),
            Self::Category(values) => AttributeColumn::Category(values.finish()),
            Self::CategoryList(values) => AttributeColumn::CategoryList(values.finish()),
            Self::Text(values) => AttributeColumn::Text(values.finish()),
        }
    }

    fn append(&mut self, batch: &RecordBatch, name: &str) -> Result<(), ModelError> {
        let column = |to: &DataType| required(batch, name, to, "items");
        match self {
            Self::Number(values) => {
                let array = column(&DataType::Float64)?;
                values.extend(array.as_primitive::<Float64Type>().iter().map(|v| v.filter(|x| x.is_finite())));
            }
            Self::Category(values) | Self::Text(values) => {
                values.extend(column(&DataType::Utf8)?.as_string::<i32>());
            }
            Self::CategoryList(values) => {
                let array = column(&DataType::new_list(DataType::Utf8, true))?;
                let lists = array.as_list::<i32>();
                let strings = lists.values().as_string::<i32>();
                for (row, ends) in lists.value_offsets().windows(2).enumerate() {
                    let range = if lists.is_valid(row) { ends[0]..ends[1] } else { 0..0 };
                    let range = range.map(|at| at as usize);
                    values.push(range.filter(|at| strings.is_valid(*at)).map(|at| strings.value(at)));
                }
            }
        }
        Ok(())
    }
}

/// The files of a table: the file itself, or the part files of a folder in order of name.
pub fn part_files(path: &Path) -> Result<Vec<std::path::PathBuf>, ModelError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let read = |source| ModelError::Read { path: path.to_owned(), source };
    let mut parts = Vec::new();
    for entry in std::fs::read_dir(path).map_err(read)? {
        let part = entry.map_err(read)?.path();
        if part.extension().is_some_and(|e| e == "parquet") {
            parts.push(part);
        }
    }
    parts.sort();
    Ok(parts)
}

/// Batches of a table, one part file after the other.
pub fn batches(path: &Path) -> Result<impl Iterator<Item = Result<RecordBatch, ModelError>> + use<>, ModelError> {
    let mut readers = Vec::new();
    for part in part_files(path)? {
        let file = File::open(&part).map_err(|source| ModelError::Read { path: part.clone(), source })?;
        let parquet = |source| ModelError::Parquet { path: part.clone(), source };
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(parquet)?;
        let reader = reader.with_batch_size(BATCH_ROWS).build().map_err(parquet)?;
        let path = part.clone();
        readers.push(reader.map(move |b| {
            b.map_err(|e| ModelError::Parquet { path: path.clone(), source: parquet::errors::ParquetError::from(e) })
        }));
    }
    Ok(readers.into_iter().flatten())
}
