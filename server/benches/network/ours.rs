//! The networks of the comparison on our kernels.

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::time::Instant;

use unimodel_model::error::ModelError;
use unimodel_model::features::{Encoded, EncodedContext, Encoder};
use unimodel_model::network::{ItemSide, Network, NetworkConfig, RankerConfig};
use unimodel_server::compute::aligned::AlignedVec;
use unimodel_server::compute::engine::{Candidates, Engine};
use unimodel_server::compute::items::ItemMatrix;
use unimodel_server::compute::kernels::{Kernels, Rows};
use unimodel_server::compute::mlp::{DenseWeights, Mlp, MlpWeights};
use unimodel_server::compute::pair::{Pair, PairWeights};
use unimodel_server::compute::scratch::Scratch;

use super::calls::values;
use super::world::{Numbers, catalogue, context, schema, tensors, write};

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

/// The engine over a version of the default sizes, as many items as MovieLens-100K and random weights.
pub(crate) struct Version {
    engine: Engine,
    network: Network,
    items: ItemSide,
    context: EncodedContext,
}

impl Version {
    pub(crate) fn new(kernels: Kernels) -> Result<Self, ModelError> {
        const ITEMS: usize = 1682;
        let mut numbers = Numbers(1);
        let ranker = Some(RankerConfig { hidden: vec![256, 128], candidates: 200 });
        let schema = schema(NetworkConfig { ranker, ..NetworkConfig::default() });
        let catalogue = catalogue(&schema, ITEMS, &mut numbers);
        let tensors = tensors(&schema, ITEMS, &mut numbers);
        let file = tempfile::NamedTempFile::new().expect("a place for a file");
        let weights = write(&tensors, file.path());
        let network = Network::new(&schema, &catalogue, tensors)?;
        let encoder = Encoder::new(&schema, &catalogue);
        // One with all elements, as far as there is one.
        let contexts = (0..200).filter_map(|_| encoder.encode(&context(ITEMS, &mut numbers)).ok());
        let context = contexts.max_by_key(|c| c.iter().filter(|e| **e != Encoded::Masked).count()).unwrap_or_default();
        Ok(Self {
            engine: Engine::new(kernels, &schema, &catalogue, &weights, NonZeroUsize::MIN)?,
            items: network.items(None)?,
            network,
            context,
        })
    }

    /// What one thread answers a request with, from the encoded context to the best ten of all items or the first few.
    pub(crate) fn caller(&self, first: Option<usize>) -> impl FnMut() + use<'_> {
        let ids: Vec<u32> = (0..first.unwrap_or(0) as u32).collect();
        let mut scratch = Scratch::default();
        move || {
            let candidates = if first.is_some() { Candidates::Items(&ids) } else { Candidates::All };
            let context = self.engine.context(0, &self.context);
            black_box(self.engine.rank(&context, candidates, 10, &mut scratch, &mut || true)).expect("nobody cancels");
        }
    }

    /// The context's half alone.
    pub(crate) fn context_half(&self) -> impl FnMut() + use<'_> {
        || drop(black_box(self.engine.context(0, &self.context)))
    }

    /// The same in plain candle; the dot products of all items on top for `dots`.
    pub(crate) fn plain(&self, dots: bool) -> impl FnMut() + use<'_> {
        move || {
            let side = self.network.contexts(&[(&self.context, 0)], None).expect("the context fits the network");
            if dots {
                drop(black_box(self.network.dot_scores(&side, &self.items)));
            }
            drop(black_box(side));
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
