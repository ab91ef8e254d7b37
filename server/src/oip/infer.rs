//! From tensors to a request, and from a response to tensors.

use std::time::Duration;

use unimodel_model::context::Value;
use unimodel_model::features::{ContextError, nearest_name};
use unimodel_model::schema::{ElementType, Schema};

use crate::error::RankError;
use crate::oip::tensor::{Data, Tensor, invalid, raw_numbers, raw_strings};
use crate::oip::{EXCLUDE_IDS, ITEM_IDS, SCORES, UNKNOWN_IDS};
use crate::request::{Asked, Ids, RankResponse};
use crate::timeout;

/// A value of the `parameters` of a request, of a kind that this server reads.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Parameter {
    Bool(bool),
    Integer(i64),
    Text(String),
    Other,
}

/// Parameters that a request may have; others are ignored, as the protocol asks.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Parameters {
    pub(crate) limit: Option<u64>,
    pub(crate) timeout: Option<Duration>,
}

impl Parameters {
    /// Takes in one parameter: `limit`, or `timeout`, which is a duration, or a number of microseconds as the scheduling
    /// extension has it.
    ///
    /// # Errors
    /// Where it is not what it should be.
    pub(crate) fn set(&mut self, name: &str, value: &Parameter) -> Result<(), RankError> {
        match (name, value) {
            ("limit", Parameter::Integer(limit)) => {
                let limit = u64::try_from(*limit).map_err(|_| wrong(name, "a whole number above zero"))?;
                self.limit = Some(limit);
            }
            ("timeout", Parameter::Text(text)) => self.timeout = Some(timeout::parse(text)?),
            ("timeout", Parameter::Integer(micros)) => {
                let micros = u64::try_from(*micros).map_err(|_| wrong(name, "microseconds above zero"))?;
                self.timeout = Some(Duration::from_micros(micros));
            }
            ("limit", _) => return Err(wrong(name, "a whole number above zero")),
            ("timeout", _) => return Err(wrong(name, "a duration such as \"50ms\", or whole microseconds")),
            _ => {}
        }
        Ok(())
    }
}

fn wrong(name: &str, expected: &str) -> RankError {
    RankError::invalid_body(format!("parameter `{name}` takes {expected}"))
}

/// Reads a request's tensors as context elements and candidates.
///
/// # Errors
/// A tensor that is no element, or not of the element's type, or twice there.
pub(crate) fn ask(inputs: Vec<Tensor>, parameters: &Parameters, schema: &Schema) -> Result<Asked, RankError> {
    let mut asked = Asked { limit: parameters.limit, timeout: parameters.timeout, all: true, ..Asked::default() };
    for Tensor { name, data } in inputs {
        let twice = match name.as_str() {
            ITEM_IDS => {
                if data.len() == 0 {
                    return Err(RankError::EmptyCandidates);
                }
                let twice = !asked.ids.is_empty();
                asked.all = false;
                asked.ids = ids(&name, data)?;
                twice
            }
            EXCLUDE_IDS => {
                let twice = !asked.exclude.is_empty();
                asked.exclude = ids(&name, data)?;
                twice
            }
            _ => {
                let value = element(schema, &name, data)?;
                asked.context.insert(name.clone(), value).is_some()
            }
        };
        if twice {
            return Err(invalid(&name, "comes twice"));
        }
    }
    Ok(asked)
}

fn ids(tensor: &str, data: Data) -> Result<Ids, RankError> {
    match data {
        Data::Text(ids) => Ok(ids),
        Data::Integers(numbers) => {
            let mut ids = Ids::with_capacity(numbers.len(), 8 * numbers.len());
            numbers.iter().for_each(|number| ids.push_display(number));
            Ok(ids)
        }
        Data::Numbers(_) => Err(invalid(tensor, "ids are BYTES or INT64, not floating-point numbers")),
    }
}

fn element(schema: &Schema, name: &str, data: Data) -> Result<Value, RankError> {
    let Some(element) = schema.element(name) else {
        let known: Vec<String> = schema.context.iter().map(|e| e.name.clone()).collect();
        return Err(ContextError::UnknownElement {
            element: name.to_owned(),
            nearest: nearest_name(name, &known),
            known,
        }
        .into());
    };
    let kind = element.kind;
    let wrong_type = |got| ContextError::WrongType { element: name.to_owned(), expected: kind.name(), got };
    if kind == ElementType::IdList {
        return Ok(Value::List(match data {
            Data::Text(ids) => ids.iter().map(str::to_owned).collect(),
            Data::Integers(numbers) => numbers.iter().map(i64::to_string).collect(),
            Data::Numbers(_) => return Err(wrong_type(data.kind()).into()),
        }));
    }
    if data.len() != 1 {
        return Err(invalid(name, format!("`{name}` is one {}, got {} elements", kind.name(), data.len())));
    }
    let got = data.kind();
    let value = match (kind, data) {
        (ElementType::Number, Data::Numbers(numbers)) => Value::Number(numbers[0]),
        (ElementType::Number, Data::Integers(numbers)) => Value::Number(numbers[0] as f64),
        (ElementType::Id | ElementType::Category, Data::Integers(numbers)) => Value::Text(numbers[0].to_string()),
        (ElementType::Id | ElementType::Category | ElementType::Text, Data::Text(ids)) => {
            Value::Text(ids.get(0).unwrap_or_default().to_owned())
        }
        _ => return Err(wrong_type(got).into()),
    };
    Ok(value)
}

/// An output tensor.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Output {
    pub(crate) name: &'static str,
    pub(crate) data: OutputData,
}

/// An output tensor's elements.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum OutputData {
    Ids(Ids),
    Scores(Vec<f32>),
}

impl Output {
    pub(crate) fn datatype(&self) -> &'static str {
        match self.data {
            OutputData::Ids(_) => "BYTES",
            OutputData::Scores(_) => "FP32",
        }
    }

    pub(crate) fn len(&self) -> usize {
        match &self.data {
            OutputData::Ids(ids) => ids.len(),
            OutputData::Scores(scores) => scores.len(),
        }
    }

    pub(crate) fn raw(&self) -> Vec<u8> {
        match &self.data {
            OutputData::Ids(ids) => raw_strings(ids),
            OutputData::Scores(scores) => raw_numbers(scores),
        }
    }
}

/// Names of the outputs, in the order of an answer to a request that names none.
pub(crate) const OUTPUTS: [&str; 3] = [SCORES, ITEM_IDS, UNKNOWN_IDS];

/// The place in [`OUTPUTS`] of a requested output.
///
/// # Errors
/// [`RankError::InvalidTensor`] for an output that there is not.
pub(crate) fn output(name: &str) -> Result<&'static str, RankError> {
    OUTPUTS
        .into_iter()
        .find(|known| *known == name)
        .ok_or_else(|| invalid(name, format!("unknown output; known are {}", OUTPUTS.join(", "))))
}

/// The response's tensors: those named, or all.
pub(crate) fn outputs(response: RankResponse, named: &[&'static str]) -> Vec<Output> {
    let mut scores = Some(response.items.scores);
    let mut items = Some(response.items.ids);
    let mut unknown = Some(response.unknown);
    let named = if named.is_empty() { &OUTPUTS[..] } else { named };
    named
        .iter()
        .filter_map(|name| {
            let data = match *name {
                SCORES => OutputData::Scores(scores.take()?),
                ITEM_IDS => OutputData::Ids(items.take()?),
                _ => OutputData::Ids(unknown.take()?),
            };
            Some(Output { name, data })
        })
        .collect()
}
