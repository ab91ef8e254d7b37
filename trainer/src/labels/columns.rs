//! The columns that a table must have, and how a SQL result becomes them.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use unimodel_model::columns::data_type;
use unimodel_model::features::nearest_name;
use unimodel_model::schema::AttributeType;

use crate::pipeline::{Loss, Pipeline, Task};

/// One column of a table.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    name: String,
    kind: DataType,
    required: bool,
}

/// How a SQL result becomes a table.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    /// The table's schema.
    pub(super) schema: SchemaRef,
    /// For each column of the table, the column of the result; none is null throughout.
    from: Vec<Option<usize>>,
}

fn wanted(name: &str, kind: DataType, required: bool) -> Wanted {
    Wanted { name: name.to_owned(), kind, required }
}

/// `events.parquet`.
pub(super) fn events() -> Vec<Wanted> {
    vec![
        wanted("sequence", DataType::Utf8, true),
        wanted("item_id", DataType::Utf8, true),
        wanted("label", DataType::Float64, true),
        wanted("event_time", DataType::Int64, true),
        wanted("split", DataType::Utf8, true),
    ]
}

/// `items.parquet`.
pub(super) fn items(pipeline: &Pipeline) -> Vec<Wanted> {
    let attributes = pipeline.items.attributes.iter().map(|a| {
        let kind = match a.kind {
            AttributeType::Number => DataType::Float64,
            AttributeType::Category | AttributeType::Text => DataType::Utf8,
            AttributeType::CategoryList => DataType::new_list(DataType::Utf8, true),
        };
        wanted(&a.name, kind, true)
    });
    std::iter::once(wanted("item_id", DataType::Utf8, true)).chain(attributes).collect()
}

/// `users.parquet`: the key, and those context elements that the SQL selects.
pub(super) fn users(pipeline: &Pipeline, key: &str) -> Vec<Wanted> {
    pipeline.context.iter().map(|e| wanted(&e.name, data_type(e.kind), e.name == key)).collect()
}

/// `tasks/<task>.parquet`: every context element, and what makes a row a label.
pub(super) fn task(pipeline: &Pipeline, task: &Task) -> Vec<Wanted> {
    let mut columns: Vec<Wanted> = pipeline.context.iter().map(|e| wanted(&e.name, data_type(e.kind), false)).collect();
    let soft = match &task.loss {
        Loss::Softmax { soft_targets } | Loss::SampledSoftmax { soft_targets, .. } => soft_targets.is_some(),
        Loss::Bce {} => false,
    };
    columns.extend([
        wanted("item_id", DataType::Utf8, true),
        wanted("label", DataType::Float64, true),
        wanted("weight", DataType::Float64, true),
        wanted("event_time", DataType::Int64, true),
        wanted("split", DataType::Utf8, true),
        wanted("sequence", DataType::Utf8, soft),
    ]);
    columns
}

impl Columns {
    /// Finds the wanted columns in a result. Others are kept if `open`.
    ///
    /// # Errors
    /// All that is wrong: a column that is missing, has another type, occurs twice or is none of the table's.
    pub(super) fn new(result: &Schema, wanted: &[Wanted], open: bool) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let (mut fields, mut from) = (Vec::new(), Vec::new());
        for column in wanted {
            let mut found = result.fields().iter().enumerate().filter(|(_, f)| *f.name() == column.name);
            let index = match (found.next(), found.next()) {
                (Some((index, field)), None) => {
                    if !lossless(field.data_type(), &column.kind) {
                        let (is, right) = (sql_name(field.data_type()), sql_name(&column.kind));
                        problems.push(format!("column `{}` is {is}, it must be {right}{}", column.name, {
                            match column.kind.is_nested() {
                                true => String::new(),
                                false => format!(": write CAST(… AS {right}) AS {}", column.name),
                            }
                        }));
                    }
                    Some(index)
                }
                (Some(_), Some(_)) => {
                    problems.push(format!("column `{}` is there twice; rename one", column.name));
                    None
                }
                (None, _) if column.required => {
                    let names: Vec<&str> = result.fields().iter().map(|f| f.name().as_str()).collect();
                    problems.push(format!(
                        "column `{}` ({}) is missing; the result has {}",
                        column.name,
                        sql_name(&column.kind),
                        names.join(", ")
                    ));
                    None
                }
                (None, _) => None,
            };
            fields.push(Field::new(&column.name, column.kind.clone(), true));
            from.push(index);
        }
        for (index, field) in result.fields().iter().enumerate() {
            if wanted.iter().any(|w| w.name == *field.name()) {
                continue;
            }
            if open {
                fields.push(Field::new(field.name(), plain(field.data_type()), true));
                from.push(Some(index));
                continue;
            }
            let known: Vec<String> = wanted.iter().map(|w| w.name.clone()).collect();
            let nearest = nearest_name(field.name(), &known).map(|n| format!("; did you mean `{n}`?"));
            problems.push(format!(
                "column `{}` is neither declared nor part of the table{}",
                field.name(),
                nearest.unwrap_or_default()
            ));
        }
        if problems.is_empty() { Ok(Self { schema: Arc::new(Schema::new(fields)), from }) } else { Err(problems) }
    }

    /// Whether the result has that column.
    pub(super) fn selects(&self, name: &str) -> bool {
        self.schema.index_of(name).is_ok_and(|i| self.from[i].is_some())
    }

    /// A batch of the result as one of the table.
    pub(super) fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let arrays = self.from.iter().zip(self.schema.fields()).map(|(from, field)| match from {
            Some(index) => arrow::compute::cast(batch.column(*index), field.data_type()),
            None => Ok(new_null_array(field.data_type(), batch.num_rows())),
        });
        RecordBatch::try_new(self.schema.clone(), arrays.collect::<Result<Vec<ArrayRef>, _>>()?)
    }
}

/// Whether every value of the one type is one of the other.
fn lossless(from: &DataType, to: &DataType) -> bool {
    use DataType::{Float16, Float32, Float64, Int8, Int16, Int32, Int64, Null, UInt8, UInt16, UInt32, Utf8};
    let from = &plain(from);
    match (from, to) {
        (Null, _) => true,
        (Float16 | Float32 | Int8 | Int16 | Int32 | UInt8 | UInt16 | UInt32, Float64) => true,
        (Int8 | Int16 | Int32 | UInt8 | UInt16 | UInt32, Int64) => true,
        (DataType::List(from), DataType::List(to)) => lossless(from.data_type(), to.data_type()),
        (Utf8, Utf8) | (Float64, Float64) | (Int64, Int64) => true,
        _ => false,
    }
}

/// The type without what is a matter of memory layout alone.
fn plain(kind: &DataType) -> DataType {
    match kind {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::Dictionary(_, value) => plain(value),
        DataType::LargeList(f) | DataType::ListView(f) | DataType::LargeListView(f) | DataType::FixedSizeList(f, _) => {
            DataType::new_list(plain(f.data_type()), true)
        }
        DataType::List(f) => DataType::new_list(plain(f.data_type()), true),
        other => other.clone(),
    }
}

/// The type as SQL writes it.
fn sql_name(kind: &DataType) -> String {
    match plain(kind) {
        DataType::Utf8 => "varchar".into(),
        DataType::Float64 => "double".into(),
        DataType::Float32 => "real".into(),
        DataType::Int64 => "bigint".into(),
        DataType::Int32 => "integer".into(),
        DataType::Boolean => "boolean".into(),
        DataType::Date32 => "date".into(),
        DataType::Timestamp(..) => "timestamp".into(),
        DataType::List(f) => format!("array({})", sql_name(f.data_type())),
        other => other.to_string(),
    }
}
