//! What stands before a member in records of `LENGTH NAME=VALUE`, as POSIX has it (pax).

use std::io;
use std::str::{self, FromStr};

use super::damaged;

/// The records before one member, in order.
#[derive(Debug, Default)]
pub(crate) struct Pax(Vec<(Vec<u8>, Vec<u8>)>);

/// What the names of extended attributes follow.
const ATTRIBUTE: &[u8] = b"SCHILY.xattr.";

impl Pax {
    pub fn parse(mut bytes: &[u8]) -> io::Result<Self> {
        let mut records = Vec::new();
        while !bytes.is_empty() {
            let (record, rest) =
                record(bytes).ok_or_else(|| damaged("an extended header is malformed"))?;
            records.push(record);
            bytes = rest;
        }
        Ok(Self(records))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn records(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_slice(), value.as_slice()))
    }

    /// What a name stands for; none if the member's own header has it.
    pub fn text(&self, name: &str) -> Option<Vec<u8>> {
        let mut records = self.records();
        // The last one counts, and an empty one takes away those before it.
        let mut found = None;
        while let Some((_, value)) = records.find(|(one, _)| *one == name.as_bytes()) {
            found = (!value.is_empty()).then(|| value.to_vec());
        }
        found
    }

    pub fn number<T: FromStr>(&self, name: &str) -> io::Result<Option<T>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let wrong = || damaged(&format!("the extended header {name} is no number"));
        let text = str::from_utf8(&text).map_err(|_| wrong())?;
        text.parse().map(Some).map_err(|_| wrong())
    }

    /// The extended attributes.
    pub fn attributes(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.records().filter_map(|(name, value)| Some((name.strip_prefix(ATTRIBUTE)?, value)))
    }
}

type Record = (Vec<u8>, Vec<u8>);

/// The first record, and what follows it.
fn record(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let blank = bytes.iter().position(|byte| *byte == b' ')?;
    let length: usize = str::from_utf8(&bytes[..blank]).ok()?.parse().ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    // A value may hold anything, line breaks too: only its length says where it ends.
    let record = record.get(blank + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    let (name, value) = (&record[..equals], &record[equals + 1..]);
    Some(((name.to_vec(), value.to_vec()), rest))
}
