//! The network's forward pass in plain candle: what training differentiates and what every faster path is compared with.
//!
//! ```text
//! context elements ──► masked sum ──► dropout ──► RMS norm ──► residual block ──► u ┐
//!        history ────────────────── direct ──────────────────────────────────────► + ┤ scale · u·v
//! item id, attributes, text ──► item tower ───────────────────────────────────────► v ┘      +
//! history, source ──► decayed sum of eigenvectors ──► l ┐                                    +
//! item ─────────────► eigenvector ──────────────────► e ┴───────────────────── linear scale · l·e
//! query text ──► n-grams ──► unit vector q ┐                                                 +
//! item text  ──► n-grams ──► unit vector t ┴──────────────────────────────────── text scale · q·t
//!                                                       + popularity, attribute priors, item bias
//! ```
//!
//! The first three terms are one dot product of `[u·scale; l·linear scale; q·text scale]` and `[v; e; t]`, so that
//! retrieval over the whole catalogue is one matrix product.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use candle_core::{D, DType, Device, Tensor};

use super::bag::Bag;
use super::item_inputs::ItemInputs;
use super::parameters::{ITEM_BIAS, LINEAR_CONTEXT, LINEAR_ITEM, LOG_POPULARITY, Tensors};
use crate::catalogue::Catalogue;
use crate::error::ModelError;
use crate::features::{Encoded, EncodedContext};
use crate::schema::{ElementType, Entity, Schema};

type Result<T> = std::result::Result<T, ModelError>;

/// Guards square roots and divisions by a norm.
const EPSILON: f64 = 1e-6;

/// The network over one catalogue.
pub struct Network {
    schema: Schema,
    catalogue: Catalogue,
    tensors: Tensors,
    /// Made when it is first asked for: a server never does.
    inputs: OnceLock<ItemInputs>,
}

/// The item half, for all items or some of them.
pub struct ItemSide {
    /// Vectors of the shared tower, `[n, width]`.
    pub vectors: Tensor,
    /// Unit vectors of the items' text, `[n, text_width]`; zero for items without.
    pub text: Tensor,
    /// Item side of the linear term, `[n, linear width]`; of no width without one.
    pub linear: Tensor,
    /// What a head adds whatever the request, `[n, heads]`.
    pub bias: Tensor,
}

/// The context half of a batch.
pub struct ContextSide {
    /// Vectors of the shared encoder, `[b, width]`.
    pub vectors: Tensor,
    /// Unit vectors of the query text, `[b, text_width]`; zero for contexts without.
    pub text: Tensor,
    /// Context side of the linear term, `[b, linear width]`; of no width without one.
    pub linear: Tensor,
    /// Head of each row, `[b]`.
    pub heads: Tensor,
}

/// Multiplies the context sum; `1 / (1 - p)` or 0, `[b, width]`.
pub type DropoutMask = Tensor;

impl Network {
    /// Binds tensors to a schema and a catalogue.
    ///
    /// # Errors
    /// A tensor that is missing or of another shape.
    pub fn new(schema: &Schema, catalogue: &Catalogue, tensors: Tensors) -> Result<Self> {
        super::parameters::check_shapes(|name| tensors.get(name).map(Tensor::dims), schema, catalogue.len())?;
        Ok(Self { schema: schema.clone(), catalogue: catalogue.clone(), tensors, inputs: OnceLock::new() })
    }

    /// The items.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// The contract.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The tensors by name.
    pub fn tensors(&self) -> &Tensors {
        &self.tensors
    }

    /// The tensor of that name; [`Network::new`] has checked that the schema's are all there.
    pub fn tensor(&self, name: &str) -> &Tensor {
        &self.tensors[name]
    }

    fn inputs(&self) -> &ItemInputs {
        self.inputs.get_or_init(|| ItemInputs::new(&self.schema, &self.catalogue))
    }

    fn device(&self) -> &Device {
        self.tensor("block.gain").device()
    }

    /// The item half of these items, or of all.
    pub fn items(&self, subset: Option<&[u32]>) -> Result<ItemSide> {
        let all: Vec<u32>;
        let rows = match subset {
            Some(rows) => rows,
            None => {
                all = (0..self.catalogue.len() as u32).collect();
                &all
            }
        };
        let inputs = self.inputs();
        let text = self.text(rows.iter().map(|&r| inputs.text[r as usize].as_slice()))?;
        let of = |table: &str| -> Result<Tensor> {
            let table = self.tensor(table);
            if subset.is_none() {
                return Ok(table.clone());
            }
            Ok(table.index_select(&Tensor::new(rows, self.device())?, 0)?)
        };
        let mut vectors = of("item.table")?;
        let mut bias = (self.popularity_bias(&of(LOG_POPULARITY)?)? + of(ITEM_BIAS)?)?;
        for (attribute, categories) in &inputs.categories {
            let lists = || rows.iter().map(|&r| categories[r as usize].iter().copied());
            let (bag, weights) = mean_bag(lists(), 0.5, self.device())?;
            vectors = (vectors + bag.sum(self.tensor(&format!("item.{attribute}.table")), &weights)?)?;
            bias = (bias + bag.plain_sum(self.tensor(&format!("head.prior.{attribute}")))?)?;
        }
        for (attribute, numbers) in &inputs.numbers {
            let column: Vec<f32> = rows.iter().map(|&r| numbers[r as usize]).collect();
            let column = Tensor::from_vec(column, (rows.len(), 1), self.device())?;
            vectors = (vectors + column.matmul(self.tensor(&format!("item.{attribute}.weight")))?)?;
        }
        if let Some(project) = self.tensors.get("item.text.project") {
            vectors = (vectors + text.matmul(project)?)?;
        }
        let linear = match &self.schema.network.linear {
            Some(_) => of(LINEAR_ITEM)?,
            None => Tensor::zeros((rows.len(), 0), DType::F32, self.device())?,
        };
        Ok(ItemSide { vectors, text, linear, bias })
    }

    /// `[n]` log popularities to `[n, heads]`.
    fn popularity_bias(&self, log_popularity: &Tensor) -> Result<Tensor> {
        Ok(log_popularity.unsqueeze(1)?.matmul(&self.tensor("head.popularity").unsqueeze(0)?)?)
    }

    /// The context half of a batch of contexts, each under a head; `dropout` in training only.
    pub fn contexts(&self, batch: &[(&EncodedContext, usize)], dropout: Option<&DropoutMask>) -> Result<ContextSide> {
        let heads: Vec<u32> = batch.iter().map(|(_, head)| *head as u32).collect();
        let heads = Tensor::new(heads, self.device())?;
        let mut sum = self.tensor("context.task").index_select(&heads, 0)?;
        let mut direct: Option<Tensor> = None;
        let mut query = Tensor::zeros((batch.len(), self.schema.network.text_width), DType::F32, self.device())?;
        for (position, element) in self.schema.context.iter().enumerate() {
            let values = || batch.iter().map(move |(context, _)| &context[position]);
            if values().all(|v| *v == Encoded::Masked) {
                continue;
            }
            let tensor = |part: &str| self.tensor(&format!("context.{}.{part}", element.name));
            let index = |v: &Encoded| match v {
                Encoded::Index(i) => Some(*i),
                _ => None,
            };
            let add = match (element.kind, element.of) {
                (ElementType::Number, _) => {
                    let number = |v: &Encoded| match v {
                        Encoded::Number(x) => [*x, 1.0],
                        _ => [0.0, 0.0],
                    };
                    let columns: Vec<f32> = values().flat_map(number).collect();
                    let columns = Tensor::from_vec(columns, (batch.len(), 2), self.device())?;
                    columns.matmul(&Tensor::cat(&[tensor("weight"), tensor("bias")], 0)?)?
                }
                (ElementType::Category, _) | (ElementType::Id, Entity::Other) => {
                    Bag::new(values().map(index)).plain_sum(tensor("table"))?
                }
                (ElementType::Id, Entity::Item) => {
                    let own = Bag::new(values().map(index)).plain_sum(tensor("table"))?;
                    (own + self.tower_sum(values().map(index))?.matmul(tensor("tower"))?)?
                }
                (ElementType::IdList, _) => {
                    let history = self.history(values(), &element.name)?;
                    let straight = history.matmul(tensor("direct"))?;
                    direct = Some(match direct {
                        Some(sum) => (sum + straight)?,
                        None => straight,
                    });
                    history.matmul(tensor("project"))?
                }
                (ElementType::Text, _) => {
                    let text = self.text(values().map(|v| match v {
                        Encoded::Text(grams) => grams.as_slice(),
                        _ => &[],
                    }))?;
                    query = (query + &text)?;
                    text.matmul(tensor("project"))?
                }
            };
            sum = (sum + add)?;
        }
        let mut vectors = self.block(&sum, dropout)?;
        if let Some(direct) = direct {
            vectors = (vectors + direct)?;
        }
        Ok(ContextSide { vectors, text: query, linear: self.linear(batch)?, heads })
    }

    /// The linear term's context side: what histories and source items add, decayed by age.
    fn linear(&self, batch: &[(&EncodedContext, usize)]) -> Result<Tensor> {
        let Some(config) = &self.schema.network.linear else {
            return Ok(Tensor::zeros((batch.len(), 0), DType::F32, self.device())?);
        };
        let table = self.tensor(LINEAR_CONTEXT);
        let mut sum = Tensor::zeros((batch.len(), config.width), DType::F32, self.device())?;
        for (position, element) in self.schema.context.iter().enumerate().filter(|(_, e)| e.of == Entity::Item) {
            let lists: Vec<&[u32]> = batch
                .iter()
                .map(|(context, _)| match &context[position] {
                    Encoded::Items(items) => items.as_slice(),
                    Encoded::Index(item) => std::slice::from_ref(item),
                    _ => &[],
                })
                .collect();
            let bag = Bag::new(lists.iter().map(|l| l.iter().copied()));
            if element.kind == ElementType::Id {
                sum = (sum + bag.plain_sum(table)?)?;
                continue;
            }
            let rate = self.tensor(&format!("context.{}.linear_log_rate", element.name)).exp()?;
            let weights = ages(&lists, self.device())?.broadcast_mul(&rate.neg()?)?.exp()?;
            sum = (sum + bag.sum(table, &weights)?)?;
        }
        Ok(sum)
    }

    /// The item tower's vector of each row's item, `[b, width]`; zero where the row names none or an unknown one.
    fn tower_sum(&self, rows: impl Iterator<Item = Option<u32>>) -> Result<Tensor> {
        let unknown = self.catalogue.len() as u32;
        let rows: Vec<Option<u32>> = rows.map(|r| r.filter(|i| *i != unknown)).collect();
        let distinct: Vec<u32> = BTreeSet::from_iter(rows.iter().copied().flatten()).into_iter().collect();
        if distinct.is_empty() {
            return Ok(Tensor::zeros((rows.len(), self.schema.network.width), DType::F32, self.device())?);
        }
        let position = |item: u32| distinct.binary_search(&item).ok().map(|p| p as u32);
        let bag = Bag::new(rows.iter().map(|r| r.and_then(position)));
        Ok(bag.plain_sum(&self.items(Some(&distinct))?.vectors)?)
    }

    /// Dropout, RMS norm (Zhang and Sennrich 2019) and the residual block.
    fn block(&self, sum: &Tensor, dropout: Option<&DropoutMask>) -> Result<Tensor> {
        let sum = match dropout {
            Some(mask) => (sum * mask)?,
            None => sum.clone(),
        };
        let square = (sum.sqr()?.mean_keepdim(D::Minus1)? + EPSILON)?;
        let normal = sum.broadcast_div(&square.sqrt()?)?.broadcast_mul(self.tensor("block.gain"))?;
        let hidden = normal.matmul(self.tensor("block.in"))?.broadcast_add(self.tensor("block.in_bias"))?.relu()?;
        let out = hidden.matmul(self.tensor("block.out"))?.broadcast_add(self.tensor("block.out_bias"))?;
        Ok((normal + out)?)
    }

    /// Channels of exponentially decayed sums over the lists, `[b, channels * history_width]`: the last entry has age 0,
    /// and a sum is divided by the square root of its total weight.
    fn history<'a>(&self, values: impl Iterator<Item = &'a Encoded>, element: &str) -> Result<Tensor> {
        let lists: Vec<&[u32]> = values
            .map(|v| match v {
                Encoded::Items(items) => items.as_slice(),
                _ => &[],
            })
            .collect();
        let bag = Bag::new(lists.iter().map(|l| l.iter().copied()));
        let totals = Bag::new(lists.iter().map(|l| l.iter().map(|_| 0u32)));
        let ages = ages(&lists, self.device())?;
        let one = Tensor::ones((1, 1), DType::F32, self.device())?;
        let table = self.tensor(&format!("context.{element}.table"));
        let log_rates = self.tensor(&format!("context.{element}.log_rate"));
        let mut channels = Vec::new();
        for (channel, start) in self.schema.network.history_decay.iter().enumerate() {
            let rate = (log_rates.get(channel)?.exp()? * *start)?;
            let weights = ages.broadcast_mul(&rate.neg()?)?.exp()?;
            let sum = bag.sum(table, &weights)?;
            let total = (totals.sum(&one, &weights)? + EPSILON)?;
            channels.push(sum.broadcast_div(&total.sqrt()?)?);
        }
        Ok(Tensor::cat(&channels, 1)?)
    }

    /// Unit vectors of texts given by their n-grams, `[rows, text_width]`; zero for an empty text.
    fn text<'a>(&self, texts: impl Iterator<Item = &'a [(u32, f32)]>) -> Result<Tensor> {
        let texts: Vec<&[(u32, f32)]> = texts.collect();
        let bag = Bag::new(texts.iter().map(|t| t.iter().map(|g| g.0)));
        if bag.entries() == 0 {
            return Ok(Tensor::zeros((texts.len(), self.schema.network.text_width), DType::F32, self.device())?);
        }
        let counts: Vec<f32> = texts.iter().flat_map(|t| t.iter().map(|g| g.1)).collect();
        let idf = self.tensor("text.log_idf").exp()?.index_select(&Tensor::new(bag.indices(), self.device())?, 0)?;
        let sum = bag.sum(self.tensor("text.table"), &(idf * Tensor::new(counts, self.device())?)?)?;
        let norm = (sum.sqr()?.sum_keepdim(1)? + EPSILON)?.sqrt()?;
        Ok(sum.broadcast_div(&norm)?)
    }

    /// The rows that score all heads alike: `[n, width + linear width + text_width]`.
    pub fn item_matrix(&self, items: &ItemSide) -> Result<Tensor> {
        match &self.schema.network.linear {
            Some(_) => Ok(Tensor::cat(&[&items.vectors, &items.linear, &items.text], 1)?),
            None => Ok(Tensor::cat(&[&items.vectors, &items.text], 1)?),
        }
    }

    /// What is multiplied with the item matrix, under each row's own head: `[b, width + linear width + text_width]`.
    pub fn query_matrix(&self, contexts: &ContextSide) -> Result<Tensor> {
        let scaled = |part: &Tensor, log_scale: &str| -> Result<Tensor> {
            let scale = self.tensor(log_scale).index_select(&contexts.heads, 0)?.exp()?.unsqueeze(1)?;
            Ok(part.broadcast_mul(&scale)?)
        };
        let mut parts = vec![scaled(&contexts.vectors, "head.log_scale")?];
        if self.schema.network.linear.is_some() {
            parts.push(scaled(&contexts.linear, "head.log_linear")?);
        }
        parts.push(scaled(&contexts.text, "head.log_text")?);
        Ok(Tensor::cat(&parts, 1)?)
    }

    /// Scores by dot product, `[b, n]`.
    pub fn dot_scores(&self, contexts: &ContextSide, items: &ItemSide) -> Result<Tensor> {
        let dot = self.query_matrix(contexts)?.matmul(&self.item_matrix(items)?.t()?)?;
        let bias = items.bias.t()?.contiguous()?.index_select(&contexts.heads, 0)?;
        Ok((dot + bias)?)
    }

    /// What the pairwise ranker adds to the scores of `[b, k]` items given as rows of `items`; `None` without ranker.
    pub fn ranker_scores(
        &self,
        contexts: &Tensor,
        heads: &Tensor,
        items: &Tensor,
        rows: &Tensor,
    ) -> Result<Option<Tensor>> {
        let Some(config) = &self.schema.network.ranker else { return Ok(None) };
        let (b, k) = rows.dims2()?;
        let d = self.schema.network.width;
        let chosen = items.index_select(&rows.flatten_all()?, 0)?;
        let product = chosen.reshape((b, k, d))?.broadcast_mul(&contexts.unsqueeze(1)?)?.reshape((b * k, d))?;
        let context_half =
            (contexts.matmul(self.tensor("ranker.context"))? + self.tensor("ranker.head").index_select(heads, 0)?)?;
        let item_half = chosen.matmul(self.tensor("ranker.item"))?;
        let width = config.hidden[0];
        let mut x = (item_half + product.matmul(self.tensor("ranker.product"))?)?
            .reshape((b, k, width))?
            .broadcast_add(&context_half.unsqueeze(1)?)?
            .relu()?
            .reshape((b * k, width))?;
        for layer in 1..config.hidden.len() {
            let weight = self.tensor(&format!("ranker.{layer}.weight"));
            let bias = self.tensor(&format!("ranker.{layer}.bias"));
            x = x.matmul(weight)?.broadcast_add(bias)?.relu()?;
        }
        Ok(Some(x.matmul(self.tensor("ranker.out"))?.reshape((b, k))?))
    }
}

/// Steps from each entry to the end of its list, one list after the other.
fn ages(lists: &[&[u32]], device: &Device) -> Result<Tensor> {
    let ages: Vec<f32> = lists.iter().flat_map(|l| (0..l.len()).rev().map(|age| age as f32)).collect();
    Ok(Tensor::new(ages, device)?)
}

/// Bags with each entry weighted `1 / count^power`.
fn mean_bag<L: ExactSizeIterator<Item = u32>>(
    lists: impl Iterator<Item = L>,
    power: f32,
    device: &Device,
) -> Result<(Bag, Tensor)> {
    let lists: Vec<Vec<u32>> = lists.map(|l| l.collect()).collect();
    let weights: Vec<f32> = lists.iter().flat_map(|l| l.iter().map(|_| 1.0 / (l.len() as f32).powf(power))).collect();
    Ok((Bag::new(lists.iter().map(|l| l.iter().copied())), Tensor::new(weights, device)?))
}
