//! Versions as a store hands them out, with weights that look random, and what plain candle says of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Float64Array, ListBuilder, RecordBatch, StringArray, StringBuilder};
use parquet::arrow::ArrowWriter;
use prometheus_client::registry::Registry;
use serde_json::json;
use tempfile::TempDir;
use unimodel_model::Device;
use unimodel_model::bundle::{Model, Oracle, files};
use unimodel_model::catalogue::{AttributeColumn, Catalogue};
use unimodel_model::context::{Context, Value};
use unimodel_model::network::{LinearConfig, Network, NetworkConfig, RankerConfig};
use unimodel_model::schema::Schema;
use unimodel_model::version::{Digest, FileEntry, Fingerprint, LocalVersion, MANIFEST, MANIFEST_FORMAT, Manifest};
use unimodel_server::compute::kernels::Kernels;
use unimodel_server::config::{AdmissionConfig, TaskConfig};
use unimodel_server::metrics::Metrics;
use unimodel_server::request::{Candidates, Ids, RankRequest, RankResponse, Source};
use unimodel_server::runtime::{LoadedVersion, Runtime};
use unimodel_server::timeout::Deadline;

use crate::world::{HEADS, Numbers, catalogue, context, schema, tensors, write};

/// What a version is made of.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    pub(crate) seed: u64,
    pub(crate) items: usize,
    pub(crate) network: NetworkConfig,
    pub(crate) profiles: bool,
}

impl Default for Recipe {
    fn default() -> Self {
        let network = NetworkConfig {
            width: 24,
            hidden: 32,
            history_width: 12,
            text_buckets: 64,
            text_width: 20,
            linear: Some(LinearConfig { width: 16, ..LinearConfig::default() }),
            ..NetworkConfig::default()
        };
        Self { seed: 1, items: 300, network, profiles: true }
    }
}

impl Recipe {
    pub(crate) fn ranked() -> Self {
        let mut recipe = Self::default();
        recipe.network.ranker = Some(RankerConfig { hidden: vec![24, 16], candidates: 40 });
        recipe
    }
}

/// A version's directory, and the model that it holds.
pub(crate) struct Fixture {
    pub(crate) dir: TempDir,
    pub(crate) model: Model,
    network: Network,
}

/// Users with a profile: `drama` has a history, `war` an age and a country.
fn profiles() -> BTreeMap<&'static str, Context> {
    let history = Value::List((0..7).map(|i| format!("i{i}")).collect());
    BTreeMap::from([
        ("drama", Context::from([("history".to_owned(), history)])),
        (
            "war",
            Context::from([
                ("age".to_owned(), Value::Number(41.0)),
                ("country".to_owned(), Value::Text("comedy".into())),
            ]),
        ),
    ])
}

impl Fixture {
    pub(crate) fn new(recipe: &Recipe) -> Self {
        let mut numbers = Numbers(recipe.seed);
        let mut schema = schema(recipe.network.clone());
        schema.profile_key = recipe.profiles.then(|| "user".to_owned());
        let catalogue = catalogue(&schema, recipe.items, &mut numbers);
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(files::SCHEMA), schema.canonical_bytes()).unwrap();
        write_items(&dir.path().join(files::ITEMS), &catalogue);
        if recipe.profiles {
            write_users(&dir.path().join(files::USERS));
        }
        write(&tensors(&schema, recipe.items, &mut numbers), &dir.path().join(files::WEIGHTS));
        let model = Model::open(dir.path()).unwrap();
        let network = model.network(&Device::Cpu).unwrap();
        write_golden(dir.path(), &model, &network, recipe.items, &mut numbers);
        write_manifest(dir.path(), &schema, recipe.seed);
        Self { dir, model, network }
    }

    pub(crate) fn local(&self) -> LocalVersion {
        LocalVersion::open(self.dir.path()).unwrap()
    }

    pub(crate) fn open(&self, kernels: Kernels) -> LoadedVersion {
        let local = self.local();
        LoadedVersion::open(local.dir(), local.manifest(), kernels, &Device::Cpu, NonZeroUsize::MIN).unwrap()
    }

    pub(crate) fn load(&self) -> Arc<LoadedVersion> {
        Arc::new(self.open(Kernels::detect()))
    }

    /// Signs the directory again after a change.
    pub(crate) fn sign(&self) {
        write_manifest(self.dir.path(), &self.model.schema, 1);
    }

    /// What the request's context becomes: what it gives, the profile of its user, the task's defaults.
    pub(crate) fn full_context(&self, context: &Context, defaults: &Context) -> Context {
        let mut full: Context = context.iter().filter(|(_, v)| **v != Value::Null).map(own).collect();
        if let (Some(Value::Text(user)), Some(profiles)) = (full.get("user").cloned(), &self.model.profiles) {
            let profile = profiles.get(&user).cloned().unwrap_or_default();
            profile.iter().for_each(|(name, value)| {
                full.entry(name.clone()).or_insert(value.clone());
            });
        }
        defaults.iter().for_each(|(name, value)| {
            full.entry(name.clone()).or_insert(value.clone());
        });
        full
    }

    /// Ids and scores by plain candle, the best first.
    pub(crate) fn expected(&self, head: usize, context: &Context, items: &[u32], limit: usize) -> Vec<(String, f32)> {
        let encoded = self.model.encoder.encode(context).unwrap();
        let oracle = Oracle::new(&self.network).unwrap();
        let scores = oracle.score(&[(&encoded, head)], |_, item| items.contains(&item)).unwrap().remove(0);
        let mut best: Vec<u32> = items.to_vec();
        best.sort_by(|a, b| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b)));
        best.truncate(limit);
        best.into_iter().map(|i| (self.model.catalogue.id(i).to_owned(), scores[i as usize])).collect()
    }
}

fn own((name, value): (&String, &Value)) -> (String, Value) {
    (name.clone(), value.clone())
}

/// Whether an answer is the expected one: scores as near as single precision lets them be, and the order that of the
/// scores.
pub(crate) fn is_near(response: &RankResponse, expected: &[(String, f32)]) -> bool {
    let by_id: BTreeMap<&str, f32> = expected.iter().map(|(id, score)| (id.as_str(), *score)).collect();
    let near = |a: f32, b: f32| (a - b).abs() <= 1e-4 * b.abs().max(8.0);
    response.items.ids.len() == expected.len()
        && response.items.iter().zip(expected).all(|((id, score), (_, at_this_place))| {
            // At the end of the answer another of the same score may stand.
            near(score, *at_this_place) && by_id.get(id).is_none_or(|expected| near(score, *expected))
        })
}

fn strings(values: &[Option<String>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn lists<'a>(values: impl IntoIterator<Item: IntoIterator<Item = &'a str>>) -> ArrayRef {
    let mut lists = ListBuilder::new(StringBuilder::new());
    for list in values {
        list.into_iter().for_each(|value| lists.values().append_value(value));
        lists.append(true);
    }
    Arc::new(lists.finish())
}

fn write_table(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn write_items(path: &Path, catalogue: &Catalogue) {
    let ids = StringArray::from_iter_values(catalogue.ids().iter());
    let mut columns: Vec<(&str, ArrayRef)> = vec![("item_id", Arc::new(ids))];
    for (attribute, column) in catalogue.attributes() {
        let column: ArrayRef = match column {
            AttributeColumn::Number(values) => Arc::new(Float64Array::from(values.clone())),
            AttributeColumn::Category(values) | AttributeColumn::Text(values) => {
                Arc::new(values.iter().collect::<StringArray>())
            }
            AttributeColumn::CategoryList(values) => lists(values.iter()),
        };
        columns.push((&attribute.name, column));
    }
    write_table(path, columns);
}

fn write_users(path: &Path) {
    let profiles = profiles();
    let of = |name: &str| profiles.values().map(|profile| profile.get(name)).collect::<Vec<_>>();
    let text =
        |name| strings(&of(name).into_iter().map(|v| v.and_then(|v| text(v).map(str::to_owned))).collect::<Vec<_>>());
    let ages = of("age").into_iter().map(|v| match v {
        Some(Value::Number(x)) => Some(*x),
        _ => None,
    });
    let mut histories = ListBuilder::new(StringBuilder::new());
    for history in of("history") {
        match history {
            Some(Value::List(ids)) => {
                ids.iter().for_each(|id| histories.values().append_value(id));
                histories.append(true);
            }
            _ => histories.append(false),
        }
    }
    let keys = profiles.keys().map(|key| Some((*key).to_owned())).collect::<Vec<_>>();
    write_table(
        path,
        vec![
            ("user", strings(&keys)),
            ("age", Arc::new(ages.collect::<Float64Array>())),
            ("country", text("country")),
            ("history", Arc::new(histories.finish())),
        ],
    );
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

/// Some requests a head, with the scores of plain candle.
fn write_golden(dir: &Path, model: &Model, network: &Network, items: usize, numbers: &mut Numbers) {
    let oracle = Oracle::new(network).unwrap();
    std::fs::create_dir(dir.join(files::GOLDEN)).unwrap();
    for head in 0..HEADS {
        let mut lines = String::new();
        for _ in 0..8 {
            let context = context(items, numbers);
            let mut chosen: Vec<u32> = (0..items as u32).collect();
            chosen.sort_by_cached_key(|_| numbers.next());
            chosen.truncate(100);
            let encoded = model.encoder.encode(&context).unwrap();
            let scores = oracle.score(&[(&encoded, head)], |_, item| chosen.contains(&item)).unwrap().remove(0);
            let line = json!({
                "context": context,
                "candidates": chosen.iter().map(|i| model.catalogue.id(*i)).collect::<Vec<_>>(),
                "scores": chosen.iter().map(|i| scores[*i as usize]).collect::<Vec<_>>(),
            });
            lines.push_str(&format!("{line}\n"));
        }
        std::fs::write(dir.join(files::GOLDEN).join(format!("h{head}.jsonl")), lines).unwrap();
    }
}

fn write_manifest(dir: &Path, schema: &Schema, seed: u64) {
    let mut paths: Vec<String> = (0..HEADS).map(|h| format!("{}/h{h}.jsonl", files::GOLDEN)).collect();
    paths.extend([files::SCHEMA, files::WEIGHTS, files::ITEMS, files::USERS].map(str::to_owned));
    let entries = paths.into_iter().filter_map(|path| {
        let bytes = std::fs::read(dir.join(&path)).ok()?;
        let content = Fingerprint { size: bytes.len() as u64, sha256: Digest::of(&bytes) };
        Some(FileEntry { path: path.parse().unwrap(), content })
    });
    let manifest = Manifest {
        format: MANIFEST_FORMAT,
        version: format!("20260101T000000Z-{seed:08x}").parse().unwrap(),
        created: "2026-01-01T00:00:00Z".parse().unwrap(),
        data_time: "2025-12-31T00:00:00Z".parse().unwrap(),
        parent: None,
        pipeline: None,
        schema_hash: Digest::of(&schema.canonical_bytes()),
        files: entries.collect(),
        metrics: BTreeMap::new(),
    };
    std::fs::write(dir.join(MANIFEST), manifest.to_bytes()).unwrap();
}

/// Tasks `h0` to `h2`, as most tests serve them: with time enough for a slow machine.
pub(crate) fn tasks() -> Vec<TaskConfig> {
    (0..HEADS)
        .map(|head| {
            let mut task = TaskConfig::of_head(&format!("h{head}"));
            task.timeout.default = Duration::from_secs(60);
            task.timeout.max = Duration::from_secs(60);
            task
        })
        .collect()
}

/// A runtime with its registry, to read metrics from.
pub(crate) struct Served {
    pub(crate) runtime: Arc<Runtime>,
    registry: Registry,
}

impl Served {
    pub(crate) fn start(tasks: &[TaskConfig], admission: AdmissionConfig) -> Self {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let workers = NonZeroUsize::new(2).unwrap();
        Self { runtime: Runtime::start(workers, admission, tasks, metrics).unwrap(), registry }
    }

    /// Serves the version's heads.
    pub(crate) fn new(fixture: &Fixture) -> Self {
        let served = Self::start(&tasks(), AdmissionConfig::default());
        served.runtime.activate(fixture.load());
        served
    }

    /// The value of a series, named as Prometheus prints it.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().unwrap()
    }
}

pub(crate) fn ids<S: AsRef<str>>(ids: impl IntoIterator<Item = S>) -> Source {
    Source::Ids(ids.into_iter().collect())
}

pub(crate) fn request(task: &str, context: Context, source: Source, limit: usize) -> RankRequest {
    RankRequest { task: task.into(), context, candidates: Candidates { source, exclude: Ids::default() }, limit }
}

/// A deadline that no test comes near.
pub(crate) fn soon() -> Deadline {
    let timeout = Duration::from_secs(60);
    Deadline { at: Instant::now() + timeout, timeout }
}
