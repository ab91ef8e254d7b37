//! The first use of a version, so that its first requests do not pay for what happens only then.

use unimodel_model::context::Context;

use super::version::{LoadError, LoadedVersion};
use crate::compute::engine::Candidates;
use crate::compute::scratch::Scratch;

/// Items that are ranked.
const ITEMS: usize = 1000;

impl LoadedVersion {
    /// Ranks some items once per head: all of the version's memory has been written to a moment ago, so that only code,
    /// and memory of threads, is touched for the first time. Blocks and computes: call it on a thread of low priority.
    ///
    /// # Errors
    /// [`LoadError::UnknownHead`].
    pub fn warm(&self, heads: &[&str]) -> Result<(), LoadError> {
        let parts = self.parts();
        // All elements masked.
        let context = parts.encoder.encode(&Context::new()).unwrap_or_default();
        let mut scratch = Scratch::default();
        let items: Vec<u32> = (0..parts.engine.items().min(ITEMS) as u32).collect();
        for head in heads {
            let context = parts.engine.context(self.head(head)?, &context);
            // Never cancelled, so always there.
            let _ = std::hint::black_box(parts.engine.rank(
                &context,
                Candidates::Items(&items),
                items.len(),
                &mut scratch,
                &mut || true,
            ));
        }
        Ok(())
    }
}
