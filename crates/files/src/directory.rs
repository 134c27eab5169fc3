//! Directories held open. Nothing here takes a path: a name is looked up in a descriptor, and never
//! followed, so that whoever swaps directories meanwhile leads nobody astray.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{self, AtFlags, CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::facts::{Facts, FileKind};

const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What an overlay notes at a directory that hides all of what lies under it.
const OPAQUE: &str = "user.overlay.opaque";
/// What an overlay notes at what it copied up, even if it can't say where from.
const ORIGIN: &str = "user.overlay.origin";

pub(crate) struct Directory(OwnedFd);

impl Directory {
    /// Opens `path`, in which no part may be a symbolic link.
    pub(crate) fn root(path: &Path) -> io::Result<Self> {
        let links = ResolveFlags::NO_SYMLINKS;
        Ok(Directory(fs::openat2(CWD, path, FOLDER, Mode::empty(), links)?))
    }

    /// Opens one that somebody holds, for as long as this lives.
    pub(crate) fn shown(directory: &OwnedFd) -> io::Result<Self> {
        Ok(Directory(fs::openat(directory, ".", FOLDER, Mode::empty())?))
    }

    /// Opens the directory `name` of this one.
    pub(crate) fn open(&self, name: &OsStr) -> io::Result<Self> {
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        Ok(Directory(fs::openat2(&self.0, name, FOLDER, Mode::empty(), within)?))
    }

    /// Opens the directory that this one is in now, whichever that is.
    pub(crate) fn up(&self) -> io::Result<Self> {
        Ok(Directory(fs::openat(&self.0, "..", FOLDER, Mode::empty())?))
    }

    pub(crate) fn facts(&self) -> io::Result<Facts> {
        Ok(fs::fstat(&self.0)?.into())
    }

    /// What `name` is, or nothing where there is no such name.
    pub(crate) fn stat(&self, name: &OsStr) -> io::Result<Option<Facts>> {
        match fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat.into())),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// All names, sorted by their bytes.
    pub(crate) fn names(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in fs::Dir::read_from(&self.0)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name.to_vec()));
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Opens the regular file `name` for reading. Anything else is refused, and can neither block
    /// nor be triggered by it.
    pub(crate) fn file(&self, name: &OsStr) -> io::Result<(File, Facts)> {
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let file = File::from(fs::openat2(&self.0, name, flags, Mode::empty(), within)?);
        let facts = Facts::from(fs::fstat(&file)?);
        if facts.kind != FileKind::File {
            return Err(io::Error::other("it is no regular file"));
        }
        Ok((file, facts))
    }

    /// Where the symbolic link `name` points to.
    pub(crate) fn target(&self, name: &OsStr) -> io::Result<OsString> {
        let target = fs::readlinkat(&self.0, name, Vec::new())?;
        Ok(OsString::from_vec(target.into_bytes()))
    }

    /// Whether an overlay's upper directory hides the lower one altogether.
    pub(crate) fn is_opaque(&self) -> io::Result<bool> {
        let mut value = [0; 8];
        match fs::fgetxattr(&self.0, OPAQUE, &mut value[..]) {
            Ok(len) => Ok(&value[..len] == b"y"),
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether an overlay copied this file or directory up from under it.
pub(crate) fn was_copied_up(upper: impl AsFd) -> io::Result<bool> {
    match fs::fgetxattr(upper, ORIGIN, &mut [0_u8; 0][..]) {
        Ok(_) => Ok(true),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Names of the extended attributes of what is open.
pub(crate) fn attributes(file: impl AsFd) -> io::Result<Vec<OsString>> {
    // A list is at most 64 KiB (XATTR_LIST_MAX).
    let mut list = vec![0_u8; 64 * 1024];
    match fs::flistxattr(file, &mut list[..]) {
        Ok(len) => Ok(list[..len]
            .split(|&byte| byte == 0)
            .filter(|name| !name.is_empty())
            .map(|name| OsStr::from_bytes(name).to_owned())
            .collect()),
        Err(Errno::OPNOTSUPP) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// The value of an extended attribute, or nothing if it is gone.
pub(crate) fn attribute(file: impl AsFd, name: &OsStr) -> io::Result<Option<Vec<u8>>> {
    // A value is at most 64 KiB (XATTR_SIZE_MAX).
    let mut value = vec![0_u8; 64 * 1024];
    match fs::fgetxattr(file, name, &mut value[..]) {
        Ok(len) => {
            value.truncate(len);
            Ok(Some(value))
        }
        Err(Errno::NODATA) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
