//! What the types of a pipeline file cannot say: names that clash or refer to nothing, numbers out of range.

use std::collections::HashMap;
use std::fmt::Display;

use unimodel_model::features::{self, nearest_name};
use unimodel_model::schema::{AttributeType, Element, ElementType, Entity};

use super::load::Problem;
use super::positions::Positions;
use super::types::{Baseline, Evaluation, Loss, Pipeline, SoftTargets, Source, Task, Training};

/// Columns of the label table that no context element may be named like.
const LABEL_COLUMNS: [&str; 6] = ["item_id", "label", "weight", "event_time", "split", "sequence"];

/// Views that no source may be named like.
const VIEWS: [&str; 3] = ["events", "items", "users"];

/// As many tasks as a UnifiedModel hosts.
const MAX_TASKS: usize = 64;

/// All that makes no sense in it.
pub(super) fn check(pipeline: &Pipeline, positions: &Positions) -> Vec<Problem> {
    let mut check = Check { pipeline, positions, problems: Vec::new() };
    check.resource_name("metadata.name", &pipeline.metadata.name);
    check.sources();
    check.context();
    check.items();
    check.users();
    check.between("split.coldStartAfter", pipeline.split.cold_start_after, 0.0, 1.0);
    check.tasks();
    check.model();
    check.training(&pipeline.training);
    check.problems
}

struct Check<'a> {
    pipeline: &'a Pipeline,
    positions: &'a Positions,
    problems: Vec<Problem>,
}

impl<'a> Check<'a> {
    fn say(&mut self, key: impl Into<String>, message: impl Into<String>) {
        let key = key.into();
        self.problems.push(Problem { position: self.positions.of(&key), key, message: message.into() });
    }

    fn require(&mut self, right: bool, key: &str, found: impl Display, must: &str) {
        if !right {
            self.say(key, format!("is {found}; it must be {must}"));
        }
    }

    fn above_zero(&mut self, key: &str, value: f64) {
        self.require(value > 0.0 && value.is_finite(), key, value, "above 0 and finite");
    }

    fn size(&mut self, key: &str, value: usize) {
        self.require(value > 0, key, value, "at least 1");
    }

    /// Strictly between both.
    fn between(&mut self, key: &str, value: f64, low: f64, high: f64) {
        self.require(low < value && value < high, key, value, &format!("above {low} and below {high}"));
    }

    /// Probability of dropping, which must leave something.
    fn dropout(&mut self, key: &str, value: f64) {
        self.require((0.0..1.0).contains(&value), key, value, "from 0 to below 1");
    }

    /// Names that become part of a URL, a path and an object in a cluster.
    fn resource_name(&mut self, key: &str, name: &str) {
        let alphanumeric = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let right = alphanumeric(name.chars().next())
            && alphanumeric(name.chars().last())
            && name.chars().all(|c| c == '-' || alphanumeric(Some(c)))
            && name.len() <= 63;
        self.require(right, key, format!("`{name}`"), "1 to 63 of a-z, 0-9 and `-`, with no `-` at either end");
    }

    /// Names that SQL engines take without quotes and all in the same way.
    fn sql_name(&mut self, key: &str, name: &str) {
        let first = |c: char| c.is_ascii_lowercase() || c == '_';
        let right = name.starts_with(first) && name.chars().all(|c| first(c) || c.is_ascii_digit());
        self.require(right, key, format!("`{name}`"), "a-z, 0-9 and `_`, not beginning with a digit");
    }

    fn sources(&mut self) {
        let sources = &self.pipeline.sources;
        if sources.is_empty() {
            self.say("sources", "is empty; the SQL files need one source at least");
        }
        for (name, source) in sources {
            let key = format!("sources.{name}");
            self.sql_name(&key, name);
            if VIEWS.contains(&name.as_str()) {
                self.say(&key, format!("`{name}` is the view that a SQL file gives; name the source otherwise"));
            }
            self.source(&key, source);
            for column in source.columns.keys() {
                self.sql_name(&format!("{key}.columns.{column}"), column);
            }
        }
    }

    fn source(&mut self, key: &str, source: &Source) {
        let found = format!("`{}`", source.delimiter.escape_debug());
        let one = source.delimiter.len() == 1;
        self.require(one, &format!("{key}.delimiter"), found, "one ASCII character, such as `,` or `\\t`");
        let path = format!("{key}.path");
        if source.path.is_empty() {
            self.say(&path, "is empty; it must be a path or a URL");
        }
        if let Some((scheme, _)) = source.path.split_once("://") {
            let known = ["s3", "gs", "az", "https"].contains(&scheme);
            self.require(
                known,
                &path,
                format!("a `{scheme}://` URL"),
                "a path or an s3://, gs://, az:// or https:// URL",
            );
        }
        let (folder, last) = source.path.rsplit_once('/').unwrap_or(("", &source.path));
        let glob = ['*', '?', '['];
        if folder.contains(glob) {
            self.say(
                &path,
                format!("`{}` has a glob before its last segment, the only one that may be one", source.path),
            );
        } else if source.path.starts_with("https://") && last.contains(['*', '[']) {
            self.say(&path, format!("`{}` has a glob, but a web server has no listing", source.path));
        }
    }

    fn context(&mut self) {
        let context = &self.pipeline.context;
        if context.is_empty() {
            self.say("context", "is empty; a request needs one element at least");
        }
        let mut first = HashMap::new();
        for (index, element) in context.iter().enumerate() {
            let key = format!("context[{index}]");
            let name = format!("{key}.name");
            self.sql_name(&name, &element.name);
            if LABEL_COLUMNS.contains(&element.name.as_str()) {
                self.say(
                    &name,
                    format!("`{}` is a column of the label table; name the element otherwise", element.name),
                );
            }
            if element.name == "task" {
                self.say(&name, "`task` is what names the task of a request; name the element otherwise");
            }
            self.unique(&mut first, &element.name, &name);
            if let Err(e) = features::check(element, &element.default) {
                self.say(format!("{key}.default"), format!("{e}; the default must have the element's type or be null"));
            }
            let dropout = element.dropout;
            self.require((0.0..=1.0).contains(&dropout), &format!("{key}.dropout"), dropout, "from 0 to 1");
            let (kind, is_list) = (element.kind, element.kind == ElementType::IdList);
            if element.of == Entity::Item && !is_list && kind != ElementType::Id {
                let problem = format!("is `item`, but a {} identifies nothing; only id and list<id> do", kind.name());
                self.say(format!("{key}.of"), problem);
            }
            match element.max_length {
                Some(_) if !is_list => self.say(
                    format!("{key}.maxLength"),
                    format!("is for list<id> alone, and `{}` is a {}; remove it", element.name, kind.name()),
                ),
                Some(length) => self.size(&format!("{key}.maxLength"), length),
                None => {}
            }
        }
    }

    fn unique(&mut self, first: &mut HashMap<String, String>, name: &str, key: &str) {
        match first.get(name) {
            Some(first) => {
                let line = self.positions.of(first).line;
                self.say(key, format!("`{name}` is there already, in line {line}; names must be unique"));
            }
            None => drop(first.insert(name.to_owned(), key.to_owned())),
        }
    }

    fn items(&mut self) {
        let mut first = HashMap::new();
        for (index, attribute) in self.pipeline.items.attributes.iter().enumerate() {
            let key = format!("items.attributes[{index}].name");
            self.sql_name(&key, &attribute.name);
            if attribute.name == "item_id" {
                self.say(&key, "`item_id` is the item's id and needs no declaration; remove it");
            }
            self.unique(&mut first, &attribute.name, &key);
        }
    }

    fn users(&mut self) {
        let Some(users) = &self.pipeline.users else { return };
        if let Some(element) = self.element("users.key", &users.key)
            && (element.kind != ElementType::Id || element.of == Entity::Item)
        {
            let found = described(element);
            self.say("users.key", format!("`{}` is {found}; it must be an id, and not of an item", users.key));
        }
    }

    /// The element of that name; says so if there is none.
    fn element(&mut self, key: &str, name: &str) -> Option<&'a Element> {
        let context = &self.pipeline.context;
        let found = context.iter().find(|e| e.name == name);
        if found.is_none() {
            self.unknown(key, name, "a context element", context.iter().map(|e| &e.name));
        }
        found
    }

    fn unknown<'n>(&mut self, key: &str, name: &str, what: &str, known: impl Iterator<Item = &'n String>) {
        let known: Vec<String> = known.cloned().collect();
        let nearest = nearest_name(name, &known).map(|n| format!("; did you mean `{n}`?")).unwrap_or_default();
        self.say(key, format!("`{name}` is not {what}; known are {}{nearest}", known.join(", ")));
    }

    fn text_element(&mut self, key: &str, name: &str) {
        if let Some(element) = self.element(key, name) {
            let text = element.kind == ElementType::Text;
            self.require(text, key, format!("`{name}`, {}", described(element)), "an element of type text");
        }
    }

    fn tasks(&mut self) {
        let tasks = &self.pipeline.tasks;
        if tasks.is_empty() || tasks.len() > MAX_TASKS {
            self.say("tasks", format!("has {} tasks; it must have 1 to {MAX_TASKS}", tasks.len()));
        }
        let mut first = HashMap::new();
        for (index, task) in tasks.iter().enumerate() {
            let key = format!("tasks[{index}]");
            let name = format!("{key}.name");
            self.resource_name(&name, &task.name);
            self.unique(&mut first, &task.name, &name);
            self.above_zero(&format!("{key}.weight"), task.weight);
            self.loss(&format!("{key}.loss"), &task.loss);
            self.augmentation(&format!("{key}.augmentation"), task);
            self.evaluation(&format!("{key}.evaluation"), &task.evaluation);
        }
    }

    fn loss(&mut self, key: &str, loss: &Loss) {
        let soft = match loss {
            Loss::Softmax { soft_targets } => soft_targets,
            Loss::SampledSoftmax { samples, soft_targets } => {
                self.size(&format!("{key}.samples"), *samples);
                soft_targets
            }
            Loss::Bce {} => return,
        };
        if let Some(SoftTargets { decay, window, below_half }) = soft {
            let key = format!("{key}.softTargets");
            self.above_zero(&format!("{key}.decay"), *decay);
            self.size(&format!("{key}.window"), *window);
            let right = (0.0..=1.0).contains(below_half);
            self.require(right, &format!("{key}.belowHalf"), below_half, "from 0 to 1");
        }
    }

    fn augmentation(&mut self, key: &str, task: &Task) {
        let typos = task.augmentation.typos;
        self.require((0.0..=1.0).contains(&typos), &format!("{key}.typos"), typos, "from 0 to 1");
        match &task.augmentation.element {
            Some(name) => self.text_element(&format!("{key}.element"), name),
            None if typos > 0.0 => self.say(format!("{key}.typos"), "has nothing to vary; name the text `element`"),
            None => {}
        }
    }

    fn evaluation(&mut self, key: &str, evaluation: &Evaluation) {
        for (index, name) in evaluation.exclude.iter().enumerate() {
            let key = format!("{key}.exclude[{index}]");
            if let Some(element) = self.element(&key, name) {
                let right = "an id or list<id> with `of: item`";
                self.require(element.of == Entity::Item, &key, format!("`{name}`, {}", described(element)), right);
            }
        }
        for (attribute, name) in &evaluation.within {
            let key = format!("{key}.within.{attribute}");
            let attributes = &self.pipeline.items.attributes;
            match attributes.iter().find(|a| a.name == *attribute).map(|a| a.kind) {
                None => self.unknown(&key, attribute, "an item attribute", attributes.iter().map(|a| &a.name)),
                Some(AttributeType::Category | AttributeType::CategoryList) => {}
                Some(kind) => {
                    let found = format!("about `{attribute}`, a {}", kind.name());
                    self.require(false, &key, found, "about a category or list<category>");
                }
            }
            if let Some(element) = self.element(&key, name) {
                let category = element.kind == ElementType::Category;
                self.require(
                    category,
                    &key,
                    format!("`{name}`, {}", described(element)),
                    "an element of type category",
                );
            }
        }
        if evaluation.metrics.is_empty() {
            self.say(format!("{key}.metrics"), "is empty; name one at least, or leave it out for all");
        }
        if let Some(name) = &evaluation.misspell {
            self.text_element(&format!("{key}.misspell"), name);
        }
        for (index, baseline) in evaluation.baselines.iter().enumerate() {
            let key = format!("{key}.baselines[{index}]");
            if evaluation.baselines[..index].contains(baseline) {
                self.say(&key, "is the same as one before; remove it");
            }
            match baseline {
                Baseline::Ease { lambda, decay, .. } => {
                    self.above_zero(&format!("{key}.lambda"), *lambda);
                    let right = *decay > 0.0 && *decay <= 1.0;
                    self.require(right, &format!("{key}.decay"), decay, "above 0 and at most 1");
                }
                Baseline::Substring | Baseline::TrigramTfidf | Baseline::TrigramBm25 => {
                    let asked = self.pipeline.context.iter().any(|e| e.kind == ElementType::Text);
                    let found = self.pipeline.items.attributes.iter().any(|a| a.kind == AttributeType::Text);
                    if !asked || !found {
                        self.say(&key, "compares text: it needs a context element and an item attribute of type text");
                    }
                }
                Baseline::Popularity | Baseline::ItemCosine { .. } => {}
            }
        }
    }

    fn model(&mut self) {
        let model = &self.pipeline.model;
        for (key, value) in [
            ("model.width", model.width),
            ("model.hidden", model.hidden),
            ("model.historyWidth", model.history_width),
            ("model.textBuckets", model.text_buckets),
            ("model.textWidth", model.text_width),
        ] {
            self.size(key, value);
        }
        if model.history_decay.is_empty() {
            self.say("model.historyDecay", "is empty; it must have one rate at least, such as 0.1");
        }
        for (index, rate) in model.history_decay.iter().enumerate() {
            self.above_zero(&format!("model.historyDecay[{index}]"), *rate);
        }
        self.dropout("model.dropout", model.dropout);
        if let Some(linear) = &model.linear {
            self.size("model.linear.width", linear.width);
            self.above_zero("model.linear.regularisation", linear.regularisation);
            self.above_zero("model.linear.decay", linear.decay);
        }
        if let Some(ranker) = &model.ranker {
            if ranker.hidden.is_empty() {
                self.say("model.ranker.hidden", "is empty; it must have the width of one layer at least");
            }
            for (index, width) in ranker.hidden.iter().enumerate() {
                self.size(&format!("model.ranker.hidden[{index}]"), *width);
            }
            self.size("model.ranker.candidates", ranker.candidates);
        }
    }

    fn training(&mut self, training: &Training) {
        for (key, value) in [
            ("training.steps", training.steps),
            ("training.batch", training.batch),
            ("training.validateEvery", training.validate_every),
        ] {
            self.size(key, value);
        }
        if let Some(patience) = training.patience {
            self.size("training.patience", patience);
        }
        self.above_zero("training.learningRate", training.learning_rate);
        let right = (0.0..1.0).contains(&training.average);
        self.require(right, "training.average", training.average, "from 0 to below 1");
    }
}

/// The element's type in words.
fn described(element: &Element) -> String {
    let of = if element.of == Entity::Item { " of items" } else { "" };
    let article = if element.kind == ElementType::Id { "an" } else { "a" };
    format!("{article} {}{of}", element.kind.name())
}
