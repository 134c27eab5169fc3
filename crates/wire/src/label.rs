//! Labels of sandboxes, as people write them.

use std::collections::BTreeMap;
use std::ffi::OsStr;

use crate::value::{self, ValueError, Written};

/// The longest key and the longest value, in bytes.
const LONGEST: (usize, usize) = (128, 1024);

/// A label: a key of letters, digits and `_.-/`, and any value without control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    pub key: String,
    pub value: String,
}

/// Which sandboxes are meant: those with a label of this key, and this value if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    pub key: String,
    pub value: Option<String>,
}

impl Written for Label {
    const EXPECTED: &'static str =
        "a label KEY=VALUE: a key of letters, digits and _.-/, a value without control characters";

    fn read(text: &OsStr) -> Result<Self, ValueError> {
        let (key, label) = value::utf8(text)?.split_once('=').unwrap_or_default();
        match is_key(key) && is_value(label) {
            true => Ok(Self { key: key.into(), value: label.into() }),
            false => Err(value::unexpected::<Self>(text)),
        }
    }
}

impl Written for Filter {
    const EXPECTED: &'static str = "a filter label=KEY or label=KEY=VALUE";

    fn read(text: &OsStr) -> Result<Self, ValueError> {
        let wrong = || value::unexpected::<Self>(text);
        let label = value::utf8(text)?.strip_prefix("label=").ok_or_else(wrong)?;
        let (key, label) = match label.split_once('=') {
            Some((key, label)) => (key, Some(label)),
            None => (label, None),
        };
        match is_key(key) && label.is_none_or(is_value) {
            true => Ok(Self { key: key.into(), value: label.map(str::to_owned) }),
            false => Err(wrong()),
        }
    }
}

impl Filter {
    /// Whether a sandbox with these labels is meant.
    pub fn fits(&self, labels: &BTreeMap<String, String>) -> bool {
        let found = labels.get(&self.key);
        found.is_some_and(|found| self.value.as_ref().is_none_or(|value| value == found))
    }
}

fn is_key(key: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-/".contains(&byte);
    (1..=LONGEST.0).contains(&key.len()) && key.bytes().all(allowed)
}

fn is_value(value: &str) -> bool {
    value.len() <= LONGEST.1 && !value.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_a_key_and_a_value() {
        for (text, key, value) in
            [("a=b", "a", "b"), ("x/y.z=", "x/y.z", ""), ("a=b=c", "a", "b=c")]
        {
            let label = Label::read(OsStr::new(text)).unwrap();
            assert_eq!((label.key.as_str(), label.value.as_str()), (key, value));
        }
        let long = format!("{}=x", "a".repeat(129));
        for text in ["", "a", "=b", "a b=c", "a=\x1b[2J", "a=\n", "\u{e9}=x", &long] {
            assert!(Label::read(OsStr::new(text)).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn a_filter_finds_keys_or_keys_with_their_values() {
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        for (text, fits) in
            [("label=a", true), ("label=a=b", true), ("label=a=c", false), ("label=b", false)]
        {
            assert_eq!(Filter::read(OsStr::new(text)).unwrap().fits(&labels), fits, "{text}");
        }
        for text in ["", "a=b", "label", "label=", "state=running"] {
            assert!(Filter::read(OsStr::new(text)).is_err(), "{text:?} was taken");
        }
    }
}
