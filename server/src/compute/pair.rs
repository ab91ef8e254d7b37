//! A perceptron over pairs of a context and an item, with its first layer taken apart.
//!
//! The first layer of a network over `[context; item; context ⊙ item]` is a sum of three products:
//! `context · C + item · I + (context ⊙ item) · P`. The first is the same for all items of a request. The last two are
//! `item · (I + diag(context) · P)`: folding the weights for a request costs as much as one item, and what is left
//! per item is one product as wide as the item. Without `P`, `item · I` is the same for all requests of a version and
//! is computed once for it.

use super::items::ItemMatrix;
use super::kernels::{Activation, Kernels, Rows};
use super::mlp::{Dense, DenseWeights, Mlp, MlpWeights};
use super::packed::Packed;
use super::scratch::Scratch;

/// Rows that are scored together: few enough that a chunk's time bounds how late a cancellation is seen and that the
/// layers' outputs stay in the second cache, many enough that reading the weights is hidden behind the arithmetic.
const CHUNK: usize = 48;

/// The perceptron as it is stored. ReLU follows the first layer.
#[derive(Clone, Debug, PartialEq)]
pub struct PairWeights {
    /// The context's part of the first layer, `[context, hidden]`, with the layer's bias.
    pub context: DenseWeights,
    /// The item's part, `[item, hidden]`.
    pub item: Vec<f32>,
    /// The part of the product of the two, `[item, hidden]`, where there is one; the context is then as wide as the item.
    pub product: Option<Vec<f32>>,
    /// What follows the first layer.
    pub rest: MlpWeights,
}

/// The perceptron over the items of one version, packed.
#[derive(Clone, Debug)]
pub struct Pair {
    kernels: Kernels,
    context: Dense,
    item: ItemPart,
    rest: Mlp,
}

/// What is known of `item · I` before a request.
#[derive(Clone, Debug)]
enum ItemPart {
    /// The weights, to be folded.
    Weights { item: Packed, product: Packed },
    /// The products of all items.
    Products(ItemMatrix),
}

/// Scoring was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cancelled")]
pub struct Cancelled;

/// The context's side of all pairs of a request.
#[derive(Clone, Debug)]
pub struct PairContext {
    vector: Vec<f32>,
    /// Its part of the first layer.
    half: Vec<f32>,
}

impl Pair {
    /// Packs the perceptron over those items, all of the version's.
    ///
    /// # Panics
    /// If the sizes do not fit.
    pub fn new(kernels: Kernels, weights: &PairWeights, items: Rows) -> Self {
        let (width, hidden) = (items.width(), weights.context.outputs);
        let item = Packed::new(kernels, &weights.item, width, hidden);
        let item = match &weights.product {
            Some(product) => {
                assert_eq!(weights.context.inputs, width, "a product needs context and item of one width");
                ItemPart::Weights { item, product: Packed::new(kernels, product, width, hidden) }
            }
            None => {
                let mut products = ItemMatrix::zeros(items.count(), hidden);
                let zero = vec![0.0; hidden];
                for row in 0..items.count() {
                    let out = products.row_mut(row as u32);
                    kernels.linear(items.part(row, 1), &item, &zero, Activation::Identity, out);
                }
                ItemPart::Products(products)
            }
        };
        let rest = Mlp::new(kernels, &weights.rest);
        assert_eq!(rest.inputs(), hidden, "width behind the first layer");
        Self { kernels, context: Dense::new(kernels, &weights.context), item, rest }
    }

    /// The context's part of the first layer, once for a request. `bias` comes on top, such as that of a head.
    ///
    /// # Panics
    /// If the context or the bias is not as wide as the layer takes.
    pub fn context(&self, vector: &[f32], bias: &[f32]) -> PairContext {
        let mut half = vec![0.0; self.context.outputs()];
        assert_eq!(bias.len(), half.len(), "length of the bias");
        let x = Rows::dense(vector, vector.len(), vector.len(), 1);
        self.context.apply(self.kernels, x, Activation::Identity, &mut half);
        half.iter_mut().zip(bias).for_each(|(half, bias)| *half += bias);
        PairContext { vector: vector.to_vec(), half }
    }

    /// Adds the perceptron's output for each pair of the context and one of `ids` to `scores`. `items` are those of
    /// [`Pair::new`].
    ///
    /// # Errors
    /// [`Cancelled`] once `go_on` says no; it is asked before every chunk of rows.
    ///
    /// # Panics
    /// If a width or length does not fit or there is no such item.
    pub fn add_scores(
        &self,
        context: &PairContext,
        items: &ItemMatrix,
        ids: &[u32],
        scratch: &mut Scratch,
        scores: &mut [f32],
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<(), Cancelled> {
        assert_eq!(scores.len(), ids.len(), "length of the scores");
        let hidden = self.context.outputs();
        let Scratch { layers, first, folded, .. } = scratch;
        let folded = folded.get_or_insert_with(|| Packed::empty(self.kernels));
        if let ItemPart::Weights { item, product } = &self.item {
            Packed::fold(self.kernels, item, product, &context.vector, folded);
        }
        for (ids, scores) in ids.chunks(CHUNK).zip(scores.chunks_mut(CHUNK)) {
            if !go_on() {
                return Err(Cancelled);
            }
            let first = first.reuse(ids.len() * hidden);
            match &self.item {
                ItemPart::Weights { item, .. } => {
                    let x = items.some(ids, item.inputs());
                    self.kernels.linear(x, folded, &context.half, Activation::Relu, first);
                }
                ItemPart::Products(products) => {
                    self.kernels.add_relu(products.some(ids, hidden), &context.half, first);
                }
            }
            self.rest.add_scores(Rows::dense(first, hidden, hidden, ids.len()), layers, scores);
        }
        Ok(())
    }
}
