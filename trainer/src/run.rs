//! A whole training run: the unified model, each task's own model to compare with, the evaluation and the files of a
//! version. Each step can be interrupted and taken up again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use unimodel_model::bundle::{Model, files};
use unimodel_model::catalogue::Catalogue;

use crate::assemble::assemble;
use crate::evaluate::{Evaluation, Kind, Split};
use crate::pipeline::Pipeline;
use crate::report::evaluate;
use crate::train::{Options, RankerEffect, StepReport, TrainError, Trained, train};

/// What a run is to do.
pub struct Run<'a> {
    /// The pipeline.
    pub pipeline: &'a Pipeline,
    /// The label tables.
    pub labels: &'a Path,
    /// Where checkpoints are kept until the version is published.
    pub checkpoints: &'a Path,
    /// Go on from the checkpoints.
    pub resume: bool,
    /// Also train each task alone, to compare with.
    pub compare: bool,
    /// The version to start from.
    pub parent: Option<&'a Model>,
}

/// What a run has found.
pub struct Outcome {
    /// On the test events; never chosen on.
    pub evaluation: Evaluation,
    /// Steps, and the mean metric on validation, of the unified model.
    pub validations: Vec<(usize, f64)>,
    /// What the pairwise ranker does for the unified model, where it has one.
    pub ranker: Option<RankerEffect>,
    /// The latest event that training saw, seconds since 1970.
    pub data_time: i64,
}

impl Run<'_> {
    /// Trains, evaluates and writes the files of a version into `dir`. `on_step` gets what is trained (`unified`, or a
    /// task's name) with each step.
    pub fn execute(&self, dir: &Path, on_step: &mut dyn FnMut(&str, &StepReport)) -> Result<Outcome, TrainError> {
        let catalogue = Catalogue::read(&self.labels.join(files::ITEMS), &self.pipeline.items.attributes)?;
        for baseline in self.pipeline.tasks.iter().flat_map(|task| &task.evaluation.baselines) {
            baseline.check(catalogue.len())?;
        }
        let unified = self.train(self.pipeline, "unified", self.parent, &catalogue, on_step)?;
        let mut singles = BTreeMap::new();
        if self.compare && self.pipeline.tasks.len() > 1 {
            for task in &self.pipeline.tasks {
                let alone = Pipeline { tasks: vec![task.clone()], ..self.pipeline.clone() };
                singles.insert(task.name.clone(), self.train(&alone, &task.name, None, &catalogue, on_step)?);
            }
        }
        let evaluation = evaluate(self.pipeline, self.labels, &catalogue, &unified, &singles, Split::Test)?;
        assemble(dir, self.pipeline, self.labels, &catalogue, &unified, &evaluation)?;
        let Trained { validations, ranker, data_time, .. } = unified;
        Ok(Outcome { evaluation, validations, ranker, data_time })
    }

    fn train(
        &self,
        pipeline: &Pipeline,
        name: &str,
        parent: Option<&Model>,
        catalogue: &Catalogue,
        on_step: &mut dyn FnMut(&str, &StepReport),
    ) -> Result<Trained, TrainError> {
        let options = Options { checkpoint: Some(self.checkpoint(name)), resume: self.resume, parent };
        train(pipeline, self.labels, catalogue, &options, &mut |report| on_step(name, report))
    }

    fn checkpoint(&self, name: &str) -> PathBuf {
        self.checkpoints.join(format!("{name}.safetensors"))
    }
}

/// The unified model's metrics by task, on the requests as they are: what a manifest says.
pub fn headline(evaluation: &Evaluation) -> BTreeMap<String, BTreeMap<String, f64>> {
    let of_task = |task: &crate::evaluate::TaskEvaluation| {
        let system = task.slices.first()?.system(Kind::Unified)?;
        let metrics = system.metrics.iter().map(|(metric, estimate)| (metric.name().to_owned(), estimate.value));
        Some((task.name.clone(), metrics.collect()))
    };
    evaluation.tasks.iter().filter_map(of_task).collect()
}
