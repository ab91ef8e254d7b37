//! `ModelStatistics` of Open Inference Protocol v2 as JSON.

use serde_json::{Value, json};
use unimodel_protocol::inference as pb;

/// What `/v2/models/{model}/stats` says of a model.
pub fn print(statistics: pb::ModelStatistics) -> Value {
    let all = statistics.inference_stats.unwrap_or_default();
    let duration = |d: Option<pb::StatisticDuration>| {
        let d = d.unwrap_or_default();
        json!({ "count": d.count, "ns": d.ns })
    };
    json!({
        "name": statistics.name,
        "version": statistics.version,
        "last_inference": statistics.last_inference,
        "inference_count": statistics.inference_count,
        "execution_count": statistics.execution_count,
        "inference_stats": {
            "success": duration(all.success),
            "fail": duration(all.fail),
            "queue": duration(all.queue),
            "compute_input": duration(all.compute_input),
            "compute_infer": duration(all.compute_infer),
            "compute_output": duration(all.compute_output),
            "cache_hit": duration(all.cache_hit),
            "cache_miss": duration(all.cache_miss),
        },
        "batch_stats": [],
    })
}
