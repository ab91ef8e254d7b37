//! Items in the memory of a device: their dot products are computed there.
//!
//! A context is encoded on the processor, which takes microseconds, and so is what the ranker makes of the best few. What
//! grows with the catalogue are the dot products: their matrix lies on the device, a query of a few hundred floats goes
//! there, and scores come back.

use std::ops::Range;

use candle_core::{Device, Result, Tensor};

use super::engine::Candidates;
use super::items::ItemMatrix;

/// A device that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// This build knows no such device.
    #[error(
        "device `{0}` needs a build with the cargo feature `{0}`, which this release does not have; use `device: cpu`"
    )]
    NotBuilt(&'static str),
    /// There is none, or its driver is missing.
    #[error("device `{device}` cannot be used: {source}")]
    Missing {
        /// Its name.
        device: &'static str,
        /// Why.
        #[source]
        source: candle_core::Error,
    },
}

/// The first GPU.
///
/// # Errors
/// A build without the feature `cuda`, or a machine without a GPU that can be used.
pub fn cuda() -> std::result::Result<Device, DeviceError> {
    if cfg!(feature = "cuda") {
        Device::new_cuda(0).map_err(|source| DeviceError::Missing { device: "cuda", source })
    } else {
        Err(DeviceError::NotBuilt("cuda"))
    }
}

/// The items of one version on a device.
#[derive(Debug)]
pub struct DeviceItems {
    /// `[items, width]`
    rows: Tensor,
    /// Of each head `[items, 1]`.
    biases: Vec<Tensor>,
}

impl DeviceItems {
    /// Copies the items and each head's biases to the device.
    ///
    /// # Errors
    /// The device, such as one whose memory is full.
    pub fn new<'a>(items: &ItemMatrix, biases: impl Iterator<Item = &'a [f32]>, device: &Device) -> Result<Self> {
        let (count, width) = (items.count(), items.width());
        let rows: Vec<f32> = (0..count as u32).flat_map(|item| items.row(item).iter().copied()).collect();
        let bias = |bias: &[f32]| Tensor::from_slice(bias, (count, 1), device);
        Ok(Self {
            rows: Tensor::from_vec(rows, (count, width), device)?,
            biases: biases.map(bias).collect::<Result<_>>()?,
        })
    }

    /// The scores of a part of the candidates: dot products with the query, which may be narrower than the rows, and the
    /// head's biases.
    ///
    /// # Errors
    /// The device.
    pub fn scores(
        &self,
        head: usize,
        query: &[f32],
        candidates: Candidates<'_>,
        part: Range<usize>,
    ) -> Result<Vec<f32>> {
        let device = self.rows.device();
        let query = Tensor::from_slice(query, (query.len(), 1), device)?;
        let (rows, bias) = match candidates {
            Candidates::All => {
                let some = |all: &Tensor| all.narrow(0, part.start, part.len());
                (some(&self.rows)?, some(&self.biases[head])?)
            }
            Candidates::Items(ids) => {
                let ids = Tensor::from_slice(&ids[part.clone()], part.len(), device)?;
                (self.rows.index_select(&ids, 0)?, self.biases[head].index_select(&ids, 0)?)
            }
        };
        let width = query.dim(0)?;
        let rows = if width < rows.dim(1)? { rows.narrow(1, 0, width)?.contiguous()? } else { rows };
        (rows.matmul(&query)? + bias)?.flatten_all()?.to_vec1()
    }
}
