//! The folder of a version, ready to be published.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use parquet::arrow::ArrowWriter;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use unimodel_model::bundle::{Model, Oracle, files};
use unimodel_model::catalogue::{AttributeColumn, Catalogue, batches};
use unimodel_model::context::Context;
use unimodel_model::error::ModelError;

use crate::evaluate::{Cases, Evaluation, Split};
use crate::pipeline::Pipeline;
use crate::train::{TrainError, Trained};

/// Golden requests a head.
const GOLDEN_REQUESTS: usize = 32;
/// Candidates of a golden request.
const GOLDEN_CANDIDATES: usize = 100;
/// Items of a static popularity list.
const POPULAR_ITEMS: usize = 100;

/// One line of `golden/<head>.jsonl`: a request and the scores that the trainer computed for its candidates.
#[derive(Debug, Serialize)]
struct Golden<'a> {
    context: &'a Context,
    candidates: Vec<&'a str>,
    scores: Vec<f32>,
}

/// `popularity.json`: what a gateway answers when no model can.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Popularity<'a> {
    /// The most popular items.
    all: Vec<&'a str>,
    /// The most popular items by attribute and value.
    by: BTreeMap<&'a str, BTreeMap<&'a str, Vec<&'a str>>>,
}

/// Writes all files of a version but its manifest.
pub fn assemble(
    dir: &Path,
    pipeline: &Pipeline,
    labels: &Path,
    catalogue: &Catalogue,
    trained: &Trained,
    evaluation: &Evaluation,
) -> Result<(), TrainError> {
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.join(name);
        std::fs::write(&path, bytes).map_err(|source| TrainError::Write { path, source })
    };
    let golden = dir.join(files::GOLDEN);
    std::fs::create_dir_all(&golden).map_err(|source| TrainError::Write { path: golden, source })?;
    write(files::SCHEMA, &trained.schema.canonical_bytes())?;
    copy_table(&labels.join(files::ITEMS), dir.join(files::ITEMS))?;
    if pipeline.users.is_some() {
        copy_table(&labels.join(files::USERS), dir.join(files::USERS))?;
    }
    let weights = dir.join(files::WEIGHTS);
    safetensors::serialize_to_file(&trained.tensors, None, &weights)
        .map_err(|e| TrainError::Write { path: weights, source: std::io::Error::other(e) })?;
    write(files::EVALUATION, &json(evaluation)?)?;
    write(files::POPULARITY, &json(&popularity(catalogue, &trained.popularity))?)?;
    write_golden(dir, pipeline, labels)
}

fn json<T: Serialize>(value: &T) -> Result<Vec<u8>, TrainError> {
    let mut bytes =
        serde_json::to_vec_pretty(value).map_err(|e| TrainError::Model(ModelError::Schema(e.to_string())))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// One file out of a table of one or many part files.
fn copy_table(from: &Path, to: PathBuf) -> Result<(), TrainError> {
    if from.is_file() {
        return std::fs::copy(from, &to).map(|_| ()).map_err(|source| TrainError::Write { path: to, source });
    }
    let parquet = |source| TrainError::Model(ModelError::Parquet { path: to.clone(), source });
    let file = File::create(&to).map_err(|source| TrainError::Write { path: to.clone(), source })?;
    let mut batches = batches(from)?;
    let missing = || ModelError::Read { path: from.to_owned(), source: std::io::ErrorKind::NotFound.into() };
    let first = batches.next().ok_or_else(missing)??;
    let mut writer = ArrowWriter::try_new(file, first.schema(), None).map_err(parquet)?;
    writer.write(&first).map_err(parquet)?;
    for batch in batches {
        writer.write(&batch?).map_err(parquet)?;
    }
    writer.close().map_err(parquet)?;
    Ok(())
}

/// Scores of some validation requests, by the files just written: what a reader gets is what was computed.
fn write_golden(dir: &Path, pipeline: &Pipeline, labels: &Path) -> Result<(), TrainError> {
    let model = Model::open(dir)?;
    let network = model.network(&candle_core::Device::Cpu)?;
    let oracle = Oracle::new(&network)?;
    for (head, task) in pipeline.tasks.iter().enumerate() {
        let table = labels.join("tasks").join(format!("{}.parquet", task.name));
        let mut cases = Vec::new();
        for chunk in Cases::read(&table, Split::Validation, &pipeline.context, &model.catalogue)? {
            cases.extend(chunk?);
            if cases.len() >= GOLDEN_REQUESTS {
                break;
            }
        }
        cases.truncate(GOLDEN_REQUESTS);
        let path = dir.join(files::GOLDEN).join(format!("{}.jsonl", task.name));
        let mut lines = Vec::new();
        for (number, case) in cases.iter().enumerate() {
            let mut rng = ChaCha8Rng::seed_from_u64(number as u64);
            let mut items: Vec<u32> = (0..model.catalogue.len() as u32).filter(|i| *i != case.target).collect();
            let (chosen, _) = items.partial_shuffle(&mut rng, GOLDEN_CANDIDATES - 1);
            let chosen: Vec<u32> = std::iter::once(case.target).chain(chosen.iter().copied()).collect();
            let encoded = model.encoder.encode(&case.context)?;
            let scores = oracle.score(&[(&encoded, head)], |_, item| chosen.contains(&item))?;
            let golden = Golden {
                context: &case.context,
                candidates: chosen.iter().map(|&i| model.catalogue.id(i)).collect(),
                scores: chosen.iter().map(|&i| scores[0][i as usize]).collect(),
            };
            serde_json::to_writer(&mut lines, &golden)
                .map_err(|e| TrainError::Model(ModelError::Schema(e.to_string())))?;
            lines.push(b'\n');
        }
        let written = File::create(&path).and_then(|mut f| f.write_all(&lines));
        written.map_err(|source| TrainError::Write { path, source })?;
    }
    Ok(())
}

fn popularity<'a>(catalogue: &'a Catalogue, counts: &[f64]) -> Popularity<'a> {
    let mut order: Vec<u32> = (0..catalogue.len() as u32).collect();
    order.sort_by(|a, b| counts[*b as usize].total_cmp(&counts[*a as usize]).then(a.cmp(b)));
    let first = |items: &mut dyn Iterator<Item = u32>| items.take(POPULAR_ITEMS).map(|i| catalogue.id(i)).collect();
    let mut by: BTreeMap<&str, BTreeMap<&str, Vec<&str>>> = BTreeMap::new();
    for (attribute, column) in catalogue.attributes() {
        let mut lists: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let mut add = |value: &'a str, item: u32| {
            let list = lists.entry(value).or_default();
            if list.len() < POPULAR_ITEMS {
                list.push(catalogue.id(item));
            }
        };
        match column {
            AttributeColumn::Category(values) => {
                order.iter().for_each(|&i| values.get(i).into_iter().for_each(|v| add(v, i)));
            }
            AttributeColumn::CategoryList(values) => {
                order.iter().for_each(|&i| values.get(i).for_each(|v| add(v, i)));
            }
            AttributeColumn::Number(_) | AttributeColumn::Text(_) => continue,
        }
        by.insert(&attribute.name, lists);
    }
    Popularity { all: first(&mut order.iter().copied()), by }
}
