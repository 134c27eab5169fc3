//! Files with more than one name.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, Stat, linkat, mkdirat, openat, statat, unlinkat};
use rustix::io::Errno;

use crate::descent::c_name;

/// The files that were copied and have more names.
///
/// They are kept as one more name each in a directory in the copy. That needs no memory, and makes a file reachable
/// that lies deeper than a path can say.
#[derive(Debug)]
pub(super) struct Links {
    name: CString,
    directory: OwnedFd,
}

impl Links {
    /// Makes the directory in `made`, under a name that `source` doesn't have.
    pub fn new(source: BorrowedFd<'_>, made: BorrowedFd<'_>) -> io::Result<Self> {
        for number in 0_u32.. {
            let name = c_name(format!(".links-{number}").as_bytes())?;
            match statat(source, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => continue,
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
            mkdirat(made, &name, Mode::RWXU)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let directory = openat(made, &name, flags, Mode::empty())?;
            return Ok(Self { name, directory });
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Makes `name` one more name of the copy of `stat`'s file, or says `false` if there is none that takes one more.
    pub fn link(&self, stat: &Stat, made: BorrowedFd<'_>, name: &CStr) -> io::Result<bool> {
        match linkat(&self.directory, key(stat)?, made, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            // An overlay gives its whiteouts as many names as a file can have, and there is one more here.
            Err(Errno::NOENT | Errno::MLINK) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Remembers that `name` in `made` is the copy of `stat`'s file, from now on.
    pub fn remember(&self, stat: &Stat, made: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
        let key = key(stat)?;
        match unlinkat(&self.directory, &key, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(linkat(made, name, self.directory.as_fd(), &key, AtFlags::empty())?)
    }

    /// What the directory is called, which is to be removed in the end.
    pub fn into_name(self) -> CString {
        self.name
    }
}

fn key(stat: &Stat) -> io::Result<CString> {
    c_name(format!("{:x}-{:x}", stat.st_dev, stat.st_ino).as_bytes())
}
