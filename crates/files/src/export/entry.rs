//! Entries of a tar file, in the POSIX (pax) format, in which every name is possible.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Cursor, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;

use tar::{Builder, EntryType, Header};

use crate::contents::for_each_extent;
use crate::facts::{Facts, Time};

/// Longest name that a header holds by itself.
const NAME_MAX: usize = 100;
/// Where the name is in a header, and where the link's.
const NAME_AT: usize = 0;
const LINK_AT: usize = 157;
const BLOCK: usize = 512;
/// A file in more pieces than this is written with its holes as zeros.
const EXTENTS_MAX: usize = 1 << 20;

/// Keys and values that say more of an entry than its header can.
pub(super) type Records = Vec<(String, Vec<u8>)>;

/// What all kinds of entries have.
pub(super) struct Head {
    /// Relative to the root.
    pub(super) path: OsString,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) modified: Time,
    pub(super) records: Records,
}

pub(super) struct Archive<W: Write>(Builder<W>);

impl<W: Write> Archive<W> {
    pub(super) fn new(out: W) -> Self {
        Archive(Builder::new(out))
    }

    pub(super) fn finish(self) -> io::Result<()> {
        self.0.into_inner()?.flush()
    }

    pub(super) fn directory(&mut self, mut head: Head) -> io::Result<()> {
        head.path.push("/");
        self.empty(EntryType::Directory, head)
    }

    pub(super) fn link(&mut self, head: Head, to: &OsStr) -> io::Result<()> {
        self.entry(EntryType::Symlink, head, to, 0, io::empty())
    }

    pub(super) fn hard_link(&mut self, head: Head, first: &OsStr) -> io::Result<()> {
        self.entry(EntryType::Link, head, first, 0, io::empty())
    }

    pub(super) fn fifo(&mut self, head: Head) -> io::Result<()> {
        self.empty(EntryType::Fifo, head)
    }

    /// An empty file of root's.
    pub(super) fn mark(&mut self, path: OsString) -> io::Result<()> {
        let (uid, gid, modified) = (0, 0, Time(0, 0));
        let head = Head { path, mode: 0o600, uid, gid, modified, records: Vec::new() };
        self.empty(EntryType::Regular, head)
    }

    /// Writes as many bytes as `facts` says, whatever happens to the file meanwhile.
    pub(super) fn file(&mut self, head: Head, file: &File, facts: &Facts) -> io::Result<()> {
        let has_holes = facts.kept < facts.size;
        match if has_holes { extents(file, facts.size)? } else { None } {
            Some(extents) => self.sparse(head, file, facts.size, extents),
            None => {
                let data = Pieces::new(file, vec![(0, facts.size)]);
                self.entry(EntryType::Regular, head, OsStr::new(""), facts.size, data)
            }
        }
    }

    /// A file with holes, as GNU tar's format 1.0: the list of pieces comes before them.
    fn sparse(
        &mut self,
        mut head: Head,
        file: &File,
        real_size: u64,
        extents: Vec<(u64, u64)>,
    ) -> io::Result<()> {
        // The hole at the end is told by an empty piece.
        let pieces = extents.iter().copied().chain([(real_size, real_size)]);
        let mut map = format!("{}\n", extents.len() + 1);
        for (start, end) in pieces {
            map.push_str(&format!("{start}\n{}\n", end - start));
        }
        let mut map = map.into_bytes();
        map.resize(map.len().next_multiple_of(BLOCK), 0);
        let kept: u64 = extents.iter().map(|(start, end)| end - start).sum();
        let size = map.len() as u64 + kept;
        let name = std::mem::replace(&mut head.path, "GNUSparseFile.0/file".into());
        for (key, value) in [
            ("major", b"1".to_vec()),
            ("minor", b"0".to_vec()),
            ("name", name.into_vec()),
            ("realsize", real_size.to_string().into_bytes()),
        ] {
            head.records.push((format!("GNU.sparse.{key}"), value));
        }
        let data = Cursor::new(map).chain(Pieces::new(file, extents));
        self.entry(EntryType::Regular, head, OsStr::new(""), size, data)
    }

    fn empty(&mut self, kind: EntryType, head: Head) -> io::Result<()> {
        self.entry(kind, head, OsStr::new(""), 0, io::empty())
    }

    fn entry(
        &mut self,
        kind: EntryType,
        head: Head,
        link: &OsStr,
        size: u64,
        data: impl Read,
    ) -> io::Result<()> {
        let Head { path, mode, uid, gid, modified, mut records } = head;
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(uid.into());
        header.set_gid(gid.into());
        header.set_size(size);
        header.set_mtime(u64::try_from(modified.0).unwrap_or(0));
        if modified < Time(0, 0) || modified.1 > 0 {
            records.push(("mtime".into(), decimal(modified).into_bytes()));
        }
        for (at, key, name) in [(NAME_AT, "path", path.as_os_str()), (LINK_AT, "linkpath", link)] {
            let name = name.as_bytes();
            let short = &name[..name.len().min(NAME_MAX)];
            header.as_mut_bytes()[at..at + short.len()].copy_from_slice(short);
            if name.len() > NAME_MAX {
                records.push((key.into(), name.to_vec()));
            }
        }
        header.set_cksum();
        let records = records.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
        self.0.append_pax_extensions(records)?;
        self.0.append(&header, data)
    }
}

/// Seconds since 1970 with their fraction.
fn decimal(Time(seconds, nanos): Time) -> String {
    if seconds < 0 && nanos > 0 {
        return format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanos);
    }
    format!("{seconds}.{nanos:09}")
}

/// The pieces of a file that are no holes, or nothing if there are too many.
fn extents(file: &File, size: u64) -> io::Result<Option<Vec<(u64, u64)>>> {
    let mut extents = Vec::new();
    for_each_extent(file, size, |start, end| {
        extents.push((start, end));
        Ok(extents.len() <= EXTENTS_MAX)
    })?;
    Ok((extents.len() <= EXTENTS_MAX).then_some(extents))
}

/// Pieces of a file one after the other. What is missing at its end reads as zeros, so that there
/// are always as many bytes as was promised.
struct Pieces<'a> {
    file: &'a File,
    /// Start and end of each, the next one last.
    left: Vec<(u64, u64)>,
}

impl<'a> Pieces<'a> {
    fn new(file: &'a File, mut extents: Vec<(u64, u64)>) -> Self {
        extents.reverse();
        Pieces { file, left: extents }
    }
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.left.last().is_some_and(|(start, end)| start >= end) {
            self.left.pop();
        }
        let Some((start, end)) = self.left.last_mut() else { return Ok(0) };
        let part = usize::try_from(*end - *start).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = &mut buffer[..part];
        let got = match self.file.read_at(buffer, *start)? {
            0 => {
                buffer.fill(0);
                part
            }
            got => got,
        };
        *start += got as u64;
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_decimal() {
        assert_eq!(decimal(Time(1, 5)), "1.000000005");
        assert_eq!(decimal(Time(-1, 500_000_000)), "-0.500000000");
        assert_eq!(decimal(Time(-2, 0)), "-2.000000000");
    }
}
