//! One version: from encoded contexts and candidates to the best items.
//!
//! ```text
//! context ──► Engine::context ──► Context ──┬─► Engine::retrieve, part by part ──► Top ──► Engine::rerank ──► Engine::finish
//! ```
//! [`Engine::rank`] does all on one thread. A scheduler that shares a request among threads calls the steps: they take
//! any part of the candidates, and [`Top::merge`] puts the parts together.

use std::num::NonZeroUsize;
use std::ops::Range;

use candle_core::Device;
use unimodel_model::bundle::LEFT_BEHIND;
use unimodel_model::catalogue::Catalogue;
use unimodel_model::error::ModelError;
use unimodel_model::features::EncodedContext;
use unimodel_model::network::ItemReader;
use unimodel_model::schema::Schema;
use unimodel_model::weights::Weights;

use super::context::ContextEncoder;
use super::device::DeviceItems;
use super::items::ItemMatrix;
use super::kernels::Kernels;
use super::mlp::{DenseWeights, MlpWeights};
use super::pair::{Cancelled, Pair, PairContext, PairWeights};
use super::scratch::Scratch;
use super::top::{Scored, Top, sort};
use super::tower::{ItemHalf, Tower};

/// Items whose dot products are computed between two questions whether to go on.
const RETRIEVE_CHUNK: usize = 1024;

/// One version, ready to score.
#[derive(Debug)]
pub struct Engine {
    kernels: Kernels,
    contexts: ContextEncoder,
    /// `[vector of the shared tower; vector of the linear term; unit vector of the text]` of all items.
    items: ItemMatrix,
    heads: Vec<Head>,
    ranker: Option<Ranker>,
    device: Option<DeviceItems>,
}

#[derive(Debug)]
struct Head {
    scale: f32,
    linear_scale: f32,
    text_scale: f32,
    /// What is added to an item's score whatever the context.
    bias: Vec<f32>,
}

#[derive(Debug)]
struct Ranker {
    pair: Pair,
    /// What each head adds to the first layer.
    head_bias: Vec<Vec<f32>>,
    /// How many of the best by dot product are ranked again.
    candidates: usize,
}

/// The context's half of a request: computed once, however many candidates and threads.
#[derive(Clone, Debug)]
pub struct Context {
    head: usize,
    /// What is multiplied with the items' rows: without the text's columns for a context without text.
    query: Vec<f32>,
    pair: Option<PairContext>,
}

/// Which items are ranked.
#[derive(Clone, Copy, Debug)]
pub enum Candidates<'a> {
    /// All of the catalogue.
    All,
    /// Those at these indices.
    Items(&'a [u32]),
}

impl Engine {
    /// Packs weights, which fit the schema and the catalogue, for the kernels, and computes the item half of all items, on
    /// so many threads.
    ///
    /// # Errors
    /// A tensor that cannot be read.
    pub fn new(
        kernels: Kernels,
        schema: &Schema,
        catalogue: &Catalogue,
        weights: &Weights,
        threads: NonZeroUsize,
    ) -> Result<Self, ModelError> {
        let contexts = ContextEncoder::new(kernels, schema, weights, threads)?;
        let reader = ItemReader::new(schema, catalogue);
        let tower = Tower::new(kernels, schema, weights, &reader, contexts.text())?;
        let ItemHalf { vectors: items, biases } = tower.item_half(catalogue.len(), threads)?;
        Ok(Self {
            kernels,
            contexts,
            ranker: Ranker::new(kernels, schema, weights, &items)?,
            items,
            heads: Head::all(schema, weights, &biases)?,
            device: None,
        })
    }

    /// Computes dot products on a device from now on. The items stay in this machine's memory too, for contexts and for a
    /// device that fails.
    ///
    /// # Errors
    /// The device, such as one whose memory is full.
    pub fn with_items_on(mut self, device: &Device) -> Result<Self, ModelError> {
        let biases = self.heads.iter().map(|head| head.bias.as_slice());
        self.device = Some(DeviceItems::new(&self.items, biases, device)?);
        Ok(self)
    }

    /// How many items the version ranks.
    pub fn items(&self) -> usize {
        self.items.count()
    }

    /// The kernels in use.
    pub fn kernels(&self) -> Kernels {
        self.kernels
    }

    /// The context's half under a head, both as the version's schema numbers and encodes them.
    ///
    /// # Panics
    /// If there is no such head, or the context is of another schema.
    pub fn context(&self, head: usize, encoded: &EncodedContext) -> Context {
        let Head { scale, linear_scale, text_scale, .. } = self.heads[head];
        let vectors = self.contexts.encode(head, encoded, &self.items);
        let mut query: Vec<f32> = vectors.shared.iter().map(|x| x * scale).collect();
        query.extend(vectors.linear.iter().map(|x| x * linear_scale));
        query.extend(vectors.text.iter().flatten().map(|x| x * text_scale));
        let pair = self.ranker.as_ref().map(|r| r.pair.context(&vectors.shared, &r.head_bias[head]));
        Context { head, query, pair }
    }

    /// How many of the best by dot product [`Engine::retrieve`] must keep to answer with `limit` items.
    pub fn keep(&self, limit: usize) -> usize {
        self.ranker.as_ref().map_or(limit, |r| r.candidates.max(limit))
    }

    /// Pushes the dot-product scores of a part of the candidates.
    ///
    /// # Errors
    /// [`Cancelled`] once `go_on` says no; it is asked before every chunk of items.
    ///
    /// # Panics
    /// If the part or an item is beyond the last.
    pub fn retrieve(
        &self,
        context: &Context,
        candidates: Candidates,
        part: Range<usize>,
        top: &mut Top,
        scratch: &mut Scratch,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<(), Cancelled> {
        let width = context.query.len();
        let rows = match candidates {
            Candidates::All => self.items.all(width),
            Candidates::Items(ids) => self.items.some(ids, width),
        };
        let bias = &self.heads[context.head].bias;
        let item = |at: usize| match candidates {
            Candidates::All => at as u32,
            Candidates::Items(ids) => ids[at],
        };
        if let Some(device) = &self.device {
            if !go_on() {
                return Err(Cancelled);
            }
            match device.scores(context.head, &context.query, candidates, part.clone()) {
                Ok(scores) => {
                    part.zip(scores).for_each(|(at, score)| top.push(item(at), score));
                    return Ok(());
                }
                Err(error) => tracing::error!(%error, "the device fails; the processor computes in its place"),
            }
        }
        for start in part.clone().step_by(RETRIEVE_CHUNK) {
            if !go_on() {
                return Err(Cancelled);
            }
            let chunk = start..part.end.min(start + RETRIEVE_CHUNK);
            let scores = &mut scratch.scores;
            scores.clear();
            scores.extend(chunk.clone().map(|at| bias[item(at) as usize]));
            self.kernels.add_dots(&context.query, rows.part(chunk.start, chunk.len()), scores);
            chunk.zip(scores).for_each(|(at, score)| top.push(item(at), *score));
        }
        Ok(())
    }

    /// Adds the ranker's scores to some of the best; does nothing for a version without ranker. The best that are to
    /// be ranked again are the first [`Engine::reranked`] of what [`Engine::retrieve`] kept.
    ///
    /// # Errors
    /// [`Cancelled`] once `go_on` says no; it is asked before every chunk of items.
    pub fn rerank(
        &self,
        context: &Context,
        best: &mut [Scored],
        scratch: &mut Scratch,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<(), Cancelled> {
        let (Some(ranker), Some(pair)) = (&self.ranker, &context.pair) else { return Ok(()) };
        let (mut ids, mut scores) = (std::mem::take(&mut scratch.items), std::mem::take(&mut scratch.scores));
        ids.clear();
        ids.extend(best.iter().map(|s| s.item));
        scores.clear();
        scores.extend(best.iter().map(|s| s.score));
        let done = ranker.pair.add_scores(pair, &self.items, &ids, scratch, &mut scores, go_on);
        best.iter_mut().zip(&scores).for_each(|(scored, score)| scored.score = *score);
        (scratch.items, scratch.scores) = (ids, scores);
        done
    }

    /// How many of so many that were kept are ranked again.
    pub fn reranked(&self, kept: usize) -> usize {
        self.ranker.as_ref().map_or(0, |r| r.candidates.min(kept))
    }

    /// The answer: the first [`Engine::reranked`] of `kept` have been ranked again; the others fall behind them by
    /// [`LEFT_BEHIND`].
    pub fn finish(&self, mut kept: Vec<Scored>, limit: usize) -> Vec<Scored> {
        let reranked = self.reranked(kept.len());
        if reranked > 0 {
            kept[reranked..].iter_mut().for_each(|s| s.score -= LEFT_BEHIND);
            sort(&mut kept);
        }
        kept.truncate(limit);
        kept
    }

    /// The best `limit` candidates, the best first; equal scores by index.
    ///
    /// # Errors
    /// [`Cancelled`] once `go_on` says no; it is asked before every chunk of items.
    ///
    /// # Panics
    /// If a candidate is beyond the last item.
    pub fn rank(
        &self,
        context: &Context,
        candidates: Candidates,
        limit: usize,
        scratch: &mut Scratch,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<Scored>, Cancelled> {
        let mut top = Top::new(self.keep(limit));
        let count = match candidates {
            Candidates::All => self.items(),
            Candidates::Items(ids) => ids.len(),
        };
        self.retrieve(context, candidates, 0..count, &mut top, scratch, go_on)?;
        let mut kept = top.into_sorted();
        let reranked = self.reranked(kept.len());
        self.rerank(context, &mut kept[..reranked], scratch, go_on)?;
        Ok(self.finish(kept, limit))
    }
}

impl Head {
    /// All, with what each adds to each item's score, `[items, heads]`.
    fn all(schema: &Schema, weights: &Weights, biases: &[f32]) -> Result<Vec<Self>, ModelError> {
        let scales = |name| Ok::<_, ModelError>(weights.read(name)?.into_iter().map(f32::exp));
        let shared = scales("head.log_scale")?;
        let text = scales("head.log_text")?;
        let heads = schema.heads.len();
        let linear: Vec<f32> = match schema.network.linear {
            Some(_) => scales("head.log_linear")?.collect(),
            None => vec![0.0; heads],
        };
        let all = shared.zip(linear).zip(text).enumerate();
        Ok(all
            .map(|(head, ((scale, linear_scale), text_scale))| Self {
                scale,
                linear_scale,
                text_scale,
                bias: biases.iter().skip(head).step_by(heads).copied().collect(),
            })
            .collect())
    }
}

impl Ranker {
    fn new(
        kernels: Kernels,
        schema: &Schema,
        weights: &Weights,
        items: &ItemMatrix,
    ) -> Result<Option<Self>, ModelError> {
        let Some(config) = &schema.network.ranker else { return Ok(None) };
        let tensor = |name: &str| weights.read(name);
        let first = config.hidden[0];
        let mut hidden = Vec::new();
        for (layer, sizes) in (1..).zip(config.hidden.windows(2)) {
            hidden.push(DenseWeights {
                inputs: sizes[0],
                outputs: sizes[1],
                weights: tensor(&format!("ranker.{layer}.weight"))?,
                bias: tensor(&format!("ranker.{layer}.bias"))?,
            });
        }
        let width = schema.network.width;
        let context =
            DenseWeights { inputs: width, outputs: first, weights: tensor("ranker.context")?, bias: vec![0.0; first] };
        let pair = PairWeights {
            context,
            item: tensor("ranker.item")?,
            product: Some(tensor("ranker.product")?),
            rest: MlpWeights { hidden, out: tensor("ranker.out")?, out_bias: 0.0 },
        };
        Ok(Some(Self {
            pair: Pair::new(kernels, &pair, items.all(width)),
            head_bias: tensor("ranker.head")?.chunks_exact(first).map(<[f32]>::to_vec).collect(),
            candidates: config.candidates,
        }))
    }
}
