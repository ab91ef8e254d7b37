//! A request's context as the caller gives it: element names to values.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One value of a context element or an item attribute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Value {
    /// Absent.
    Null,
    /// A number.
    Number(f64),
    /// An id, a category or text.
    Text(String),
    /// Ids, the most recent last; or an item's categories.
    List(Vec<String>),
}

/// A request's context. An element that is missing, null or equal to its default is the same thing.
pub type Context = BTreeMap<String, Value>;
