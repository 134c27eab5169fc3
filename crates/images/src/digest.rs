//! What things are known by: the digest of their content.

use agentkernel_core::hex;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A SHA-256 digest, `sha256:` and 64 hexadecimal digits in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

const ALGORITHM: &str = "sha256:";

impl Digest {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::default();
        hasher.update(bytes);
        hasher.finish()
    }

    /// Its digits alone, which are a file's name.
    pub fn hex(&self) -> &str {
        &self.0[ALGORITHM.len()..]
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        match text.strip_prefix(ALGORITHM) {
            Some(hex) if hex.len() == 64 && hex.bytes().all(is_digit) => Ok(Self(text.into())),
            _ => Err(format!("{text:?} is not a digest of the form sha256:HEX")),
        }
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
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A digest in the making.
#[derive(Debug, Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn finish(self) -> Digest {
        let digits = hex(&self.0.finalize());
        Digest(format!("{ALGORITHM}{digits}"))
    }
}

/// What a layer is known by: it and all that it stands on, as the OCI image specification has it
/// (`config.md`, "Layer ChainID"). A layer is unpacked for what is below it: a directory that it
/// passes through without naming it is as it is there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Chain(Digest);

impl Chain {
    /// That of a layer whose unpacked archive has the digest `diff`, on those of `below`.
    pub fn on(below: Option<&Chain>, diff: &Digest) -> Self {
        match below {
            None => Self(diff.clone()),
            Some(Self(below)) => Self(Digest::of(format!("{below} {diff}").as_bytes())),
        }
    }

    /// That of a layer which is a module as it is, and no archive of files.
    pub fn of_module(module: &Digest) -> Self {
        Self(Digest::of(format!("module {module}").as_bytes()))
    }

    pub fn digest(&self) -> &Digest {
        &self.0
    }

    /// Its digits alone, which are a folder's name.
    pub fn hex(&self) -> &str {
        self.0.hex()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_sha256_and_nothing_else() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").as_str(), empty);
        assert_eq!(empty.parse::<Digest>().unwrap().hex().len(), 64);
        let upper = empty.replace('e', "E");
        for wrong in ["", "sha256:", "e3b0", &empty[..70], "sha512:00", &upper, "sha256:../../x"] {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_chain_is_that_of_the_specification() {
        let (first, second) = (Digest::of(b"1"), Digest::of(b"2"));
        let lowest = Chain::on(None, &first);
        assert_eq!(lowest.digest(), &first);
        let text = format!("{first} {second}");
        assert_eq!(Chain::on(Some(&lowest), &second).digest(), &Digest::of(text.as_bytes()));
        // What is a module and an archive at once is not the same layer.
        assert_ne!(Chain::of_module(&first), lowest);
    }
}
