//! What a request sees: the active version and the tasks, as they were when it came.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::cache::ResponseCache;
use super::prepare::ContextRules;
use super::statistics::TaskStatistics;
use super::version::LoadedVersion;
use crate::config::TaskConfig;
use crate::error::RankError;
use crate::metrics::{Metrics, TaskMetrics};
use crate::request::Task;

/// The active version and the tasks. It never changes: another takes its place.
pub(super) struct Serving {
    pub(super) version: Option<Arc<LoadedVersion>>,
    tasks: BTreeMap<Arc<str>, Arc<ServedTask>>,
}

/// A task and how it fits the active version.
pub(super) struct ServedTask {
    pub(super) facts: Arc<Task>,
    pub(super) config: TaskConfig,
    pub(super) counts: Arc<Counts>,
    pub(super) cache: Option<Arc<ResponseCache>>,
    /// Why it does not answer, where it does not.
    fit: Result<Fit, String>,
}

/// What of a task outlives its settings.
pub(super) struct Counts {
    pub(super) metrics: TaskMetrics,
    pub(super) statistics: TaskStatistics,
}

/// A task of the active version.
pub(super) struct Fit {
    pub(super) version: Arc<LoadedVersion>,
    pub(super) head: usize,
    pub(super) rules: ContextRules,
}

impl Serving {
    /// Takes over counts and caches from what was served before.
    pub(super) fn new(
        version: Option<Arc<LoadedVersion>>,
        tasks: &[TaskConfig],
        before: Option<&Self>,
        metrics: &Metrics,
    ) -> Self {
        let tasks = tasks.iter().map(|config| {
            let before = before.and_then(|serving| serving.tasks.get(config.name.as_str()));
            let task = Arc::new(ServedTask::new(config.clone(), version.as_ref(), before.map(|task| &**task), metrics));
            (task.facts.name.clone(), task)
        });
        Self { tasks: tasks.collect(), version }
    }

    /// The settings of all tasks.
    pub(super) fn configs(&self) -> Vec<TaskConfig> {
        self.tasks.values().map(|task| task.config.clone()).collect()
    }

    pub(super) fn task(&self, name: &str) -> Option<&Arc<ServedTask>> {
        self.tasks.get(name)
    }

    /// All, by name.
    pub(super) fn tasks(&self) -> impl Iterator<Item = &Arc<ServedTask>> {
        self.tasks.values()
    }

    pub(super) fn unknown(&self, task: &str) -> RankError {
        RankError::UnknownTask {
            task: task.to_owned(),
            known: self.tasks.keys().map(|name| name.to_string()).collect(),
        }
    }
}

impl ServedTask {
    fn new(config: TaskConfig, version: Option<&Arc<LoadedVersion>>, before: Option<&Self>, metrics: &Metrics) -> Self {
        let fit = match version {
            None => Err("no version is loaded".to_owned()),
            Some(version) => Fit::new(&config, version),
        };
        let counts = before.map_or_else(
            || Arc::new(Counts { metrics: metrics.task(&config.name), statistics: TaskStatistics::default() }),
            |before| before.counts.clone(),
        );
        let kept = before.and_then(|before| before.cache.clone()).filter(|cache| config.cache == Some(cache.config()));
        let cache = config
            .cache
            .map(|cache| kept.unwrap_or_else(|| Arc::new(ResponseCache::new(cache, counts.metrics.clone()))));
        let facts = Arc::new(Task {
            name: config.name.as_str().into(),
            head: config.head.clone(),
            max_candidates: config.max_candidates.get(),
            timeout: config.timeout.into(),
            required: config.context.required.clone(),
            version: fit.as_ref().map(|fit| fit.version.facts().clone()).map_err(String::clone),
        });
        Self { facts, config, counts, cache, fit }
    }

    /// How it fits the active version.
    ///
    /// # Errors
    /// It does not: why.
    pub(super) fn fit(&self) -> Result<&Fit, RankError> {
        self.fit.as_ref().map_err(|reason| RankError::NotReady { reason: reason.clone() })
    }

    /// Why it does not answer, where it does not.
    pub(super) fn problem(&self) -> Option<&str> {
        self.fit.as_ref().err().map(String::as_str)
    }
}

impl Fit {
    fn new(config: &TaskConfig, version: &Arc<LoadedVersion>) -> Result<Self, String> {
        let head = version.head(&config.head).map_err(|error| error.to_string())?;
        let rules = ContextRules::new(&config.context, version)
            .map_err(|problem| format!("version `{}`: {problem}", version.name()))?;
        Ok(Self { version: version.clone(), head, rules })
    }
}
