//! Floats that start on a cache line, so that no vector load straddles two.

use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

/// Bytes of a cache line, and of the widest vector.
const LINE: usize = 64;

/// From so many bytes on memory comes from the system in large pages, where it has some: a table of many items is filled
/// with a five-hundredth of the page faults, rows from all over it are found with fewer misses, and it goes back at once.
const LARGE: usize = 1 << 20;

/// A slice of floats whose first lies on a 64-byte boundary.
#[derive(Debug)]
pub struct AlignedVec {
    memory: Memory,
    start: usize,
    len: usize,
}

#[derive(Debug)]
enum Memory {
    /// Holds the slice and up to a line before it; it never grows, so that the start stays where it is.
    Small(Vec<f32>),
    /// Of whole pages.
    Large(MmapMut),
}

impl AlignedVec {
    /// So many zeros.
    pub fn zeros(len: usize) -> Self {
        if let Some(pages) = pages(len * size_of::<f32>()) {
            return Self { memory: Memory::Large(pages), start: 0, len };
        }
        let data = vec![0f32; len + LINE / size_of::<f32>()];
        let start = data.as_ptr().align_offset(LINE);
        Self { memory: Memory::Small(data), start, len }
    }

    /// Becomes so many floats, in the same memory where that is enough. What they hold is not said.
    pub fn reuse(&mut self, len: usize) -> &mut [f32] {
        let room = match &self.memory {
            Memory::Small(data) => data.len() - self.start,
            Memory::Large(pages) => pages.len() / size_of::<f32>(),
        };
        if room < len {
            *self = Self::zeros(len);
        }
        self.len = len;
        self
    }
}

/// Zeroed pages for something large. `None` leaves it to the allocator, which has its own way when memory is short.
fn pages(bytes: usize) -> Option<MmapMut> {
    if bytes < LARGE {
        return None;
    }
    let pages = MmapMut::map_anon(bytes).ok()?;
    // Only a wish.
    #[cfg(target_os = "linux")]
    let _ = pages.advise(memmap2::Advice::HugePage);
    Some(pages)
}

impl Default for AlignedVec {
    fn default() -> Self {
        Self::zeros(0)
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
        let all = match &self.memory {
            Memory::Small(data) => &data[self.start..],
            Memory::Large(pages) => bytemuck::cast_slice(pages),
        };
        &all[..self.len]
    }
}

impl DerefMut for AlignedVec {
    fn deref_mut(&mut self) -> &mut [f32] {
        let all = match &mut self.memory {
            Memory::Small(data) => &mut data[self.start..],
            Memory::Large(pages) => bytemuck::cast_slice_mut(pages),
        };
        &mut all[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_large_ones_are_aligned_zeros_that_can_be_filled_and_copied() {
        for len in [0, 1, 100, LARGE / 4 - 1, LARGE / 4, LARGE / 4 + 3] {
            let mut floats = AlignedVec::zeros(len);
            assert_eq!((floats.len(), floats.as_ptr().align_offset(LINE)), (len, 0));
            assert!(floats.iter().all(|x| *x == 0.0));
            floats.iter_mut().zip(0u32..).for_each(|(x, i)| *x = i as f32);
            let copy = floats.clone();
            assert_eq!((&copy[..], copy.as_ptr().align_offset(LINE)), (&floats[..], 0));
            assert_eq!(floats.reuse(len / 2).len(), len / 2);
            assert_eq!(floats.reuse(len + 1).len(), len + 1);
            assert_eq!(floats.as_ptr().align_offset(LINE), 0);
        }
    }
}
