//! What an entry says.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{Id, Name};

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Create,
    Start,
    /// A command was started.
    Command,
    /// A file was carried in or out.
    File,
    /// A signal was sent to a command or to all of them.
    Signal,
    /// Changes were carried to the host.
    Apply,
    /// Something was asked for and refused.
    Refusal,
    /// A command or a run ended.
    Ended,
    Stop,
    Remove,
    Pause,
    Unpause,
    Rename,
    Snapshot,
    Fork,
    Pool,
    Lease,
    Daemon,
    /// A sandbox was at the end of its time.
    Expired,
    /// The log itself: a line before this one was only half written, as by a crash.
    Torn,
}

impl Kind {
    pub const ALL: [Self; 20] = [
        Self::Create,
        Self::Start,
        Self::Command,
        Self::File,
        Self::Signal,
        Self::Apply,
        Self::Refusal,
        Self::Ended,
        Self::Stop,
        Self::Remove,
        Self::Pause,
        Self::Unpause,
        Self::Rename,
        Self::Snapshot,
        Self::Fork,
        Self::Pool,
        Self::Lease,
        Self::Daemon,
        Self::Expired,
        Self::Torn,
    ];

    /// The word in the log, which is the one for people, too.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Start => "start",
            Self::Command => "command",
            Self::File => "file",
            Self::Signal => "signal",
            Self::Apply => "apply",
            Self::Refusal => "refusal",
            Self::Ended => "ended",
            Self::Stop => "stop",
            Self::Remove => "remove",
            Self::Pause => "pause",
            Self::Unpause => "unpause",
            Self::Rename => "rename",
            Self::Snapshot => "snapshot",
            Self::Fork => "fork",
            Self::Pool => "pool",
            Self::Lease => "lease",
            Self::Daemon => "daemon",
            Self::Expired => "expired",
            Self::Torn => "torn",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.name())
    }
}

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    pub uid: u32,
    pub pid: i32,
    /// The program that it was done with.
    pub client: String,
}

impl Who {
    /// The calling process.
    pub fn this_process(client: &str) -> Self {
        Self {
            uid: rustix::process::getuid().as_raw(),
            pid: rustix::process::getpid().as_raw_pid(),
            client: client.into(),
        }
    }
}

/// The sandbox that it was done to, as it was named then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    pub id: Id,
    pub name: Name,
}

/// Something that was done. Nothing secret may be in it: no values of variables, no content.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry<'a> {
    pub kind: Kind,
    pub who: &'a Who,
    pub sandbox: Option<&'a Subject>,
    pub backend: Option<&'a str>,
    /// The [`digest`] of the spec.
    pub spec: Option<&'a str>,
    /// How it ended.
    pub ended: Option<Value>,
    /// What else there is to know, or `Null`. Too much of it is left out of the log, and its size
    /// and digest stand there instead.
    pub detail: Value,
}

impl<'a> Entry<'a> {
    /// An entry that says no more than these two.
    pub fn new(kind: Kind, who: &'a Who) -> Self {
        Self {
            kind,
            who,
            sandbox: None,
            backend: None,
            spec: None,
            ended: None,
            detail: Value::Null,
        }
    }
}

/// An entry as it stands in the log.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Logged {
    pub seq: u64,
    /// In UTC, such as `2026-11-25T03:11:12.345Z`.
    pub time: String,
    pub kind: Kind,
    pub who: Who,
    pub sandbox: Option<Subject>,
    pub backend: Option<String>,
    pub spec: Option<String>,
    pub ended: Option<Value>,
    #[serde(default)]
    pub detail: Value,
    pub prev: String,
    pub hash: String,
    /// The whole line, one JSON object.
    #[serde(skip)]
    pub line: String,
}

/// The SHA-256 of a text or of bytes, in hexadecimal.
pub fn digest(of: impl AsRef<[u8]>) -> String {
    hexadecimal(Sha256::digest(of.as_ref()))
}

pub(super) fn hexadecimal(bytes: impl AsRef<[u8]>) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value & 15)]);
    bytes.as_ref().iter().flat_map(|&byte| [digit(byte >> 4), digit(byte)]).collect()
}

/// A command's words, or paths, for an entry's detail. What is not UTF-8 is replaced by U+FFFD.
pub fn words(words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Value {
    words.into_iter().map(|word| Cow::into_owned(word.as_ref().to_string_lossy())).collect()
}
