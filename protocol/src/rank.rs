//! The two messages of `ranking.proto` whose ids are many and short, by hand: generated code would allocate each id.
//! `tests/wire.rs` compares them with generated ones.

use bytes::{Buf, BufMut};
use prost::encoding::{
    DecodeContext, WireType, bool, decode_key, encode_key, float, message, skip_field, string, varint, wire_type,
};
use prost::{DecodeError, Message};
use prost_types::{Struct, Timestamp};

use crate::Ids;
use crate::v1::{Fallback, ImputedElement, RankedItem};

/// What to rank: exactly one of `ids`, `select` and `all`, less `exclude`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Candidates {
    /// These items. None may come twice. The answer names those that the model does not know.
    pub ids: Ids,
    /// The catalogue's items whose attributes fit: per attribute a value or a list of values, of which one must fit.
    pub select: Option<Struct>,
    /// Every item of the catalogue.
    pub all: bool,
    /// Not these items.
    pub exclude: Ids,
}

impl Message for Candidates {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        encode_ids(1, &self.ids, buf);
        if let Some(select) = &self.select {
            message::encode(2, select, buf);
        }
        if self.all {
            bool::encode(3, &self.all, buf);
        }
        encode_ids(4, &self.exclude, buf);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        let (field, merged) = match tag {
            1 => ("ids", merge_ids(wire_type, &mut self.ids, buf, ctx)),
            2 => ("select", message::merge(wire_type, self.select.get_or_insert_default(), buf, ctx)),
            3 => ("all", bool::merge(wire_type, &mut self.all, buf, ctx)),
            4 => ("exclude", merge_ids(wire_type, &mut self.exclude, buf, ctx)),
            _ => return skip_field(wire_type, tag, buf, ctx),
        };
        merged.map_err(|error| at(error, "Candidates", field))
    }

    fn encoded_len(&self) -> usize {
        ids_len(1, &self.ids)
            + self.select.as_ref().map_or(0, |select| message::encoded_len(2, select))
            + if self.all { bool::encoded_len(3, &self.all) } else { 0 }
            + ids_len(4, &self.exclude)
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Items with their scores: `items` of a [`RankResponse`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RankedItems {
    /// Ids, the best first.
    pub ids: Ids,
    /// One score per id.
    pub scores: Vec<f32>,
}

impl RankedItems {
    /// Appends an item.
    pub fn push(&mut self, id: &str, score: f32) {
        self.ids.push(id);
        self.scores.push(score);
    }

    /// Items in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, f32)> + Clone {
        self.ids.iter().zip(self.scores.iter().copied())
    }
}

/// The answer to a `RankRequest`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RankResponse {
    /// The best items, in falling order of score.
    pub items: RankedItems,
    /// The task that answered.
    pub task: String,
    /// The version of the model that answered.
    pub model_version: String,
    /// The time of the newest event that the version has learned from.
    pub data_time: Option<Timestamp>,
    /// Context elements that the request did not give.
    pub imputed: Vec<ImputedElement>,
    /// Candidates that the model does not know. They are not among the items.
    pub unknown: Ids,
    /// Present when something else than the asked task's model answered.
    pub fallback: Option<Fallback>,
}

impl Message for RankResponse {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        for (id, score) in self.items.iter() {
            encode_key(1, WireType::LengthDelimited, buf);
            varint::encode_varint(item_len(id, score) as u64, buf);
            if !id.is_empty() {
                encode_text(1, id, buf);
            }
            if is_set(score) {
                float::encode(2, &score, buf);
            }
        }
        if !self.task.is_empty() {
            string::encode(2, &self.task, buf);
        }
        if !self.model_version.is_empty() {
            string::encode(3, &self.model_version, buf);
        }
        if let Some(time) = &self.data_time {
            message::encode(4, time, buf);
        }
        message::encode_repeated(5, &self.imputed, buf);
        encode_ids(6, &self.unknown, buf);
        if let Some(fallback) = &self.fallback {
            message::encode(7, fallback, buf);
        }
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        let (field, merged) = match tag {
            1 => {
                let mut item = RankedItem::default();
                let merged = message::merge(wire_type, &mut item, buf, ctx);
                self.items.push(&item.id, item.score);
                ("items", merged)
            }
            2 => ("task", string::merge(wire_type, &mut self.task, buf, ctx)),
            3 => ("model_version", string::merge(wire_type, &mut self.model_version, buf, ctx)),
            4 => ("data_time", message::merge(wire_type, self.data_time.get_or_insert_default(), buf, ctx)),
            5 => ("imputed", message::merge_repeated(wire_type, &mut self.imputed, buf, ctx)),
            6 => ("unknown", merge_ids(wire_type, &mut self.unknown, buf, ctx)),
            7 => ("fallback", message::merge(wire_type, self.fallback.get_or_insert_default(), buf, ctx)),
            _ => return skip_field(wire_type, tag, buf, ctx),
        };
        merged.map_err(|error| at(error, "RankResponse", field))
    }

    fn encoded_len(&self) -> usize {
        let items: usize = self.items.iter().map(|(id, score)| delimited_len(1, item_len(id, score))).sum();
        items
            + if self.task.is_empty() { 0 } else { string::encoded_len(2, &self.task) }
            + if self.model_version.is_empty() { 0 } else { string::encoded_len(3, &self.model_version) }
            + self.data_time.as_ref().map_or(0, |time| message::encoded_len(4, time))
            + message::encoded_len_repeated(5, &self.imputed)
            + ids_len(6, &self.unknown)
            + self.fallback.as_ref().map_or(0, |fallback| message::encoded_len(7, fallback))
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Proto3 leaves out a field that has its default, and -0.0 is not the default.
fn is_set(score: f32) -> bool {
    score.to_bits() != 0
}

fn item_len(id: &str, score: f32) -> usize {
    (if id.is_empty() { 0 } else { delimited_len(1, id.len()) })
        + if is_set(score) { float::encoded_len(2, &score) } else { 0 }
}

fn delimited_len(tag: u32, len: usize) -> usize {
    prost::encoding::key_len(tag) + varint::encoded_len_varint(len as u64) + len
}

fn encode_text(tag: u32, text: &str, buf: &mut impl BufMut) {
    encode_key(tag, WireType::LengthDelimited, buf);
    varint::encode_varint(text.len() as u64, buf);
    buf.put_slice(text.as_bytes());
}

fn encode_ids(tag: u32, ids: &Ids, buf: &mut impl BufMut) {
    for id in ids.iter() {
        encode_text(tag, id, buf);
    }
}

fn ids_len(tag: u32, ids: &Ids) -> usize {
    ids.iter().map(|id| delimited_len(tag, id.len())).sum()
}

/// Appends one id, straight from the buffer where it lies in one piece there.
fn merge_ids(wire_type: WireType, ids: &mut Ids, buf: &mut impl Buf, ctx: DecodeContext) -> Result<(), DecodeError> {
    wire_type::check_wire_type(WireType::LengthDelimited, wire_type)?;
    let chunk = buf.chunk();
    let mut rest = chunk;
    if let Ok(len) = varint::decode_varint(&mut rest)
        && let Some(bytes) = usize::try_from(len).ok().and_then(|len| rest.get(..len))
        && let Ok(id) = std::str::from_utf8(bytes)
    {
        ids.push(id);
        let taken = chunk.len() - rest.len() + bytes.len();
        buf.advance(taken);
        return Ok(());
    }
    let mut id = String::new();
    string::merge(wire_type, &mut id, buf, ctx)?;
    ids.push(&id);
    Ok(())
}

fn at(mut error: DecodeError, message: &'static str, field: &'static str) -> DecodeError {
    error.push(message, field);
    error
}

/// The task of an encoded `RankRequest`, when it is the first field, as every encoder of protobuf writes it. A router
/// needs no more.
pub fn first_task(mut encoded: &[u8]) -> Option<&str> {
    let (tag, wire_type) = decode_key(&mut encoded).ok()?;
    if (tag, wire_type) != (1, WireType::LengthDelimited) {
        return None;
    }
    let len = usize::try_from(varint::decode_varint(&mut encoded).ok()?).ok()?;
    std::str::from_utf8(encoded.get(..len)?).ok()
}
