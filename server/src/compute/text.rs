//! Texts as unit vectors, of queries and of items alike.

use std::num::NonZeroUsize;

use unimodel_model::error::ModelError;
use unimodel_model::weights::Weights;

use super::items::ItemMatrix;
use super::kernels::{Activation, Kernels};
use super::packed::Packed;
use super::vector::unit_scale;

/// The n-grams' vectors.
#[derive(Clone, Debug)]
pub(super) struct TextTable {
    kernels: Kernels,
    rows: ItemMatrix,
    idf: Vec<f32>,
}

impl TextTable {
    pub(super) fn new(kernels: Kernels, weights: &Weights) -> Result<Self, ModelError> {
        Ok(Self {
            kernels,
            rows: ItemMatrix::read(weights, "text.table", NonZeroUsize::MIN)?,
            idf: weights.read("text.log_idf")?.into_iter().map(f32::exp).collect(),
        })
    }

    /// Width of the vectors.
    pub(super) fn width(&self) -> usize {
        self.rows.width()
    }

    /// The table with the product of each row and some weights beside it, `[n-grams, width + outputs]`.
    pub(super) fn beside_product(&self, weights: &Packed) -> ItemMatrix {
        let (width, outputs, count) = (self.width(), weights.outputs(), self.rows.count());
        let mut products = vec![0.0; count * outputs];
        self.kernels.linear(self.rows.all(width), weights, &vec![0.0; outputs], Activation::Identity, &mut products);
        let mut both = ItemMatrix::zeros(count, width + outputs);
        for (gram, product) in (0..count as u32).zip(products.chunks_exact(outputs.max(1))) {
            let row = both.row_mut(gram);
            row[..width].copy_from_slice(self.rows.row(gram));
            row[width..].copy_from_slice(product);
        }
        both
    }

    /// Adds the unit vector of a text that is given by its n-grams to zeros; leaves them for a text without.
    ///
    /// # Panics
    /// If the vector is not as wide, or an n-gram is not in the table.
    pub(super) fn add_unit_vector(&self, grams: &[(u32, f32)], vector: &mut [f32]) {
        self.add_weighted_sum(&self.rows, grams, vector);
        let scale = unit_scale(vector);
        vector.iter_mut().for_each(|x| *x *= scale);
    }

    /// Adds the n-grams' rows of a table by how much each says.
    ///
    /// # Panics
    /// If the sum is not as wide as the table, or an n-gram is not in it.
    pub(super) fn add_weighted_sum(&self, table: &ItemMatrix, grams: &[(u32, f32)], sum: &mut [f32]) {
        let (buckets, weights): (Vec<u32>, Vec<f32>) =
            grams.iter().map(|&(bucket, count)| (bucket, count * self.idf[bucket as usize])).unzip();
        self.kernels.add_weighted_sum(table.some(&buckets, table.width()), &weights, sum);
    }
}
