//! A weight matrix in the order in which the kernels read it.

use super::aligned::AlignedVec;
use super::kernels::Kernels;

/// A weight matrix `[inputs, outputs]`, cut into panels of as many columns as the kernels compute at a time; inside a
/// panel one input's weights follow the other's. The last panel is filled up with zeros.
#[derive(Clone, Debug)]
pub struct Packed {
    inputs: usize,
    outputs: usize,
    panel: usize,
    data: AlignedVec,
}

impl Packed {
    /// Packs a matrix `[inputs, outputs]` in row-major order.
    ///
    /// # Panics
    /// If there are not `inputs · outputs` weights.
    pub fn new(kernels: Kernels, weights: &[f32], inputs: usize, outputs: usize) -> Self {
        assert_eq!(weights.len(), inputs * outputs, "weights of a {inputs} × {outputs} matrix");
        let panel = kernels.panel();
        let mut data = AlignedVec::zeros(inputs * outputs.next_multiple_of(panel));
        for (input, row) in weights.chunks_exact(outputs.max(1)).enumerate() {
            for (index, columns) in row.chunks(panel).enumerate() {
                data[(index * inputs + input) * panel..][..columns.len()].copy_from_slice(columns);
            }
        }
        Self { inputs, outputs, panel, data }
    }

    /// Width of the rows that are multiplied.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Width of the products.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Columns of a panel.
    pub(super) fn panel(&self) -> usize {
        self.panel
    }

    /// The panels, one after the other.
    pub(super) fn data(&self) -> &[f32] {
        &self.data
    }

    /// `item + diag(context) · product`: the weights of the item and of its product with the context as one matrix of
    /// the item, for one context. `folded` keeps its memory from one call to the next.
    pub fn fold(kernels: Kernels, item: &Self, product: &Self, context: &[f32], folded: &mut Self) {
        folded.data.reuse(item.data.len());
        (folded.inputs, folded.outputs, folded.panel) = (item.inputs, item.outputs, item.panel);
        kernels.fold(item, product, context, &mut folded.data);
    }

    /// Room for [`Packed::fold`].
    pub fn empty(kernels: Kernels) -> Self {
        Self::new(kernels, &[], 0, 0)
    }
}
