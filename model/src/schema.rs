//! What a model is asked with and what it ranks: the declared context elements, the item attributes and the heads.
//!
//! A [`Schema`] is the contract between training and serving. Its canonical bytes are hashed, and a version whose
//! hash differs from what a caller expects is another contract.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::context::Value;
use crate::network::NetworkConfig;

/// The type of a context element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ElementType {
    /// An identifier, such as a user's or an item's.
    #[serde(rename = "id")]
    Id,
    /// A finite number.
    #[serde(rename = "number")]
    Number,
    /// One value out of a small set.
    #[serde(rename = "category")]
    Category,
    /// Free text, of any language.
    #[serde(rename = "text")]
    Text,
    /// Identifiers in order, the most recent last.
    #[serde(rename = "list<id>")]
    IdList,
}

impl ElementType {
    /// The name that a pipeline file and an error message use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Number => "number",
            Self::Category => "category",
            Self::Text => "text",
            Self::IdList => "list<id>",
        }
    }
}

/// What an identifier identifies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Entity {
    /// An item of the catalogue: the element is looked up there.
    Item,
    /// Anything else: the element has a vocabulary of its own, learned from the labels.
    #[default]
    Other,
}

/// One element of the unified request context.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Element {
    /// Name, as callers write it.
    pub name: String,
    /// Type of its values.
    #[serde(rename = "type")]
    pub kind: ElementType,
    /// For `id` and `list<id>`: what the identifiers identify.
    #[serde(default)]
    pub of: Entity,
    /// What an absent or null element counts as. The network masks it: a default is never guessed from.
    pub default: Value,
    /// Share of the training requests in which the whole element is masked, so that the network learns to do without.
    /// At 1 the network never sees the element, in serving neither: it keys the profile, or is there for callers and
    /// reports alone.
    #[serde(default)]
    pub dropout: f64,
    /// For `list<id>`: only the last so many count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_length: Option<usize>,
    /// What it means, for `GET /v1/tasks`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// The type of an item attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum AttributeType {
    /// A finite number.
    #[serde(rename = "number")]
    Number,
    /// One value out of a small set.
    #[serde(rename = "category")]
    Category,
    /// Several values out of a small set.
    #[serde(rename = "list<category>")]
    CategoryList,
    /// Free text.
    #[serde(rename = "text")]
    Text,
}

impl AttributeType {
    /// The name that a pipeline file and an error message use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Category => "category",
            Self::CategoryList => "list<category>",
            Self::Text => "text",
        }
    }
}

/// One attribute of the items.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Attribute {
    /// Name, as selectors write it.
    pub name: String,
    /// Type of its values.
    #[serde(rename = "type")]
    pub kind: AttributeType,
}

/// One head: what the network answers for one task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Head {
    /// The task's name.
    pub name: String,
    /// What it ranks, for `GET /v1/tasks`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Context elements that the task's labels carry. Others are accepted and used where the network can.
    pub elements: Vec<String>,
}

/// What training learned about one element beyond its declaration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Encoding {
    /// Known values in index order; anything else falls into the bucket after the last.
    Vocabulary {
        /// The values.
        values: Vec<String>,
    },
    /// A number enters the network as `((x - mean) / deviation)`, clipped to ±3.
    Standardised {
        /// Mean over the training labels.
        mean: f64,
        /// Standard deviation over the training labels, above zero.
        deviation: f64,
    },
}

/// The contract of a version: see the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Schema {
    /// Declared context elements, in declaration order.
    pub context: Vec<Element>,
    /// The context element that keys the profile snapshot, when the version has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile_key: Option<String>,
    /// Declared item attributes, in declaration order.
    pub attributes: Vec<Attribute>,
    /// Heads, in declaration order.
    pub heads: Vec<Head>,
    /// Sizes of the network.
    pub network: NetworkConfig,
    /// Learned encodings of context elements (`category`, `number`, and `id` of another entity than items).
    pub context_encodings: BTreeMap<String, Encoding>,
    /// Learned encodings of item attributes (`category`, `list<category>`, `number`).
    pub attribute_encodings: BTreeMap<String, Encoding>,
}

impl Element {
    /// Whether the network sees it at all.
    pub fn is_seen(&self) -> bool {
        self.dropout < 1.0
    }
}

impl Schema {
    /// The declared element of that name.
    pub fn element(&self, name: &str) -> Option<&Element> {
        self.context.iter().find(|e| e.name == name)
    }

    /// The position of the head of that name.
    pub fn head(&self, name: &str) -> Option<usize> {
        self.heads.iter().position(|h| h.name == name)
    }

    /// One byte string per contract: JSON with fields in declaration order and maps by key, no spaces.
    pub fn canonical_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a schema has string keys only and finite numbers")
    }

    /// Lower-case hexadecimal SHA-256 of the canonical bytes.
    pub fn hash(&self) -> String {
        hex(&Sha256::digest(self.canonical_bytes()))
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut s, b| {
        use std::fmt::Write;
        let _ = write!(s, "{b:02x}");
        s
    })
}
