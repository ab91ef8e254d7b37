//! The first touch of a version's memory, so that its first requests do not pay for it.

use unimodel_model::context::Context;

use super::version::{LoadError, LoadedVersion};
use crate::compute::engine::Candidates;
use crate::compute::scratch::Scratch;

impl LoadedVersion {
    /// Ranks the whole catalogue once per head. Blocks and computes: call it on a thread of low priority.
    ///
    /// # Errors
    /// [`LoadError::UnknownHead`].
    pub fn warm(&self, heads: &[&str]) -> Result<(), LoadError> {
        let parts = self.parts();
        // All elements masked.
        let context = parts.encoder.encode(&Context::new()).unwrap_or_default();
        let mut scratch = Scratch::default();
        for head in heads {
            let context = parts.engine.context(self.head(head)?, &context);
            // Never cancelled, so always there.
            let _ = std::hint::black_box(parts.engine.rank(&context, Candidates::All, 1, &mut scratch, &mut || true));
        }
        Ok(())
    }
}
