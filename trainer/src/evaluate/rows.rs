//! Rows of one split out of a labels directory's tables, a batch at a time.

use std::fs::File;
use std::path::Path;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowPredicateFn, ParquetRecordBatchReaderBuilder, RowFilter};
use parquet::errors::ParquetError;
use unimodel_model::catalogue::part_files;
use unimodel_model::columns::required;
use unimodel_model::error::ModelError;

use crate::label_table::POSITIVE;

/// Rows of a batch.
const BATCH: usize = 1024;

type Rows = Box<dyn Iterator<Item = Result<RecordBatch, ModelError>>>;

/// The positives of one split, with all columns. Only `split` and `label` are decoded of the other rows.
pub(crate) fn positives(table: &Path, split: &'static str) -> Result<Rows, ModelError> {
    let name = table_name(table);
    let filter = move |batch: RecordBatch| {
        let failed = |e: ModelError| arrow::error::ArrowError::ExternalError(Box::new(e));
        let splits = required(&batch, "split", &DataType::Utf8, &name).map_err(failed)?;
        let labels = required(&batch, "label", &DataType::Float64, &name).map_err(failed)?;
        let labels = labels.as_primitive::<Float64Type>().iter();
        let rows = splits.as_string::<i32>().iter().zip(labels);
        Ok(rows.map(|(s, l)| Some(s == Some(split) && l.is_some_and(|l| l >= POSITIVE))).collect::<BooleanArray>())
    };
    read(table, &["split", "label"], |builder, mask| {
        builder.with_row_filter(RowFilter::new(vec![Box::new(ArrowPredicateFn::new(mask, filter.clone()))]))
    })
}

/// All rows, with those columns alone.
pub(crate) fn columns(table: &Path, names: &[&str]) -> Result<Rows, ModelError> {
    read(table, names, |builder, mask| builder.with_projection(mask))
}

/// How many rows the table has.
pub(crate) fn count(table: &Path) -> Result<u64, ModelError> {
    let mut rows = 0;
    for part in part_files(table)? {
        rows += open(&part)?.metadata().file_metadata().num_rows() as u64;
    }
    Ok(rows)
}

/// The table's name in an error message: the file's, without its ending.
pub(crate) fn table_name(table: &Path) -> String {
    table.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn read(
    table: &Path,
    names: &[&str],
    with: impl Fn(ParquetRecordBatchReaderBuilder<File>, ProjectionMask) -> ParquetRecordBatchReaderBuilder<File>,
) -> Result<Rows, ModelError> {
    let mut readers = Vec::new();
    for part in part_files(table)? {
        let builder = open(&part)?.with_batch_size(BATCH);
        for column in names {
            if builder.schema().column_with_name(column).is_none() {
                return Err(ModelError::MissingColumn { table: table_name(table), column: (*column).to_owned() });
            }
        }
        let mask = ProjectionMask::columns(builder.parquet_schema(), names.iter().copied());
        let parquet = |source| ModelError::Parquet { path: part.clone(), source };
        let reader = with(builder, mask).build().map_err(parquet)?;
        readers.push(reader.map(move |batch| {
            batch.map_err(|e| ModelError::Parquet { path: part.clone(), source: ParquetError::from(e) })
        }));
    }
    Ok(Box::new(readers.into_iter().flatten()))
}

fn open(part: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>, ModelError> {
    let file = File::open(part).map_err(|source| ModelError::Read { path: part.to_owned(), source })?;
    ParquetRecordBatchReaderBuilder::try_new(file)
        .map_err(|source| ModelError::Parquet { path: part.to_owned(), source })
}
