//! What sandboxes are called by people and by programs.

use std::fmt;
use std::io;
use std::str::FromStr;

use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};

/// What people call a sandbox, a snapshot or a pool: 1 to 64 letters, digits, `_`, `.` and `-`,
/// the first a letter or a digit. So it is harmless as a file name, an argument and a word.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// Twelve lower-case hexadecimal digits, made up at random: what programs call a sandbox or a
/// snapshot. It never changes, as a name may.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id(String);

/// A text that is no name or no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("{} is not a valid name", Shown(.0))]
    Name(String),
    #[error("{} is not a valid id", Shown(.0))]
    Id(String),
}

impl NameError {
    /// The rule.
    pub fn hint(&self) -> String {
        match self {
            Self::Name(_) => {
                "a name is 1 to 64 of a-z, A-Z, 0-9, '_', '.' and '-', and starts with a letter or a digit"
            }
            Self::Id(_) => "an id is 12 of 0-9 and a-f",
        }
        .into()
    }
}

/// A text as it may be shown on a terminal: escaped, and cut where it is absurdly long.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 80;
        match self.0.char_indices().nth(LONGEST) {
            None => write!(out, "{:?}", self.0),
            Some((end, _)) => write!(out, "{:?}...", &self.0[..end]),
        }
    }
}

impl Name {
    /// The longest name, in bytes.
    const LONGEST: usize = 64;

    /// Makes up a name such as `brisk-otter-3f2a`, by the kernel's random numbers.
    pub fn made_up() -> io::Result<Self> {
        let [how, what, high, low] = random()?;
        let how = HOW[usize::from(how) % HOW.len()];
        let what = WHAT[usize::from(what) % WHAT.len()];
        Ok(Self(format!("{how}-{what}-{high:02x}{low:02x}")))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        let starts_well = text.starts_with(|first: char| first.is_ascii_alphanumeric());
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        if starts_well && text.len() <= Self::LONGEST && text.bytes().all(allowed) {
            Ok(Self(text))
        } else {
            Err(NameError::Name(text))
        }
    }
}

impl Id {
    /// The number of digits.
    pub const LENGTH: usize = 12;

    /// Makes up an id by the kernel's random numbers.
    pub fn random() -> io::Result<Self> {
        let bytes: [u8; Self::LENGTH / 2] = random()?;
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `text` may be the start of an id.
    pub(crate) fn may_start_with(text: &str) -> bool {
        text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    }
}

impl TryFrom<String> for Id {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        if text.len() == Self::LENGTH && Self::may_start_with(&text) {
            Ok(Self(text))
        } else {
            Err(NameError::Id(text))
        }
    }
}

/// What a checked text does as any text.
macro_rules! is_text {
    ($name:ident) => {
        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> String {
                text.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.pad(&self.0)
            }
        }
    };
}

is_text!(Name);
is_text!(Id);

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    // Up to 256 bytes come whole or not at all; see getrandom(2).
    rustix::io::retry_on_intr(|| getrandom(&mut bytes[..], GetRandomFlags::empty()))?;
    Ok(bytes)
}

#[rustfmt::skip]
const HOW: [&str; 64] = [
    "able", "agile", "airy", "alert", "amber", "ample", "apt", "azure",
    "bold", "brave", "breezy", "brisk", "bright", "calm", "candid", "clear",
    "clever", "cosy", "crisp", "curious", "dapper", "deft", "eager", "early",
    "fair", "fast", "fine", "fleet", "fond", "free", "fresh", "gentle",
    "glad", "golden", "grand", "green", "handy", "happy", "hardy", "jolly",
    "keen", "kind", "light", "lively", "lucky", "merry", "mild", "neat",
    "nimble", "noble", "plucky", "proud", "quick", "quiet", "ready", "rosy",
    "sharp", "silver", "smart", "snug", "spry", "sunny", "swift", "warm",
];

#[rustfmt::skip]
const WHAT: [&str; 64] = [
    "ant", "badger", "bat", "bear", "beaver", "bee", "bison", "bunting",
    "camel", "carp", "cat", "cod", "crab", "crane", "crow", "deer",
    "dove", "duck", "eel", "elk", "falcon", "finch", "fox", "frog",
    "gecko", "goat", "goose", "gull", "hare", "hawk", "heron", "ibex",
    "jay", "kite", "koala", "lark", "lemur", "linnet", "lion", "lynx",
    "marten", "mole", "moose", "moth", "mouse", "newt", "otter", "owl",
    "panda", "perch", "pike", "plover", "puffin", "quail", "raven", "robin",
    "seal", "shrew", "stork", "swan", "tern", "tiger", "trout", "wren",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_harmless_names_are_names() {
        let longest = "x".repeat(64);
        for good in ["a", "A-1", "0.9_b", "web..x", &longest] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
        let too_long = "x".repeat(65);
        for bad in [
            "",
            ".",
            "..",
            "-x",
            "_x",
            "a/b",
            "a b",
            "a\0",
            "a\n",
            "caf\u{e9}",
            "\u{430}",
            &too_long,
        ] {
            assert_eq!(bad.parse::<Name>(), Err(NameError::Name(bad.into())), "{bad:?}");
        }
    }

    #[test]
    fn a_refusal_is_short_and_has_nothing_for_the_terminal() {
        let error = format!("\x1b[2J{}", "y".repeat(10_000)).parse::<Name>().unwrap_err();
        let message = error.to_string();
        assert!(message.len() < 120 && !message.contains('\x1b'), "{message}");
        assert!(error.hint().contains("1 to 64"));
    }

    #[test]
    fn ids_are_twelve_hexadecimal_digits() {
        let id = Id::random().unwrap();
        assert_eq!(id.to_string().parse::<Id>(), Ok(id));
        for bad in ["", "0123456789a", "0123456789abc", "0123456789AB", "0123456789ag"] {
            assert!(bad.parse::<Id>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn made_up_names_are_names() {
        for _ in 0..200 {
            let name = Name::made_up().unwrap();
            assert_eq!(name.as_str().split('-').count(), 3, "{name}");
            assert_eq!(name.as_str().parse::<Name>(), Ok(name));
        }
    }
}
