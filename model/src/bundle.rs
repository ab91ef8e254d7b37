//! The files of a version as one model in memory.

use std::path::Path;

use candle_core::{Device, Tensor};

use crate::catalogue::Catalogue;
use crate::error::ModelError;
use crate::features::{EncodedContext, Encoder};
use crate::network::Network;
use crate::profiles::Profiles;
use crate::schema::Schema;
use crate::weights::Weights;

/// File names inside a version.
pub mod files {
    /// The contract, canonical bytes.
    pub const SCHEMA: &str = "schema.json";
    /// The weights.
    pub const WEIGHTS: &str = "model.safetensors";
    /// The catalogue.
    pub const ITEMS: &str = "items.parquet";
    /// The profile snapshot, if there is one.
    pub const USERS: &str = "users.parquet";
    /// The evaluation report.
    pub const EVALUATION: &str = "evaluation.json";
    /// The static popularity lists.
    pub const POPULARITY: &str = "popularity.json";
    /// The folder of golden requests, one `<head>.jsonl` each.
    pub const GOLDEN: &str = "golden";
}

/// A model in memory.
pub struct Model {
    /// The contract.
    pub schema: Schema,
    /// The items.
    pub catalogue: Catalogue,
    /// The profile snapshot, where the version has one.
    pub profiles: Option<Profiles>,
    /// Encodes requests.
    pub encoder: Encoder,
    /// The weights, in their file.
    pub weights: Weights,
}

impl Model {
    /// Reads a version's folder, but of the weights only their shapes. Memory goes by what the other files say, which the
    /// store has verified.
    pub fn open(dir: &Path) -> Result<Self, ModelError> {
        let path = dir.join(files::SCHEMA);
        let bytes = std::fs::read(&path).map_err(|source| ModelError::Read { path, source })?;
        let schema: Schema = serde_json::from_slice(&bytes).map_err(|e| ModelError::Schema(e.to_string()))?;
        let catalogue = Catalogue::read(&dir.join(files::ITEMS), &schema.attributes)?;
        let profiles = match &schema.profile_key {
            Some(key) => Some(Profiles::read(&dir.join(files::USERS), key, &schema.context)?),
            None => None,
        };
        let weights = Weights::open(&dir.join(files::WEIGHTS))?;
        weights.check(&schema, catalogue.len())?;
        let encoder = Encoder::new(&schema, &catalogue);
        Ok(Self { schema, catalogue, profiles, encoder, weights })
    }

    /// The network in plain candle.
    pub fn network(&self, device: &Device) -> Result<Network, ModelError> {
        Network::new(&self.schema, &self.catalogue, self.weights.tensors(device)?)
    }
}

/// Scores whole catalogues in plain candle: the oracle of every faster path.
///
/// Score is the dot product's; with a ranker, the best `ranker.candidates` of the row's allowed items get the ranker's
/// score on top, and all others fall behind them by [`LEFT_BEHIND`].
pub struct Oracle<'a> {
    network: &'a Network,
    items: crate::network::ItemSide,
}

/// What is taken off the scores of those that the retrieval left behind, so that they stay behind the ranked ones.
pub const LEFT_BEHIND: f32 = 1e4;

impl<'a> Oracle<'a> {
    /// Computes the item half once.
    pub fn new(network: &'a Network) -> Result<Self, ModelError> {
        Ok(Self { network, items: network.items(None)? })
    }

    /// Scores of all items, `[b][items]`, each context under its head. `allowed(row, item)` says which items are
    /// candidates; it matters only to which the ranker ranks again.
    pub fn score(
        &self,
        batch: &[(&EncodedContext, usize)],
        allowed: impl Fn(usize, u32) -> bool,
    ) -> Result<Vec<Vec<f32>>, ModelError> {
        let contexts = self.network.contexts(batch, None)?;
        let mut scores = self.network.dot_scores(&contexts, &self.items)?.to_vec2::<f32>()?;
        let Some(ranker) = &self.network.schema().network.ranker else { return Ok(scores) };
        for (row, scores) in scores.iter_mut().enumerate() {
            let mut best: Vec<u32> = (0..scores.len() as u32).filter(|&i| allowed(row, i)).collect();
            let by_score = |a: &u32, b: &u32| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b));
            if best.len() > ranker.candidates {
                best.select_nth_unstable_by(ranker.candidates, by_score);
                best.truncate(ranker.candidates);
            }
            if best.is_empty() {
                continue;
            }
            let rows = Tensor::from_vec(best.clone(), (1, best.len()), &Device::Cpu)?;
            let context = contexts.vectors.narrow(0, row, 1)?;
            let head = contexts.heads.narrow(0, row, 1)?;
            if let Some(more) = self.network.ranker_scores(&context, &head, &self.items.vectors, &rows)? {
                let ranked: Vec<(u32, f32)> = best
                    .iter()
                    .map(|&i| scores[i as usize])
                    .zip(more.flatten_all()?.to_vec1::<f32>()?)
                    .zip(&best)
                    .map(|((dot, more), &i)| (i, dot + more))
                    .collect();
                scores.iter_mut().for_each(|s| *s -= LEFT_BEHIND);
                ranked.into_iter().for_each(|(item, score)| scores[item as usize] = score);
            }
        }
        Ok(scores)
    }
}
