//! Reading a label table by row group, wherever it was made.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use unimodel_model::catalogue::{Catalogue, part_files};
use unimodel_model::columns::{ElementColumn, required};
use unimodel_model::context::{Context, Value};
use unimodel_model::error::ModelError;
use unimodel_model::schema::Element;

/// Which part of the data a row belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Trained on.
    Train,
    /// Chooses when to stop and between forms.
    Validation,
    /// Reported, never chosen on.
    Test,
}

impl Part {
    fn parse(name: &str) -> Option<Self> {
        match name {
            "train" => Some(Self::Train),
            "validation" => Some(Self::Validation),
            "test" => Some(Self::Test),
            _ => None,
        }
    }
}

/// A label of this or more is a positive.
pub const POSITIVE: f64 = 0.5;

/// One row group of one part file.
#[derive(Clone, Debug)]
pub struct Chunk {
    path: PathBuf,
    row_group: usize,
}

/// A label table on disk.
pub struct LabelTable {
    name: String,
    elements: Vec<Element>,
    chunks: Vec<Chunk>,
}

/// The rows of one chunk, column by column.
pub struct Rows {
    context: Vec<(String, ElementColumn)>,
    item: Vec<u32>,
    label: ArrayRef,
    weight: ArrayRef,
    event_time: ArrayRef,
    part: Vec<Option<Part>>,
    sequence: Option<ArrayRef>,
}

impl LabelTable {
    /// Opens `<labels>/tasks/<task>.parquet`, a file or a folder of part files.
    pub fn open(labels: &Path, task: &str, elements: &[Element]) -> Result<Self, ModelError> {
        let path = labels.join("tasks").join(format!("{task}.parquet"));
        let mut chunks = Vec::new();
        for part in part_files(&path)? {
            let file = File::open(&part).map_err(|source| ModelError::Read { path: part.clone(), source })?;
            let groups = ParquetRecordBatchReaderBuilder::try_new(file)
                .map_err(|source| ModelError::Parquet { path: part.clone(), source })?
                .metadata()
                .num_row_groups();
            chunks.extend((0..groups).map(|row_group| Chunk { path: part.clone(), row_group }));
        }
        Ok(Self { name: task.to_owned(), elements: elements.to_vec(), chunks })
    }

    /// The row groups, in file order.
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// Reads one row group: all that is in memory of the table at a time.
    pub fn read(&self, chunk: &Chunk, catalogue: &Catalogue) -> Result<Rows, ModelError> {
        let parquet = |source| ModelError::Parquet { path: chunk.path.clone(), source };
        let file = File::open(&chunk.path).map_err(|source| ModelError::Read { path: chunk.path.clone(), source })?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(parquet)?;
        let rows = reader.metadata().row_group(chunk.row_group).num_rows().max(1) as usize;
        let schema = reader.schema().clone();
        let reader = reader.with_row_groups(vec![chunk.row_group]).with_batch_size(rows).build().map_err(parquet)?;
        let batches: Vec<RecordBatch> =
            reader.collect::<Result<_, _>>().map_err(|e| parquet(parquet::errors::ParquetError::from(e)))?;
        let batch = arrow::compute::concat_batches(&schema, &batches)
            .map_err(|e| parquet(parquet::errors::ParquetError::from(e)))?;
        self.rows(&batch, catalogue)
    }

    fn rows(&self, batch: &RecordBatch, catalogue: &Catalogue) -> Result<Rows, ModelError> {
        let column = |name: &str, to: DataType| required(batch, name, &to, &self.name);
        let value = |row: usize, problem: String| ModelError::Value { table: self.name.clone(), row, problem };
        let mut context = Vec::new();
        for element in &self.elements {
            if let Some(column) = ElementColumn::of(batch, element, &self.name)? {
                context.push((element.name.clone(), column));
            }
        }
        let ids = column("item_id", DataType::Utf8)?;
        let mut item = Vec::with_capacity(batch.num_rows());
        for (row, id) in ids.as_string::<i32>().iter().enumerate() {
            let id = id.ok_or_else(|| value(row, "item_id is null; every label names an item".into()))?;
            let found = catalogue.find(id);
            item.push(found.ok_or_else(|| value(row, format!("item_id `{id}` is not in the catalogue")))?);
        }
        let (label, weight) = (column("label", DataType::Float64)?, column("weight", DataType::Float64)?);
        let range = [("label", &label, 1.0), ("weight", &weight, f64::MAX)];
        for (name, array, most) in range {
            for (row, x) in array.as_primitive::<Float64Type>().iter().enumerate() {
                if !x.is_some_and(|x| (0.0..=most).contains(&x)) {
                    let found = x.map_or("null".to_owned(), |x| x.to_string());
                    let most = if most == 1.0 { "at most 1" } else { "finite" };
                    return Err(value(row, format!("{name} is {found}; it must be at least 0 and {most}")));
                }
            }
        }
        let split = column("split", DataType::Utf8)?;
        let part = split.as_string::<i32>().iter().map(|s| s.and_then(Part::parse)).collect();
        let sequence = match batch.column_by_name("sequence") {
            Some(_) => Some(column("sequence", DataType::Utf8)?),
            None => None,
        };
        let event_time = column("event_time", DataType::Int64)?;
        Ok(Rows { context, item, label, weight, event_time, part, sequence })
    }
}

impl Rows {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.item.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.item.is_empty()
    }

    /// The row's context, without what is null.
    pub fn context(&self, row: usize) -> Context {
        let values = self.context.iter().map(|(name, column)| (name.clone(), column.value(row)));
        values.filter(|(_, value)| *value != Value::Null).collect()
    }

    /// The item.
    pub fn item(&self, row: usize) -> u32 {
        self.item[row]
    }

    /// The label, 0 to 1.
    pub fn label(&self, row: usize) -> f64 {
        self.label.as_primitive::<Float64Type>().value(row)
    }

    /// The weight, at least 0.
    pub fn weight(&self, row: usize) -> f64 {
        self.weight.as_primitive::<Float64Type>().value(row)
    }

    /// Time of the event, seconds since 1970.
    pub fn event_time(&self, row: usize) -> i64 {
        self.event_time.as_primitive::<Int64Type>().value(row)
    }

    /// The part, or none for a row that no part has.
    pub fn part(&self, row: usize) -> Option<Part> {
        self.part[row]
    }

    /// The sequence, where the table says so.
    pub fn sequence(&self, row: usize) -> Option<&str> {
        let sequence = self.sequence.as_ref()?;
        (!sequence.is_null(row)).then(|| sequence.as_string::<i32>().value(row))
    }
}
