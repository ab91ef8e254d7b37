//! SHA-256 of files, in hexadecimal, with their sizes.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::schema::hex;

/// A SHA-256 digest; as text, 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of those bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a SHA-256 digest: use 64 lower-case hexadecimal digits");
        let value = |b: u8| match b {
            b'0'..=b'9' => Ok(b - b'0'),
            b'a'..=b'f' => Ok(b - b'a' + 10),
            _ => Err(wrong()),
        };
        let digits: &[u8; 64] = text.as_bytes().try_into().map_err(|_| wrong())?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = value(pair[0])? << 4 | value(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// What identifies a file's content: its size and digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Bytes.
    pub size: u64,
    /// SHA-256.
    pub sha256: Digest,
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes with SHA-256 {}", self.size, self.sha256)
    }
}

/// A fingerprint in the making.
#[derive(Default)]
pub(crate) struct Fingerprinter {
    size: u64,
    sha256: Sha256,
}

impl Fingerprinter {
    /// Appends to what has been seen.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        self.sha256.update(bytes);
    }

    /// The fingerprint of all that has been seen.
    pub(crate) fn finish(self) -> Fingerprint {
        Fingerprint { size: self.size, sha256: Digest(self.sha256.finalize().into()) }
    }
}

/// The fingerprint of a local file. Blocks.
pub(crate) fn fingerprint_file(path: &Path) -> io::Result<Fingerprint> {
    let mut file = File::open(path)?;
    // Small enough that what was read is still in the processor's cache when it is hashed.
    let mut block = vec![0; 256 << 10];
    let mut seen = Fingerprinter::default();
    loop {
        match file.read(&mut block) {
            Ok(0) => return Ok(seen.finish()),
            Ok(n) => seen.update(&block[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_digest_of_abc_is_that_of_the_standard() {
        // FIPS 180-2, appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Digest::of(b"abc").to_string(), abc);
        assert_eq!(abc.parse::<Digest>().unwrap(), Digest::of(b"abc"));
        for wrong in ["", &abc[1..], &abc.to_uppercase(), &abc.replace('b', "g"), &abc.replacen("ba", "ä", 1)] {
            assert!(wrong.parse::<Digest>().unwrap_err().contains("64 lower-case"), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_file_has_the_fingerprint_of_its_bytes(bytes in prop::collection::vec(any::<u8>(), 0..5000)) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("x");
            std::fs::write(&path, &bytes).unwrap();
            let found = fingerprint_file(&path).unwrap();
            prop_assert_eq!(found, Fingerprint { size: bytes.len() as u64, sha256: Digest::of(&bytes) });
            prop_assert_eq!(found.sha256.to_string().parse::<Digest>().unwrap(), found.sha256);
        }
    }
}
