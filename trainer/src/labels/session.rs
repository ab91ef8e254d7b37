//! The SQL engine with a bound on its memory.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use datafusion::execution::SessionStateBuilder;
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::LabelError;

/// Memory of sorts, joins and aggregates; beyond it they spill. Larger tables take longer, not more memory.
const MEMORY: usize = 128 << 20;

/// Spilled runs that are merged at once, each with two batches in memory.
const MERGED_RUNS: usize = 8;

/// Rows of one batch. Rows with a long history are wide, and merging spilled runs holds a batch of each.
const BATCH_ROWS: usize = 1024;

/// A fresh session that spills into that folder.
pub(super) fn context(spill: &Path) -> Result<SessionContext, LabelError> {
    // One partition: several would share the memory, and how many fit depends on the machine.
    let mut config = SessionConfig::new().with_batch_size(BATCH_ROWS).with_target_partitions(1);
    let options = config.options_mut();
    // Errors then know line and column.
    options.sql_parser.collect_spans = true;
    // String views keep the whole buffers alive that they point into, which the memory bound does not see.
    options.sql_parser.map_string_types_to_utf8view = false;
    options.execution.parquet.schema_force_view_types = false;
    // Which table of a join is held in memory is then the author's choice, the first one, and not an estimate's: how
    // wide a history will be is what no statistics say.
    options.optimizer.join_reordering = false;
    let pool = TrackConsumersPool::new(FairSpillPool::new(MEMORY), NonZeroUsize::MIN);
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(pool))
        .with_temp_file_path(spill)
        .with_max_spill_merge_fan_in(MERGED_RUNS)
        .build_arc()?;
    let state = SessionStateBuilder::new().with_config(config).with_runtime_env(runtime).with_default_features();
    Ok(SessionContext::new_with_state(state.build()))
}
