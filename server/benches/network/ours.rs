//! The networks of the comparison on our kernels.

use std::hint::black_box;
use std::time::Instant;

use unimodel_server::compute::aligned::AlignedVec;
use unimodel_server::compute::items::ItemMatrix;
use unimodel_server::compute::kernels::{Kernels, Rows};
use unimodel_server::compute::mlp::{DenseWeights, Mlp, MlpWeights};
use unimodel_server::compute::pair::{Pair, PairWeights};
use unimodel_server::compute::scratch::Scratch;

use super::values;

/// Rows that go through the layers together.
const CHUNK: usize = 48;

fn dense(inputs: usize, outputs: usize) -> DenseWeights {
    DenseWeights { inputs, outputs, weights: values(inputs * outputs, inputs), bias: values(outputs, 100) }
}

fn mlp(widths: &[usize]) -> MlpWeights {
    let (out, hidden) = widths.split_last().map(|(_, hidden)| (hidden[hidden.len() - 1], hidden)).unwrap_or((0, &[]));
    MlpWeights { hidden: hidden.windows(2).map(|w| dense(w[0], w[1])).collect(), out: values(out, out), out_bias: 0.1 }
}

/// A network over dense rows.
pub(crate) struct Flat {
    mlp: Mlp,
    width: usize,
}

impl Flat {
    pub(crate) fn new(kernels: Kernels, widths: &[usize]) -> Self {
        Self { mlp: Mlp::new(kernels, &mlp(widths)), width: widths[0] }
    }

    /// What one thread scores rows with.
    pub(crate) fn caller(&self, rows: usize) -> impl FnMut() + use<'_> {
        let x = AlignedVec::from(&values(rows * self.width, 1)[..]);
        let (mut layers, mut scores) = (Default::default(), vec![0f32; rows]);
        move || {
            let x = Rows::dense(&x, self.width, self.width, rows);
            for (chunk, scores) in scores.chunks_mut(CHUNK).enumerate() {
                scores.fill(0.0);
                self.mlp.add_scores(x.part(chunk * CHUNK, scores.len()), &mut layers, scores);
            }
            black_box(&mut scores);
        }
    }
}

/// A network over a context and items of a catalogue.
pub(crate) struct Pairs {
    pair: Pair,
    items: ItemMatrix,
    context: Vec<f32>,
    hidden: usize,
}

impl Pairs {
    /// `widths` are those behind the first layer's input.
    pub(crate) fn new(kernels: Kernels, context: usize, item: usize, product: bool, widths: &[usize]) -> Self {
        const CATALOGUE: usize = 20_000;
        let weights = PairWeights {
            context: dense(context, widths[0]),
            item: values(item * widths[0], item),
            product: product.then(|| values(item * widths[0], item)),
            rest: mlp(widths),
        };
        let items = ItemMatrix::new(&values(CATALOGUE * item, 1), item);
        let pair = Pair::new(kernels, &weights, items.all(item));
        Self { pair, items, context: values(context, 1), hidden: widths[0] }
    }

    /// What one thread ranks so many candidates with, other ones in each call: the context's half, the gathering of
    /// the items and the layers.
    pub(crate) fn caller(&self, candidates: usize) -> impl FnMut() + use<'_> {
        let (mut scratch, bias) = (Scratch::default(), vec![0f32; self.hidden]);
        let (mut ids, mut scores) = (vec![0u32; candidates], vec![0f32; candidates]);
        let mut seed = 1u32;
        move || {
            for id in &mut ids {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *id = (seed >> 8) % self.items.count() as u32;
            }
            scores.fill(0.0);
            let context = self.pair.context(&self.context, &bias);
            let done = self.pair.add_scores(&context, &self.items, &ids, &mut scratch, &mut scores, &mut || true);
            black_box((done, &mut scores)).0.expect("nobody cancels");
        }
    }
}

/// Seconds of so many calls.
pub(crate) fn time(mut call: impl FnMut(), repeats: usize) -> f64 {
    (0..1 + repeats / 10).for_each(|_| call());
    let start = Instant::now();
    (0..repeats).for_each(|_| call());
    start.elapsed().as_secs_f64()
}
