//! The items' vectors.

use super::aligned::AlignedVec;
use super::kernels::Rows;

/// One row per item, at the start of a cache line each.
#[derive(Clone, Debug)]
pub struct ItemMatrix {
    data: AlignedVec,
    width: usize,
    stride: usize,
    count: usize,
}

impl ItemMatrix {
    /// So many rows of zeros.
    pub fn zeros(count: usize, width: usize) -> Self {
        let stride = width.next_multiple_of(16);
        Self { data: AlignedVec::zeros(count * stride), width, stride, count }
    }

    /// A copy of `[count, width]` in row-major order.
    ///
    /// # Panics
    /// If there are no whole rows.
    pub fn new(rows: &[f32], width: usize) -> Self {
        assert!(width > 0 && rows.len().is_multiple_of(width), "{} floats in rows of {width}", rows.len());
        let mut matrix = Self::zeros(rows.len() / width, width);
        for (item, row) in rows.chunks_exact(width).enumerate() {
            matrix.row_mut(item as u32).copy_from_slice(row);
        }
        matrix
    }

    /// How many items there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// How wide a row is.
    pub fn width(&self) -> usize {
        self.width
    }

    /// An item's row.
    ///
    /// # Panics
    /// If there is no such item.
    pub fn row(&self, item: u32) -> &[f32] {
        &self.data[item as usize * self.stride..][..self.width]
    }

    /// An item's row, to fill.
    ///
    /// # Panics
    /// If there is no such item.
    pub fn row_mut(&mut self, item: u32) -> &mut [f32] {
        &mut self.data[item as usize * self.stride..][..self.width]
    }

    /// From the start of a row to that of the next.
    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// All rows, a stride apart, to fill.
    pub(super) fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }

    /// The first `width` columns of all rows.
    ///
    /// # Panics
    /// If the rows are not as wide.
    pub fn all(&self, width: usize) -> Rows<'_> {
        assert!(width <= self.width, "{width} columns of {}", self.width);
        Rows::dense(&self.data, self.stride, width, self.count)
    }

    /// The first `width` columns of some rows.
    ///
    /// # Panics
    /// If the rows are not as wide or there is no such item.
    pub fn some<'a>(&'a self, ids: &'a [u32], width: usize) -> Rows<'a> {
        assert!(width <= self.width, "{width} columns of {}", self.width);
        Rows::gathered(&self.data, self.stride, width, ids)
    }
}
