//! JSON of an inference request and its response.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::http::Object;
use crate::oip::infer::{Output, OutputData, Parameter};
use crate::oip::tensor::Data;
use crate::request::Ids;

#[derive(Deserialize)]
pub(super) struct Request {
    #[serde(default)]
    pub(super) id: Option<String>,
    #[serde(default)]
    pub(super) parameters: ParameterMap,
    pub(super) inputs: Vec<Object<Input>>,
    #[serde(default)]
    pub(super) outputs: Vec<Object<Requested>>,
}

#[derive(Deserialize)]
pub(super) struct Input {
    pub(super) name: String,
    pub(super) shape: Vec<i64>,
    pub(super) datatype: String,
    #[serde(default)]
    pub(super) parameters: ParameterMap,
    #[serde(default)]
    pub(super) data: Option<Flat>,
}

#[derive(Deserialize)]
pub(super) struct Requested {
    pub(super) name: String,
    #[serde(default)]
    pub(super) parameters: ParameterMap,
}

/// Parameters in order.
#[derive(Default)]
pub(super) struct ParameterMap(pub(super) Vec<(String, Parameter)>);

impl ParameterMap {
    pub(super) fn get(&self, name: &str) -> Option<&Parameter> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }
}

impl<'de> Deserialize<'de> for ParameterMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MapVisitor;
        impl<'de> Visitor<'de> for MapVisitor {
            type Value = ParameterMap;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of parameters")
            }

            fn visit_unit<E>(self) -> Result<ParameterMap, E> {
                Ok(ParameterMap::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ParameterMap, A::Error> {
                let mut parameters = Vec::new();
                while let Some(parameter) = map.next_entry()? {
                    parameters.push(parameter);
                }
                Ok(ParameterMap(parameters))
            }
        }
        deserializer.deserialize_any(MapVisitor)
    }
}

impl<'de> Deserialize<'de> for Parameter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ParameterVisitor;
        impl<'de> Visitor<'de> for ParameterVisitor {
            type Value = Parameter;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a parameter")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Parameter, E> {
                Ok(Parameter::Bool(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Parameter, E> {
                Ok(Parameter::Integer(value))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Parameter, E> {
                Ok(i64::try_from(value).map_or(Parameter::Other, Parameter::Integer))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Parameter, E> {
                Ok(Parameter::Other)
            }

            fn visit_str<E>(self, value: &str) -> Result<Parameter, E> {
                Ok(Parameter::Text(value.to_owned()))
            }

            fn visit_unit<E>(self) -> Result<Parameter, E> {
                Ok(Parameter::Other)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Parameter, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Parameter::Other)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parameter, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Parameter::Other)
            }
        }
        deserializer.deserialize_any(ParameterVisitor)
    }
}

/// A tensor's `data`, which may nest as its shape does, as one list in row order.
#[derive(Debug)]
pub(super) struct Flat(pub(super) Data);

impl<'de> Deserialize<'de> for Flat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut data = None;
        Append(&mut data).deserialize(deserializer)?;
        Ok(Self(data.unwrap_or(Data::Integers(Vec::new()))))
    }
}

struct Append<'a>(&'a mut Option<Data>);

const MIXED: &str = "data mixes strings and numbers";

impl<'de> DeserializeSeed<'de> for Append<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Append<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("strings, numbers, or lists of them")
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<(), E> {
        match self.0.get_or_insert_with(|| Data::Integers(Vec::new())) {
            Data::Integers(list) => list.push(number),
            Data::Numbers(list) => list.push(number as f64),
            Data::Text(_) => return Err(E::custom(MIXED)),
        }
        Ok(())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<(), E> {
        match i64::try_from(number) {
            Ok(number) => self.visit_i64(number),
            Err(_) => self.visit_f64(number as f64),
        }
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<(), E> {
        match self.0.get_or_insert_with(|| Data::Numbers(Vec::new())) {
            Data::Numbers(list) => list.push(number),
            Data::Integers(list) => {
                let mut numbers: Vec<f64> = list.iter().map(|i| *i as f64).collect();
                numbers.push(number);
                *self.0 = Some(Data::Numbers(numbers));
            }
            Data::Text(_) => return Err(E::custom(MIXED)),
        }
        Ok(())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        match self.0.get_or_insert_with(|| Data::Text(Ids::default())) {
            Data::Text(ids) => ids.push(text),
            _ => return Err(E::custom(MIXED)),
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Append(self.0))?.is_some() {}
        Ok(())
    }
}

#[derive(Serialize)]
pub(super) struct Response<'a> {
    pub(super) model_name: &'a str,
    pub(super) model_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<&'a str>,
    pub(super) outputs: Vec<PrintedOutput<'a>>,
}

#[derive(Serialize)]
pub(super) struct PrintedOutput<'a> {
    pub(super) name: &'static str,
    pub(super) datatype: &'static str,
    pub(super) shape: [usize; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) parameters: Option<BinarySize>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "data")]
    pub(super) data: Option<&'a Output>,
}

#[derive(Serialize)]
pub(super) struct BinarySize {
    pub(super) binary_data_size: usize,
}

fn data<S: Serializer>(output: &Option<&Output>, serializer: S) -> Result<S::Ok, S::Error> {
    match output.map(|output| &output.data) {
        Some(OutputData::Ids(ids)) => serializer.collect_seq(ids.iter()),
        Some(OutputData::Scores(scores)) => scores.serialize(serializer),
        None => serializer.serialize_none(),
    }
}
