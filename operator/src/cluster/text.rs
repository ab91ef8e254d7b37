//! JSON as text. Most of what watches tell is kept as it is or not at all, and a tree of it would cost more than all else
//! that is done with it.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Writes what is read to the end of a text.
pub struct Copy<'a>(pub &'a mut Vec<u8>);

impl<'de> DeserializeSeed<'de> for Copy<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Copy<'_> {
    fn write<T: serde::Serialize + ?Sized, E: Error>(self, value: &T) -> Result<(), E> {
        serde_json::to_writer(self.0, value).map_err(E::custom)
    }
}

impl<'de> Visitor<'de> for Copy<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.write(&value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.write(&value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.write(&value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.write(&value)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.write(value)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.write(&())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let start = self.0.len();
        self.0.push(b'[');
        loop {
            if self.0.len() > start + 1 {
                self.0.push(b',');
            }
            if seq.next_element_seed(Copy(self.0))?.is_none() {
                break;
            }
        }
        close(self.0, b']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let start = self.0.len();
        self.0.push(b'{');
        loop {
            if self.0.len() > start + 1 {
                self.0.push(b',');
            }
            if map.next_key_seed(Copy(self.0))?.is_none() {
                break;
            }
            self.0.push(b':');
            map.next_value_seed(Copy(self.0))?;
        }
        close(self.0, b'}');
        Ok(())
    }
}

/// Ends a list of entries, whose last comma nothing has followed.
fn close(text: &mut Vec<u8>, bracket: u8) {
    if text.last() == Some(&b',') {
        text.pop();
    }
    text.push(bracket);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written() {
        let text =
            r#"{"a":[1,-2,0.5,"x\n\"y\" ö",null,true,[],{}],"b":{"c":{},"d":[[]],"e,":","},"f":18446744073709551615}"#;
        let mut copy = Vec::new();
        let mut deserializer = serde_json::Deserializer::from_str(text);
        Copy(&mut copy).deserialize(&mut deserializer).unwrap();
        assert_eq!(String::from_utf8(copy).unwrap(), text);
    }
}
