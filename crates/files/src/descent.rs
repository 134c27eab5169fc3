//! Walking down and up a tree that somebody hostile made.
//!
//! Only the lowest directory and the top are held open, so a tree may be deeper than there are descriptors and than
//! a path can say. The way up is `..`, which must be the directory that the way down came through.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RawDir, ResolveFlags, Stat, Timespec, Timestamps,
};
use rustix::io::Errno;

/// What a directory is read with at a time, in bytes.
const LISTING: usize = 32 * 1024;

/// Whether a walk may go on into what is mounted in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mounts {
    Cross,
    Refuse,
}

/// Which file it is, as long as somebody holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub fn of(stat: &Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }

    fn at(directory: impl AsFd) -> io::Result<Self> {
        Ok(Self::of(&rustix::fs::fstat(directory)?))
    }
}

/// A place in a tree, entered from a top that it never leaves.
#[derive(Debug)]
pub(crate) struct Descent {
    top: OwnedFd,
    /// `None` is the top.
    here: Option<OwnedFd>,
    /// The directories that lead here, without this one.
    above: Vec<Identity>,
    mounts: Mounts,
}

impl Descent {
    /// A walk from `top`, which may be an `O_PATH` descriptor if it is never read.
    pub fn new(top: OwnedFd, mounts: Mounts) -> Self {
        Self { top, here: None, above: Vec::new(), mounts }
    }

    pub fn here(&self) -> BorrowedFd<'_> {
        self.here.as_ref().unwrap_or(&self.top).as_fd()
    }

    /// Opens the directory `name` in this one, to be read.
    pub fn open(&self, name: &CStr) -> Result<OwnedFd, Errno> {
        open_in(self.here(), name, OFlags::RDONLY | OFlags::DIRECTORY, self.mounts)
    }

    /// As [`Descent::open`], of a directory whose owner (the caller) may have shut it to himself: its permissions
    /// are made to hold `needed` and those that it had are returned.
    pub fn open_shut(&self, name: &CStr, needed: Mode) -> Result<(OwnedFd, Option<Mode>), Errno> {
        match self.open(name) {
            Ok(opened) => {
                let unshut = unshut(&rustix::fs::fstat(&opened)?, needed);
                if let Some((_, open)) = unshut {
                    rustix::fs::fchmod(&opened, open)?;
                }
                Ok((opened, unshut.map(|(shut, _)| shut)))
            }
            Err(Errno::ACCESS) => {
                let path =
                    open_in(self.here(), name, OFlags::PATH | OFlags::DIRECTORY, self.mounts)?;
                let unshut = unshut(&rustix::fs::fstat(&path)?, needed);
                let (shut, open) = unshut.ok_or(Errno::ACCESS)?;
                change_mode(path.as_fd(), open)?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let opened = rustix::fs::openat(&path, c".", flags, Mode::empty());
                if opened.is_err() {
                    change_mode(path.as_fd(), shut)?;
                }
                Ok((opened?, Some(shut)))
            }
            Err(errno) => Err(errno),
        }
    }

    /// Goes on to `directory`, which [`Descent::open`] or [`Descent::open_shut`] opened in this one.
    pub fn enter(&mut self, directory: OwnedFd) -> io::Result<()> {
        self.above.push(Identity::at(self.here())?);
        self.here = Some(directory);
        Ok(())
    }

    /// Goes back up, and returns the directory that was left.
    ///
    /// Fails if it is no longer where it was: then there is no way back.
    pub fn leave(&mut self) -> io::Result<OwnedFd> {
        let left = self.here.take().ok_or(Errno::INVAL)?;
        let parent = self.above.pop().ok_or(Errno::INVAL)?;
        if !self.above.is_empty() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let up = rustix::fs::openat(&left, c"..", flags, Mode::empty())?;
            if Identity::at(&up)? != parent {
                return Err(io::Error::other("it was moved elsewhere meanwhile"));
            }
            self.here = Some(up);
        }
        Ok(left)
    }
}

/// Opens what `name`, which has no slash, is in `directory`. Fails if that is a link (`ELOOP`), and if something is
/// mounted there that may not be crossed (`EXDEV`).
pub(crate) fn open_in(
    directory: BorrowedFd<'_>,
    name: &CStr,
    flags: OFlags,
    mounts: Mounts,
) -> Result<OwnedFd, Errno> {
    let mut resolve =
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    if mounts == Mounts::Refuse {
        resolve |= ResolveFlags::NO_XDEV;
    }
    rustix::fs::openat2(
        directory,
        name,
        flags | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
        resolve,
    )
}

/// Opens the regular file `name`, and nothing else (`EINVAL`), to be read. Never blocks.
pub(crate) fn open_file(
    directory: BorrowedFd<'_>,
    name: &CStr,
    mounts: Mounts,
) -> Result<(File, Stat), Errno> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    regular(open_in(directory, name, flags, mounts)?)
}

/// As [`open_file`], of a file that its owner (the caller) may have shut to himself. Its permissions are as they
/// were when this returns.
pub(crate) fn open_shut_file(
    directory: BorrowedFd<'_>,
    name: &CStr,
) -> Result<(File, Stat), Errno> {
    match open_file(directory, name, Mounts::Refuse) {
        Err(Errno::ACCESS) => {}
        result => return result,
    }
    let path = open_in(directory, name, OFlags::PATH, Mounts::Refuse)?;
    let (path, stat) = regular(path)?;
    let (shut, open) = unshut(&stat, Mode::RUSR).ok_or(Errno::ACCESS)?;
    change_mode(path.as_fd(), open)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::open(link_to(path.as_fd()), flags, Mode::empty());
    change_mode(path.as_fd(), shut)?;
    Ok((File::from(opened?), stat))
}

fn regular(file: OwnedFd) -> Result<(File, Stat), Errno> {
    let stat = rustix::fs::fstat(&file)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok((File::from(file), stat)),
        _ => Err(Errno::INVAL),
    }
}

/// The permissions that a file has and those it should have, if the caller is who can and must change them.
fn unshut(stat: &Stat, needed: Mode) -> Option<(Mode, Mode)> {
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    let user = rustix::process::geteuid();
    let can_and_must = !mode.contains(needed) && !user.is_root() && stat.st_uid == user.as_raw();
    can_and_must.then_some((mode, mode | needed))
}

/// Changes the permissions of what an `O_PATH` descriptor stands for, which `fchmod` refuses.
fn change_mode(path: BorrowedFd<'_>, mode: Mode) -> Result<(), Errno> {
    rustix::fs::chmodat(CWD, link_to(path), mode, AtFlags::empty())
}

fn link_to(descriptor: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", descriptor.as_raw_fd())
}

/// Puts the next names in `directory` into `names`, some hundred at a time, and none at its end.
pub(crate) fn next_names(directory: BorrowedFd<'_>, names: &mut Vec<CString>) -> io::Result<()> {
    names.clear();
    let mut buffer = Vec::with_capacity(LISTING);
    let mut listing = RawDir::new(directory, buffer.spare_capacity_mut());
    while let Some(entry) = listing.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
        if listing.is_buffer_empty() && !names.is_empty() {
            break;
        }
    }
    Ok(())
}

/// A name as the kernel takes it. Fails if it has a NUL.
pub(crate) fn c_name(name: &[u8]) -> io::Result<CString> {
    CString::new(name)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a name can't hold a NUL byte"))
}

/// When `stat`'s file was last read and changed.
pub(crate) fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec as i64 },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as i64 },
    }
}

/// A file's length in bytes.
pub(crate) fn length(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}
