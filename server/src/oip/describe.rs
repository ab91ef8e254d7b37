//! What a task looks like as a model: its tensors, its configuration, its statistics.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use unimodel_model::schema::ElementType;
use unimodel_protocol::inference as pb;

use crate::error::RankError;
use crate::front::Front;
use crate::oip::{EXCLUDE_IDS, ITEM_IDS, SCORES, UNKNOWN_IDS};
use crate::ranking::{Readiness, Timing};
use crate::request::{Task, Version};

/// Name of the server and of its platform.
pub(crate) const NAME: &str = "unimodel";

/// Extensions of the protocol that the server has.
pub(crate) const EXTENSIONS: [&str; 3] = ["binary_tensor_data", "model_configuration", "statistics"];

/// The version of the task that answers.
///
/// # Errors
/// None does, or another than the one asked for.
pub(crate) fn version<'a>(front: &Front, task: &'a Task, asked: &str) -> Result<&'a Version, RankError> {
    let version = task.version.as_deref().map_err(|problem| {
        let readiness = front.ranking.readiness();
        let reason = readiness.borrow().problem(task).unwrap_or_else(|| problem.clone());
        RankError::NotReady { reason }
    })?;
    is_asked(task, asked, &version.name)?;
    Ok(version)
}

/// Whether a version is the one asked for, if any is.
///
/// # Errors
/// [`RankError::UnknownVersion`]
pub(crate) fn is_asked(task: &Task, asked: &str, answers: &str) -> Result<(), RankError> {
    if asked.is_empty() || asked == answers {
        return Ok(());
    }
    let (task, version, active) = (task.name.to_string(), asked.to_owned(), answers.to_owned());
    Err(RankError::UnknownVersion { task, version, active })
}

struct TensorInfo {
    name: String,
    datatype: &'static str,
    /// -1: a list of any length.
    size: i64,
    optional: bool,
}

fn inputs(task: &Task, version: &Version) -> Vec<TensorInfo> {
    let elements = version.schema.context.iter().map(|element| TensorInfo {
        name: element.name.clone(),
        datatype: if element.kind == ElementType::Number { "FP32" } else { "BYTES" },
        size: if element.kind == ElementType::IdList { -1 } else { 1 },
        optional: !task.required.contains(&element.name),
    });
    let ids = [ITEM_IDS, EXCLUDE_IDS].map(|name| list(name, "BYTES"));
    elements.chain(ids).collect()
}

fn outputs() -> [TensorInfo; 3] {
    [list(SCORES, "FP32"), list(ITEM_IDS, "BYTES"), list(UNKNOWN_IDS, "BYTES")]
}

fn list(name: &str, datatype: &'static str) -> TensorInfo {
    TensorInfo { name: name.to_owned(), datatype, size: -1, optional: true }
}

pub(crate) fn metadata(task: &Task, version: &Version) -> pb::ModelMetadataResponse {
    let tensor = |info: TensorInfo| pb::model_metadata_response::TensorMetadata {
        name: info.name,
        datatype: info.datatype.to_owned(),
        shape: vec![info.size],
    };
    pb::ModelMetadataResponse {
        name: task.name.to_string(),
        versions: vec![version.name.to_string()],
        platform: NAME.to_owned(),
        inputs: inputs(task, version).into_iter().map(tensor).collect(),
        outputs: outputs().into_iter().map(tensor).collect(),
    }
}

pub(crate) fn config(task: &Task, version: &Version) -> pb::ModelConfig {
    let data_type = |datatype| match datatype {
        "FP32" => pb::DataType::TypeFp32,
        _ => pb::DataType::TypeString,
    };
    pb::ModelConfig {
        name: task.name.to_string(),
        platform: NAME.to_owned(),
        backend: NAME.to_owned(),
        max_batch_size: 0,
        input: inputs(task, version)
            .into_iter()
            .map(|info| pb::ModelInput {
                data_type: data_type(info.datatype).into(),
                dims: vec![info.size],
                optional: info.optional,
                name: info.name,
            })
            .collect(),
        output: outputs()
            .into_iter()
            .map(|info| pb::ModelOutput {
                data_type: data_type(info.datatype).into(),
                dims: vec![info.size],
                name: info.name,
            })
            .collect(),
    }
}

pub(crate) fn statistics(front: &Front, task: &Task) -> pb::ModelStatistics {
    let statistics = front.ranking.statistics(&task.name);
    let duration = |timing: Timing| {
        let ns = u64::try_from(timing.total.as_nanos()).unwrap_or(u64::MAX);
        Some(pb::StatisticDuration { count: timing.count, ns })
    };
    let last = statistics.last.and_then(|last| last.duration_since(UNIX_EPOCH).ok());
    pb::ModelStatistics {
        name: task.name.to_string(),
        version: version_name(task),
        last_inference: last.map_or(0, |last| u64::try_from(last.as_millis()).unwrap_or(u64::MAX)),
        inference_count: statistics.success.count,
        execution_count: statistics.executions,
        inference_stats: Some(pb::InferStatistics {
            success: duration(statistics.success),
            fail: duration(statistics.failure),
            queue: duration(statistics.queue),
            compute_input: duration(statistics.encode),
            compute_infer: duration(statistics.compute),
            compute_output: duration(statistics.serialise),
            cache_hit: duration(statistics.cache_hit),
            cache_miss: duration(statistics.cache_miss),
        }),
    }
}

/// Whether the server answers.
pub(crate) fn is_ready(front: &Front) -> bool {
    *front.ranking.readiness().borrow() == Readiness::Ready
}

/// The index of all models, or of those that are ready.
pub(crate) fn index(front: &Front, ready_only: bool) -> Vec<pb::repository_index_response::ModelIndex> {
    let readiness = front.ranking.readiness().borrow().clone();
    let tasks = front.ranking.tasks();
    let models = tasks.iter().map(|task| (task, readiness.problem(task)));
    let wanted = models.filter(|(_, problem)| problem.is_none() || !ready_only);
    let model = |(task, problem): (&Arc<Task>, Option<String>)| pb::repository_index_response::ModelIndex {
        name: task.name.to_string(),
        version: version_name(task),
        state: if problem.is_none() { "READY" } else { "UNAVAILABLE" }.to_owned(),
        reason: problem.unwrap_or_default(),
    };
    wanted.map(model).collect()
}

/// Empty where none answers.
fn version_name(task: &Task) -> String {
    task.version.as_ref().map_or(String::new(), |version| version.name.to_string())
}
