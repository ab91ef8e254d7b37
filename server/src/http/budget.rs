//! How much of all requests together the server holds: what comes is bounded before it is known whether it may come in.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::error::RankError;

/// What a request takes beside its body: its header and its task.
const REQUEST: usize = 1 << 10;

/// When to try again: what is held is read and answered within seconds.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Bytes that requests may take from their first byte to their answer.
pub(crate) struct Budget {
    max: usize,
    held: AtomicUsize,
}

impl Budget {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, held: AtomicUsize::new(0) })
    }

    /// Takes what a request needs before its body has come.
    ///
    /// # Errors
    /// [`RankError::Overloaded`]
    pub(crate) fn hold(self: &Arc<Self>) -> Result<Held, RankError> {
        let mut held = Held { budget: self.clone(), bytes: 0 };
        held.add(REQUEST)?;
        Ok(held)
    }
}

/// What one request takes of the budget, until it is dropped.
pub(crate) struct Held {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Held {
    /// Takes more. By what has come, not by what is announced: announcing costs nothing.
    ///
    /// # Errors
    /// [`RankError::Overloaded`]
    pub(crate) fn add(&mut self, bytes: usize) -> Result<(), RankError> {
        let Budget { max, held } = &*self.budget;
        self.bytes += bytes;
        if held.fetch_add(bytes, Ordering::Relaxed) + bytes <= *max {
            return Ok(());
        }
        let reason = format!("requests with {max} bytes are in flight");
        Err(RankError::Overloaded { reason, retry_after: RETRY_AFTER })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
