//! From a request to what the engine takes: a function of the version, the task and the request.

use std::sync::Arc;

use unimodel_model::context::{Context, Value};
use unimodel_model::features::{ContextError, Encoded, EncodedContext, check, nearest_name};
use unimodel_model::schema::Schema;

use super::version::LoadedVersion;
use crate::config::ContextConfig;
use crate::error::RankError;
use crate::request::{Candidates, Ids, Imputed, ImputedFrom, RankRequest, Source};

/// A request as the engine takes it.
#[derive(Debug, PartialEq)]
pub(super) struct Prepared {
    pub(super) context: EncodedContext,
    pub(super) candidates: Selection,
    /// Candidates that the version does not know.
    pub(super) unknown: Ids,
    /// Elements that the request did not give, in the schema's order.
    pub(super) imputed: Vec<Imputed>,
}

/// Which items are ranked.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Selection {
    /// All but these, in item order.
    AllBut(Vec<u32>),
    /// These.
    Items(Vec<u32>),
}

/// What a task asks of contexts, as a version takes it.
#[derive(Debug, Default)]
pub(super) struct ContextRules {
    /// Positions of elements that a request must give.
    required: Vec<usize>,
    /// Positions and values of elements that stand in for what a request does not give.
    defaults: Vec<(usize, Encoded)>,
}

impl ContextRules {
    /// # Errors
    /// An element that the version does not have, or a default of another type, as a sentence.
    pub(super) fn new(config: &ContextConfig, version: &LoadedVersion) -> Result<Self, String> {
        let schema = version.schema();
        let position = |name: &String| schema.context.iter().position(|element| element.name == *name);
        let required = config.required.iter().map(|name| position(name).ok_or_else(|| unknown(name, schema)));
        let defaults = config.defaults.iter().map(|(name, value)| {
            let position = position(name).ok_or_else(|| unknown(name, schema))?;
            let single = Context::from([(name.clone(), value.clone())]);
            check(&schema.context[position], value).map_err(|error| format!("context.defaults.{name}: {error}"))?;
            let mut encoded = version.parts().encoder.encode(&single).map_err(|error| error.to_string())?;
            Ok((position, std::mem::replace(&mut encoded[position], Encoded::Masked)))
        });
        let defaults = defaults.collect::<Result<_, String>>()?;
        Ok(Self { required: required.collect::<Result<_, String>>()?, defaults })
    }
}

fn unknown(name: &str, schema: &Schema) -> String {
    let known: Vec<String> = schema.context.iter().map(|element| element.name.clone()).collect();
    ContextError::UnknownElement { element: name.to_owned(), nearest: nearest_name(name, &known), known }.to_string()
}

/// Encodes the context and finds the candidates.
///
/// An element that the request does not give, or gives as null, comes from the profile of the request's user, else from
/// the task's defaults, else from the schema's, which the network masks.
///
/// # Errors
/// What is wrong with the context or the selector.
pub(super) fn prepare(
    version: &LoadedVersion,
    rules: &ContextRules,
    request: &RankRequest,
) -> Result<Prepared, RankError> {
    let parts = version.parts();
    let schema = version.schema();
    let mut context = parts.encoder.encode(&request.context)?;
    let given = |position: usize| match request.context.get(&schema.context[position].name) {
        None | Some(Value::Null) => None,
        Some(value) => Some(value),
    };
    if let Some(missing) = rules.required.iter().find(|position| given(**position).is_none()) {
        let (task, element) = (request.task.to_string(), schema.context[*missing].name.clone());
        return Err(RankError::MissingElement { task, element });
    }
    let profile = match parts.profiles.key.and_then(given) {
        Some(Value::Text(user)) => parts.profiles.get(user),
        _ => &[],
    };
    let of = |values: &[(usize, Encoded)], position| {
        values.iter().find(|(p, _)| *p == position).map(|(_, encoded)| encoded.clone())
    };
    let mut imputed = Vec::with_capacity(context.len());
    for (position, encoded) in context.iter_mut().enumerate() {
        if given(position).is_some() {
            continue;
        }
        let source = match of(profile, position) {
            Some(known) => {
                *encoded = known;
                ImputedFrom::Profile
            }
            None => {
                *encoded = of(&rules.defaults, position).unwrap_or(Encoded::Masked);
                ImputedFrom::Default
            }
        };
        imputed.push(Imputed { element: Arc::clone(&parts.elements[position]), source });
    }
    let mut unknown = Ids::default();
    let candidates = select(version, &request.candidates, &mut unknown)?;
    Ok(Prepared { context, candidates, unknown, imputed })
}

fn select(version: &LoadedVersion, candidates: &Candidates, unknown: &mut Ids) -> Result<Selection, RankError> {
    let parts = version.parts();
    let mut excluded: Vec<u32> = candidates.exclude.iter().filter_map(|id| parts.catalogue.find(id)).collect();
    excluded.sort_unstable();
    excluded.dedup();
    let mut items = match &candidates.source {
        Source::All => return Ok(Selection::AllBut(excluded)),
        Source::Select(select) => parts.attributes.select(select, &parts.catalogue)?,
        Source::Ids(ids) => {
            let mut items = Vec::with_capacity(ids.len());
            for id in ids.iter() {
                match parts.catalogue.find(id) {
                    Some(item) => items.push(item),
                    None => unknown.push(id),
                }
            }
            items
        }
    };
    if !excluded.is_empty() {
        items.retain(|item| excluded.binary_search(item).is_err());
    }
    Ok(Selection::Items(items))
}
