//! The pipeline file: what a platform or ML team writes.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use unimodel_model::network::NetworkConfig;
use unimodel_model::schema::{Attribute, Element};

/// A pipeline: from sources to a published version of one multi-task model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pipeline {
    /// Always `unimodel.dev/v1alpha1`.
    pub api_version: String,
    /// Always `Pipeline`.
    pub kind: String,
    /// Name of the pipeline.
    pub metadata: Metadata,
    /// Tables that the SQL files read, by the name that they read them under.
    pub sources: BTreeMap<String, Source>,
    /// The events behind every label, split before any task is derived.
    pub split: Split,
    /// The catalogue.
    pub items: Items,
    /// The profile snapshot, when the model is to know its users.
    #[serde(default)]
    pub users: Option<Users>,
    /// The unified request context: the union of all tasks' elements.
    pub context: Vec<Element>,
    /// The tasks, each with its own label preparation and nothing else of its own.
    pub tasks: Vec<Task>,
    /// Sizes of the network.
    #[serde(default)]
    pub model: NetworkConfig,
    /// How to train.
    #[serde(default)]
    pub training: Training,
}

/// Object metadata.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// Name.
    pub name: String,
}

/// One table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// A path relative to the pipeline file, or an `s3://`, `gs://`, `az://` or `https://` URL; a glob may stand in
    /// its last segment.
    pub path: String,
    /// File format.
    pub format: Format,
    /// CSV delimiter, one character.
    #[serde(default = "comma")]
    pub delimiter: String,
    /// Columns to read, by the name that SQL uses. Without it, all columns under the file's own names and types.
    #[serde(default)]
    pub columns: BTreeMap<String, Column>,
}

fn comma() -> String {
    ",".into()
}

/// File format of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Format {
    /// Delimited text with a header line.
    Csv,
    /// Apache Parquet.
    Parquet,
}

/// One column of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Column {
    /// The column's name in the file; by default the name that SQL uses.
    #[serde(default)]
    pub from: Option<String>,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: ColumnType,
}

/// Column types, by the names that Spark SQL and Trino share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ColumnType {
    /// UTF-8 text.
    String,
    /// 64-bit integer.
    Bigint,
    /// 64-bit float.
    Double,
    /// True or false.
    Boolean,
}

/// The split: one SQL file that gives the view `events` which every other SQL file may read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Split {
    /// SQL file. Its result has at least `split` (`train`, `validation`, `test` or `none`); all its columns are
    /// readable as the view `events`.
    pub sql: String,
    /// The global time cut of the cold-start report, as a share of the events in order of time.
    #[serde(default = "cold_start_after")]
    pub cold_start_after: f64,
}

fn cold_start_after() -> f64 {
    0.8
}

/// The catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Items {
    /// SQL file: `item_id` and the attributes, one row an item.
    pub sql: String,
    /// Attributes.
    #[serde(default)]
    pub attributes: Vec<Attribute>,
}

/// The profile snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Users {
    /// SQL file: the key and any of the context elements, one row a user, as of now.
    pub sql: String,
    /// The context element that keys it.
    pub key: String,
}

/// One task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Task {
    /// Name: the head's name, and what callers say.
    pub name: String,
    /// What it ranks.
    #[serde(default)]
    pub description: Option<String>,
    /// The label preparation: one SQL file that gives the label table.
    pub sql: String,
    /// Share of the training requests, relative to the other tasks'.
    #[serde(default = "one")]
    pub weight: f64,
    /// The loss.
    #[serde(default)]
    pub loss: Loss,
    /// How queries are varied in training.
    #[serde(default)]
    pub augmentation: Augmentation,
    /// How the task is evaluated.
    #[serde(default)]
    pub evaluation: Evaluation,
}

fn one() -> f64 {
    1.0
}

/// A task's loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "type", deny_unknown_fields)]
pub enum Loss {
    /// Cross entropy over the whole catalogue. A row asks when its label is at least 0.5.
    Softmax {
        /// Spread the target over what the same sequence chose later.
        #[serde(default)]
        soft_targets: Option<SoftTargets>,
    },
    /// Cross entropy over items sampled by their frequency, corrected by the log of the sampling probability
    /// (Bengio and Senécal 2008; Yi et al. 2019), for catalogues too large for the full one.
    SampledSoftmax {
        /// Negatives a batch.
        samples: usize,
        /// Spread the target over what the same sequence chose later.
        #[serde(default)]
        soft_targets: Option<SoftTargets>,
    },
    /// Binary cross entropy of the row's own item against its label in 0 to 1.
    Bce {},
}

impl Default for Loss {
    fn default() -> Self {
        Self::Softmax { soft_targets: None }
    }
}

/// Soft targets: a row's target is its own item and, with falling weight, the items of the rows that follow it in its
/// sequence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SoftTargets {
    /// Steps after which the weight has fallen to 1/e.
    pub decay: f64,
    /// Steps after which nothing counts.
    pub window: usize,
    /// Factor for rows whose label is below 0.5.
    #[serde(default)]
    pub below_half: f64,
}

/// How queries are varied in training.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Augmentation {
    /// The text element to vary.
    #[serde(default)]
    pub element: Option<String>,
    /// Share of the requests that get typing errors.
    #[serde(default)]
    pub typos: f64,
}

/// How a task is evaluated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Evaluation {
    /// Context elements (of items) whose items are no candidates.
    pub exclude: Vec<String>,
    /// Candidates are the items whose attribute (key) holds the value of the context element (value).
    pub within: BTreeMap<String, String>,
    /// Metrics; the first steers early stopping.
    pub metrics: Vec<Metric>,
    /// Named baselines, computed in the same run.
    pub baselines: Vec<Baseline>,
    /// The text element that a misspelt slice varies.
    pub misspell: Option<String>,
}

impl Default for Evaluation {
    fn default() -> Self {
        Self {
            exclude: Vec::new(),
            within: BTreeMap::new(),
            metrics: vec![Metric::HitRateAt10, Metric::NdcgAt10, Metric::Mrr],
            baselines: vec![Baseline::Popularity],
            misspell: None,
        }
    }
}

/// A metric over ranked candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Metric {
    /// Share of the requests whose target is among the first ten.
    #[serde(rename = "hitRate@10")]
    HitRateAt10,
    /// Discounted gain of the target within the first ten.
    #[serde(rename = "ndcg@10")]
    NdcgAt10,
    /// Mean reciprocal rank of the target.
    #[serde(rename = "mrr")]
    Mrr,
}

/// A baseline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "type", deny_unknown_fields)]
pub enum Baseline {
    /// Most frequent in the training labels, among the candidates (which `within` may narrow).
    Popularity,
    /// Cosine between items by the sequences that hold both, summed over the history or the source item.
    ItemCosine {
        /// Count all events rather than those with a label of at least 0.5.
        #[serde(default)]
        all_events: bool,
    },
    /// EASE (Steck 2019) in closed form.
    Ease {
        /// Count all events rather than those with a label of at least 0.5.
        #[serde(default)]
        all_events: bool,
        /// L2 regularisation.
        lambda: f64,
        /// A history item counts by this to the power of its age in steps; 1 is the published form.
        #[serde(default = "one")]
        decay: f64,
    },
    /// Items whose text holds the query, the most popular first.
    Substring,
    /// Cosine of TF-IDF weighted character trigrams.
    TrigramTfidf,
    /// BM25 over character trigrams.
    TrigramBm25,
}

/// How to train.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Training {
    /// Steps of the optimiser.
    pub steps: usize,
    /// Requests a step.
    pub batch: usize,
    /// Peak learning rate of the one-cycle schedule.
    pub learning_rate: f64,
    /// Decay of the moving average of the weights that is evaluated and published.
    pub average: f64,
    /// Steps between validations.
    pub validate_every: usize,
    /// Validations without improvement after which training stops.
    pub patience: Option<usize>,
    /// Seed of everything random.
    pub seed: u64,
}

impl Default for Training {
    fn default() -> Self {
        Self {
            steps: 700,
            batch: 512,
            learning_rate: 2.5e-3,
            average: 0.99,
            validate_every: 50,
            patience: Some(5),
            seed: 1,
        }
    }
}
