//! Making what a tree consists of, each at a name that is free.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, BufRead};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags,
    chmodat, chownat, fchmod, fchown, fsetxattr, futimens, linkat, mkdirat, mknodat, openat,
    symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::member::{Attributes, Member};
use super::parents::open_below;
use super::{At, Failure};
use crate::UnpackError;
use crate::archive::{Archive, Extent};

/// What overlayfs takes for a directory that hides all below it, and the value that means so.
pub(super) const OPAQUE: &CStr = c"user.overlay.opaque";
const YES: &[u8] = b"y";

pub(super) fn is_opaque_value(value: &[u8]) -> bool {
    value == YES
}

/// How many zeros together are a hole, in bytes.
const BLOCK: u64 = 4096;

/// Whether an attribute of this name is set.
pub(super) fn is_set(name: &[u8]) -> bool {
    let is_user = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
    is_user || (name == b"security.capability" && rustix::process::geteuid().is_root())
}

/// Makes things in a tree, as the caller can.
pub(super) struct Making {
    is_root: bool,
}

impl Making {
    pub fn new() -> Self {
        Self { is_root: rustix::process::geteuid().is_root() }
    }

    /// A directory that is open to be filled.
    pub fn directory(&self, to: At<'_>) -> io::Result<()> {
        Ok(mkdirat(to.0, to.1, Mode::RWXU)?)
    }

    pub fn whiteout(&self, to: At<'_>) -> io::Result<()> {
        Ok(mknodat(to.0, to.1, FileType::CharacterDevice, Mode::empty(), 0)?)
    }

    pub fn opaque(&self, directory: &OwnedFd) -> io::Result<()> {
        Ok(fsetxattr(directory, OPAQUE, YES, XattrFlags::empty())?)
    }

    /// One more name of what is at `from`, a link itself if it is one.
    pub fn link(&self, from: At<'_>, to: At<'_>) -> io::Result<()> {
        Ok(linkat(from.0, from.1, to.0, to.1, AtFlags::empty())?)
    }

    pub fn symlink(&self, to: At<'_>, member: &Member) -> Result<(), Failure> {
        match symlinkat(OsStr::from_bytes(&member.target), to.0, to.1) {
            Err(Errno::NOENT | Errno::INVAL) => {
                return Err(Failure::Member("is a link to nothing"));
            }
            Err(Errno::NAMETOOLONG) => {
                return Err(Failure::Member("is a link to a path of more than 4095 bytes"));
            }
            made => made?,
        }
        Ok(self.finish(to, &member.attributes)?)
    }

    pub fn fifo(&self, to: At<'_>, member: &Member) -> Result<(), Failure> {
        mknodat(to.0, to.1, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        self.finish(to, &member.attributes)?;
        chmodat(to.0, to.1, Mode::from_raw_mode(member.attributes.mode), AtFlags::empty())?;
        Ok(())
    }

    /// What can be given to something that isn't opened.
    fn finish(&self, to: At<'_>, attributes: &Attributes) -> io::Result<()> {
        if self.is_root {
            let (uid, gid) = owner(attributes);
            chownat(to.0, to.1, uid, gid, AtFlags::SYMLINK_NOFOLLOW).map_err(not_owned)?;
        }
        Ok(utimensat(to.0, to.1, &times(attributes), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// A file, of the archive's present data.
    pub fn file(
        &self,
        to: At<'_>,
        member: &Member,
        archive: &mut Archive<impl BufRead>,
    ) -> Result<(), Failure> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(openat(to.0, to.1, flags, Mode::RUSR | Mode::WUSR)?);
        let whole = [Extent { at: 0, length: member.size }];
        let mut written = 0;
        for extent in member.extents.as_deref().unwrap_or(&whole) {
            written = fill(&file, *extent, archive)?.max(written);
        }
        if written < member.size {
            file.set_len(member.size)?;
        }
        Ok(self.settle(&file, &member.attributes)?)
    }

    /// Gives a file or a directory what it is to have in the end.
    pub fn settle(&self, file: &File, attributes: &Attributes) -> io::Result<()> {
        if self.is_root {
            let (uid, gid) = owner(attributes);
            fchown(file, uid, gid).map_err(not_owned)?;
        }
        // A new owner takes capabilities and permissions away, and permissions the right to these.
        for (name, value) in &attributes.extended {
            if is_set(name.to_bytes()) {
                match fsetxattr(file, name, value, XattrFlags::empty()) {
                    // Where they can't be kept they are still listed.
                    Err(Errno::OPNOTSUPP) => {}
                    set => set?,
                }
            }
        }
        fchmod(file, Mode::from_raw_mode(attributes.mode))?;
        Ok(futimens(file, &times(attributes))?)
    }
}

fn owner(attributes: &Attributes) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(attributes.uid)), Some(Gid::from_raw(attributes.gid)))
}

/// Who is root in a user namespace only can't give files to whom it has no number for.
fn not_owned(errno: Errno) -> io::Error {
    match errno {
        Errno::INVAL => io::Error::other("its owner has no number in this user namespace"),
        errno => errno.into(),
    }
}

fn times(attributes: &Attributes) -> Timestamps {
    let unchanged = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    Timestamps { last_access: unchanged, last_modification: attributes.mtime }
}

/// Writes as much of the archive's data as goes there. Blocks of zeros become holes. Says where the
/// last byte is that was written.
fn fill(file: &File, extent: Extent, archive: &mut Archive<impl BufRead>) -> Result<u64, Failure> {
    let archive_failed = |error| Failure::Whole(UnpackError::Archive(error));
    let end = extent.at + extent.length;
    let (mut at, mut written) = (extent.at, 0);
    while at < end {
        let data = archive.data().map_err(archive_failed)?;
        let left = usize::try_from(end - at).unwrap_or(usize::MAX);
        let data = &data[..data.len().min(left)];
        if data.is_empty() {
            return Err(archive_failed(io::ErrorKind::UnexpectedEof.into()));
        }
        // As long as a run of the same kind goes on.
        let (count, is_hole) = run(data, at);
        if !is_hole {
            file.write_all_at(&data[..count], at)?;
            written = at + count as u64;
        }
        archive.consume(count);
        at += count as u64;
    }
    Ok(written)
}

/// How many bytes from the start are to be written, or are not because they are whole blocks of zeros.
fn run(data: &[u8], at: u64) -> (usize, bool) {
    let first = usize::try_from(at.next_multiple_of(BLOCK) - at).unwrap_or(0).min(data.len());
    let block = BLOCK as usize;
    let is_zeros = |chunk: &[u8]| chunk.len() == block && chunk.iter().all(|byte| *byte == 0);
    let holes =
        |data: &[u8]| data.chunks(block).take_while(|chunk| is_zeros(chunk)).count() * block;
    let filled = |data: &[u8]| -> usize {
        data.chunks(block).take_while(|chunk| !is_zeros(chunk)).map(<[u8]>::len).sum()
    };
    match (first, holes(&data[first..])) {
        (0, count @ 1..) => (count, true),
        _ => (first + filled(&data[first..]), false),
    }
}

/// Removes what is there, and what is in it. Says whether there was something.
pub(super) fn remove(at: At<'_>) -> io::Result<bool> {
    match unlinkat(at.0, at.1, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(Errno::ISDIR | Errno::PERM) => {
            remove_directory(at)?;
            Ok(true)
        }
        Err(errno) => Err(errno.into()),
    }
}

/// All in it was made here, and is open to us. It is not too deep for a descriptor at each level.
fn remove_directory(at: At<'_>) -> io::Result<()> {
    let directory = open_below(at.0, OsStr::from_bytes(at.1.to_bytes()), OFlags::RDONLY)?;
    for name in names(&directory)? {
        remove((directory.as_fd(), &name))?;
    }
    Ok(unlinkat(at.0, at.1, AtFlags::REMOVEDIR)?)
}

/// The names in a directory, in no order.
pub(crate) fn names(directory: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_owned();
        if name.as_c_str() != c"." && name.as_c_str() != c".." {
            names.push(name);
        }
    }
    Ok(names)
}
