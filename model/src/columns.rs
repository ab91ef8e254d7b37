//! Columns of a Parquet table as values of context elements.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type};

use crate::context::Value;
use crate::error::ModelError;
use crate::schema::{Element, ElementType};

/// The Arrow type of an element's column in every table that the product writes: nullable UTF-8, 64-bit float, or list
/// of UTF-8.
pub fn data_type(kind: ElementType) -> DataType {
    match kind {
        ElementType::Id | ElementType::Category | ElementType::Text => DataType::Utf8,
        ElementType::Number => DataType::Float64,
        ElementType::IdList => DataType::new_list(DataType::Utf8, true),
    }
}

/// One column of a batch, brought to the type that its element has.
pub struct ElementColumn {
    kind: ElementType,
    array: ArrayRef,
}

impl ElementColumn {
    /// The element's column in the batch; `None` where the batch has no such column.
    pub fn of(batch: &RecordBatch, element: &Element, table: &str) -> Result<Option<Self>, ModelError> {
        let Some(column) = batch.column_by_name(&element.name) else { return Ok(None) };
        Ok(Some(Self { kind: element.kind, array: cast(column, &data_type(element.kind), table, &element.name)? }))
    }

    /// The value in that row.
    pub fn value(&self, row: usize) -> Value {
        if self.array.is_null(row) {
            return Value::Null;
        }
        match self.kind {
            ElementType::Number => Value::Number(self.array.as_primitive::<Float64Type>().value(row)),
            ElementType::Id | ElementType::Category | ElementType::Text => {
                Value::Text(self.array.as_string::<i32>().value(row).to_owned())
            }
            ElementType::IdList => Value::List(strings(&self.array.as_list::<i32>().value(row))),
        }
    }
}

/// Strings of an array, without its nulls.
fn strings(array: &ArrayRef) -> Vec<String> {
    array.as_string::<i32>().iter().flatten().map(str::to_owned).collect()
}

/// A required column, cast where nothing is lost by it (other widths of integer, float and string).
pub fn required(batch: &RecordBatch, name: &str, to: &DataType, table: &str) -> Result<ArrayRef, ModelError> {
    let column = batch
        .column_by_name(name)
        .ok_or_else(|| ModelError::MissingColumn { table: table.to_owned(), column: name.to_owned() })?;
    cast(column, to, table, name)
}

fn cast(column: &ArrayRef, to: &DataType, table: &str, name: &str) -> Result<ArrayRef, ModelError> {
    let same_family = |a: &DataType, b: &DataType| {
        (a.is_numeric() && b.is_numeric()) || (a.is_string() && b.is_string()) || (a.is_nested() && b.is_nested())
    };
    let from = column.data_type();
    if from == to {
        return Ok(column.clone());
    }
    let wrong = || ModelError::ColumnType {
        table: table.to_owned(),
        column: name.to_owned(),
        found: from.to_string(),
        expected: to.to_string(),
    };
    if !same_family(from, to) && *from != DataType::Null {
        return Err(wrong());
    }
    arrow::compute::cast(column, to).map_err(|_| wrong())
}
