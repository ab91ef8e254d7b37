//! Names of versions, channels and files: checked once, where they enter the program.

use serde::{Deserialize, Serialize};

/// A name that may not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not a {kind} name: {rule}")]
pub struct InvalidName {
    /// What it should have named.
    pub kind: &'static str,
    /// What was given.
    pub value: String,
    /// What would be right.
    pub rule: &'static str,
}

/// A string that keeps a rule, as a type of its own.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(value: String) -> Result<Self, InvalidName> {
                let valid: fn(&str) -> bool = $valid;
                if valid(&value) { Ok(Self(value)) } else { Err(InvalidName { kind: $kind, value, rule: $rule }) }
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidName;

            fn from_str(value: &str) -> Result<Self, InvalidName> {
                value.to_owned().try_into()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name! {
    /// The name of a version, such as `20261124T151500Z-1a2b3c4d`: also valid as the value of a Kubernetes label.
    VersionId,
    "version",
    "use 1 to 63 letters, digits, `-`, `_` or `.`, a letter or digit first and last",
    is_label
}

name! {
    /// The name of a channel, such as `stable`: also valid as the value of a Kubernetes label.
    ChannelName,
    "channel",
    "use 1 to 63 letters, digits, `-`, `_` or `.`, a letter or digit first and last",
    is_label
}

name! {
    /// The path of a file inside its version, `/` between folders: it cannot leave the version's directory, whatever
    /// the operating system.
    FilePath,
    "file",
    "use a relative path whose parts are 1 to 100 letters, digits, `-`, `_`, `=` or `.`, and do not begin with `.`",
    |path| path.len() <= 500 && path.split('/').all(is_part)
}

fn is_label(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let outer = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    bytes.len() <= 63 && bytes.iter().all(|b| inner(*b)) && outer(bytes.first()) && outer(bytes.last())
}

fn is_part(part: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_=.".contains(&b);
    (1..=100).contains(&part.len()) && !part.starts_with('.') && part.bytes().all(allowed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn usual_names_are_names() {
        for name in ["stable", "20261124T151500Z-1a2b3c4d", "v1.2_3", "a"] {
            assert_eq!(name.parse::<VersionId>().unwrap().to_string(), name);
            assert!(name.parse::<ChannelName>().is_ok());
        }
        for path in ["schema.json", "golden/search.jsonl", "part=1/x_y-z.parquet"] {
            assert_eq!(path.parse::<FilePath>().unwrap().as_str(), path);
        }
    }

    #[test]
    fn what_could_leave_the_store_is_no_name() {
        for name in ["", ".", "..", "a/b", "../a", "-a", "a-", "a b", "ä", "a\0", &"a".repeat(64)] {
            assert!(name.parse::<VersionId>().is_err(), "{name:?}");
            assert!(name.parse::<ChannelName>().is_err(), "{name:?}");
        }
        let error = "..".parse::<ChannelName>().unwrap_err().to_string();
        assert!(error.starts_with("`..` is not a channel name: use 1 to 63"), "{error}");
        for path in ["", "/a", "a/", "a//b", "../a", "a/../b", "./a", ".hidden", "a\\b", "C:a", "a\0b", "~/a b"] {
            assert!(path.parse::<FilePath>().is_err(), "{path:?}");
        }
    }

    proptest! {
        #[test]
        fn an_accepted_path_stays_inside(path in prop_oneof!["[./a\\\\:~ ]{0,12}", "\\PC*", "[a-c./]{1,8}"]) {
            if let Ok(path) = path.parse::<FilePath>() {
                prop_assert!(Path::new(path.as_str()).components().all(|c| matches!(c, Component::Normal(_))));
                let json = serde_json::to_string(&path).unwrap();
                prop_assert_eq!(serde_json::from_str::<FilePath>(&json).unwrap(), path);
            } else {
                prop_assert!(serde_json::from_str::<FilePath>(&serde_json::to_string(&path).unwrap()).is_err());
            }
        }
    }
}
