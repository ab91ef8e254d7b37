//! From plans to Parquet files, batch by batch.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::compute::filter_record_batch;
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use futures::TryStreamExt;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::error::first_line;
use super::plan::{Query, frame};
use super::rows::{self, Broken, Items, Labels, Users};
use super::{LabelError, Progress, TableSummary};
use crate::folder::write_error;
use crate::pipeline::LoadedPipeline;

/// Rows of a row group: what a training holds of a table at a time.
const ROW_GROUP_ROWS: usize = 65_536;

/// Runs the queries in order. `events`, `items` and `users` are read back from their files by what follows, so that
/// each is computed once.
pub(super) async fn write(
    context: &SessionContext,
    pipeline: &LoadedPipeline,
    queries: &[Query<'_>],
    folder: &Path,
    progress: &(dyn Fn(Progress<'_>) + Sync),
) -> Result<Vec<TableSummary>, LabelError> {
    let mut items = Items::default();
    let mut summaries = Vec::new();
    for (number, query) in queries.iter().enumerate() {
        let file = match query.task {
            Some(task) => Path::new("tasks").join(format!("{}.parquet", task.name)),
            None => PathBuf::from(format!("{}.parquet", query.table)),
        };
        let path = folder.join(&file);
        let report = |rows| progress(Progress { table: query.table, number, tables: queries.len(), rows });
        let started = Instant::now();
        let mut labels = Labels::default();
        let bad = |problem| LabelError::Table { table: query.table.into(), file: query.file.into(), problem };
        let rows = match (query.table, query.task) {
            (_, Some(task)) => {
                let keep = |batch: RecordBatch, _| {
                    let keep = labels.task(&batch, &items)?;
                    Ok(filter_record_batch(&batch, &keep).expect("the filter has a value for each row"))
                };
                let rows = table(context, query, &path, &report, keep).await?;
                if let Some(shortage) = labels.shortage(&task.loss) {
                    return Err(bad(shortage));
                }
                rows
            }
            ("events", None) => {
                let keep = |batch: RecordBatch, _| labels.events(&batch).map(|()| batch);
                table(context, query, &path, &report, keep).await?
            }
            ("items", None) => {
                let keep = |batch: RecordBatch, before| items.add(&batch, before).map(|()| batch);
                let rows = table(context, query, &path, &report, keep).await?;
                if items.is_empty() {
                    return Err(bad("the catalogue is empty; it needs one item at least".into()));
                }
                rows
            }
            (_, None) => {
                let key = pipeline.pipeline.users.as_ref().map(|u| u.key.as_str()).unwrap_or_default();
                let mut users = Users::new(key);
                let keep = |batch: RecordBatch, _| users.add(&batch).map(|()| batch);
                table(context, query, &path, &report, keep).await?
            }
        };
        if query.task.is_none() {
            context.deregister_table(query.table)?;
            let read = ParquetReadOptions::default();
            context.register_parquet(query.table, path.to_string_lossy().as_ref(), read).await?;
        }
        summaries.push(TableSummary {
            table: query.table.to_owned(),
            file,
            rows,
            splits: (query.table == "events" || query.task.is_some()).then_some(labels.splits),
            bytes: path.metadata().map_err(write_error(&path))?.len(),
            seconds: started.elapsed().as_secs_f64(),
        });
    }
    Ok(summaries)
}

/// Writes one table: each batch as `keep` lets it pass, which also gets the number of rows before it. Gives the number
/// of rows written.
async fn table(
    context: &SessionContext,
    query: &Query<'_>,
    path: &Path,
    report: &(dyn Fn(u64) + Sync),
    mut keep: impl FnMut(RecordBatch, u64) -> Result<RecordBatch, Broken>,
) -> Result<u64, LabelError> {
    let run = |problem| LabelError::Run { table: query.table.into(), file: query.file.into(), problem };
    let parquet = |source| LabelError::Parquet { path: path.to_owned(), source };
    let file = File::create(path).map_err(write_error(path))?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .build();
    let mut writer = ArrowWriter::try_new(file, query.columns.schema.clone(), Some(properties)).map_err(parquet)?;
    let (mut before, mut written) = (0u64, 0u64);
    report(0);
    let frame = frame(context, query.sql).await.map_err(|e| run(first_line(&e)))?;
    let mut stream = frame.execute_stream().await.map_err(|e| run(first_line(&e)))?;
    while let Some(batch) = stream.try_next().await.map_err(|e| run(first_line(&e)))? {
        let batch = query.columns.apply(&batch).map_err(|e| run(e.to_string()))?;
        let count = batch.num_rows() as u64;
        let kept = rows::values(&batch).and_then(|()| keep(batch, before)).map_err(|broken| LabelError::Row {
            table: query.table.into(),
            file: query.file.into(),
            row: before + broken.row as u64 + 1,
            problem: broken.problem,
        })?;
        writer.write(&kept).map_err(parquet)?;
        before += count;
        written += kept.num_rows() as u64;
        report(before);
    }
    writer.close().map_err(parquet)?;
    Ok(written)
}
