//! The SQL files as checked plans.

use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::prelude::{DataFrame, SessionContext};

use super::columns::{self, Columns, Wanted};
use super::{LabelError, SqlProblem};
use crate::pipeline::{LoadedPipeline, Task};

/// One table that is to be written.
pub(super) struct Query<'a> {
    /// `events`, `items`, `users` or the task's name.
    pub(super) table: &'a str,
    /// The SQL file, as the pipeline file names it.
    pub(super) file: &'a str,
    /// Its text.
    pub(super) sql: &'a str,
    /// Its result's columns.
    pub(super) columns: Columns,
    /// The task, if the table is a label table.
    pub(super) task: Option<&'a Task>,
}

/// Plans every SQL file, and registers the views `events`, `items` and `users` for those that follow.
pub(super) async fn plan<'a>(
    context: &SessionContext,
    pipeline: &'a LoadedPipeline,
) -> Result<Vec<Query<'a>>, LabelError> {
    let declared = &pipeline.pipeline;
    let mut queries = Vec::new();
    let mut views = vec![
        ("events", declared.split.sql.as_str(), columns::events()),
        ("items", declared.items.sql.as_str(), columns::items(declared)),
    ];
    views.extend(declared.users.as_ref().map(|u| ("users", u.sql.as_str(), columns::users(declared, &u.key))));
    for (table, file, wanted) in views {
        // What reads a view that is wrong would be wrong for no reason of its own.
        let (query, frame) = one(context, pipeline, table, file, &wanted, None).await.map_err(LabelError::Sql)?;
        context.register_table(table, frame.into_view())?;
        queries.push(query);
    }
    let mut problems = Vec::new();
    for task in &declared.tasks {
        let wanted = columns::task(declared, task);
        match one(context, pipeline, &task.name, &task.sql, &wanted, Some(task)).await {
            Ok((query, _)) => queries.push(query),
            Err(found) => problems.extend(found),
        }
    }
    if !problems.is_empty() {
        return Err(LabelError::Sql(problems));
    }
    for (index, element) in declared.context.iter().enumerate() {
        if !queries.iter().any(|q| q.task.is_some() && q.columns.selects(&element.name)) {
            let message = format!("no task's SQL selects `{}`; select it in one, or remove it here", element.name);
            return Err(pipeline.problem(&format!("context[{index}].name"), message).into());
        }
    }
    Ok(queries)
}

async fn one<'a>(
    context: &SessionContext,
    pipeline: &'a LoadedPipeline,
    table: &'a str,
    file: &'a str,
    wanted: &[Wanted],
    task: Option<&'a Task>,
) -> Result<(Query<'a>, DataFrame), Vec<SqlProblem>> {
    let sql = pipeline.sql.get(file).map(String::as_str).unwrap_or_default();
    let frame = frame(context, sql).await.map_err(|e| vec![SqlProblem::new(file, &e)])?;
    let columns = Columns::new(frame.schema().as_arrow(), wanted, table == "events" && task.is_none());
    let columns = columns.map_err(|problems| {
        let problem = |problem| SqlProblem { file: file.to_owned(), position: None, problem };
        problems.into_iter().map(problem).collect::<Vec<_>>()
    })?;
    Ok((Query { table, file, sql, columns, task }, frame))
}

/// The plan of one statement, which may only read.
pub(super) async fn frame(context: &SessionContext, sql: &str) -> Result<DataFrame, DataFusionError> {
    let options = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    context.sql_with_options(sql, options).await
}
