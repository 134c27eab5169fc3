//! Variables for a sandbox: `-e K=V`, `-e K` and Docker's env files.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use serde::{Deserialize, Deserializer};

use crate::value::{self, ValueError, Written};

/// Variables by name; `None` copies the caller's, if there is one.
pub type Environment = BTreeMap<OsString, Option<OsString>>;

/// Reads `K=V`, or `K` to copy the caller's.
pub fn read_variable(text: &OsStr) -> Result<(OsString, Option<OsString>), ValueError> {
    let bytes = text.as_bytes();
    let (name, value) = match bytes.iter().position(|b| *b == b'=') {
        Some(at) => (&bytes[..at], Some(OsStr::from_bytes(&bytes[at + 1..]).to_owned())),
        None => (bytes, None),
    };
    let name = OsStr::from_bytes(name);
    check(name, value.as_deref())?;
    Ok((name.to_owned(), value))
}

fn check(name: &OsStr, value: Option<&OsStr>) -> Result<(), ValueError> {
    if name.is_empty() {
        return Err(ValueError("the name of a variable is missing".into()));
    }
    if name.as_bytes().iter().any(|b| [b'=', 0].contains(b)) {
        return Err(ValueError(format!("{name:?} is not the name of a variable")));
    }
    if value.is_some_and(|value| value.as_bytes().contains(&0)) {
        return Err(ValueError(format!("the value of {name:?} holds a NUL")));
    }
    Ok(())
}

/// Why an env file could not be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}: {reason}")]
pub struct EnvFileError {
    /// Counted from 1.
    pub line: usize,
    pub reason: ValueError,
}

/// Reads a file of lines `K=V` or `K`, in Docker's format: spaces before a line count for nothing,
/// `#` opens a comment only at its start, and quotes have no meaning. A later line wins.
pub fn read_env_file(text: &[u8]) -> Result<Environment, EnvFileError> {
    let mut all = Environment::new();
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    for (at, line) in text.split(|b| *b == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line).trim_ascii_start();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let err = |reason| EnvFileError { line: at + 1, reason };
        let (name, value) = read_variable(OsStr::from_bytes(line)).map_err(err)?;
        if name.as_bytes().iter().any(u8::is_ascii_whitespace) {
            return Err(err(ValueError(format!("{name:?} holds a space"))));
        }
        all.insert(name, value);
    }
    Ok(all)
}

/// A value in a table of variables; numbers and booleans are taken as they are written.
struct Text(OsString);

impl Written for Text {
    const EXPECTED: &'static str = "a text";

    fn read(text: &OsStr) -> Result<Self, ValueError> {
        Ok(Self(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        value::one(deserializer)
    }
}

/// Reads a file's table of variables.
pub(crate) fn table<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Environment, D::Error> {
    let table = BTreeMap::<String, Text>::deserialize(deserializer)?;
    let mut all = Environment::new();
    for (name, Text(value)) in table {
        let name = OsString::from(name);
        check(&name, Some(&value)).map_err(serde::de::Error::custom)?;
        all.insert(name, Some(value));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_has_a_name_and_perhaps_a_value() {
        let read = |text: &str| read_variable(OsStr::new(text));
        assert_eq!(read("K=a=b"), Ok(("K".into(), Some("a=b".into()))));
        assert_eq!(read("K="), Ok(("K".into(), Some("".into()))));
        assert_eq!(read("K"), Ok(("K".into(), None)));
        for text in ["", "=v", "K\0=v", "K=\0"] {
            assert!(read(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn an_env_file_is_read_as_docker_reads_it() {
        let text = "\u{feff}# comment\n\n  A=1 # not a comment\r\nB=\"quoted\"\nC\nA=2\nD=\u{e9}";
        let all = read_env_file(text.as_bytes()).unwrap();
        let of = |name: &str| all.get(OsStr::new(name)).cloned();
        assert_eq!(all.len(), 4);
        assert_eq!(of("A"), Some(Some("2".into())));
        assert_eq!(of("B"), Some(Some("\"quoted\"".into())));
        assert_eq!(of("C"), Some(None));
        assert_eq!(of("D"), Some(Some("\u{e9}".into())));
    }

    #[test]
    fn an_env_file_says_which_line_is_wrong() {
        for (text, line) in [("A=1\n=2\n", 2), ("A =1", 1), ("\n\nno value", 3)] {
            assert_eq!(read_env_file(text.as_bytes()).unwrap_err().line, line, "{text:?}");
        }
    }
}
