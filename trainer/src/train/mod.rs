//! Training: from label tables to weights.

mod augment;
mod checkpoint;
mod learned;
mod linear;
mod loss;
mod optimizer;
mod scorer;
mod step;
mod stream;
mod validation;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor, Var};
use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use sha2::{Digest, Sha256};
use unimodel_model::bundle::Model;
use unimodel_model::catalogue::Catalogue;
use unimodel_model::error::ModelError;
use unimodel_model::features::{ContextError, Encoder};
use unimodel_model::network::{Axis, LOG_POPULARITY, Network, NetworkConfig, Parameter, Start, Tensors, parameters};
use unimodel_model::schema::{Schema, hex};
use unimodel_model::strings::Strings;

use self::checkpoint::Progress;
pub use self::learned::{Learned, learn};
use self::optimizer::Optimizer;
pub use self::scorer::HeadScorer;
use self::step::Batches;
use self::validation::Validation;
use crate::evaluate::{EvaluateError, Events};
use crate::pipeline::{Pipeline, Training};

/// Validation cases of a task that steer training; the report counts all.
const VALIDATION_CASES: usize = 2_000;

/// Why training failed.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A table, the schema or a tensor operation.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Validation cases.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// A validation case that the encoder refuses.
    #[error("a validation case: {0}")]
    Context(#[from] ContextError),
    /// The scores are no longer numbers.
    #[error("task `{task}`: scores are no longer finite; lower training.learningRate")]
    Diverged {
        /// The task.
        task: String,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A checkpoint that is damaged or of another run.
    #[error("checkpoint {}: {problem}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl From<candle_core::Error> for TrainError {
    fn from(e: candle_core::Error) -> Self {
        Self::Model(e.into())
    }
}

/// How a run differs from what the pipeline file says.
#[derive(Clone, Default)]
pub struct Options<'a> {
    /// Where checkpoints go; none are written without.
    pub checkpoint: Option<PathBuf>,
    /// Go on from the checkpoint, if there is one.
    pub resume: bool,
    /// The version to start from: items, values and heads that it knows keep what it learned of them.
    pub parent: Option<&'a Model>,
}

/// What a run says after each step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepReport {
    /// Steps taken.
    pub step: usize,
    /// Steps in all.
    pub steps: usize,
    /// The step's loss.
    pub loss: f32,
    /// The last validation: mean over the tasks of their first metric.
    pub validation: Option<f64>,
}

/// Mean over the tasks of their first metric on validation, by the same weights.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RankerEffect {
    /// With the pairwise ranker.
    pub on: f64,
    /// By the dot product alone.
    pub off: f64,
}

/// A finished run.
pub struct Trained {
    /// The contract.
    pub schema: Schema,
    /// The averaged weights that did best on validation.
    pub tensors: Tensors,
    /// Validations: step and mean metric.
    pub validations: Vec<(usize, f64)>,
    /// What the pairwise ranker does on validation, where there is one.
    pub ranker: Option<RankerEffect>,
    /// Mean cosine between the tasks' gradients on the shared tensors, `[task][task]`.
    pub gradient_cosines: Vec<Vec<f64>>,
    /// By item: how often it was a positive, over the tasks.
    pub popularity: Vec<f64>,
    /// The latest event that training saw, seconds since 1970.
    pub data_time: i64,
}

/// Trains on the label tables of a folder.
pub fn train(
    pipeline: &Pipeline,
    labels: &Path,
    catalogue: &Catalogue,
    options: &Options,
    on_step: &mut dyn FnMut(&StepReport),
) -> Result<Trained, TrainError> {
    let learned = learn(pipeline, labels, catalogue)?;
    let schema = &learned.schema;
    let encoder = Encoder::new(schema, catalogue);
    let training = &pipeline.training;
    let vars = start(schema, catalogue, training.seed, options.parent)?;
    let mut fixed = Tensors::new();
    fixed.insert(LOG_POPULARITY.into(), log_popularity(&learned.popularity)?);
    if let Some(config) = &schema.network.linear {
        fixed.extend(linear::tensors(&Events::open(&labels.join("events.parquet"))?, catalogue, config)?);
    }
    let with_fixed = |tensors: Tensors| -> Tensors { tensors.into_iter().chain(fixed.clone()).collect() };
    let live = with_fixed(vars.iter().map(|(n, v)| (n.clone(), v.as_tensor().clone())).collect());
    let network = Network::new(schema, catalogue, live)?;

    let mut batches = Batches::new(pipeline, schema, catalogue, &encoder, labels)?;
    let mut validations = Vec::new();
    for task in &pipeline.tasks {
        validations.push(Validation::read(pipeline, task, labels, catalogue, &encoder, VALIDATION_CASES)?);
    }
    let mut optimizer = Optimizer::new(vars, training.average)?;
    let mut progress = Progress { fingerprint: fingerprint(schema, pipeline, options.parent), ..Progress::default() };
    let mut best: Option<Tensors> = None;
    if let (Some(path), true) = (&options.checkpoint, options.resume)
        && let Some(found) = checkpoint::read(path)?
    {
        if found.progress.fingerprint != progress.fingerprint {
            let problem = "it belongs to another pipeline, seed or label set; train without --resume".into();
            return Err(TrainError::Checkpoint { path: path.clone(), problem });
        }
        optimizer.restore(found.progress.step, &found.weights, found.moments)?;
        (progress, best) = (found.progress, found.best);
        if !is_finished(&progress, training) {
            batches.skip(progress.step)?;
        }
    }

    let shared = shared_names(schema, catalogue);
    while !is_finished(&progress, training) {
        let step = progress.step;
        let loss = batches.next_loss(&network, step)?;
        let rate = optimizer::one_cycle(step, training.steps, training.learning_rate);
        optimizer.update(&loss.backward()?, rate)?;
        progress.step += 1;
        let loss = loss.to_scalar::<f32>()?;
        if !loss.is_finite() {
            return Err(TrainError::Diverged { task: pipeline.tasks[0].name.clone() });
        }
        if progress.step.is_multiple_of(training.validate_every.max(1)) || progress.step == training.steps {
            let averaged = with_fixed(optimizer.averaged()?);
            let mean = validate(&validations, &Network::new(schema, catalogue, averaged.clone())?)?;
            if best.is_none() || progress.validations.iter().all(|(_, m)| mean > *m) {
                best = Some(averaged);
            }
            progress.validations.push((progress.step, mean));
            if pipeline.tasks.len() > 1 {
                add_cosines(&mut progress.cosines, &batches.task_gradients(&network, step, &shared)?);
            }
            if let Some(path) = &options.checkpoint {
                checkpoint::write(path, &progress, &optimizer, best.as_ref())?;
            }
        }
        on_step(&StepReport {
            step: progress.step,
            steps: training.steps,
            loss,
            validation: progress.validations.last().map(|v| v.1),
        });
    }
    let tensors = match best {
        Some(best) => best,
        None => with_fixed(optimizer.averaged()?),
    };
    let ranker = match &schema.network.ranker {
        Some(_) => {
            // The best weights are those of the best validation.
            let on = progress.validations.iter().map(|v| v.1).fold(f64::NEG_INFINITY, f64::max);
            let off = validate(&validations, &without_ranker(schema, catalogue, &tensors)?)?;
            Some(RankerEffect { on, off })
        }
        None => None,
    };
    let (sum, count) = &progress.cosines;
    let cosines = sum.chunks(pipeline.tasks.len()).map(|row| row.iter().map(|c| c / *count as f64).collect());
    Ok(Trained {
        gradient_cosines: cosines.collect(),
        schema: learned.schema.clone(),
        tensors,
        validations: progress.validations,
        ranker,
        popularity: learned.popularity,
        data_time: learned.data_time,
    })
}

/// Mean over the tasks of their first metric.
fn validate(validations: &[Validation], network: &Network) -> Result<f64, TrainError> {
    let mut scores = Vec::new();
    for (head, validation) in validations.iter().enumerate() {
        scores.extend(validation.score(network, head)?);
    }
    let mean = scores.iter().sum::<f64>() / scores.len().max(1) as f64;
    tracing::debug!(mean, ?scores, "validated");
    Ok(mean)
}

fn without_ranker(schema: &Schema, catalogue: &Catalogue, tensors: &Tensors) -> Result<Network, TrainError> {
    let network = NetworkConfig { ranker: None, ..schema.network.clone() };
    let kept = tensors.iter().filter(|(name, _)| !name.starts_with("ranker."));
    let kept = kept.map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
    Ok(Network::new(&Schema { network, ..schema.clone() }, catalogue, kept)?)
}

/// The starting weights.
fn start(
    schema: &Schema,
    catalogue: &Catalogue,
    seed: u64,
    parent: Option<&Model>,
) -> Result<BTreeMap<String, Var>, TrainError> {
    let mut vars = BTreeMap::new();
    let idf = inverse_document_frequency(schema, catalogue);
    for parameter in parameters(schema, catalogue.len()) {
        let count: usize = parameter.shape.iter().product();
        // One stream a tensor: a tensor that is added does not change the others' start.
        let digest = Sha256::digest(format!("{seed}/{}", parameter.name));
        let mut rng = ChaCha8Rng::from_seed(digest.into());
        let mut values: Vec<f32> = match parameter.start {
            Start::Constant(x) => vec![x as f32; count],
            Start::Normal(deviation) => (0..count).map(|_| (normal(&mut rng) * deviation) as f32).collect(),
        };
        if parameter.name == "text.log_idf" {
            values.clone_from(&idf);
        }
        if let Some(parent) = parent {
            take_over(&mut values, &parameter, parent, schema, catalogue)?;
        }
        vars.insert(parameter.name, Var::from_vec(values, parameter.shape, &Device::Cpu)?);
    }
    Ok(vars)
}

/// Copies the rows and columns that both have, wherever they now are.
fn take_over(
    values: &mut [f32],
    parameter: &Parameter,
    parent: &Model,
    schema: &Schema,
    catalogue: &Catalogue,
) -> Result<(), TrainError> {
    if !parent.weights.contains(&parameter.name) {
        return Ok(());
    }
    let old_shape = parent.weights.shape(&parameter.name)?;
    let size = |shape: &[usize]| (shape.first().copied().unwrap_or(1), shape.get(1).copied().unwrap_or(1));
    let ((rows, columns), (old_rows, old_columns)) = (size(&parameter.shape), size(old_shape));
    let places = |axis: &Axis, new: usize, old: usize| -> Vec<Option<usize>> {
        let names = axis.names(schema, catalogue).zip(axis.names(&parent.schema, &parent.catalogue));
        let Some((names, old_names)) = names else { return (0..new).map(|i| (i < old).then_some(i)).collect() };
        let at: HashMap<&str, usize> = old_names.into_iter().zip(0..old).collect();
        names.into_iter().map(|name| at.get(name).copied()).collect()
    };
    let old = parent.weights.read(&parameter.name)?;
    let from_columns = places(&parameter.axes[1], columns, old_columns);
    for (row, from) in places(&parameter.axes[0], rows, old_rows).into_iter().enumerate() {
        for (column, from_column) in from_columns.iter().enumerate() {
            if let (Some(from), Some(from_column)) = (from, from_column) {
                values[row * columns + column] = old[from * old_columns + from_column];
            }
        }
    }
    Ok(())
}

/// A standard normal number (Box and Muller 1958).
fn normal(rng: &mut impl Rng) -> f64 {
    let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// Logarithm of each n-gram bucket's inverse document frequency over the items' text, where learning starts from.
fn inverse_document_frequency(schema: &Schema, catalogue: &Catalogue) -> Vec<f32> {
    let mut documents = vec![0f64; schema.network.text_buckets];
    for title in catalogue.title().into_iter().flat_map(Strings::iter).flatten() {
        for (bucket, _) in unimodel_model::text::ngrams(title, schema.network.text_buckets) {
            documents[bucket as usize] += 1.0;
        }
    }
    let items = catalogue.len() as f64;
    documents.iter().map(|n| (((1.0 + items) / (1.0 + n)).ln() + 1.0).ln() as f32).collect()
}

fn log_popularity(counts: &[f64]) -> Result<Tensor, TrainError> {
    let logs: Vec<f64> = counts.iter().map(|c| c.ln_1p()).collect();
    let mean = logs.iter().sum::<f64>() / logs.len() as f64;
    let deviation = (logs.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / logs.len() as f64).sqrt().max(1e-6);
    let standard: Vec<f32> = logs.iter().map(|x| ((x - mean) / deviation) as f32).collect();
    Ok(Tensor::new(standard, &Device::Cpu)?)
}

/// The tensors that every task trains.
fn shared_names(schema: &Schema, catalogue: &Catalogue) -> Vec<String> {
    let names = parameters(schema, catalogue.len()).into_iter().map(|p| p.name);
    names.filter(|n| !n.starts_with("head.") && !n.starts_with("ranker.") && n != "context.task").collect()
}

fn add_cosines(total: &mut (Vec<f64>, usize), gradients: &[Vec<f32>]) {
    let tasks = gradients.len();
    total.0.resize(tasks * tasks, 0.0);
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    let norms: Vec<f64> = gradients.iter().map(|g| dot(g, g).sqrt().max(f64::MIN_POSITIVE)).collect();
    for a in 0..tasks {
        for b in 0..tasks {
            total.0[a * tasks + b] += dot(&gradients[a], &gradients[b]) / (norms[a] * norms[b]);
        }
    }
    total.1 += 1;
}

fn is_finished(progress: &Progress, training: &Training) -> bool {
    progress.step >= training.steps || out_of_patience(&progress.validations, training.patience)
}

/// Whether the last `patience` validations all fell short of the best before them.
fn out_of_patience(validations: &[(usize, f64)], patience: Option<usize>) -> bool {
    let Some(patience) = patience.filter(|p| validations.len() > *p) else { return false };
    let (before, last) = validations.split_at(validations.len() - patience);
    let best = before.iter().map(|v| v.1).fold(f64::NEG_INFINITY, f64::max);
    last.iter().all(|v| v.1 <= best)
}

/// What a run depends on.
fn fingerprint(schema: &Schema, pipeline: &Pipeline, parent: Option<&Model>) -> String {
    let mut digest = Sha256::new();
    digest.update(schema.canonical_bytes());
    digest.update(serde_json::to_vec(&(&pipeline.tasks, &pipeline.training)).unwrap_or_default());
    digest.update(parent.map(|p| p.schema.hash()).unwrap_or_default());
    hex(&digest.finalize())
}
