//! Values as people write them on a flag, in a variable or in a file: one grammar for all three.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::time::Duration;

use agentkernel_core::{Access, Bytes, Cpus, Network, Profile, Pull, User, parse_duration};
use serde::de::{Deserializer, Visitor};

use crate::nearest;

/// Why a value could not be read, with what is taken instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ValueError(pub(crate) String);

impl ValueError {
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// A value that can be read from a user's words.
pub trait Written: Sized {
    /// What is taken, to follow the word "expected".
    const EXPECTED: &'static str;

    /// Reads it. Nothing is looked up: whether a path exists or a limit fits the machine is asked
    /// when the whole request is resolved.
    fn read(text: &OsStr) -> Result<Self, ValueError>;
}

/// The most processes and threads that Linux can count on a 64-bit machine (`PID_MAX_LIMIT`).
const MAX_PIDS: u32 = 4_194_304;

/// The largest user and group number that a sandbox maps.
const MAX_ID: u32 = 65_535;

/// A number of processes and threads together, 1 to 4194304.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pids(u32);

impl Pids {
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl Written for Pids {
    const EXPECTED: &'static str = "a number of processes from 1 to 4194304";

    fn read(text: &OsStr) -> Result<Self, ValueError> {
        match utf8(text)?.parse() {
            Ok(n) if (1..=MAX_PIDS).contains(&n) => Ok(Self(n)),
            _ => Err(unexpected::<Self>(text)),
        }
    }
}

impl Written for Cpus {
    const EXPECTED: &'static str = "a number of processors such as 0.5 or 2";

    fn read(text: &OsStr) -> Result<Self, ValueError> {
        parse(text)
    }
}

impl Written for Bytes {
    const EXPECTED: &'static str = "a size such as 512m or 1g";

    fn read(text: &OsStr) -> Result<Self, ValueError> {
        parse(text)
    }
}

impl Written for Duration {
    const EXPECTED: &'static str = "a time such as 500ms, 30s or 1h";

    fn read(text: &OsStr) -> Result<Self, ValueError> {
        parse_duration(utf8(text)?).map_err(|err| ValueError(err.to_string()))
    }
}

impl Written for Profile {
    const EXPECTED: &'static str = "one of restrictive, moderate, permissive";

    fn read(text: &OsStr) -> Result<Self, ValueError> {
        choose::<Self>(text, &Self::ALL.map(|profile| (profile.name(), profile)))
    }
}

impl Written for Access {
    const EXPECTED: &'static str = "one of ro, rw, cow";

    fn read(text: &OsStr) -> Result<Self, ValueError> {
        let all = [("ro", Self::ReadOnly), ("rw", Self::ReadWrite), ("cow", Self::CopyOnWrite)];
        choose::<Self>(text, &all)
    }
}

impl Written for Pull {
    const EXPECTED: &'static str = "one of missing, always, never";

    fn read(text: &OsStr) -> Result<Self, ValueError> {
        let all = [("missing", Self::Missing), ("always", Self::Always), ("never", Self::Never)];
        choose::<Self>(text, &all)
    }
}

impl Written for bool {
    const EXPECTED: &'static str = "true or false";

    fn read(text: &OsStr) -> Result<Self, ValueError> {
        let all = [("true", true), ("false", false), ("1", true), ("0", false)];
        choose::<Self>(text, &all)
    }
}

impl Written for Network {
    const EXPECTED: &'static str = "none, full or allow=HOST,...";

    fn read(text: &OsStr) -> Result<Self, ValueError> {
        let text = utf8(text)?;
        let Some(hosts) = text.strip_prefix("allow=") else {
            return choose::<Self>(OsStr::new(text), &[("none", Self::None), ("full", Self::Full)]);
        };
        let is_host = |host: &str| {
            !host.is_empty()
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:*[]".contains(&b))
        };
        match hosts.split(',').find(|host| !is_host(host)) {
            Some(host) => {
                Err(ValueError(format!("allow={hosts}: {host:?} is not the name of a host")))
            }
            None => Ok(Self::Allow(hosts.split(',').map(str::to_ascii_lowercase).collect())),
        }
    }
}

impl Written for User {
    const EXPECTED: &'static str = "a user's name, UID or UID:GID, with numbers up to 65535";

    fn read(text: &OsStr) -> Result<Self, ValueError> {
        let err = || unexpected::<Self>(text);
        let word = utf8(text)?;
        let number = |digits: &str| match digits.parse::<u32>() {
            Ok(id) if id <= MAX_ID && digits.bytes().all(|b| b.is_ascii_digit()) => Ok(id),
            _ => Err(err()),
        };
        if word.starts_with(|c: char| c.is_ascii_digit()) {
            let (uid, gid) = word.split_once(':').unwrap_or((word, word));
            return Ok(Self::Ids { uid: number(uid)?, gid: number(gid)? });
        }
        let starts_well = word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let is_part = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        match starts_well && word.len() <= 32 && word.bytes().all(is_part) {
            true => Ok(Self::Named(word.into())),
            false => Err(err()),
        }
    }
}

impl Written for String {
    const EXPECTED: &'static str = "a name";

    fn read(text: &OsStr) -> Result<Self, ValueError> {
        match utf8(text)? {
            "" => Err(unexpected::<Self>(text)),
            name => Ok(name.into()),
        }
    }
}

/// What stands for a value that is not `T`.
pub(crate) fn unexpected<T: Written>(text: &OsStr) -> ValueError {
    ValueError(format!("{text:?} is not {}", T::EXPECTED))
}

/// `text` as a string.
pub(crate) fn utf8(text: &OsStr) -> Result<&str, ValueError> {
    text.to_str().ok_or_else(|| ValueError(format!("{text:?} is not UTF-8")))
}

fn parse<T: FromStr<Err: fmt::Display>>(text: &OsStr) -> Result<T, ValueError> {
    utf8(text)?.parse().map_err(|err: T::Err| ValueError(err.to_string()))
}

/// The one of `all` that is called `text`, or what else it may have been meant for.
fn choose<T: Written + Clone>(text: &OsStr, all: &[(&str, T)]) -> Result<T, ValueError> {
    if let Some((_, value)) = all.iter().find(|(name, _)| text == *name) {
        return Ok(value.clone());
    }
    let mut err = unexpected::<T>(text);
    if let Some(name) = nearest(&text.to_string_lossy(), all.iter().map(|(name, _)| *name)) {
        err.0 += &format!("; did you mean {name:?}?");
    }
    Err(err)
}

/// Reads an optional value from a file, where it may also be written as a number or a boolean.
pub(crate) fn optional<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Written,
{
    one(deserializer).map(Some)
}

/// Reads a value from a file, where it may also be written as a number or a boolean.
pub(crate) fn one<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Written,
{
    deserializer.deserialize_any(Scalar(PhantomData))
}

struct Scalar<T>(PhantomData<T>);

impl<T: Written> Scalar<T> {
    fn read<E: serde::de::Error>(text: Cow<'_, str>) -> Result<T, E> {
        T::read(OsStr::new(text.as_ref())).map_err(E::custom)
    }
}

impl<T: Written> Visitor<'_> for Scalar<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        Self::read(text.into())
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<T, E> {
        Self::read(value.to_string().into())
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<T, E> {
        Self::read(value.to_string().into())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<T, E> {
        Self::read(value.to_string().into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<T, E> {
        Self::read(value.to_string().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: Written>(text: &str) -> Result<T, ValueError> {
        T::read(OsStr::new(text))
    }

    #[test]
    fn a_wrong_value_is_answered_with_what_is_taken() {
        let err = read::<Profile>("moderat").unwrap_err().to_string();
        assert!(err.contains("restrictive, moderate, permissive"), "{err}");
        assert!(err.contains("did you mean \"moderate\"?"), "{err}");
        let err = read::<Bytes>("512x").unwrap_err().to_string();
        assert!(err.contains("512x") && err.contains("512m"), "{err}");
    }

    #[test]
    fn pids_are_those_that_linux_can_count() {
        assert_eq!(read::<Pids>("4194304").map(Pids::get), Ok(4_194_304));
        for text in ["0", "4194305", "-1", "1.5", "", "many"] {
            assert!(read::<Pids>(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn users_are_names_or_numbers() {
        assert_eq!(read("agent"), Ok(User::Named("agent".into())));
        assert_eq!(read("0"), Ok(User::Ids { uid: 0, gid: 0 }));
        assert_eq!(read("1000:65535"), Ok(User::Ids { uid: 1000, gid: 65_535 }));
        for text in ["", "-1", "65536", "1:65536", "1:", ":1", "1:a", "1:2:3", "+1", "a b", "a:1"] {
            assert!(read::<User>(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn a_network_is_a_word_or_a_list_of_hosts() {
        assert_eq!(read("none"), Ok(Network::None));
        let hosts = vec!["example.org".to_string(), "*.example.com".to_string()];
        assert_eq!(read("allow=Example.org,*.example.com"), Ok(Network::Allow(hosts)));
        for text in ["", "allow", "allow=", "allow=a,,b", "allow=a b", "None"] {
            assert!(read::<Network>(text).is_err(), "{text:?} was taken");
        }
    }
}
