//! Making files, links and directories, each whole or not at all.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, Timestamps, chownat, fchmod, fchown, fstat, futimens,
    linkat, makedev, mkdirat, mknodat, openat, renameat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::error::{Located, TransferError, Transferred, Where};
use super::item::Item;
use super::owner::Owner;
use crate::contents::Contents;
use crate::descent::{Mounts, c_name, length, open_in, times};

/// What of a file's mode is kept: neither set-user-ID nor set-group-ID.
const KEPT: u32 = 0o777;
/// Of a directory's the sticky bit too.
const KEPT_OF_DIRECTORY: u32 = 0o1777;
/// How many names for a new file may be taken.
const ATTEMPTS: u32 = 1000;

/// A name in a directory.
pub(super) type At<'a> = (BorrowedFd<'a>, &'a CStr);

/// What a new file is to have besides its contents.
pub(super) struct Settled {
    pub mode: u32,
    pub times: Timestamps,
}

impl Settled {
    pub fn of(stat: &Stat) -> Self {
        Self { mode: stat.st_mode, times: times(stat) }
    }
}

/// Makes what is copied, and counts it. Nothing here follows a link.
pub(super) struct Writer {
    place: Where,
    owner: Owner,
    contents: Contents,
    /// The number in the next new file's first name.
    next: u32,
    pub done: Transferred,
}

impl Writer {
    /// A writer of files that belong to `owner`, by default the caller.
    pub fn new(place: Where, owner: Option<(u32, u32)>) -> Self {
        let owner = Owner::new(owner);
        Self { place, owner, contents: Contents::new(), next: 0, done: Transferred::default() }
    }

    /// The error that `target` couldn't be made.
    pub fn failed(&self, target: PathBuf, source: io::Error) -> TransferError {
        let at = Located { path: target, place: self.place };
        match source.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::ISDIR) => TransferError::IsDirectory { at },
            // Links are never followed, so one is no directory.
            Some(Errno::NOTDIR | Errno::LOOP) => TransferError::NoDirectory { at },
            _ => TransferError::Failed { action: "write".into(), at, source },
        }
    }

    /// Makes `to` a copy of `item`, which is no directory.
    pub fn item(&mut self, item: Item, to: At<'_>) -> io::Result<()> {
        match item {
            Item::Directory | Item::Whiteout(_) => Ok(()),
            Item::File(file, stat) => {
                self.file(to, &Settled::of(&stat), |contents, new| {
                    contents.copy(&file, new, length(&stat))
                })?;
                self.done.bytes += length(&stat);
                Ok(())
            }
            Item::Link(target, stat) => self.link(to, &target, &times(&stat)),
        }
    }

    /// Makes the file `to` of what `fill` writes into it, in the place of what is there.
    pub fn file<E: From<io::Error>>(
        &mut self,
        to: At<'_>,
        settled: &Settled,
        fill: impl FnOnce(&mut Contents, &File) -> Result<(), E>,
    ) -> Result<(), E> {
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let owner = self.owner;
        let make = |name: &CStr| owner.make(|| openat(to.0, name, flags, Mode::RUSR | Mode::WUSR));
        let (new, made) = self.make(to.0, make)?;
        let file = File::from(made);
        fill(&mut self.contents, &file)?;
        settle(file.as_fd(), owner, settled, KEPT)?;
        self.done.files += 1;
        Ok(new.rename(to.1)?)
    }

    /// Makes the link `to`, in the place of what is there.
    pub fn link(&mut self, to: At<'_>, target: &CStr, times: &Timestamps) -> io::Result<()> {
        let owner = self.owner;
        let (new, ()) = self.make(to.0, |name| owner.make(|| symlinkat(target, to.0, name)))?;
        // Somebody else may have put another file there already.
        let link = open_link(to.0, &new.name)?;
        let stat = fstat(&link)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            if !owner.owns(&stat) {
                chownat(&link, c"", Some(owner.user()), Some(owner.group()), AtFlags::EMPTY_PATH)?;
            }
            utimensat(&link, c"", times, AtFlags::EMPTY_PATH)?;
        }
        self.done.files += 1;
        new.rename(to.1)
    }

    /// Makes `to` what stands in an overlay's layer for a name that is gone.
    pub fn whiteout(&mut self, to: At<'_>) -> io::Result<()> {
        self.done.files += 1;
        let made = self
            .owner
            .make(|| mknodat(to.0, to.1, FileType::CharacterDevice, Mode::RUSR, makedev(0, 0)));
        Ok(made?)
    }

    /// Makes `to` one more name of the file `from`.
    pub fn hard_link(&mut self, from: At<'_>, to: At<'_>) -> io::Result<()> {
        let owner = self.owner;
        let link =
            |name: &CStr| owner.make(|| linkat(from.0, from.1, to.0, name, AtFlags::empty()));
        let (new, ()) = self.make(to.0, link)?;
        self.done.files += 1;
        new.rename(to.1)
    }

    /// Opens the directory `to`, and makes it if it isn't there; says whether it did.
    pub fn directory(&mut self, to: At<'_>) -> io::Result<(OwnedFd, bool)> {
        let mut made = match self.owner.make(|| mkdirat(to.0, to.1, Mode::RWXU)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(errno.into()),
        };
        let directory = open_in(to.0, to.1, OFlags::RDONLY | OFlags::DIRECTORY, Mounts::Cross)?;
        if made {
            // Somebody else may have put another one there already, which isn't ours to change.
            made = fstat(&directory)?.st_uid == self.owner.user().as_raw();
            self.done.directories += 1;
        }
        Ok((directory, made))
    }

    /// Gives a directory that was made here what it is to have in the end.
    pub fn settle(&self, directory: BorrowedFd<'_>, settled: &Settled) -> io::Result<()> {
        settle(directory, self.owner, settled, KEPT_OF_DIRECTORY)
    }

    /// Makes something under a name that isn't taken.
    fn make<'a, T>(
        &mut self,
        directory: BorrowedFd<'a>,
        make: impl Fn(&CStr) -> Result<T, Errno>,
    ) -> io::Result<(New<'a>, T)> {
        for _ in 0..ATTEMPTS {
            let name =
                c_name(format!(".agentkernel-{}-{}", std::process::id(), self.next).as_bytes())?;
            self.next = self.next.wrapping_add(1);
            match make(&name) {
                Ok(made) => return Ok((New { directory, name, owner: self.owner }, made)),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(Errno::EXIST.into())
    }
}

fn open_link(directory: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    openat(directory, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

fn settle(file: BorrowedFd<'_>, owner: Owner, settled: &Settled, kept: u32) -> io::Result<()> {
    if !owner.owns(&fstat(file)?) {
        fchown(file, Some(owner.user()), Some(owner.group()))?;
    }
    fchmod(file, Mode::from_raw_mode(settled.mode & kept))?;
    Ok(futimens(file, &settled.times)?)
}

/// A file that doesn't have its own name yet. It is removed if it never gets it.
struct New<'a> {
    directory: BorrowedFd<'a>,
    name: CString,
    owner: Owner,
}

impl New<'_> {
    fn rename(self, name: &CStr) -> io::Result<()> {
        // To give a name is to make something, to the kernel.
        Ok(self.owner.make(|| renameat(self.directory, &self.name, self.directory, name))?)
    }
}

impl Drop for New<'_> {
    fn drop(&mut self) {
        // It is there after a rename too, if both were names of one file.
        let _ = unlinkat(self.directory, &self.name, AtFlags::empty());
    }
}
