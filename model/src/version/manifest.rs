//! `manifest.json`: what a version is made of.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Digest, FilePath, Fingerprint, VersionId};

/// The manifest's file name. It is written last: a directory without it is not a version.
pub const MANIFEST: &str = "manifest.json";

/// The manifest format that this program writes, and the newest that it reads.
pub const MANIFEST_FORMAT: u64 = 1;

/// Metrics by task, then by name.
pub type Metrics = BTreeMap<String, BTreeMap<String, f64>>;

/// One file of a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Where it lies in the version.
    pub path: FilePath,
    /// What it must contain.
    #[serde(flatten)]
    pub content: Fingerprint,
}

/// The manifest of a version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// [`MANIFEST_FORMAT`] of the writer. Readers ignore members that they do not know; what they must not ignore raises
    /// the format.
    pub format: u64,
    /// The version's name.
    pub version: VersionId,
    /// When it was published.
    pub created: Timestamp,
    /// Data cut-off: the newest event that training saw.
    pub data_time: Timestamp,
    /// The version that training started from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<VersionId>,
    /// Name of the pipeline that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    /// SHA-256 of `schema.json`, which is [`crate::schema::Schema::hash`].
    pub schema_hash: Digest,
    /// All other files of the version, by path.
    pub files: Vec<FileEntry>,
    /// Metrics on held-out events.
    pub metrics: Metrics,
}

/// Why a `manifest.json` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// A later program wrote it.
    #[error("format {found} is newer than {MANIFEST_FORMAT}, the newest that this program reads; update unimodel")]
    Newer {
        /// Its format.
        found: u64,
    },
    /// It is not what was written.
    #[error("damaged: expected SHA-256 {expected}, found {found}")]
    Damaged {
        /// The digest that it states.
        expected: Digest,
        /// The digest that it has.
        found: Digest,
    },
    /// It is no manifest at all, or one that names what may not be named.
    #[error("damaged: {0}")]
    Invalid(String),
}

impl Manifest {
    /// One digest for the content of all files: the SHA-256 of the lines `<sha256>  <path>`, as `sha256sum` prints them,
    /// in path order.
    pub fn content_digest(files: &[FileEntry]) -> Digest {
        let lines: String = files.iter().map(|f| format!("{}  {}\n", f.content.sha256, f.path)).collect();
        Digest::of(lines.as_bytes())
    }

    /// Size of all files together, in bytes.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|f| f.content.size).sum()
    }

    /// The bytes of `manifest.json`. Its last member, `sha256`, is the digest of the same document without that member
    /// and without white space.
    pub fn to_bytes(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct File<'a> {
            #[serde(flatten)]
            manifest: &'a Manifest,
            sha256: Digest,
        }
        let compact = serde_json::to_vec(self).expect("a manifest has string keys only");
        let file = File { manifest: self, sha256: Digest::of(&compact) };
        let mut bytes = serde_json::to_vec_pretty(&file).expect("a manifest has string keys only");
        bytes.push(b'\n');
        bytes
    }

    /// Reads `manifest.json` and checks that it is whole and names only files inside its version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ManifestError> {
        let invalid = |e: serde_json::Error| ManifestError::Invalid(e.to_string());
        let mut document: Value = serde_json::from_slice(bytes).map_err(invalid)?;
        let format = document.get("format").and_then(Value::as_u64);
        let found = format.ok_or_else(|| ManifestError::Invalid("it has no `format` number".to_owned()))?;
        if found > MANIFEST_FORMAT {
            return Err(ManifestError::Newer { found });
        }
        let stated = document.as_object_mut().and_then(|members| members.shift_remove("sha256"));
        let stated = stated.ok_or_else(|| ManifestError::Invalid("it has no `sha256`".to_owned()))?;
        let expected: Digest = serde_json::from_value(stated).map_err(invalid)?;
        let found = Digest::of(&serde_json::to_vec(&document).map_err(invalid)?);
        if found != expected {
            return Err(ManifestError::Damaged { expected, found });
        }
        let manifest: Self = serde_json::from_value(document).map_err(invalid)?;
        let mut paths = BTreeSet::new();
        for file in &manifest.files {
            if file.path.as_str() == MANIFEST || !paths.insert(&file.path) {
                return Err(ManifestError::Invalid(format!("it may not name `{}` (again)", file.path)));
            }
        }
        Ok(manifest)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Manifest {
        let file = |path: &str, text: &str| FileEntry {
            path: path.parse().unwrap(),
            content: Fingerprint { size: text.len() as u64, sha256: Digest::of(text.as_bytes()) },
        };
        Manifest {
            format: MANIFEST_FORMAT,
            version: "20261124T151500Z-1a2b3c4d".parse().unwrap(),
            created: "2026-11-24T15:15:00Z".parse().unwrap(),
            data_time: "1998-04-23T00:00:00Z".parse().unwrap(),
            parent: Some("20261123T151500Z-00000000".parse().unwrap()),
            pipeline: Some("movielens".to_owned()),
            schema_hash: Digest::of(b"{}"),
            files: vec![file("golden/search.jsonl", ""), file("schema.json", "{}")],
            metrics: BTreeMap::from([("search".to_owned(), BTreeMap::from([("ndcg@10".to_owned(), 0.1 + 0.2)]))]),
        }
    }

    #[test]
    fn the_file_is_for_people_too() {
        insta::assert_snapshot!(String::from_utf8(sample().to_bytes()).unwrap());
    }

    /// Signs whatever the document says, as its writer would.
    fn signed(mut document: Value) -> Vec<u8> {
        let members = document.as_object_mut().unwrap();
        members.shift_remove("sha256");
        let digest = Digest::of(&serde_json::to_vec(&members).unwrap());
        members.insert("sha256".to_owned(), digest.to_string().into());
        serde_json::to_vec(&document).unwrap()
    }

    fn sample_document() -> Value {
        serde_json::from_slice(&sample().to_bytes()).unwrap()
    }

    #[test]
    fn a_newer_format_is_refused_by_its_number() {
        let mut document = sample_document();
        document["format"] = 2.into();
        let error = Manifest::from_bytes(&serde_json::to_vec(&document).unwrap()).unwrap_err();
        assert!(matches!(error, ManifestError::Newer { found: 2 }));
        assert!(error.to_string().contains("format 2 is newer than 1"), "{error}");
    }

    #[test]
    fn members_of_a_later_release_are_ignored() {
        let mut document = sample_document();
        document["note"] = "a later release wrote this".into();
        assert_eq!(Manifest::from_bytes(&signed(document)).unwrap(), sample());
    }

    #[test]
    fn unsafe_paths_are_refused_even_when_the_digest_is_right() {
        for path in ["../x", "/etc/passwd", "a/../../x", MANIFEST, "schema.json"] {
            let mut document = sample_document();
            document["files"][0]["path"] = path.into();
            let error = Manifest::from_bytes(&signed(document)).unwrap_err();
            assert!(matches!(&error, ManifestError::Invalid(m) if m.contains(path)), "{error}");
        }
    }

    #[test]
    fn no_single_flipped_bit_goes_unnoticed() {
        let bytes = sample().to_bytes();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            // A flip may turn one white space into another; whatever is read must still be what was written.
            if let Ok(read) = Manifest::from_bytes(&damaged) {
                assert_eq!(read, sample(), "bit {bit}");
            }
        }
    }

    fn manifests() -> impl Strategy<Value = Manifest> {
        let time = || (-10_000_000_000..100_000_000_000i64, 0..1_000_000_000i32);
        let time = move || time().prop_map(|(s, n)| Timestamp::new(s, n).unwrap());
        let id = || "[a-zA-Z0-9]([-a-zA-Z0-9_.]{0,20}[a-zA-Z0-9])?".prop_map(|s| s.parse::<VersionId>().unwrap());
        let content = (any::<u64>(), any::<u64>())
            .prop_map(|(size, seed)| Fingerprint { size, sha256: Digest::of(&seed.to_le_bytes()) });
        let files = prop::collection::btree_map("[a-z0-9_=-]{1,9}(/[a-z][a-z.]{0,9}){0,3}", content, 0..5);
        let finite = any::<f64>().prop_filter("JSON has finite numbers only", |x| x.is_finite());
        let metrics = prop::collection::btree_map(".{0,8}", prop::collection::btree_map(".{0,8}", finite, 0..4), 0..4);
        (id(), time(), time(), prop::option::of(id()), prop::option::of(".*"), files, metrics).prop_map(
            |(version, created, data_time, parent, pipeline, files, metrics)| Manifest {
                format: MANIFEST_FORMAT,
                version,
                created,
                data_time,
                parent,
                pipeline,
                schema_hash: Digest::of(b""),
                files: files
                    .into_iter()
                    .map(|(path, content)| FileEntry { path: path.parse().unwrap(), content })
                    .collect(),
                metrics,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(manifest in manifests()) {
            let bytes = manifest.to_bytes();
            prop_assert_eq!(&Manifest::from_bytes(&bytes).unwrap(), &manifest);
            prop_assert_eq!(manifest.to_bytes(), bytes);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Manifest::from_bytes(&bytes).is_err());
        }
    }
}
