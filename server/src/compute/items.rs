//! The items' vectors.

use std::num::NonZeroUsize;
use std::ops::Range;

use unimodel_model::error::ModelError;
use unimodel_model::weights::Weights;

use super::aligned::AlignedVec;
use super::kernels::Rows;
use super::threads::in_parallel;

/// Rows that are read together.
const READ_CHUNK: usize = 4096;

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

    /// A tensor `[count, width]`, read on so many threads.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn read(weights: &Weights, name: &str, threads: NonZeroUsize) -> Result<Self, ModelError> {
        let (count, width) = match weights.shape(name)? {
            [count, width] => (*count, *width),
            shape => {
                return Err(ModelError::Weights(format!("tensor `{name}` is {shape:?}, expected rows and columns")));
            }
        };
        let mut matrix = Self::zeros(count, width);
        let stride = matrix.stride;
        let chunks = (0..count).step_by(READ_CHUNK).zip(matrix.data.chunks_mut(READ_CHUNK * stride));
        in_parallel(
            threads,
            chunks,
            || (),
            |(), (first, rows)| read_columns(weights, name, first, rows, stride, 0..width),
        )?;
        Ok(matrix)
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

/// Reads a tensor's rows from the one at `first` on into some columns of rows that are `stride` apart.
///
/// # Errors
/// They cannot be read.
pub(super) fn read_columns(
    weights: &Weights,
    name: &str,
    first: usize,
    rows: &mut [f32],
    stride: usize,
    columns: Range<usize>,
) -> Result<(), ModelError> {
    let width = columns.len();
    if width == stride {
        return weights.read_at(name, first * width, rows);
    }
    let mut dense = vec![0.0; rows.len() / stride * width];
    weights.read_at(name, first * width, &mut dense)?;
    for (row, dense) in rows.chunks_exact_mut(stride).zip(dense.chunks_exact(width)) {
        row[columns.clone()].copy_from_slice(dense);
    }
    Ok(())
}
