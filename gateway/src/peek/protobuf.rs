//! The fields of an encoded protobuf message, one level deep, without reading what is inside of them.

use prost::encoding::{WireType, decode_key, decode_varint};

/// One field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A whole number, a boolean or an enumeration.
    Varint(u64),
    /// A string, bytes, a message or packed numbers.
    Bytes(&'a [u8]),
    /// Four or eight bytes, or a group: nothing that routing looks at.
    Other,
}

/// Field numbers and values in order, up to the first thing that is no field.
pub fn fields(message: &[u8]) -> impl Iterator<Item = (u32, Value<'_>)> {
    let mut rest = message;
    std::iter::from_fn(move || {
        let (number, kind) = decode_key(&mut rest).ok()?;
        let value = match kind {
            WireType::Varint => Value::Varint(decode_varint(&mut rest).ok()?),
            WireType::LengthDelimited => {
                let length = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
                let (bytes, after) = rest.split_at_checked(length)?;
                rest = after;
                Value::Bytes(bytes)
            }
            WireType::ThirtyTwoBit => {
                rest = rest.get(4..)?;
                Value::Other
            }
            WireType::SixtyFourBit => {
                rest = rest.get(8..)?;
                Value::Other
            }
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        Some((number, value))
    })
}

/// Appends a field of bytes. Of a field that is not repeated, the last one holds.
pub fn append(message: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    prost::encoding::encode_key(number, WireType::LengthDelimited, message);
    prost::encoding::encode_varint(bytes.len() as u64, message);
    message.extend(bytes);
}
