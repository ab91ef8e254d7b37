//! The engine against the plain candle path, for random networks, contexts and candidates.

#![allow(clippy::unwrap_used)]

mod world;

use std::num::NonZeroUsize;

use proptest::prelude::*;
use unimodel_model::Device;
use unimodel_model::bundle::Oracle;
use unimodel_model::features::{EncodedContext, Encoder};
use unimodel_model::network::{LinearConfig, Network, NetworkConfig, RankerConfig};
use unimodel_model::weights::Weights;
use unimodel_server::compute::device;
use unimodel_server::compute::engine::{Candidates, Engine};
use unimodel_server::compute::kernels::{Isa, Kernels};
use unimodel_server::compute::pair::Cancelled;
use unimodel_server::compute::scratch::Scratch;
use unimodel_server::compute::top::Top;
use world::{HEADS, Numbers, catalogue, context, schema, tensors, write};

/// A version and a request.
struct World {
    network: Network,
    weights: Weights,
    items: usize,
    head: usize,
    context: EncodedContext,
    /// Some items, each once, in any order.
    candidates: Vec<u32>,
}

impl World {
    fn new(seed: u64, ranker: Option<RankerConfig>) -> Self {
        let mut numbers = Numbers(seed);
        let items = 1 + numbers.below(300);
        let schema = schema(NetworkConfig {
            width: 1 + numbers.below(40),
            hidden: 1 + numbers.below(50),
            history_width: 1 + numbers.below(20),
            history_decay: vec![0.3, 0.1, 0.02][..1 + numbers.below(3)].to_vec(),
            text_buckets: 64,
            text_width: 1 + numbers.below(40),
            linear: (numbers.below(3) > 0)
                .then(|| LinearConfig { width: 1 + numbers.below(40), ..LinearConfig::default() }),
            ranker,
            ..NetworkConfig::default()
        });
        let catalogue = catalogue(&schema, items, &mut numbers);
        let tensors = tensors(&schema, items, &mut numbers);
        let file = tempfile::NamedTempFile::new().unwrap();
        let weights = write(&tensors, file.path());
        let network = Network::new(&schema, &catalogue, tensors).unwrap();
        let context = Encoder::new(&schema, &catalogue).encode(&context(items, &mut numbers)).unwrap();
        let mut candidates: Vec<u32> = (0..items as u32).collect();
        candidates.sort_by_cached_key(|_| numbers.next());
        candidates.truncate(1 + numbers.below(items));
        Self { network, weights, items, head: numbers.below(HEADS), context, candidates }
    }

    fn engine(&self, kernels: Kernels) -> Engine {
        let (schema, catalogue) = (self.network.schema(), self.network.catalogue());
        Engine::new(kernels, schema, catalogue, &self.weights, THREADS).unwrap()
    }

    /// The scores of all items by plain candle.
    fn expected(&self, candidates: &[u32]) -> Vec<f32> {
        let oracle = Oracle::new(&self.network).unwrap();
        let scores = oracle.score(&[(&self.context, self.head)], |_, item| candidates.contains(&item)).unwrap();
        scores.into_iter().next().unwrap()
    }

    /// By how much the dot product of the last that is ranked again leads over the next: where it does not, rounding
    /// says which of the two is.
    fn lead_at_the_cut(&self, candidates: &[u32]) -> f32 {
        let most = self.network.schema().network.ranker.as_ref().map_or(usize::MAX, |r| r.candidates);
        if candidates.len() <= most {
            return f32::INFINITY;
        }
        let side = self.network.contexts(&[(&self.context, self.head)], None).unwrap();
        let dots = self.network.dot_scores(&side, &self.network.items(None).unwrap()).unwrap();
        let dots = dots.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let mut dots: Vec<f32> = candidates.iter().map(|i| dots[*i as usize]).collect();
        dots.sort_unstable_by(|a, b| b.total_cmp(a));
        dots[most - 1] - dots[most]
    }
}

/// More than one, so that their shares of the items are put together rightly.
const THREADS: NonZeroUsize = NonZeroUsize::new(3).unwrap();

/// Those of every instruction set that this machine has.
fn kernels() -> impl Iterator<Item = Kernels> {
    Isa::ALL.into_iter().filter_map(Kernels::of)
}

/// One with each kind of kernels, and one whose items are on a device: a GPU, or what candle does the same on without one.
fn engines(world: &World) -> impl Iterator<Item = Engine> {
    let device = device::cuda().unwrap_or(Device::Cpu);
    let on_device = world.engine(Kernels::detect()).with_items_on(&device).unwrap();
    kernels().map(|kernels| world.engine(kernels)).chain([on_device])
}

fn rankers() -> impl Strategy<Value = Option<RankerConfig>> {
    let hidden = proptest::collection::vec(1usize..70, 1..4);
    proptest::option::of((hidden, 1usize..120).prop_map(|(hidden, candidates)| RankerConfig { hidden, candidates }))
}

/// Both paths compute in single precision and sum in other orders. The scores here are sums of terms of a few units.
fn near(a: f32, b: f32) -> bool {
    (a - b).abs() <= 1e-4 * b.abs().max(8.0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn scores_and_order_are_those_of_plain_candle(seed: u64, ranker in rankers(), all: bool, limit in 1usize..400) {
        let world = World::new(seed, ranker);
        let everything: Vec<u32> = (0..world.items as u32).collect();
        let ids = if all { &everything } else { &world.candidates };
        prop_assume!(world.lead_at_the_cut(ids) > 1e-3);
        let scores = world.expected(ids);
        let mut best: Vec<f32> = ids.iter().map(|i| scores[*i as usize]).collect();
        best.sort_unstable_by(|a, b| b.total_cmp(a));
        best.truncate(limit);
        for engine in engines(&world) {
            let kernels = engine.kernels();
            let candidates = if all { Candidates::All } else { Candidates::Items(ids) };
            let context = engine.context(world.head, &world.context);
            let got = engine.rank(&context, candidates, limit, &mut Scratch::default(), &mut || true).unwrap();
            prop_assert_eq!(got.len(), best.len());
            for (scored, best) in got.iter().zip(&best) {
                prop_assert!(ids.contains(&scored.item));
                let expected = scores[scored.item as usize];
                prop_assert!(near(scored.score, expected), "{kernels:?} {scored:?} {expected}");
                prop_assert!(near(scored.score, *best), "{kernels:?} {scored:?} in the place of {best}");
            }
        }
    }

    #[test]
    fn parts_give_the_same_to_the_last_bit(
        seed: u64,
        ranker in rankers(),
        limit in 1usize..400,
        cut in 0.0..1.0,
    ) {
        let world = World::new(seed, ranker);
        let candidates = Candidates::Items(&world.candidates);
        let count = world.candidates.len();
        let at = |n: usize| (cut * n as f64) as usize;
        for kernels in kernels() {
            let engine = world.engine(kernels);
            let context = engine.context(world.head, &world.context);
            let mut scratch = Scratch::default();
            let whole = engine.rank(&context, candidates, limit, &mut scratch, &mut || true).unwrap();
            let mut tops = [0..at(count), at(count)..count].map(|part| {
                let mut top = Top::new(engine.keep(limit));
                engine.retrieve(&context, candidates, part, &mut top, &mut scratch, &mut || true).unwrap();
                top
            });
            let [first, second] = &mut tops;
            first.merge(second.clone());
            let mut kept = first.clone().into_sorted();
            let reranked = engine.reranked(kept.len());
            let (left, right) = kept[..reranked].split_at_mut(at(reranked));
            // A thread's own scratch, not that of the other part.
            engine.rerank(&context, right, &mut Scratch::default(), &mut || true).unwrap();
            engine.rerank(&context, left, &mut scratch, &mut || true).unwrap();
            prop_assert_eq!(engine.finish(kept, limit), whole);
        }
    }

    #[test]
    fn a_cancelled_request_stops_at_the_next_chunk(seed: u64, ranker in rankers(), after in 0usize..6) {
        let world = World::new(seed, ranker);
        let engine = world.engine(Kernels::detect());
        let context = engine.context(world.head, &world.context);
        let rank = |scratch: &mut Scratch, go_on: &mut dyn FnMut() -> bool| {
            engine.rank(&context, Candidates::All, 10, scratch, go_on)
        };
        let mut scratch = Scratch::default();
        let mut chunks = 0;
        let whole = rank(&mut scratch, &mut || { chunks += 1; true }).unwrap();
        let mut asked = 0;
        let got = rank(&mut scratch, &mut || { asked += 1; asked <= after });
        if after < chunks {
            prop_assert_eq!(got, Err(Cancelled));
            prop_assert_eq!(asked, after + 1);
        } else {
            prop_assert_eq!(got, Ok(whole.clone()));
        }
        // What was given up leaves nothing behind.
        prop_assert_eq!(rank(&mut scratch, &mut || true).unwrap(), whole);
    }
}
