//! One step's batch and its loss.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use candle_core::{Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use unimodel_model::catalogue::Catalogue;
use unimodel_model::error::ModelError;
use unimodel_model::features::{EncodedContext, Encoder};
use unimodel_model::network::{LOG_POPULARITY, Network};
use unimodel_model::schema::Schema;

use super::loss::{Goal, RankingLoss};
use super::stream::{Sample, TaskStream};
use crate::label_table::LabelTable;
use crate::pipeline::{Loss, Pipeline};

type Result<T> = std::result::Result<T, ModelError>;

/// Negatives that the ranker learns each target against.
const RANKER_NEGATIVES: usize = 31;
/// Requests of a task that its gradient is measured on.
const GRADIENT_BATCH: usize = 256;

/// The batches of a run, each a pure function of the seed and the step.
pub(super) struct Batches<'a> {
    pipeline: &'a Pipeline,
    streams: Vec<TaskStream<'a>>,
    /// A second stream a task, so that measuring gradients does not shift the batches.
    probes: Vec<TaskStream<'a>>,
    items: usize,
}

impl<'a> Batches<'a> {
    /// Opens the tasks' tables.
    pub(super) fn new(
        pipeline: &'a Pipeline,
        schema: &'a Schema,
        catalogue: &'a Catalogue,
        encoder: &'a Encoder,
        labels: &Path,
    ) -> Result<Self> {
        let streams = |salt: u64| {
            pipeline.tasks.iter().enumerate().map(move |(i, task)| {
                let table = LabelTable::open(labels, &task.name, &pipeline.context)?;
                let seed = pipeline.training.seed.wrapping_mul(1_000_003).wrapping_add(2 * i as u64 + salt);
                Ok(TaskStream::new(task, schema, catalogue, encoder, table, seed))
            })
        };
        let (first, second) = (streams(0).collect::<Result<_>>()?, streams(1).collect::<Result<_>>()?);
        Ok(Self { pipeline, streams: first, probes: second, items: catalogue.len() })
    }

    /// Requests of each task in a step: their shares, rounded so that they add up over the steps.
    fn counts(&self, step: usize) -> Vec<usize> {
        let total: f64 = self.pipeline.tasks.iter().map(|t| t.weight).sum();
        let until =
            |weight: f64, steps: usize| (weight / total * (self.pipeline.training.batch * steps) as f64) as usize;
        self.pipeline.tasks.iter().map(|t| until(t.weight, step + 1) - until(t.weight, step)).collect()
    }

    fn draw(&mut self, step: usize) -> Result<Vec<(Sample, usize)>> {
        let mut batch = Vec::with_capacity(self.pipeline.training.batch);
        for (head, count) in self.counts(step).into_iter().enumerate() {
            for _ in 0..count {
                batch.push((self.streams[head].next_sample()?, head));
            }
        }
        Ok(batch)
    }

    /// Draws and drops what the first steps used, so that a resumed run goes on with the same batches.
    pub(super) fn skip(&mut self, steps: usize) -> Result<()> {
        for step in 0..steps {
            self.draw(step)?;
            if (step + 1).is_multiple_of(self.pipeline.training.validate_every.max(1)) && self.pipeline.tasks.len() > 1
            {
                for probe in &mut self.probes {
                    for _ in 0..GRADIENT_BATCH {
                        probe.next_sample()?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The loss of a step's batch.
    pub(super) fn next_loss(&mut self, network: &Network, step: usize) -> Result<Tensor> {
        let batch = self.draw(step)?;
        let mut rng = ChaCha8Rng::seed_from_u64(self.pipeline.training.seed ^ ((step as u64) << 20));
        self.loss(network, batch, &mut rng)
    }

    /// Each task's gradient on the named tensors, flattened.
    pub(super) fn task_gradients(&mut self, network: &Network, step: usize, names: &[String]) -> Result<Vec<Vec<f32>>> {
        let mut gradients = Vec::new();
        for head in 0..self.probes.len() {
            let mut batch = Vec::with_capacity(GRADIENT_BATCH);
            for _ in 0..GRADIENT_BATCH {
                batch.push((self.probes[head].next_sample()?, head));
            }
            let mut rng = ChaCha8Rng::seed_from_u64(step as u64);
            let store = self.loss(network, batch, &mut rng)?.backward()?;
            let mut flat = Vec::new();
            for name in names {
                let tensor = network.tensor(name);
                match store.get(tensor) {
                    Some(gradient) => flat.extend(gradient.flatten_all()?.to_vec1::<f32>()?),
                    None => flat.resize(flat.len() + tensor.elem_count(), 0.0),
                }
            }
            gradients.push(flat);
        }
        Ok(gradients)
    }

    /// Mean loss over the batch: tasks of one kind of loss go through the network together.
    fn loss(&self, network: &Network, batch: Vec<(Sample, usize)>, rng: &mut ChaCha8Rng) -> Result<Tensor> {
        let all: f32 = batch.iter().map(|(s, _)| s.weight).sum();
        let mut kinds: BTreeMap<u8, Vec<(Sample, usize)>> = BTreeMap::new();
        for (sample, head) in batch {
            let kind = match &self.pipeline.tasks[head].loss {
                Loss::Softmax { .. } => 0,
                Loss::SampledSoftmax { .. } => 1,
                Loss::Bce {} => 2,
            };
            kinds.entry(kind).or_default().push((sample, head));
        }
        let mut total = Tensor::zeros((), candle_core::DType::F32, &Device::Cpu)?;
        for (kind, samples) in kinds {
            let share = samples.iter().map(|(s, _)| s.weight).sum::<f32>() / all.max(f32::MIN_POSITIVE);
            let loss = match kind {
                0 => self.full(network, samples, rng)?,
                _ => self.sampled(network, samples, kind == 1, rng)?,
            };
            total = (total + (loss * f64::from(share))?)?;
        }
        Ok(total)
    }

    fn dropout(&self, network: &Network, rows: usize, rng: &mut ChaCha8Rng) -> Result<Tensor> {
        let config = &network.schema().network;
        let keep = 1.0 - config.dropout;
        let scale = (1.0 / keep) as f32;
        let mask: Vec<f32> =
            (0..rows * config.width).map(|_| if rng.random_bool(keep) { scale } else { 0.0 }).collect();
        Ok(Tensor::from_vec(mask, (rows, config.width), &Device::Cpu)?)
    }

    /// Softmax over the whole catalogue.
    fn full(&self, network: &Network, samples: Vec<(Sample, usize)>, rng: &mut ChaCha8Rng) -> Result<Tensor> {
        let rows: Vec<(&EncodedContext, usize)> = samples.iter().map(|(s, head)| (&s.context, *head)).collect();
        let dropout = self.dropout(network, rows.len(), rng)?;
        let contexts = network.contexts(&rows, Some(&dropout))?;
        let items = network.items(None)?;
        let scores = network.dot_scores(&contexts, &items)?;
        let ranker = network.schema().network.ranker.as_ref();
        let ranked = match ranker {
            Some(config) => {
                let chosen = hard_negatives(&scores, &samples, config.candidates, rng)?;
                // The ranker learns on top of the towers and does not pull at them.
                let vectors = contexts.vectors.detach();
                let more = network.ranker_scores(&vectors, &contexts.heads, &items.vectors.detach(), &chosen)?;
                let dot = scores.detach().gather(&chosen, 1)?;
                let first =
                    |weight| (Goal::Softmax { targets: vec![(0, 1.0)], excluded: vec![], within: None }, weight);
                let goals = samples.iter().map(|(s, _)| first(s.weight)).collect();
                more.map(|more| Ok::<_, ModelError>(RankingLoss::of(&(dot + more)?, goals)?)).transpose()?
            }
            None => None,
        };
        let goals = samples.into_iter().map(|(s, _)| (s.goal, s.weight)).collect();
        let loss = RankingLoss::of(&scores, goals)?;
        Ok(match ranked {
            Some(ranked) => (loss + ranked)?,
            None => loss,
        })
    }

    /// Softmax over the batch's targets and items drawn by popularity, or binary cross entropy of the rows' own items:
    /// only those items go through the tower.
    fn sampled(
        &self,
        network: &Network,
        samples: Vec<(Sample, usize)>,
        softmax: bool,
        rng: &mut ChaCha8Rng,
    ) -> Result<Tensor> {
        let mut chosen: BTreeSet<u32> = BTreeSet::new();
        for (sample, _) in &samples {
            match &sample.goal {
                Goal::Softmax { targets, .. } => chosen.extend(targets.iter().map(|t| t.0)),
                Goal::Binary { column, .. } => _ = chosen.insert(*column),
            }
        }
        let draws = samples.iter().map(|(_, head)| match &self.pipeline.tasks[*head].loss {
            Loss::SampledSoftmax { samples, .. } => *samples,
            _ => 0,
        });
        let draws = draws.max().unwrap_or(0);
        let mut log_expected = Vec::new();
        if softmax {
            // Popularity to the power of 0.75 (Mikolov et al. 2013), as far as its standardised logarithm tells it.
            let weights: Vec<f64> =
                network.tensor(LOG_POPULARITY).to_vec1::<f32>()?.iter().map(|x| f64::from(0.75 * x).exp()).collect();
            let total: f64 = weights.iter().sum();
            let cumulative: Vec<f64> = weights
                .iter()
                .scan(0.0, |sum, w| {
                    *sum += w;
                    Some(*sum)
                })
                .collect();
            for _ in 0..draws {
                let at = rng.random_range(0.0..total);
                chosen.insert(cumulative.partition_point(|c| *c < at).min(self.items - 1) as u32);
            }
            let expected = |item: u32| -> f64 {
                let p = weights[item as usize] / total;
                -(-(draws as f64) * p).exp_m1()
            };
            log_expected = chosen.iter().map(|&i| expected(i).max(1e-9).ln() as f32).collect();
        }
        let chosen: Vec<u32> = chosen.into_iter().collect();
        let column = |item: u32| chosen.binary_search(&item).ok().map(|c| c as u32);
        let rows: Vec<(&EncodedContext, usize)> = samples.iter().map(|(s, head)| (&s.context, *head)).collect();
        let dropout = self.dropout(network, rows.len(), rng)?;
        let contexts = network.contexts(&rows, Some(&dropout))?;
        let mut scores = network.dot_scores(&contexts, &network.items(Some(&chosen))?)?;
        if softmax {
            scores = scores.broadcast_sub(&Tensor::new(log_expected, &Device::Cpu)?)?;
        }
        let goals = samples.into_iter().map(|(sample, _)| {
            let goal = match sample.goal {
                Goal::Softmax { targets, excluded, within } => Goal::Softmax {
                    targets: targets.iter().filter_map(|(i, share)| Some((column(*i)?, *share))).collect(),
                    excluded: excluded.iter().filter_map(|i| column(*i)).collect(),
                    within: within.map(|inside| chosen.iter().map(|&i| inside[i as usize]).collect::<Vec<_>>().into()),
                },
                Goal::Binary { column: item, label } => Goal::Binary { column: column(item).unwrap_or(0), label },
            };
            (goal, sample.weight)
        });
        Ok(RankingLoss::of(&scores, goals.collect())?)
    }
}

/// For each row its first target and items drawn from the best by score, `[rows, 1 + RANKER_NEGATIVES]`.
fn hard_negatives(scores: &Tensor, samples: &[(Sample, usize)], best: usize, rng: &mut ChaCha8Rng) -> Result<Tensor> {
    let scores = scores.to_vec2::<f32>()?;
    let mut chosen: Vec<u32> = Vec::with_capacity(samples.len() * (1 + RANKER_NEGATIVES));
    for ((sample, _), scores) in samples.iter().zip(&scores) {
        let Goal::Softmax { targets, excluded, within } = &sample.goal else { continue };
        let mut candidates: Vec<u32> = (0..scores.len() as u32)
            .filter(|i| within.as_ref().is_none_or(|w| w[*i as usize]))
            .filter(|i| targets.iter().all(|t| t.0 != *i) && !excluded.contains(i))
            .collect();
        if candidates.len() > best {
            candidates.select_nth_unstable_by(best, |a, b| scores[*b as usize].total_cmp(&scores[*a as usize]));
            candidates.truncate(best);
        }
        chosen.push(targets[0].0);
        for _ in 0..RANKER_NEGATIVES {
            // A row without negatives learns nothing from its own target against itself.
            let at = candidates.get(rng.random_range(0..candidates.len().max(1)));
            chosen.push(at.copied().unwrap_or(targets[0].0));
        }
    }
    let rows = chosen.len() / (1 + RANKER_NEGATIVES);
    Ok(Tensor::from_vec(chosen, (rows, 1 + RANKER_NEGATIVES), &Device::Cpu)?)
}
