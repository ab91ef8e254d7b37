//! Checkpoints: what an interrupted run goes on from.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use unimodel_model::network::Tensors;

use super::TrainError;
use super::optimizer::{Moments, Optimizer};

/// What a checkpoint says besides tensors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Steps taken.
    pub step: usize,
    /// What the run depends on: it goes on from a checkpoint of the same run only.
    pub fingerprint: String,
    /// Validations so far: step and mean metric.
    pub validations: Vec<(usize, f64)>,
    /// Sum of the gradient cosines between tasks, and how many were summed.
    pub cosines: (Vec<f64>, usize),
}

/// A run between two steps.
pub(super) struct Checkpoint {
    /// How far it is.
    pub progress: Progress,
    /// Weights by name.
    pub weights: BTreeMap<String, Vec<f32>>,
    /// Adam's moments and the average by name.
    pub moments: BTreeMap<String, Moments>,
    /// The averaged weights that did best on validation.
    pub best: Option<Tensors>,
}

/// Writes a checkpoint so that a reader sees the one before or this one, never a part.
pub(super) fn write(
    path: &Path,
    progress: &Progress,
    optimizer: &Optimizer,
    best: Option<&Tensors>,
) -> Result<(), TrainError> {
    let mut tensors: BTreeMap<String, Tensor> = BTreeMap::new();
    for (name, var) in optimizer.vars() {
        let moments = &optimizer.moments()[name];
        let flat = |values: &[f32]| Tensor::new(values, &Device::Cpu);
        tensors.insert(format!("weights/{name}"), var.flatten_all()?);
        tensors.insert(format!("mean/{name}"), flat(&moments.mean)?);
        tensors.insert(format!("square/{name}"), flat(&moments.square)?);
        tensors.insert(format!("average/{name}"), flat(&moments.average)?);
    }
    for (name, tensor) in best.into_iter().flatten() {
        tensors.insert(format!("best/{name}"), tensor.clone());
    }
    let progress = serde_json::to_string(progress).map_err(|e| damaged(path, e.to_string()))?;
    let metadata = Some(std::collections::HashMap::from([("progress".to_owned(), progress)]));
    let failed = |e: std::io::Error| TrainError::Write { path: path.to_owned(), source: e };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    let partial = path.with_extension("partial");
    safetensors::serialize_to_file(&tensors, metadata, &partial).map_err(|e| damaged(&partial, e.to_string()))?;
    std::fs::File::open(&partial).and_then(|f| f.sync_all()).map_err(failed)?;
    std::fs::rename(&partial, path).map_err(failed)
}

/// Reads a checkpoint; `None` where there is none.
pub(super) fn read(path: &Path) -> Result<Option<Checkpoint>, TrainError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(TrainError::Read { path: path.to_owned(), source }),
    };
    let damaged = |problem: String| damaged(path, problem);
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).map_err(|e| damaged(e.to_string()))?;
    let progress = metadata
        .metadata()
        .as_ref()
        .and_then(|m| m.get("progress"))
        .ok_or_else(|| damaged("it holds no progress".into()))?;
    let progress: Progress = serde_json::from_str(progress).map_err(|e| damaged(e.to_string()))?;
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)?;
    let (mut weights, mut best) = (BTreeMap::new(), Tensors::new());
    let mut moments: BTreeMap<String, Moments> = BTreeMap::new();
    for (key, tensor) in tensors {
        let Some((part, name)) = key.split_once('/') else { return Err(damaged(format!("unknown tensor `{key}`"))) };
        let entry = || Moments { mean: vec![], square: vec![], average: vec![] };
        let flat = || tensor.to_vec1::<f32>();
        match part {
            "weights" => _ = weights.insert(name.to_owned(), flat()?),
            "mean" => moments.entry(name.to_owned()).or_insert_with(entry).mean = flat()?,
            "square" => moments.entry(name.to_owned()).or_insert_with(entry).square = flat()?,
            "average" => moments.entry(name.to_owned()).or_insert_with(entry).average = flat()?,
            "best" => _ = best.insert(name.to_owned(), tensor),
            _ => return Err(damaged(format!("unknown tensor `{key}`"))),
        }
    }
    let best = (!best.is_empty()).then_some(best);
    Ok(Some(Checkpoint { progress, weights, moments, best }))
}

fn damaged(path: &Path, problem: String) -> TrainError {
    TrainError::Checkpoint { path: path.to_owned(), problem }
}
