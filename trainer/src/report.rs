//! The evaluation of a finished run: the unified model, each task's own model and the baselines, on the same cases.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use unimodel_model::catalogue::Catalogue;
use unimodel_model::features::Encoder;
use unimodel_model::network::Network;

use crate::advise::relations;
use crate::evaluate::{Baselines, Cases, Evaluation, Events, Kind, Ranking, Scorer, Split, System, TaskEvaluation};
use crate::pipeline::Pipeline;
use crate::train::{HeadScorer, TrainError, Trained};

/// Evaluates on the events of one split. `singles` holds, by task, the network that was trained on it alone.
pub fn evaluate(
    pipeline: &Pipeline,
    labels: &Path,
    catalogue: &Catalogue,
    unified: &Trained,
    singles: &BTreeMap<String, Trained>,
    split: Split,
) -> Result<Evaluation, TrainError> {
    let events = Events::open(&labels.join("events.parquet"))?;
    let arrivals = events.arrivals(pipeline.split.cold_start_after)?;
    let mut baselines = Baselines::new(&events, catalogue, &pipeline.context)?;
    let seed = pipeline.training.seed;
    let network = Network::new(&unified.schema, catalogue, unified.tensors.clone())?;
    let encoder = Encoder::new(&unified.schema, catalogue);
    let mut tasks = Vec::new();
    for (head, task) in pipeline.tasks.iter().enumerate() {
        let model = HeadScorer::new("unified", &network, &encoder, head)?;
        let single = match singles.get(&task.name) {
            Some(trained) => {
                let network = Network::new(&trained.schema, catalogue, trained.tensors.clone())?;
                Some((network, Encoder::new(&trained.schema, catalogue)))
            }
            None => None,
        };
        let single = match &single {
            Some((network, encoder)) => Some(HeadScorer::new("single task", network, encoder, 0)?),
            None => None,
        };
        let rivals: Vec<Box<dyn Scorer>> =
            task.evaluation.baselines.iter().map(|b| baselines.scorer(b)).collect::<Result<_, _>>()?;
        let mut systems = vec![System { kind: Kind::Unified, scorer: &model }];
        systems.extend(single.as_ref().map(|scorer| System { kind: Kind::SingleTask, scorer }));
        systems.extend(rivals.iter().map(|scorer| System { kind: Kind::Baseline, scorer: scorer.as_ref() }));
        let ranking = Ranking::new(task, catalogue, &arrivals, seed)?;
        let table = labels.join("tasks").join(format!("{}.parquet", task.name));
        let ranks = ranking.rank(split, Cases::read(&table, split, &pipeline.context, catalogue)?, &systems)?;
        tasks.push(TaskEvaluation::new(&task.name, &task.loss, &task.evaluation.metrics, &ranks, seed));
    }
    let cosines = gradient_cosines(pipeline, unified);
    let relations = relations(labels, &unified.schema.heads, catalogue, cosines)?;
    let time = |seconds: i64| Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH);
    Ok(Evaluation::new(seed, split, time(unified.data_time), time(arrivals.cut), tasks, relations))
}

fn gradient_cosines(pipeline: &Pipeline, unified: &Trained) -> BTreeMap<String, BTreeMap<String, f64>> {
    let names = || pipeline.tasks.iter().map(|t| t.name.clone());
    let row = |own: String, cosines: &Vec<f64>| {
        let others = names().zip(cosines.iter().copied()).filter(|(n, _)| *n != own).collect();
        (own, others)
    };
    names().zip(&unified.gradient_cosines).map(|(name, cosines)| row(name, cosines)).collect()
}
