//! How much of all requests together a process holds: what comes is bounded before it is known whether it may come in.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;

/// What a request takes beside its body: its header and its task.
const REQUEST: usize = 1 << 10;

/// When to try again: what is held is read and answered within seconds.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Nothing more can be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("requests with {max} bytes are in flight")]
pub struct Full {
    /// The budget.
    pub max: usize,
}

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
    pub(crate) fn hold(self: &Arc<Self>) -> Result<Held, Full> {
        let mut held = Held { budget: self.clone(), bytes: 0 };
        held.add(REQUEST)?;
        Ok(held)
    }
}

/// What one request takes of the budget, until it is dropped.
pub struct Held {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Held {
    /// Takes more. By what has come, not by what is announced: announcing costs nothing.
    pub(crate) fn add(&mut self, bytes: usize) -> Result<(), Full> {
        let Budget { max, held } = &*self.budget;
        self.bytes += bytes;
        if held.fetch_add(bytes, Ordering::Relaxed) + bytes <= *max {
            return Ok(());
        }
        Err(Full { max: *max })
    }

    /// A body that takes this until its last copy is gone.
    pub fn within(self, body: Bytes) -> Bytes {
        Bytes::from_owner(HeldBody { body, _held: self })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

struct HeldBody {
    body: Bytes,
    _held: Held,
}

impl AsRef<[u8]> for HeldBody {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_the_budget_is_refused_and_what_goes_is_free_again() {
        let budget = Budget::new(3 * REQUEST);
        let mut first = budget.hold().unwrap();
        first.add(REQUEST).unwrap();
        let second = budget.hold().unwrap();
        assert_eq!(budget.hold().err(), Some(Full { max: 3 * REQUEST }));
        drop(second);
        assert!(budget.hold().is_ok());
        // What did not fit is given back too.
        assert!(first.add(2 * REQUEST).is_err());
        drop(first);
        assert_eq!(budget.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_body_is_held_until_its_last_copy_is_gone() {
        for content in ["", "body"] {
            let budget = Budget::new(REQUEST);
            let body = budget.hold().unwrap().within(content.into());
            let copy = body.clone();
            drop(body);
            assert!(budget.hold().is_err());
            assert_eq!(copy, content);
            drop(copy);
            assert!(budget.hold().is_ok());
        }
    }
}
