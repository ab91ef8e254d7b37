//! Durations as people write them: `50ms`, `30s`, `1m30s`.

use std::fmt;
use std::time::Duration;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserializer, Serializer};
use unimodel_protocol::duration;

pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{duration:?}"))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    struct Text;
    impl Visitor<'_> for Text {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration above zero such as \"50ms\", \"30s\" or \"1m30s\"")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
            let parsed = duration::parse(text).ok().filter(|duration| !duration.is_zero());
            parsed.ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
        }
    }
    deserializer.deserialize_any(Text)
}
