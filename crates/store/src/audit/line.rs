//! Lines: how they are made, and how they are told from others.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::time::SystemTime;

use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::entry::hexadecimal;
use super::{Entry, Kind, Subject, Who, digest};
use crate::time;

/// The longest line, in bytes, with its end.
pub(super) const LONGEST: usize = 64 * 1024;

/// The `prev` of the first line.
pub(super) const NO_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A line but for its hash.
#[derive(Serialize)]
struct Body<'a> {
    seq: u64,
    time: String,
    kind: Kind,
    who: &'a Who,
    #[serde(skip_serializing_if = "Option::is_none")]
    sandbox: Option<&'a Subject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backend: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spec: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<&'a Value>,
    #[serde(skip_serializing_if = "Value::is_null")]
    detail: &'a Value,
    prev: &'a str,
}

/// The end of the chain, which the next line is joined to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub seq: u64,
    pub hash: String,
}

impl Link {
    /// Where there is no line yet.
    pub fn first() -> Self {
        Self { seq: 0, hash: NO_HASH.into() }
    }

    /// Appends the next line to `out`, which becomes the end of the chain. `None`, with nothing
    /// done, if it is too long whatever is left out.
    pub fn add(&mut self, entry: &Entry<'_>, out: &mut Vec<u8>) -> Option<()> {
        let mut body = self.body(entry, &entry.detail)?;
        if body.len() + HASH_FIELD + 1 > LONGEST {
            let detail = entry.detail.to_string();
            let stand_in =
                json!({ "left_out": { "bytes": detail.len(), "sha256": digest(detail) } });
            body = self.body(entry, &stand_in)?;
        }
        if body.len() + HASH_FIELD + 1 > LONGEST {
            return None;
        }
        self.seq += 1;
        self.hash = digest(&body);
        out.extend_from_slice(&body[..body.len() - 1]);
        out.extend_from_slice(format!(",\"hash\":\"{}\"}}\n", self.hash).as_bytes());
        Some(())
    }

    fn body(&self, entry: &Entry<'_>, detail: &Value) -> Option<Vec<u8>> {
        let body = Body {
            seq: self.seq.checked_add(1)?,
            time: time::to_text(SystemTime::now()),
            kind: entry.kind,
            who: entry.who,
            sandbox: entry.sandbox,
            backend: entry.backend,
            spec: entry.spec,
            ended: entry.ended.as_ref(),
            detail,
            prev: &self.hash,
        };
        serde_json::to_vec(&body).ok()
    }
}

/// `,"hash":"`, 64 digits, `"}`.
const HASH_FIELD: usize = 9 + 64 + 2;
/// `,"prev":"`, 64 digits, `"`.
const PREV_FIELD: usize = 9 + 64 + 1;

/// What joins a line to others. A line that was written only in part has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Joints<'a> {
    pub seq: u64,
    pub prev: &'a str,
    pub hash: &'a str,
}

impl<'a> Joints<'a> {
    /// Looks at a line without its end. It may have been changed; only its form is looked at.
    pub fn of(line: &'a [u8]) -> Option<Self> {
        let (rest, hash) = line.split_at_checked(line.len().checked_sub(HASH_FIELD)?)?;
        let hash = hash.strip_prefix(b",\"hash\":\"")?.strip_suffix(b"\"}")?;
        let (rest, prev) = rest.split_at_checked(rest.len().checked_sub(PREV_FIELD)?)?;
        let prev = prev.strip_prefix(b",\"prev\":\"")?.strip_suffix(b"\"")?;
        let seq = rest.strip_prefix(b"{\"seq\":")?.split(|&byte| byte == b',').next()?;
        Some(Self {
            seq: std::str::from_utf8(seq).ok()?.parse().ok()?,
            prev: digits(prev)?,
            hash: digits(hash)?,
        })
    }

    /// Whether the hash is the one of the line that these are of.
    pub fn fit(&self, line: &[u8]) -> bool {
        let body = Sha256::new().chain_update(&line[..line.len() - HASH_FIELD]);
        hexadecimal(body.chain_update(b"}").finalize()) == self.hash
    }

    pub fn link(&self) -> Link {
        Link { seq: self.seq, hash: self.hash.into() }
    }
}

fn digits(text: &[u8]) -> Option<&str> {
    let hexadecimal = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.iter().all(hexadecimal).then(|| std::str::from_utf8(text).ok())?
}

/// Reads a log line by line, in bounded memory.
#[derive(Debug)]
pub(super) struct Lines {
    file: BufReader<File>,
    /// The line that is being read; of one that is too long, no more than shows that.
    line: Vec<u8>,
    /// Bytes of it that were read, whether kept or not.
    length: u64,
    /// Whether what `line` holds has been handed out.
    taken: bool,
    place: Place,
}

/// Where a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Place {
    /// Its number, from 1.
    pub line: u64,
    /// Its first byte's, from 0.
    pub start: u64,
}

impl Lines {
    pub fn new(file: File) -> Self {
        Self {
            file: BufReader::new(file),
            line: Vec::new(),
            length: 0,
            taken: false,
            place: Place { line: 1, start: 0 },
        }
    }

    pub fn file(&self) -> &File {
        self.file.get_ref()
    }

    /// The next line without its end, and where it is. `None` where the file ends, even if it does
    /// so in a line; if it has grown by the next call, that goes on from there.
    pub fn next(&mut self) -> io::Result<Option<(Place, &[u8])>> {
        if self.taken {
            self.place = Place { line: self.place.line + 1, start: self.place.start + self.length };
            self.line.clear();
            (self.length, self.taken) = (0, false);
        }
        while !self.taken {
            let available = self.file.fill_buf()?;
            if available.is_empty() {
                return Ok(None);
            }
            let end = available.iter().position(|&byte| byte == b'\n');
            let used = end.map_or(available.len(), |end| end + 1);
            let room = (LONGEST + 1).saturating_sub(self.line.len());
            self.line.extend_from_slice(&available[..end.unwrap_or(used).min(room)]);
            self.length += used as u64;
            self.taken = end.is_some();
            self.file.consume(used);
        }
        Ok(Some((self.place, &self.line)))
    }

    /// What there is of a line that the file ends in, and where it is.
    pub fn unfinished(&self) -> Option<(Place, &[u8])> {
        (!self.taken && self.length > 0).then_some((self.place, &self.line))
    }
}

/// The [`digest`] of `length` bytes of a file.
pub(super) fn digest_of_part(file: &File, start: u64, length: u64) -> io::Result<String> {
    use std::os::unix::fs::FileExt;

    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    let (mut at, end) = (start, start.saturating_add(length));
    while at < end {
        let most = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        match file.read_at(&mut buffer[..most], at)? {
            0 => break,
            read => {
                hash.update(&buffer[..read]);
                at += read as u64;
            }
        }
    }
    Ok(hexadecimal(hash.finalize()))
}
