//! A tar archive unpacked in a sandbox.

mod meter;

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
use tar::{Entry, EntryType};

use super::error::{Refusal, TransferError, Transferred};
use super::write::{At, Settled, Writer};
use crate::descent::{Mounts, c_name, open_in};
use meter::{Meter, Metered};

/// How long a file with holes may be, in bytes: it costs nobody anything to write a longer one into an archive.
const LONGEST_SPARSE: u64 = 1 << 40;
/// What is read at a time, in bytes.
const BUFFER: usize = 128 << 10;
/// How many zeros together are a hole, in bytes.
const BLOCK: usize = 4096;

/// Unpacks `input` in `top`, of which `target` tells.
pub(super) fn unpack(
    top: OwnedFd,
    target: &Path,
    writer: Writer,
    input: impl Read,
) -> Result<Transferred, TransferError> {
    let meter = Meter::default();
    let mut archive = tar::Archive::new(Metered::new(input, meter.clone()));
    let mut unpacking =
        Unpacking { target, parents: Parents::new(top), writer, directories: Vec::new() };
    let unpacked = unpacking.members(&mut archive, &meter);
    // What is there already is to be usable, whatever came after it.
    let settled = unpacking.settle();
    unpacked.and(settled)?;
    Ok(unpacking.writer.done)
}

struct Unpacking<'a> {
    target: &'a Path,
    parents: Parents,
    writer: Writer,
    /// The directories that were made, and what they are to have in the end: what is put into one changes its time,
    /// and it may become read-only.
    directories: Vec<(Vec<CString>, Settled)>,
}

impl Unpacking<'_> {
    fn members<R: Read>(
        &mut self,
        archive: &mut tar::Archive<Metered<R>>,
        meter: &Meter,
    ) -> Result<(), TransferError> {
        let failed = |source| TransferError::Archive { source };
        let mut entries = archive.entries().map_err(failed)?;
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
        if let Some(refusal) = refusal(kind) {
            self.writer.done.refuse(|| path, refusal);
            return Ok(());
        }
        match self.make(entry, kind, &raw) {
            Ok(()) => Ok(()),
            Err(Failure::Member(why)) => Err(TransferError::Member { member: path, why }),
            Err(Failure::Archive(source)) => Err(TransferError::Archive { source }),
            Err(Failure::Write(error)) => Err(self.writer.failed(self.target.join(path), error)),
        }
    }

    fn make(
        &mut self,
        entry: &mut Entry<'_, impl Read>,
        kind: EntryType,
        path: &[u8],
    ) -> Result<(), Failure> {
        let mut parents = parts(path)?;
        let Some(name) = parents.pop() else {
            // The target itself, which is there.
            return if kind == EntryType::Directory {
                Ok(())
            } else {
                Err(Failure::Member("has no name"))
            };
        };
        let settled = settled(entry)?;
        let parent = self.parents.open(&parents, &mut self.writer)?;
        let to = (parent.as_fd(), name.as_c_str());
        match kind {
            EntryType::Directory => {
                let (_, new) = self.writer.directory(to)?;
                if new {
                    parents.push(name);
                    self.directories.push((parents, settled));
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
            _ => self.file(entry, to, &settled)?,
        }
        Ok(())
    }

    fn file(
        &mut self,
        entry: &mut Entry<'_, impl Read>,
        to: At<'_>,
        settled: &Settled,
    ) -> Result<(), Failure> {
        let length = entry.size();
        if entry.header().entry_type() == EntryType::GNUSparse && length > LONGEST_SPARSE {
            return Err(Failure::Member("has holes of more than a tebibyte"));
        }
        self.writer.file(to, settled, |_, file| fill(entry, file, length))?;
        self.writer.done.bytes += length;
        Ok(())
    }

    fn settle(&mut self) -> Result<(), TransferError> {
        for (path, settled) in std::mem::take(&mut self.directories).into_iter().rev() {
            let done = match self.parents.find(&path) {
                Ok(directory) => self.writer.settle(directory.as_fd(), &settled),
                // The sandbox has moved or removed it.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
                Err(errno) => Err(errno.into()),
            };
            done.map_err(|error| {
                let parts = path.iter().map(|part| OsStr::from_bytes(part.to_bytes()));
                self.writer.failed(self.target.join(parts.collect::<PathBuf>()), error)
            })?;
        }
        Ok(())
    }
}

/// Why a member wasn't unpacked.
enum Failure {
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
fn parts(path: &[u8]) -> Result<Vec<CString>, Failure> {
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

fn settled(entry: &Entry<'_, impl Read>) -> Result<Settled, Failure> {
    let mode = entry.header().mode().map_err(Failure::Archive)?;
    let seconds = entry.header().mtime().map_err(Failure::Archive)?;
    let changed = Timespec { tv_sec: i64::try_from(seconds).unwrap_or(i64::MAX), tv_nsec: 0 };
    Ok(Settled { mode, times: Timestamps { last_access: NOW, last_modification: changed } })
}

const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };

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
            if block.iter().any(|byte| *byte != 0) {
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
