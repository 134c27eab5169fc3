//! Finding what a path means, on the host and in a sandbox.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, openat, openat2, readlinkat, statat,
};
use rustix::io::Errno;

use super::error::{Located, TransferError, Where};
use crate::descent::{Mounts, c_name, open_in};

/// How many links a path may lead through, as in Linux.
const LINKS: u32 = 40;
/// How often a lookup is tried again that the sandbox disturbed by moving directories.
const ATTEMPTS: u32 = 64;

/// A tree that paths are looked up in.
pub(super) enum Side<'a> {
    /// The host's, with whatever the caller may open.
    Host,
    /// A sandbox's root; no lookup leaves it.
    Sandbox(BorrowedFd<'a>),
}

impl Side<'_> {
    pub fn place(&self) -> Where {
        match self {
            Self::Host => Where::Host,
            Self::Sandbox(_) => Where::Sandbox,
        }
    }

    fn open(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC;
        let Self::Sandbox(root) = self else { return openat(CWD, path, flags, Mode::empty()) };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let mut result = Err(Errno::AGAIN);
        for _ in 0..ATTEMPTS {
            result = openat2(root, path, flags, Mode::empty(), resolve);
            // The kernel gives up on `..` while anything anywhere is moved.
            if !matches!(result, Err(Errno::AGAIN)) {
                break;
            }
        }
        result
    }

    pub fn located(&self, path: &Path) -> Located {
        Located { path: path.into(), place: self.place() }
    }

    fn failed(&self, action: &'static str, path: &Path) -> impl Fn(Errno) -> TransferError {
        let at = self.located(path);
        move |errno| match errno {
            Errno::NOENT => TransferError::Missing { at: at.clone() },
            Errno::NOTDIR => TransferError::NoDirectory { at: at.clone() },
            errno => TransferError::Failed {
                action: action.into(),
                at: at.clone(),
                source: errno.into(),
            },
        }
    }
}

/// What is to be copied.
pub(super) enum Source {
    Directory {
        directory: OwnedFd,
        /// `None` means what is in it, not it itself.
        name: Option<CString>,
    },
    /// Anything else.
    File {
        parent: OwnedFd,
        name: CString,
        /// What the caller called it, which is another name if that is a link.
        given: CString,
    },
}

/// Where it is to be.
pub(super) enum Target {
    Directory(OwnedFd),
    File {
        parent: OwnedFd,
        name: CString,
    },
    Absent {
        parent: OwnedFd,
        name: CString,
        /// Whether it was written as a directory.
        directory: bool,
    },
}

/// A path taken apart.
struct Parts<'a> {
    /// Without a name this is the whole path.
    parent: &'a [u8],
    /// `None` if the path ends in `.` or `..` or is the root.
    name: Option<&'a [u8]>,
    /// Whether only a directory can be meant.
    directory: bool,
}

impl<'a> Parts<'a> {
    fn of(path: &'a [u8]) -> Self {
        let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
        let trimmed = &path[..end];
        let start = trimmed.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let (parent, name) = trimmed.split_at(start);
        if matches!(name, b"" | b"." | b"..") {
            return Self { parent: path, name: None, directory: true };
        }
        let parent = if parent.is_empty() { b".".as_slice() } else { parent };
        Self { parent, name: Some(name), directory: end < path.len() }
    }
}

pub(super) fn find_source(
    side: &Side<'_>,
    path: &Path,
    follow: bool,
) -> Result<Source, TransferError> {
    let failed = side.failed("open", path);
    let bytes = path.as_os_str().as_bytes();
    let parts = Parts::of(bytes);
    let named = parts.name.map(c_name).transpose().map_err(|source| invalid(side, path, source))?;
    if parts.directory {
        let directory = side.open(bytes, OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed)?;
        return Ok(Source::Directory { directory, name: named });
    }
    let (parent, name) = if follow {
        follow_links(side, bytes).map_err(&failed)?
    } else {
        let name = named.clone().unwrap_or_default();
        (side.open(parts.parent, OFlags::PATH | OFlags::DIRECTORY).map_err(&failed)?, name)
    };
    let stat = statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW).map_err(&failed)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let directory = open_in(parent.as_fd(), &name, flags, Mounts::Cross).map_err(&failed)?;
        return Ok(Source::Directory { directory, name: named });
    }
    Ok(Source::File { parent, name, given: named.unwrap_or_default() })
}

/// The name of what `path` is of, `None` if it is what is in it.
pub(super) fn name_of(side: &Side<'_>, path: &Path) -> Result<Option<CString>, TransferError> {
    let name = Parts::of(path.as_os_str().as_bytes()).name.map(c_name).transpose();
    name.map_err(|source| invalid(side, path, source))
}

pub(super) fn find_target(side: &Side<'_>, path: &Path) -> Result<Target, TransferError> {
    let failed = side.failed("open", path);
    let bytes = path.as_os_str().as_bytes();
    match side.open(bytes, OFlags::PATH | OFlags::DIRECTORY) {
        Ok(directory) => return Ok(Target::Directory(directory)),
        Err(Errno::NOENT | Errno::NOTDIR) => {}
        Err(errno) => return Err(failed(errno)),
    }
    let directory = Parts::of(bytes).directory;
    let (parent, name) = follow_links(side, bytes).map_err(|errno| match errno {
        // What is missing is the directory that it was to be made in.
        Errno::NOENT => side.failed("open", path.parent().unwrap_or(path))(errno),
        errno => failed(errno),
    })?;
    match statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) if directory => Err(TransferError::NoDirectory { at: side.located(path) }),
        Ok(_) => Ok(Target::File { parent, name }),
        Err(Errno::NOENT) => Ok(Target::Absent { parent, name, directory }),
        Err(errno) => Err(failed(errno)),
    }
}

pub(super) fn find_directory(side: &Side<'_>, path: &Path) -> Result<OwnedFd, TransferError> {
    let bytes = path.as_os_str().as_bytes();
    side.open(bytes, OFlags::PATH | OFlags::DIRECTORY).map_err(side.failed("open", path))
}

/// The directory and the name that `path` comes to when the links at its end are followed. There may be nothing.
fn follow_links(side: &Side<'_>, path: &[u8]) -> Result<(OwnedFd, CString), Errno> {
    let mut path = path.to_vec();
    for _ in 0..LINKS {
        let parts = Parts::of(&path);
        let name = parts.name.ok_or(Errno::NOTDIR)?;
        let name = CString::new(name).map_err(|_| Errno::INVAL)?;
        let parent = side.open(parts.parent, OFlags::PATH | OFlags::DIRECTORY)?;
        match readlinkat(&parent, &name, Vec::new()) {
            Ok(link) if link.to_bytes().starts_with(b"/") => path = link.into_bytes(),
            Ok(link) => path = [parts.parent, b"/", link.to_bytes()].concat(),
            Err(Errno::INVAL | Errno::NOENT) => return Ok((parent, name)),
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::LOOP)
}

fn invalid(side: &Side<'_>, path: &Path, source: io::Error) -> TransferError {
    TransferError::Failed { action: "find".into(), at: side.located(path), source }
}
