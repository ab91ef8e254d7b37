//! Texts as unit vectors, of queries and of items alike.

use unimodel_model::error::ModelError;
use unimodel_model::network::Network;

use super::items::ItemMatrix;
use super::kernels::Kernels;
use super::tensor::{floats, values};
use super::vector::EPSILON;

/// The n-grams' vectors.
#[derive(Clone, Debug)]
pub(super) struct TextTable {
    kernels: Kernels,
    rows: ItemMatrix,
    idf: Vec<f32>,
}

impl TextTable {
    pub(super) fn new(kernels: Kernels, network: &Network) -> Result<Self, ModelError> {
        let width = network.schema().network.text_width;
        Ok(Self {
            kernels,
            rows: ItemMatrix::new(&values(network.tensor("text.table"))?, width),
            idf: floats(network.tensor("text.log_idf"))?.into_iter().map(f32::exp).collect(),
        })
    }

    /// Width of the vectors.
    pub(super) fn width(&self) -> usize {
        self.rows.width()
    }

    /// Adds the unit vector of a text that is given by its n-grams to zeros; leaves them for a text without.
    ///
    /// # Panics
    /// If the vector is not as wide, or an n-gram is not in the table.
    pub(super) fn add_unit_vector(&self, grams: &[(u32, f32)], vector: &mut [f32]) {
        let (buckets, weights): (Vec<u32>, Vec<f32>) =
            grams.iter().map(|&(bucket, count)| (bucket, count * self.idf[bucket as usize])).unzip();
        self.kernels.add_weighted_sum(self.rows.some(&buckets, self.width()), &weights, vector);
        let scale = 1.0 / (vector.iter().map(|x| x * x).sum::<f32>() + EPSILON).sqrt();
        vector.iter_mut().for_each(|x| *x *= scale);
    }
}
