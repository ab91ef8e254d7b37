//! Floats that start on a cache line, so that no vector load straddles two.

use std::ops::{Deref, DerefMut};

/// Bytes of a cache line, and of the widest vector.
const LINE: usize = 64;

/// A slice of floats whose first lies on a 64-byte boundary.
#[derive(Debug, Default)]
pub struct AlignedVec {
    /// Holds the slice and up to a line before it; it never grows, so that the start stays where it is.
    data: Vec<f32>,
    start: usize,
    len: usize,
}

impl AlignedVec {
    /// So many zeros.
    pub fn zeros(len: usize) -> Self {
        let data = vec![0f32; len + LINE / size_of::<f32>()];
        let start = data.as_ptr().align_offset(LINE);
        Self { data, start, len }
    }

    /// Becomes so many floats, in the same memory where that is enough. What they hold is not said.
    pub fn reuse(&mut self, len: usize) -> &mut [f32] {
        if self.data.len() < self.start + len {
            *self = Self::zeros(len);
        }
        self.len = len;
        self
    }
}

impl From<&[f32]> for AlignedVec {
    fn from(values: &[f32]) -> Self {
        let mut copy = Self::zeros(values.len());
        copy.copy_from_slice(values);
        copy
    }
}

impl Clone for AlignedVec {
    fn clone(&self) -> Self {
        Self::from(&self[..])
    }
}

impl Deref for AlignedVec {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.data[self.start..][..self.len]
    }
}

impl DerefMut for AlignedVec {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.data[self.start..][..self.len]
    }
}
