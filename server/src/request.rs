//! What is asked and answered, whatever the protocol.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use unimodel_model::context::{Context, Value};
use unimodel_model::features::{ContextError, nearest_name};
use unimodel_model::schema::{Attribute, AttributeType, Schema};
pub use unimodel_protocol::Ids;
pub use unimodel_protocol::v1::RankedItems;

use crate::error::RankError;
use crate::timeout::TimeoutPolicy;

/// Items answered of `select` and `all` when the request names no limit.
pub const DEFAULT_LIMIT: usize = 100;

/// A request whose form has been checked: what remains to be checked is its context and its selector, against the
/// version that answers.
#[derive(Clone, Debug, PartialEq)]
pub struct RankRequest {
    /// The task.
    pub task: Arc<str>,
    /// Context elements as the caller gave them.
    pub context: Context,
    /// What to rank.
    pub candidates: Candidates,
    /// Answer at most so many items; at least 1.
    pub limit: usize,
}

/// What to rank.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidates {
    /// Where they come from.
    pub source: Source,
    /// Not these.
    pub exclude: Ids,
}

/// Where candidates come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// These ids: at least one, none twice.
    Ids(Ids),
    /// Items whose attributes fit: per attribute a value, or a list of values of which one must fit.
    Select(Context),
    /// The whole catalogue.
    All,
}

/// The answer to a [`RankRequest`].
#[derive(Clone, Debug, PartialEq)]
pub struct RankResponse {
    /// The best items, in falling order of score.
    pub items: RankedItems,
    /// Candidates that the version does not know.
    pub unknown: Ids,
    /// The task that answered.
    pub task: Arc<str>,
    /// The version that answered.
    pub model_version: Arc<str>,
    /// The newest event that the version has learned from.
    pub data_time: Timestamp,
    /// Context elements that the request did not give, in the schema's order.
    pub imputed: Vec<Imputed>,
}

/// A context element that the request did not give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imputed {
    /// The element.
    pub element: Arc<str>,
    /// What took its place.
    pub source: ImputedFrom,
}

/// What takes the place of a context element that the request does not give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImputedFrom {
    /// The task's or the schema's default.
    Default,
    /// The version's profile of the user.
    Profile,
}

impl ImputedFrom {
    /// As callers read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Profile => "profile",
        }
    }
}

/// A task as callers see it: a head of the model in this server's environment.
#[derive(Clone, Debug)]
pub struct Task {
    /// Name.
    pub name: Arc<str>,
    /// The head that answers.
    pub head: String,
    /// The most ids in `candidates.ids` or `candidates.exclude`, and the highest `limit`.
    pub max_candidates: usize,
    /// How long an answer may take.
    pub timeout: TimeoutPolicy,
    /// Context elements that a request must give.
    pub required: Vec<String>,
    /// The version that answers now, or why none does.
    pub version: Result<Arc<Version>, String>,
}

/// The version that answers, as callers see it.
#[derive(Clone, Debug)]
pub struct Version {
    /// Its name in the store.
    pub name: Arc<str>,
    /// The newest event that it has learned from.
    pub data_time: Timestamp,
    /// Its contract.
    pub schema: Arc<Schema>,
    /// Items in its catalogue.
    pub items: usize,
}

/// A request as a protocol's decoder leaves it: nothing in it has been checked against a task.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asked {
    /// Context elements.
    pub context: Context,
    /// The first element or attribute of a type that no element or attribute has.
    pub misfit: Option<Misfit>,
    /// `candidates.ids`.
    pub ids: Ids,
    /// `candidates.select`.
    pub select: Option<Context>,
    /// `candidates.all`.
    pub all: bool,
    /// `candidates.exclude`.
    pub exclude: Ids,
    /// `limit`.
    pub limit: Option<u64>,
    /// `timeout`.
    pub timeout: Option<Duration>,
}

/// A value that neither a context element nor an item attribute can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// Where it stands.
    pub place: Place,
    /// Name of the element or attribute.
    pub name: String,
    /// What it is.
    pub got: &'static str,
}

/// Where a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In `context`.
    Context,
    /// In `candidates.select`.
    Select,
}

impl Asked {
    /// Checks the request's form against the task.
    ///
    /// # Errors
    /// The first thing that is wrong, in the order misfit, candidates, limit, timeout.
    pub fn check(self, task: &Task) -> Result<RankRequest, RankError> {
        if let Some(misfit) = self.misfit {
            return Err(misfit.explain(task));
        }
        let given: Vec<&'static str> = [
            (!self.ids.is_empty()).then_some("ids"),
            self.select.is_some().then_some("select"),
            self.all.then_some("all"),
        ]
        .into_iter()
        .flatten()
        .collect();
        if given.len() > 1 {
            return Err(RankError::ConflictingCandidates { given });
        }
        let max = task.max_candidates;
        for (field, ids) in [("candidates.ids", &self.ids), ("candidates.exclude", &self.exclude)] {
            if ids.len() > max {
                return Err(RankError::TooManyCandidates { field, count: ids.len(), max });
            }
        }
        let (source, all) = match self.select {
            _ if !self.ids.is_empty() => {
                if let Some(id) = self.ids.first_duplicate() {
                    return Err(RankError::DuplicateCandidate { id: id.to_owned() });
                }
                let count = self.ids.len();
                (Source::Ids(self.ids), count)
            }
            Some(select) => (Source::Select(select), DEFAULT_LIMIT.min(max)),
            None if self.all => (Source::All, DEFAULT_LIMIT.min(max)),
            None => return Err(RankError::EmptyCandidates),
        };
        let limit = match self.limit {
            None => all,
            Some(limit) => match usize::try_from(limit) {
                Ok(limit) if (1..=max).contains(&limit) => limit,
                _ => return Err(RankError::InvalidLimit { limit, max }),
            },
        };
        if self.timeout == Some(Duration::ZERO) {
            return Err(RankError::InvalidTimeout { value: "0s".into(), problem: "leaves no time" });
        }
        let candidates = Candidates { source, exclude: self.exclude };
        Ok(RankRequest { task: task.name.clone(), context: self.context, candidates, limit })
    }
}

impl Misfit {
    fn explain(self, task: &Task) -> RankError {
        let schema = task.version.as_ref().ok().map(|version| &version.schema);
        match self.place {
            Place::Context => {
                let expected = schema.and_then(|s| s.element(&self.name)).map(|element| element.kind.name());
                let expected = expected.unwrap_or("a string, a number or a list of strings");
                ContextError::WrongType { element: self.name, expected, got: self.got }.into()
            }
            Place::Select => {
                let attribute = schema.and_then(|s| s.attributes.iter().find(|a| a.name == self.name));
                let expected = attribute.map_or("a string, a number or a list of strings", |a| selected_by(a.kind));
                RankError::AttributeType { attribute: self.name, expected, got: self.got }
            }
        }
    }
}

/// Checks a selector against the attributes of a version's items.
///
/// # Errors
/// [`RankError::UnknownAttribute`] or [`RankError::AttributeType`] for the first attribute that does not fit.
pub fn check_select(select: &Context, attributes: &[Attribute]) -> Result<(), RankError> {
    for (name, value) in select {
        let Some(attribute) = attributes.iter().find(|a| a.name == *name) else {
            let known: Vec<String> = attributes.iter().map(|a| a.name.clone()).collect();
            return Err(RankError::UnknownAttribute {
                attribute: name.clone(),
                nearest: nearest_name(name, &known),
                known,
            });
        };
        let got = match (attribute.kind, value) {
            (AttributeType::Number, Value::Number(x)) if x.is_finite() => continue,
            (AttributeType::Number, Value::Number(_)) => "a number that is not finite",
            (AttributeType::Number, Value::Text(_)) => "a string",
            (AttributeType::Number, Value::List(_)) => "a list of strings",
            (_, Value::Text(_) | Value::List(_)) => continue,
            (_, Value::Number(_)) => "a number",
            (_, Value::Null) => "null",
        };
        return Err(RankError::AttributeType { attribute: name.clone(), expected: selected_by(attribute.kind), got });
    }
    Ok(())
}

fn selected_by(kind: AttributeType) -> &'static str {
    match kind {
        AttributeType::Number => "a number",
        AttributeType::Category | AttributeType::CategoryList | AttributeType::Text => "a string or a list of strings",
    }
}
