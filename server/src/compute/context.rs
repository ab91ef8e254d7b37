//! The context's half of the network: from an encoded context to its vectors, once for a request.
//!
//! It computes what [`Network::contexts`](unimodel_model::network::Network::contexts) computes in plain candle, for one
//! context: that is the reference of what each element adds.

use std::num::NonZeroUsize;

use unimodel_model::error::ModelError;
use unimodel_model::features::{Encoded, EncodedContext};
use unimodel_model::network::LINEAR_CONTEXT;
use unimodel_model::schema::{ElementType, Entity, Schema};
use unimodel_model::weights::Weights;

use super::items::ItemMatrix;
use super::kernels::{Activation, Kernels, Rows};
use super::mlp::{Dense, DenseWeights};
use super::packed::Packed;
use super::text::TextTable;
use super::vector::{EPSILON, add};

/// What turns contexts into vectors.
#[derive(Clone, Debug)]
pub(super) struct ContextEncoder {
    kernels: Kernels,
    width: usize,
    elements: Vec<Element>,
    /// One row per head.
    tasks: ItemMatrix,
    gain: Vec<f32>,
    block: (Dense, Dense),
    text: TextTable,
    /// What the items of a history add to the linear term.
    linear: Option<ItemMatrix>,
}

/// The vectors of one context.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ContextVectors {
    /// Of the shared encoder, `[width]`.
    pub(super) shared: Vec<f32>,
    /// Of the linear term, `[linear width]`; empty without one.
    pub(super) linear: Vec<f32>,
    /// Unit vector of the query text, `[text_width]`; `None` for a context without.
    pub(super) text: Option<Vec<f32>>,
}

/// What one element of the schema adds. The network never sees some, which the encoder always masks.
#[derive(Clone, Debug)]
enum Element {
    Number { weight: Vec<f32>, bias: Vec<f32> },
    Index { table: ItemMatrix },
    Item { table: ItemMatrix, tower: Packed },
    History(History),
    Text { project: Packed },
    Unseen,
}

#[derive(Clone, Debug)]
struct History {
    table: ItemMatrix,
    /// Decay of each channel per step of age.
    rates: Vec<f32>,
    project: Packed,
    direct: Packed,
    /// Decay in the linear term; `None` for a list of other things than items, which are not in it.
    linear_rate: Option<f32>,
}

impl ContextEncoder {
    /// Packs the context half, and reads large tables on so many threads.
    ///
    /// # Errors
    /// A tensor that cannot be read.
    pub(super) fn new(
        kernels: Kernels,
        schema: &Schema,
        weights: &Weights,
        threads: NonZeroUsize,
    ) -> Result<Self, ModelError> {
        let config = &schema.network;
        let width = config.width;
        let tensor = |name: &str| weights.read(name);
        let matrix = |name: &str| ItemMatrix::read(weights, name, threads);
        let element = |element: &unimodel_model::schema::Element| {
            let name = |part: &str| format!("context.{}.{part}", element.name);
            let packed =
                |part: &str, inputs| Ok::<_, ModelError>(Packed::new(kernels, &tensor(&name(part))?, inputs, width));
            if !element.is_seen() {
                return Ok(Element::Unseen);
            }
            Ok::<_, ModelError>(match (element.kind, element.of) {
                (ElementType::Number, _) => {
                    Element::Number { weight: tensor(&name("weight"))?, bias: tensor(&name("bias"))? }
                }
                (ElementType::Category, _) | (ElementType::Id, Entity::Other) => {
                    Element::Index { table: matrix(&name("table"))? }
                }
                (ElementType::Id, Entity::Item) => {
                    Element::Item { table: matrix(&name("table"))?, tower: packed("tower", width)? }
                }
                (ElementType::IdList, _) => {
                    let logs = tensor(&name("log_rate"))?;
                    let inputs = config.history_decay.len() * config.history_width;
                    let linear_rate = match (&config.linear, element.of) {
                        (Some(_), Entity::Item) => Some(tensor(&name("linear_log_rate"))?[0].exp()),
                        _ => None,
                    };
                    Element::History(History {
                        table: matrix(&name("table"))?,
                        rates: logs.iter().zip(&config.history_decay).map(|(l, s)| l.exp() * *s as f32).collect(),
                        project: packed("project", inputs)?,
                        direct: packed("direct", inputs)?,
                        linear_rate,
                    })
                }
                (ElementType::Text, _) => Element::Text { project: packed("project", config.text_width)? },
            })
        };
        let dense = |name: &str, bias: &str, inputs, outputs| {
            let layer = DenseWeights { inputs, outputs, weights: tensor(name)?, bias: tensor(bias)? };
            Ok::<_, ModelError>(Dense::new(kernels, &layer))
        };
        Ok(Self {
            kernels,
            width,
            elements: schema.context.iter().map(element).collect::<Result<_, _>>()?,
            tasks: matrix("context.task")?,
            gain: tensor("block.gain")?,
            block: (
                dense("block.in", "block.in_bias", width, config.hidden)?,
                dense("block.out", "block.out_bias", config.hidden, width)?,
            ),
            text: TextTable::new(kernels, weights)?,
            linear: config.linear.as_ref().map(|_| matrix(LINEAR_CONTEXT)).transpose()?,
        })
    }

    /// What turns texts into vectors.
    pub(super) fn text(&self) -> &TextTable {
        &self.text
    }

    /// The vectors of a context under a head. `items` are the items' vectors of the shared tower, in the first columns.
    ///
    /// # Panics
    /// If the context is not one of the network's schema and catalogue.
    pub(super) fn encode(&self, head: usize, context: &EncodedContext, items: &ItemMatrix) -> ContextVectors {
        assert_eq!(context.len(), self.elements.len(), "elements of the context");
        let mut sum = self.tasks.row(head as u32).to_vec();
        let mut direct: Option<Vec<f32>> = None;
        let mut query: Option<Vec<f32>> = None;
        let mut linear = vec![0.0; self.linear.as_ref().map_or(0, ItemMatrix::width)];
        for (element, value) in self.elements.iter().zip(context) {
            match (element, value) {
                (_, Encoded::Masked) => {}
                (Element::Number { weight, bias }, Encoded::Number(x)) => {
                    sum.iter_mut().zip(weight).zip(bias).for_each(|((sum, weight), bias)| *sum += x * weight + bias);
                }
                (Element::Index { table }, Encoded::Index(row)) => add(&mut sum, table.row(*row)),
                (Element::Item { table, tower }, Encoded::Index(item)) => {
                    add(&mut sum, table.row(*item));
                    if let Some(table) = &self.linear {
                        add(&mut linear, table.row(*item));
                    }
                    // The index after the last item stands for an unknown one, which the tower does not know.
                    if (*item as usize) < items.count() {
                        sum = self.add_product(&items.row(*item)[..self.width], tower, &sum);
                    }
                }
                (Element::History(history), Encoded::Items(list)) => {
                    let sums = self.history(history, list);
                    sum = self.add_product(&sums, &history.project, &sum);
                    let so_far = direct.unwrap_or_else(|| vec![0.0; self.width]);
                    direct = Some(self.add_product(&sums, &history.direct, &so_far));
                    if let (Some(table), Some(rate)) = (&self.linear, history.linear_rate) {
                        let weights: Vec<f32> = decay(rate, list.len()).collect();
                        self.kernels.add_weighted_sum(table.some(list, table.width()), &weights, &mut linear);
                    }
                }
                (Element::Text { project }, Encoded::Text(grams)) => {
                    let mut text = vec![0.0; self.text.width()];
                    self.text.add_unit_vector(grams, &mut text);
                    sum = self.add_product(&text, project, &sum);
                    match &mut query {
                        Some(query) => add(query, &text),
                        None => query = Some(text),
                    }
                }
                (element, value) => unreachable!("the encoder makes no {value:?} of {element:?}"),
            }
        }
        let mut shared = self.residual_block(sum);
        if let Some(direct) = direct {
            add(&mut shared, &direct);
        }
        ContextVectors { shared, linear, text: query }
    }

    /// `x · weights + more`.
    fn add_product(&self, x: &[f32], weights: &Packed, more: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; more.len()];
        self.kernels.linear(Rows::dense(x, x.len(), x.len(), 1), weights, more, Activation::Identity, &mut out);
        out
    }

    /// RMS norm (Zhang and Sennrich 2019) and the residual block.
    fn residual_block(&self, sum: Vec<f32>) -> Vec<f32> {
        let square = sum.iter().map(|x| x * x).sum::<f32>() / self.width as f32 + EPSILON;
        let scale = 1.0 / square.sqrt();
        let mut normal: Vec<f32> = sum.iter().zip(&self.gain).map(|(x, gain)| x * scale * gain).collect();
        let row = |x: &[f32], layer: &Dense, activation| {
            let mut out = vec![0.0; layer.outputs()];
            layer.apply(self.kernels, Rows::dense(x, x.len(), x.len(), 1), activation, &mut out);
            out
        };
        let hidden = row(&normal, &self.block.0, Activation::Relu);
        add(&mut normal, &row(&hidden, &self.block.1, Activation::Identity));
        normal
    }

    /// One decayed sum per channel, divided by the square root of its weights' sum.
    fn history(&self, history: &History, list: &[u32]) -> Vec<f32> {
        let width = history.table.width();
        let rows = history.table.some(list, width);
        let mut sums = vec![0.0; history.rates.len() * width];
        for (rate, sum) in history.rates.iter().zip(sums.chunks_exact_mut(width)) {
            let weights: Vec<f32> = decay(*rate, list.len()).collect();
            self.kernels.add_weighted_sum(rows, &weights, sum);
            let scale = 1.0 / (weights.iter().sum::<f32>() + EPSILON).sqrt();
            sum.iter_mut().for_each(|x| *x *= scale);
        }
        sums
    }
}

/// Weights of a list's entries, the last of age 0: the exponential of minus the age times the rate.
fn decay(rate: f32, length: usize) -> impl Iterator<Item = f32> {
    (0..length).rev().map(move |age| (-rate * age as f32).exp())
}
