//! What the host's files were when the sandbox began, and what has been carried over since.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::host;
use crate::error::{FilesError, While};
use crate::facts::{Facts, Time};

/// By what a change of the host's that the sandbox didn't see is recognised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// When the sandbox got the files. Whatever has changed later was changed meanwhile.
    pub since: SystemTime,
    pub applied: Applied,
}

impl Baseline {
    /// A baseline for a sandbox that begins now. The time is that of a file which is made in `folder`
    /// and removed again: file systems' clock lags behind the usual one by some milliseconds. From
    /// Linux 6.13 on, on file systems with fine times, it parts what was before from what comes after
    /// exactly; else the same tick, of 10 ms at most, counts as before.
    pub fn now(folder: &Path) -> Result<Self, FilesError> {
        let changed = host::change_time(folder).doing("make a file in", folder)?;
        let seconds = u64::try_from(changed.0).unwrap_or(0);
        let since = SystemTime::UNIX_EPOCH + Duration::new(seconds, changed.1);
        Ok(Baseline { since, applied: Applied::default() })
    }

    /// Whether the host's file at `path` was changed by anybody but us since the sandbox began.
    pub(super) fn is_strange(&self, path: &Path, facts: &Facts) -> bool {
        let since = Time::from(self.since);
        let later = facts.changed > since || facts.modified > since;
        later && self.applied.0.get(path) != Some(&Written::from(facts))
    }
}

/// What `apply` wrote to the host, by the path in the sandbox, so that it isn't taken for somebody
/// else's the next time. To be kept with the sandbox; serialises to a map with strings as keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "BTreeMap<String, Written>", try_from = "BTreeMap<String, Written>")]
pub struct Applied(BTreeMap<PathBuf, Written>);

/// A file as it was left; any change since shows in one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Written {
    dev: u64,
    ino: u64,
    size: u64,
    mtime: Time,
    ctime: Time,
}

impl From<&Facts> for Written {
    fn from(facts: &Facts) -> Self {
        Written {
            dev: facts.dev,
            ino: facts.ino,
            size: facts.size,
            mtime: facts.modified,
            ctime: facts.changed,
        }
    }
}

impl Applied {
    pub(super) fn holds(&self, path: &Path) -> bool {
        self.0.contains_key(path)
    }

    pub(super) fn note(&mut self, path: &Path, facts: &Facts) {
        self.0.insert(path.to_owned(), Written::from(facts));
    }

    /// Forgets `path` and all below.
    pub(super) fn forget(&mut self, path: &Path) {
        let below = self.0.range(path.to_owned()..);
        let gone: Vec<PathBuf> = below
            .map(|(noted, _)| noted)
            .take_while(|noted| noted.starts_with(path))
            .cloned()
            .collect();
        for noted in gone {
            self.0.remove(&noted);
        }
    }
}

impl From<Applied> for BTreeMap<String, Written> {
    fn from(applied: Applied) -> Self {
        applied.0.into_iter().map(|(path, written)| (escape(&path), written)).collect()
    }
}

/// A key that is no path: a backslash in it is followed by neither another nor `x` and two digits.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no escaped path")]
struct NoPath(String);

impl TryFrom<BTreeMap<String, Written>> for Applied {
    type Error = NoPath;

    fn try_from(map: BTreeMap<String, Written>) -> Result<Self, NoPath> {
        map.into_iter()
            .map(|(key, written)| match unescape(&key) {
                Some(path) => Ok((path, written)),
                None => Err(NoPath(key)),
            })
            .collect::<Result<_, _>>()
            .map(Applied)
    }
}

/// A path as text: a backslash is doubled, and bytes that are no UTF-8 become `\xNN`.
fn escape(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        text.push_str(&chunk.valid().replace('\\', "\\\\"));
        for byte in chunk.invalid() {
            // Writing to a string can't fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

fn unescape(text: &str) -> Option<PathBuf> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = match (byte, after) {
            (b'\\', [b'\\', after @ ..]) => {
                bytes.push(b'\\');
                after
            }
            (b'\\', [b'x', high, low, after @ ..]) => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                after
            }
            (b'\\', _) => return None,
            _ => {
                bytes.push(byte);
                after
            }
        };
    }
    Some(PathBuf::from(OsString::from_vec(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_path_survives_as_text() {
        for name in [&b"/plain"[..], b"/a\\x41", b"/\xff\xfe\\", b"/\xc3\xbc\n\"", b"\\\\x"] {
            let path = PathBuf::from(OsString::from_vec(name.to_vec()));
            assert_eq!(unescape(&escape(&path)), Some(path));
        }
        assert_eq!(unescape("/a\\"), None);
        assert_eq!(unescape("/a\\xg0"), None);
    }

    #[test]
    fn times_before_1970_keep_their_order() {
        let half = Duration::from_millis(500);
        assert_eq!(Time::from(SystemTime::UNIX_EPOCH - half), Time(-1, 500_000_000));
        assert!(Time(-1, 0) < Time(-1, 500_000_000));
    }
}
