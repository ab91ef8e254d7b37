//! JSON of a rank request and its response: canonical proto3 JSON of `unimodel.v1`, read straight into the types of
//! [`crate::request`].

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq, Serializer};
use serde::{Deserialize, Serialize};
use unimodel_model::context::{Context, Value};

use crate::error::RankError;
use crate::request::{Asked, Ids, Imputed, Misfit, Place, RankResponse, RankedItems};
use crate::timeout;

/// Reads a request: the task, where the body names one, and the rest.
///
/// # Errors
/// [`RankError::InvalidBody`] with line and column, or [`RankError::InvalidTimeout`].
pub(crate) fn read(body: &[u8]) -> Result<(Option<String>, Asked), RankError> {
    let Object(body): Object<Body> = serde_json::from_slice(body).map_err(|error| syntax(&error))?;
    let Object(candidates) = body.candidates.unwrap_or_default();
    let timeout = body.timeout.as_deref().map(timeout::parse).transpose()?;
    let (context, context_misfit) = body.context.unwrap_or_default().into_parts();
    let (select, select_misfit) = match candidates.select {
        Some(select) => {
            let (select, misfit) = select.into_parts();
            (Some(select), misfit)
        }
        None => (None, None),
    };
    let misfit = |place, found: Option<(String, &'static str)>| found.map(|(name, got)| Misfit { place, name, got });
    let asked = Asked {
        context,
        misfit: misfit(Place::Context, context_misfit).or(misfit(Place::Select, select_misfit)),
        ids: candidates.ids.unwrap_or_default().0,
        select,
        all: candidates.all.unwrap_or(false),
        exclude: candidates.exclude.unwrap_or_default().0,
        limit: body.limit.map(|limit| limit.0),
        timeout,
    };
    Ok((body.task, asked))
}

/// The error of a body that is not JSON or not a request.
pub(crate) fn syntax(error: &serde_json::Error) -> RankError {
    RankError::InvalidBody { message: error.to_string(), position: Some((error.line(), error.column())) }
}

/// A struct that is a JSON object: serde's own also takes a list of the members' values.
#[derive(Default)]
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    task: Option<String>,
    context: Option<Fields>,
    candidates: Option<Object<CandidatesBody>>,
    limit: Option<Limit>,
    timeout: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct CandidatesBody {
    ids: Option<IdList>,
    select: Option<Fields>,
    all: Option<bool>,
    exclude: Option<IdList>,
}

/// A list of strings, without a string each.
#[derive(Default)]
struct IdList(Ids);

impl<'de> Deserialize<'de> for IdList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor;
        impl<'de> Visitor<'de> for ListVisitor {
            type Value = IdList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of ids, which are strings")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<IdList, A::Error> {
                let mut ids = Ids::default();
                while list.next_element_seed(PushId(&mut ids))?.is_some() {}
                Ok(IdList(ids))
            }
        }
        deserializer.deserialize_seq(ListVisitor)
    }
}

struct PushId<'a>(&'a mut Ids);

impl<'de> DeserializeSeed<'de> for PushId<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for PushId<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id, which is a string")
    }

    fn visit_str<E: de::Error>(self, id: &str) -> Result<(), E> {
        self.0.push(id);
        Ok(())
    }
}

/// A whole number, or a string with one: the canonical mapping takes both.
struct Limit(u64);

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LimitVisitor;
        impl Visitor<'_> for LimitVisitor {
            type Value = Limit;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number above zero")
            }

            fn visit_u64<E: de::Error>(self, limit: u64) -> Result<Limit, E> {
                Ok(Limit(limit))
            }

            fn visit_f64<E: de::Error>(self, limit: f64) -> Result<Limit, E> {
                if limit.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&limit) {
                    Ok(Limit(limit as u64))
                } else {
                    Err(E::invalid_value(de::Unexpected::Float(limit), &self))
                }
            }

            fn visit_str<E: de::Error>(self, limit: &str) -> Result<Limit, E> {
                limit.parse().map(Limit).map_err(|_| E::invalid_value(de::Unexpected::Str(limit), &self))
            }
        }
        deserializer.deserialize_any(LimitVisitor)
    }
}

/// Elements or attributes by name. A value of a type that none has is remembered, so that the error can name it.
#[derive(Default)]
struct Fields {
    values: Context,
    misfit: Option<(String, &'static str)>,
}

impl Fields {
    fn into_parts(self) -> (Context, Option<(String, &'static str)>) {
        (self.values, self.misfit)
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of names and values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Fields::default();
                while let Some((name, value)) = map.next_entry::<String, Field>()? {
                    match value {
                        Field::Misfit(got) => fields.misfit = fields.misfit.or(Some((name, got))),
                        Field::Value(value) => {
                            if let Some(twice) = fields.values.insert(name.clone(), value) {
                                drop(twice);
                                return Err(de::Error::custom(format!("`{name}` comes twice")));
                            }
                        }
                    }
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(FieldsVisitor)
    }
}

enum Field {
    Value(Value),
    Misfit(&'static str),
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldVisitor;
        impl<'de> Visitor<'de> for FieldVisitor {
            type Value = Field;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E>(self) -> Result<Field, E> {
                Ok(Field::Value(Value::Null))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Field, E> {
                Ok(Field::Misfit("a boolean"))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Field, E> {
                Ok(Field::Value(Value::Number(number as f64)))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Field, E> {
                Ok(Field::Value(Value::Number(number as f64)))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Field, E> {
                Ok(Field::Value(Value::Number(number)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Field, E> {
                Ok(Field::Value(Value::Text(text.to_owned())))
            }

            fn visit_string<E>(self, text: String) -> Result<Field, E> {
                Ok(Field::Value(Value::Text(text)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Field, A::Error> {
                let mut texts = Vec::new();
                let mut others = false;
                while let Some(item) = list.next_element::<Field>()? {
                    match item {
                        Field::Value(Value::Text(text)) => texts.push(text),
                        _ => others = true,
                    }
                }
                Ok(if others {
                    Field::Misfit("a list with something else than strings")
                } else {
                    Field::Value(Value::List(texts))
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Field, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Field::Misfit("an object"))
            }
        }
        deserializer.deserialize_any(FieldVisitor)
    }
}

/// Prints a response.
pub(crate) fn print(response: &RankResponse) -> Vec<u8> {
    let room = 256 + response.items.ids.bytes() + 32 * response.items.ids.len() + response.unknown.bytes();
    let mut body = Vec::with_capacity(room);
    serde_json::to_writer(&mut body, &Printed(response)).expect("a response has string keys and finite scores");
    body
}

struct Printed<'a>(&'a RankResponse);

impl Serialize for Printed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let response = self.0;
        let mut map = serializer.serialize_map(Some(7))?;
        map.serialize_entry("items", &Items(&response.items))?;
        map.serialize_entry("task", &*response.task)?;
        map.serialize_entry("modelVersion", &*response.model_version)?;
        map.serialize_entry("dataTime", &response.data_time)?;
        map.serialize_entry("imputed", &List(&response.imputed))?;
        map.serialize_entry("unknown", &Texts(&response.unknown))?;
        map.serialize_entry("fallback", &())?;
        map.end()
    }
}

struct Items<'a>(&'a RankedItems);

#[derive(Serialize)]
struct Item<'a> {
    id: &'a str,
    score: f32,
}

impl Serialize for Items<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let items = self.0.iter();
        let mut list = serializer.serialize_seq(Some(items.len()))?;
        for (id, score) in items {
            list.serialize_element(&Item { id, score })?;
        }
        list.end()
    }
}

struct Texts<'a>(&'a Ids);

impl Serialize for Texts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter())
    }
}

struct List<'a>(&'a [Imputed]);

#[derive(Serialize)]
struct Element<'a> {
    element: &'a str,
    source: &'static str,
}

impl Serialize for List<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|i| Element { element: &i.element, source: i.source.name() }))
    }
}
