//! A tar archive of what is in a sandbox.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Stat, fstat};
use tar::{Builder, EntryType, GnuExtSparseHeader, Header};

use super::error::{Located, Refusal, TransferError, Transferred, Where};
use super::item::{Item, read_named};
use super::marks;
use super::place::Source;
use super::walk::{Below, Visit, walk};
use crate::contents::for_each_extent;
use crate::descent::length;

/// What is read and written at a time, in bytes.
const BUFFER: usize = 128 << 10;
/// How long a member's name may be, in bytes. It is repeated for every file in a directory, so a deep tree would
/// make an archive without end.
const LONGEST_NAME: usize = 32 << 10;
/// How many stretches of data are told apart in one file; what comes after them counts as data.
const MOST_EXTENTS: usize = 10_000;

/// What an archive keeps of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// What every program knows that reads archives.
    Archives,
    /// All that a copy has: the parts of seconds, and what is the matter with a directory itself of which only
    /// what is in it is copied.
    Copies,
    /// What an overlay's layer has, too: names that are gone, and attributes for users to set.
    Layers,
}

/// Writes what `from` stands for, of which `source` tells.
pub(super) fn write(
    from: Source,
    source: (&Path, Where),
    kept: Kept,
    out: impl Write,
) -> Result<Transferred, TransferError> {
    let output = Output { out: BufWriter::with_capacity(BUFFER, out), broken: false };
    let mut archive = Archive {
        source,
        kept,
        top: PathBuf::new(),
        builder: Builder::new(output),
        done: Transferred::default(),
    };
    let result = archive.write(from);
    if result.is_err() {
        // The builder ends an archive when dropped; one that isn't whole must not look so.
        archive.builder.get_mut().broken = true;
    }
    result?;
    let ended = archive.builder.into_inner().and_then(|mut output| output.flush());
    ended.map_err(|source| TransferError::Output { source })?;
    Ok(archive.done)
}

struct Archive<'a, W: Write> {
    source: (&'a Path, Where),
    kept: Kept,
    /// What the names of members start with.
    top: PathBuf,
    builder: Builder<Output<W>>,
    done: Transferred,
}

impl<W: Write> Archive<'_, W> {
    fn write(&mut self, from: Source) -> Result<(), TransferError> {
        match from {
            Source::Directory { directory, name } => {
                let stat = fstat(&directory);
                let stat = stat
                    .map_err(|errno| self.failed("look at", self.source.0.into(), errno.into()))?;
                if let Some(name) = name {
                    self.top.push(OsStr::from_bytes(name.to_bytes()));
                    self.directory(directory.as_fd(), &stat, &self.top.clone())?;
                } else if self.kept != Kept::Archives {
                    self.itself(directory.as_fd(), &stat)?;
                }
                walk(directory, self.source, self)
            }
            Source::File { parent, name, given } => {
                let source = self.source.0;
                let item = read_named((parent.as_fd(), &name), self.source, &mut self.done)?;
                let path = PathBuf::from(OsStr::from_bytes(given.to_bytes()));
                item.map_or(Ok(()), |item| self.append(item, &path, || source.to_owned()))
            }
        }
    }

    fn append(
        &mut self,
        item: Item,
        path: &Path,
        source: impl Fn() -> PathBuf,
    ) -> Result<(), TransferError> {
        match item {
            Item::Directory => return Ok(()),
            Item::Link(target, stat) => self.link(target.to_bytes(), &stat, path),
            Item::Whiteout(stat) => self.whiteout(&stat, path),
            Item::File(file, stat) => {
                self.done.bytes += length(&stat);
                self.file(&file, &stat, path).map_err(|error| match error {
                    FileError::Read(error) => self.failed("read", source(), error),
                    FileError::Write(source) => TransferError::Output { source },
                })
            }
        }?;
        self.done.files += 1;
        Ok(())
    }

    fn directory(
        &mut self,
        directory: BorrowedFd<'_>,
        stat: &Stat,
        path: &Path,
    ) -> Result<(), TransferError> {
        let mut header = self.header(stat, EntryType::Directory);
        // A directory's name ends in a slash.
        let path = path.join("");
        self.done.directories += 1;
        self.tell(Some(directory), stat)
            .and_then(|()| self.builder.append_data(&mut header, path, io::empty()))
            .map_err(|source| TransferError::Output { source })
    }

    /// Tells of the directory that everything is in, which has no name here.
    fn itself(&mut self, directory: BorrowedFd<'_>, stat: &Stat) -> Result<(), TransferError> {
        const NAME: &[u8] = b"./";
        let mut header = self.header(stat, EntryType::Directory);
        header.as_old_mut().name[..NAME.len()].copy_from_slice(NAME);
        header.set_cksum();
        self.tell(Some(directory), stat)
            .and_then(|()| self.builder.append(&header, io::empty()))
            .map_err(|source| TransferError::Output { source })
    }

    /// Tells of what is next, which may be open, what its header can't.
    fn tell(&mut self, file: Option<BorrowedFd<'_>>, stat: &Stat) -> io::Result<()> {
        let time = exact_time(stat).filter(|_| self.kept != Kept::Archives);
        let marks = file.filter(|_| self.kept == Kept::Layers).map(marks::read).transpose()?;
        let told = [("mtime", time), (marks::KEY, marks.flatten())];
        let told = told.iter().filter_map(|(key, value)| Some((*key, value.as_ref()?.as_bytes())));
        self.builder.append_pax_extensions(told)
    }

    fn header(&self, stat: &Stat, kind: EntryType) -> Header {
        let mut header = header(stat, kind);
        if self.kept != Kept::Archives && kind == EntryType::Directory {
            header.set_mode(stat.st_mode & 0o1777);
        }
        header
    }

    fn link(&mut self, target: &[u8], stat: &Stat, path: &Path) -> Result<(), TransferError> {
        let mut header = self.header(stat, EntryType::Symlink);
        let written = match header.set_link_name_literal(target) {
            Ok(()) => Ok(()),
            Err(_) => self.long_link(target),
        };
        written
            .and_then(|()| self.tell(None, stat))
            .and_then(|()| self.builder.append_data(&mut header, path, io::empty()))
            .map_err(|source| TransferError::Output { source })
    }

    fn whiteout(&mut self, stat: &Stat, path: &Path) -> Result<(), TransferError> {
        let mut header = self.header(stat, EntryType::Char);
        header
            .set_device_major(0)
            .and_then(|()| header.set_device_minor(0))
            .and_then(|()| self.builder.append_data(&mut header, path, io::empty()))
            .map_err(|source| TransferError::Output { source })
    }

    /// Writes the target of the link that is next, which is too long for its own header.
    fn long_link(&mut self, target: &[u8]) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::GNULongLink);
        header.set_size(target.len() as u64 + 1);
        self.builder.append_data(&mut header, "././@LongLink", target.chain([0].as_slice()))
    }

    fn file(&mut self, file: &File, stat: &Stat, path: &Path) -> Result<(), FileError> {
        let length = length(stat);
        let mut extents = extents(file, length).map_err(FileError::Read)?;
        let mut header = self.header(stat, EntryType::Regular);
        let mut more = Vec::new();
        if length > 0 && extents != [(0, length)] {
            if extents.last().is_none_or(|last| last.1 < length) {
                // That is how a hole at the end is told.
                extents.push((length, length));
            }
            more = tell_extents(&mut header, &extents, length);
        }
        header.set_size(extents.iter().map(|(start, end)| end - start).sum());
        let mut body = Body { file, extents: extents.into_iter(), extent: (0, 0), failed: false };
        self.tell(Some(file.as_fd()), stat).map_err(FileError::Write)?;
        let data = more.as_slice().chain(BufReader::with_capacity(BUFFER, &mut body));
        let written = self.builder.append_data(&mut header, path, data);
        written.map_err(
            |error| if body.failed { FileError::Read(error) } else { FileError::Write(error) },
        )
    }

    fn failed(&self, action: &'static str, path: PathBuf, source: io::Error) -> TransferError {
        let at = Located { path, place: self.source.1 };
        TransferError::Failed { action: action.into(), at, source }
    }
}

impl<W: Write> Visit for Archive<'_, W> {
    fn enter(
        &mut self,
        directory: BorrowedFd<'_>,
        stat: &Stat,
        below: &Below<'_>,
    ) -> Result<Result<(), Refusal>, TransferError> {
        if below.length() > LONGEST_NAME {
            return Ok(Err(Refusal::TooLong));
        }
        self.directory(directory, stat, &below.path(&self.top)).map(Ok)
    }

    fn takes_whiteouts(&self) -> bool {
        self.kept == Kept::Layers
    }

    fn item(&mut self, item: Item, below: &Below<'_>) -> Result<(), TransferError> {
        let source = self.source.0;
        self.append(item, &below.path(&self.top), || below.path(source))
    }

    fn leave(&mut self, _below: &Below<'_>) -> Result<(), TransferError> {
        Ok(())
    }

    fn done(&mut self) -> &mut Transferred {
        &mut self.done
    }
}

enum FileError {
    Read(io::Error),
    Write(io::Error),
}

/// When it was changed, if not in a whole second since 1970: as a fraction, which counts away from zero.
fn exact_time(stat: &Stat) -> Option<String> {
    Some(match (stat.st_mtime, stat.st_mtime_nsec) {
        (0.., 0) => return None,
        (seconds @ 0.., part) => format!("{seconds}.{part:09}"),
        (seconds, 0) => format!("{seconds}"),
        (-1, part) => format!("-0.{:09}", 1_000_000_000 - part),
        (seconds, part) => format!("{}.{:09}", seconds + 1, 1_000_000_000 - part),
    })
}

fn header(stat: &Stat, kind: EntryType) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(stat.st_mode & 0o777);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    // An archive knows of no time before 1970.
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    header
}

/// Where there is data in the first `length` bytes, as starts and ends.
fn extents(file: &File, length: u64) -> io::Result<Vec<(u64, u64)>> {
    let mut extents = Vec::new();
    for_each_extent(file, length, |start, end| {
        let full = extents.len() + 1 == MOST_EXTENTS;
        extents.push((start, if full { length } else { end }));
        Ok(!full)
    })?;
    Ok(extents)
}

/// Makes `header` that of a file of `length` bytes with holes, and returns what has to follow it.
fn tell_extents(header: &mut Header, extents: &[(u64, u64)], length: u64) -> Vec<u8> {
    header.set_entry_type(EntryType::GNUSparse);
    let Some(gnu) = header.as_gnu_mut() else { return Vec::new() };
    gnu.set_real_size(length);
    let (first, rest) = extents.split_at(extents.len().min(gnu.sparse.len()));
    for (told, (start, end)) in gnu.sparse.iter_mut().zip(first) {
        told.set_offset(*start);
        told.set_length(end - start);
    }
    gnu.set_is_extended(!rest.is_empty());
    let mut bytes = Vec::new();
    let mut rest = rest.chunks(GnuExtSparseHeader::new().sparse().len()).peekable();
    while let Some(chunk) = rest.next() {
        let mut block = GnuExtSparseHeader::new();
        for (told, (start, end)) in block.sparse_mut().iter_mut().zip(chunk) {
            told.set_offset(*start);
            told.set_length(end - start);
        }
        block.set_is_extended(rest.peek().is_some());
        bytes.extend_from_slice(block.as_bytes());
    }
    bytes
}

/// The data of a file. If the file got shorter zeros are in its place, since the header is written.
struct Body<'a> {
    file: &'a File,
    extents: std::vec::IntoIter<(u64, u64)>,
    extent: (u64, u64),
    failed: bool,
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.extent.0 == self.extent.1 {
            match self.extents.next() {
                Some(next) => self.extent = next,
                None => return Ok(0),
            }
        }
        let (start, end) = self.extent;
        let most = usize::try_from(end - start).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = &mut buffer[..most];
        let count = match self.file.read_at(buffer, start) {
            Ok(0) => {
                buffer.fill(0);
                most
            }
            Ok(count) => count,
            Err(error) => {
                self.failed = error.kind() != io::ErrorKind::Interrupted;
                return Err(error);
            }
        };
        self.extent.0 += count as u64;
        Ok(count)
    }
}

struct Output<W: Write> {
    out: BufWriter<W>,
    /// Nothing more may be written.
    broken: bool,
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.out.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
