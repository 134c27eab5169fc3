//! A tar archive unpacked in a sandbox.

mod copied;
mod meter;
mod unsettled;

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{OFlags, Timespec, Timestamps, UTIME_NOW};
use rustix::io::Errno;
use tar::{Entries, Entry, EntryType};

use super::error::{Refusal, TransferError, Transferred};
use super::marks;
use super::write::{At, Settled, Writer};
use crate::descent::{Mounts, c_name, open_in};
pub(super) use meter::{Meter, Metered};
use unsettled::Unsettled;

/// How long a file with holes may be, in bytes: it costs nobody anything to write a longer one into an archive.
const LONGEST_SPARSE: u64 = 1 << 40;
/// What is read at a time, in bytes.
const BUFFER: usize = 128 << 10;
/// How many zeros together are a hole, in bytes.
const BLOCK: usize = 4096;
static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// Unpacks `input` in `top`, of which `target` tells.
pub(super) fn unpack(
    top: OwnedFd,
    target: &Path,
    writer: Writer,
    input: impl Read,
) -> Result<Transferred, TransferError> {
    let meter = Meter::default();
    let mut archive = tar::Archive::new(Metered::new(input, meter.clone()));
    let mut unpacking = Unpacking::new(target, top, writer, None);
    let entries = archive.entries().map_err(|source| TransferError::Archive { source });
    let unpacked = entries.and_then(|mut entries| unpacking.members(&mut entries, &meter));
    // What is there already is to be usable, whatever came after it.
    let settled = unpacking.settle();
    unpacked.and(settled)?;
    Ok(unpacking.writer.done)
}

struct Unpacking<'a> {
    target: &'a Path,
    /// Of a copy, what the members' paths begin with, each of which comes after all of the one before that it is
    /// not in.
    copied: Option<Vec<CString>>,
    /// Whether it is an overlay's layer.
    layer: bool,
    parents: Parents,
    writer: Writer,
    directories: Unsettled,
}

impl<'a> Unpacking<'a> {
    fn new(target: &'a Path, top: OwnedFd, writer: Writer, copied: Option<Vec<CString>>) -> Self {
        let directories = match copied {
            Some(_) => Unsettled::nested(),
            None => Unsettled::Any(Vec::new()),
        };
        Self { target, copied, layer: false, parents: Parents::new(top), writer, directories }
    }

    fn members<R: Read>(
        &mut self,
        entries: &mut Entries<'_, Metered<R>>,
        meter: &Meter,
    ) -> Result<(), TransferError> {
        let failed = |source| TransferError::Archive { source };
        loop {
            meter.limit();
            let Some(entry) = entries.next() else { return Ok(()) };
            let mut entry = entry.map_err(failed)?;
            meter.unlimit();
            self.member(&mut entry)?;
            // What is left of it must not count as a header. A file was read to its end.
            if refusal(entry.header().entry_type()).is_some() {
                io::copy(&mut entry, &mut io::sink()).map_err(failed)?;
            }
        }
    }

    fn member(&mut self, entry: &mut Entry<'_, impl Read>) -> Result<(), TransferError> {
        let raw = entry.path_bytes().into_owned();
        let path = PathBuf::from(OsStr::from_bytes(&raw));
        let kind = match entry.header().entry_type() {
            EntryType::XGlobalHeader => return Ok(()),
            // Archives from before there was a kind for it did so.
            EntryType::Regular if raw.ends_with(b"/") => EntryType::Directory,
            kind => kind,
        };
        if let Some(refusal) = refusal(kind).filter(|_| !(self.layer && kind == EntryType::Char)) {
            self.writer.done.refuse(|| path, refusal);
            return Ok(());
        }
        self.make(entry, kind, &raw).map_err(|failure| self.failed(path, failure))
    }

    fn failed(&self, path: PathBuf, failure: Failure) -> TransferError {
        match failure {
            Failure::Member(why) => TransferError::Member { member: path, why: why.into() },
            Failure::Archive(source) => TransferError::Archive { source },
            Failure::Write(error) => {
                let above = self.copied.as_ref().map_or(0, Vec::len);
                let below: PathBuf = path.components().skip(above).collect();
                self.writer.failed(self.target.join(below), error)
            }
        }
    }

    fn make(
        &mut self,
        entry: &mut Entry<'_, impl Read>,
        kind: EntryType,
        path: &[u8],
    ) -> Result<(), Failure> {
        let mut parents = parts(path)?;
        if let Some(top) = &self.copied {
            parents = copied::below(top, parents)?;
            if kind == EntryType::Link {
                return Err(Failure::Member("is a hard link, of which a copy has none"));
            }
            self.settle_but(&parents)?;
        }
        let Some(name) = parents.pop() else {
            // The target itself, which is there.
            return if kind == EntryType::Directory {
                Ok(())
            } else {
                Err(Failure::Member("has no name"))
            };
        };
        let settled = settled(entry)?;
        let marks = if self.layer { told(entry, marks::KEY)? } else { None };
        let parent = self.parents.open(&parents, &mut self.writer)?;
        let to = (parent.as_fd(), name.as_c_str());
        match kind {
            EntryType::Directory => {
                let (made, new) = self.writer.directory(to)?;
                if new {
                    marks.map_or(Ok(()), |marks| marks::write(&made, &marks))?;
                    parents.push(name);
                    self.directories.push(parents, settled);
                }
            }
            EntryType::Char => {
                let device = (entry.header().device_major(), entry.header().device_minor());
                match device {
                    (Ok(Some(0)), Ok(Some(0))) => self.writer.whiteout(to)?,
                    _ => return Err(Failure::Member("is a device")),
                }
            }
            EntryType::Symlink => {
                self.writer.link(to, &c_name(&link_name(entry))?, &settled.times)?
            }
            EntryType::Link => {
                const ELSEWHERE: Failure =
                    Failure::Member("is a hard link to what isn't in the archive");
                let mut from = parts(&link_name(entry))?;
                let name = from.pop().ok_or(ELSEWHERE)?;
                let parent = self.parents.find(&from).map_err(|_| ELSEWHERE)?;
                match self.writer.hard_link((parent.as_fd(), &name), to) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ELSEWHERE),
                    linked => linked?,
                }
            }
            _ => self.file(entry, to, &settled, marks.as_deref())?,
        }
        Ok(())
    }

    fn file(
        &mut self,
        entry: &mut Entry<'_, impl Read>,
        to: At<'_>,
        settled: &Settled,
        marks: Option<&str>,
    ) -> Result<(), Failure> {
        let length = entry.size();
        if entry.header().entry_type() == EntryType::GNUSparse && length > LONGEST_SPARSE {
            return Err(Failure::Member("has holes of more than a tebibyte"));
        }
        self.writer.file(to, settled, |_, file| {
            fill(entry, file, length)?;
            Ok::<_, Failure>(marks.map_or(Ok(()), |marks| marks::write(file, marks))?)
        })?;
        self.writer.done.bytes += length;
        Ok(())
    }

    fn settle(&mut self) -> Result<(), TransferError> {
        while let Some((path, settled)) = self.directories.pop() {
            self.settle_one(&path, &settled).map_err(|error| {
                let parts = path.iter().map(|part| OsStr::from_bytes(part.to_bytes()));
                self.writer.failed(self.target.join(parts.collect::<PathBuf>()), error)
            })?;
        }
        Ok(())
    }

    /// Settles those in which `path` is not, so that no more have to be remembered than lie in each other.
    fn settle_but(&mut self, path: &[CString]) -> io::Result<()> {
        while let Some((left, settled)) = self.directories.pop_unless(path) {
            self.settle_one(&left, &settled)?;
        }
        Ok(())
    }

    fn settle_one(&self, path: &[CString], settled: &Settled) -> io::Result<()> {
        match self.parents.find(path) {
            Ok(directory) => self.writer.settle(directory.as_fd(), settled),
            // The sandbox has moved or removed it.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

pub(super) use copied::{Top, unpack as unpack_copy};

/// Why a member wasn't unpacked.
pub(super) enum Failure {
    Member(&'static str),
    Archive(io::Error),
    Write(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Write(error)
    }
}

fn refusal(kind: EntryType) -> Option<Refusal> {
    match kind {
        EntryType::Block | EntryType::Char => Some(Refusal::Device),
        EntryType::Fifo => Some(Refusal::Fifo),
        EntryType::Regular
        | EntryType::Continuous
        | EntryType::GNUSparse
        | EntryType::Directory
        | EntryType::Symlink
        | EntryType::Link => None,
        _ => Some(Refusal::Unknown),
    }
}

/// The names in a member's path, which is relative whatever it says.
pub(super) fn parts(path: &[u8]) -> Result<Vec<CString>, Failure> {
    let parts = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    parts
        .map(|part| match part {
            b".." => Err(Failure::Member("has `..` in its path")),
            part => c_name(part).map_err(|_| Failure::Member("has a NUL byte in its path")),
        })
        .collect()
}

fn link_name(entry: &Entry<'_, impl Read>) -> Vec<u8> {
    entry.link_name_bytes().unwrap_or_default().into_owned()
}

fn settled(entry: &mut Entry<'_, impl Read>) -> Result<Settled, Failure> {
    let mode = entry.header().mode().map_err(Failure::Archive)?;
    let seconds = entry.header().mtime().map_err(Failure::Archive)?;
    let changed = Timespec { tv_sec: i64::try_from(seconds).unwrap_or(i64::MAX), tv_nsec: 0 };
    let exact = told(entry, "mtime")?.as_deref().and_then(exact_time);
    let changed = exact.unwrap_or(changed);
    Ok(Settled { mode, times: Timestamps { last_access: NOW, last_modification: changed } })
}

/// What is told of a member besides its header.
fn told(entry: &mut Entry<'_, impl Read>, key: &str) -> Result<Option<String>, Failure> {
    let all = entry.pax_extensions().map_err(Failure::Archive)?.into_iter().flatten().flatten();
    let last = all.filter(|one| one.key() == Ok(key)).last();
    Ok(last.and_then(|one| Some(one.value().ok()?.to_owned())))
}

const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };

/// A time such as `-12.5`: seconds since 1970 with a fraction, which counts away from zero.
fn exact_time(text: &str) -> Option<Timespec> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part: i64 = format!("{fraction:0<9}")[..9].parse().ok()?;
    Some(match whole.starts_with('-') && part > 0 {
        true => Timespec { tv_sec: seconds.checked_sub(1)?, tv_nsec: 1_000_000_000 - part },
        false => Timespec { tv_sec: seconds, tv_nsec: part },
    })
}

/// Finds directories below the top, through no links.
struct Parents {
    top: Rc<OwnedFd>,
    /// What was found last, since members that lie together come together.
    last: (Vec<CString>, Rc<OwnedFd>),
}

impl Parents {
    fn new(top: OwnedFd) -> Self {
        let top = Rc::new(top);
        Self { last: (Vec::new(), top.clone()), top }
    }

    /// Opens a directory, and makes those that aren't there.
    fn open(&mut self, path: &[CString], writer: &mut Writer) -> Result<Rc<OwnedFd>, Failure> {
        if self.last.0 == path {
            return Ok(self.last.1.clone());
        }
        // Members that lie below each other come together too.
        let (mut here, rest) = match path.strip_prefix(self.last.0.as_slice()) {
            Some(rest) => (self.last.1.clone(), rest),
            None => (self.top.clone(), path),
        };
        for name in rest {
            here = Rc::new(match open_below(&here, name) {
                Err(Errno::NOENT) => make_parent((here.as_fd(), name), writer)?,
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    return Err(Failure::Member("lies below what is no directory"));
                }
                opened => opened.map_err(io::Error::from)?,
            });
        }
        self.last = (path.to_vec(), here.clone());
        Ok(here)
    }

    fn find(&self, path: &[CString]) -> Result<Rc<OwnedFd>, Errno> {
        path.iter().try_fold(self.top.clone(), |here, name| open_below(&here, name).map(Rc::new))
    }
}

fn open_below(directory: &OwnedFd, name: &CStr) -> Result<OwnedFd, Errno> {
    open_in(directory.as_fd(), name, OFlags::RDONLY | OFlags::DIRECTORY, Mounts::Cross)
}

/// Makes a directory that the archive has only things in.
fn make_parent(to: At<'_>, writer: &mut Writer) -> io::Result<OwnedFd> {
    let (made, new) = writer.directory(to)?;
    if new {
        let times = Timestamps { last_access: NOW, last_modification: NOW };
        writer.settle(made.as_fd(), &Settled { mode: 0o755, times })?;
    }
    Ok(made)
}

/// Reads the second of the two blocks of zeros that end an archive, of which the first was taken for its end. One
/// that broke off has none.
pub(super) fn read_end(input: &mut impl Read) -> io::Result<()> {
    read_full(input, &mut [0; 512]).map(drop)
}

/// Makes the empty `file` what is in a member of `length` bytes. Zeros become holes.
fn fill(member: &mut impl Read, file: &File, length: u64) -> Result<(), Failure> {
    let mut buffer = vec![0; BUFFER];
    let mut position = 0;
    loop {
        let count = read_full(member, &mut buffer).map_err(Failure::Archive)?;
        if count == 0 {
            break;
        }
        for (i, block) in buffer[..count].chunks(BLOCK).enumerate() {
            if *block != ZEROS[..block.len()] {
                file.write_all_at(block, position + (i * BLOCK) as u64)?;
            }
        }
        position += count as u64;
    }
    if position != length {
        return Err(Failure::Archive(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(file.set_len(length)?)
}

fn read_full(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match input.read(&mut buffer[count..]) {
            Ok(0) => break,
            Ok(read) => count += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}
