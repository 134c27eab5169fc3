//! Writing to the host: everything is made beside, under a name of its own, and put in its place
//! by a rename.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::Path;

use rustix::fs::{
    self, AtFlags, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Timespec, Timestamps, Uid,
};
use rustix::io::Errno;

use crate::contents::Contents;
use crate::directory::Directory;
use crate::error::{FilesError, While};
use crate::facts::{Facts, Time};
use crate::walk::{Next, Spot, Visitor, walk};

/// How often another name is tried where somebody has ours already.
const TRIES: usize = 16;

/// Whether somebody else changed the file at this path of the sandbox, so that it must stay.
pub(super) type Keep<'a> = &'a dyn Fn(&Path, &Facts) -> bool;

/// A name in a directory of the host, which is to be replaced or removed.
#[derive(Clone, Copy)]
pub(super) struct Victim<'a> {
    pub(super) name: &'a OsStr,
    /// Its path in the sandbox.
    pub(super) path: &'a Path,
    pub(super) keep: Keep<'a>,
}

/// Something of ours in a directory of the host, removed again unless it is put in its place.
pub(super) struct Beside<'a> {
    host: &'a Directory,
    name: OsString,
    is_dir: bool,
    /// Whether there is anything to be removed.
    there: bool,
}

impl<'a> Beside<'a> {
    /// Calls `make` with names until one is free.
    fn make<T>(
        host: &'a Directory,
        is_dir: bool,
        make: impl Fn(&OsStr) -> rustix::io::Result<T>,
    ) -> io::Result<(Self, T)> {
        let mut tries = 0;
        loop {
            let number = RandomState::new().build_hasher().finish();
            let name = OsString::from(format!(".agentkernel-{number:016x}"));
            tries += 1;
            match make(&name) {
                Err(Errno::EXIST) if tries < TRIES => {}
                made => return Ok((Beside { host, name, is_dir, there: true }, made?)),
            }
        }
    }

    fn empty_file(host: &'a Directory) -> io::Result<(Self, File)> {
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let private = Mode::RUSR | Mode::WUSR;
        let open = |name: &OsStr| fs::openat2(host, name, flags, private, within);
        let (beside, file) = Self::make(host, false, open)?;
        Ok((beside, File::from(file)))
    }

    /// A copy of the regular file `source`, whose facts are `from`.
    pub(super) fn file(
        host: &'a Directory,
        source: &File,
        from: &Facts,
        mode: u32,
        owner: &Facts,
    ) -> io::Result<(Self, File)> {
        let (beside, file) = Self::empty_file(host)?;
        Contents::new().copy(source, &file, from.size)?;
        give(owner, |uid, gid| fs::fchown(&file, uid, gid))?;
        fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        fs::futimens(&file, &times(from.modified))?;
        Ok((beside, file))
    }

    pub(super) fn link(
        host: &'a Directory,
        to: &Path,
        from: &Facts,
        owner: &Facts,
    ) -> io::Result<Self> {
        let (beside, ()) = Self::make(host, false, |name| fs::symlinkat(to, host, name))?;
        let itself = AtFlags::SYMLINK_NOFOLLOW;
        give(owner, |uid, gid| fs::chownat(host, &beside.name, uid, gid, itself))?;
        fs::utimensat(host, &beside.name, &times(from.modified), itself)?;
        Ok(beside)
    }

    /// A directory that its owner can fill, whatever its mode is to be.
    pub(super) fn directory(host: &'a Directory, mode: u32, owner: &Facts) -> io::Result<Self> {
        let private = Mode::RWXU;
        let (beside, ()) = Self::make(host, true, |name| fs::mkdirat(host, name, private))?;
        let directory = host.open(&beside.name)?;
        give(owner, |uid, gid| fs::fchown(&directory, uid, gid))?;
        fs::fchmod(&directory, Mode::from_raw_mode(mode | 0o700))?;
        Ok(beside)
    }

    /// Puts it where `there` was a moment ago, and nothing if it isn't given.
    pub(super) fn put(mut self, victim: Victim<'_>, there: Option<&Facts>) -> io::Result<()> {
        let (host, name) = (self.host, victim.name);
        match there {
            None => match fs::renameat_with(host, &self.name, host, name, RenameFlags::NOREPLACE) {
                // Not every file system can.
                Err(Errno::INVAL) => fs::renameat(host, &self.name, host, name)?,
                other => other?,
            },
            Some(there) if there.is_dir() || self.is_dir => return self.swap(victim, there),
            Some(_) => fs::renameat(host, &self.name, host, name)?,
        }
        self.there = false;
        Ok(())
    }

    /// Replaces a directory by something else or the reverse, which a rename can't.
    fn swap(mut self, victim: Victim<'_>, there: &Facts) -> io::Result<()> {
        let host = self.host;
        exchange(host, &self.name, victim.name)?;
        let removed = if there.is_dir() {
            remove_tree(host, Victim { name: &self.name, ..victim })
        } else {
            Ok(fs::unlinkat(host, &self.name, AtFlags::empty())?)
        };
        match removed {
            Ok(()) => self.there = false,
            // What is left of the host's gets its own name back.
            Err(_) => exchange(host, &self.name, victim.name)?,
        }
        removed
    }
}

impl Drop for Beside<'_> {
    fn drop(&mut self) {
        if self.there {
            let flags = if self.is_dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            // There is nobody to tell, and the reason why it isn't needed is being told already.
            let _ = fs::unlinkat(self.host, &self.name, flags);
        }
    }
}

/// Swaps two names of a directory.
fn exchange(host: &Directory, one: &OsStr, other: &OsStr) -> io::Result<()> {
    match fs::renameat_with(host, one, host, other, RenameFlags::EXCHANGE) {
        Err(Errno::INVAL) => {}
        done => return Ok(done?),
    }
    // The file system can't, so for a moment there is nothing under the other name.
    let mut aside = one.to_owned();
    aside.push("-aside");
    fs::renameat(host, other, host, &aside)?;
    if let Err(error) = fs::renameat(host, one, host, other) {
        fs::renameat(host, &aside, host, other)?;
        return Err(error.into());
    }
    Ok(fs::renameat(host, &aside, host, one)?)
}

/// The time that a file which is changed now in `folder` gets.
pub(super) fn change_time(folder: &Path) -> io::Result<Time> {
    let folder = Directory::root(folder)?;
    let (_beside, file) = Beside::empty_file(&folder)?;
    // A time that somebody has looked at is followed by an exact one, where there are such.
    let before = Facts::from(fs::fstat(&file)?);
    fs::futimens(&file, &times(before.modified))?;
    Ok(Facts::from(fs::fstat(&file)?).changed)
}

/// Sets a directory's mode.
pub(super) fn set_mode(host: &Directory, name: &OsStr, mode: u32) -> io::Result<()> {
    let directory = host.open(name)?;
    Ok(fs::fchmod(&directory, Mode::from_raw_mode(mode))?)
}

/// Removes what is no directory.
pub(super) fn remove(host: &Directory, name: &OsStr) -> io::Result<()> {
    Ok(fs::unlinkat(host, name, AtFlags::empty())?)
}

/// Removes a directory and all that is in it. Fails at what is to be kept, and at what is made in it
/// meanwhile.
pub(super) fn remove_tree(host: &Directory, victim: Victim<'_>) -> io::Result<()> {
    let top = host.open(victim.name)?;
    match walk(top, None, victim.path, &[], &mut Remover { keep: victim.keep }) {
        Ok(()) => Ok(fs::unlinkat(host, victim.name, AtFlags::REMOVEDIR)?),
        Err(FilesError::Step { source, .. }) => Err(source),
        Err(other) => Err(io::Error::other(other)),
    }
}

struct Remover<'a> {
    keep: Keep<'a>,
}

impl Visitor for Remover<'_> {
    fn entry(&mut self, spot: &Spot<'_>) -> Result<Next, FilesError> {
        match spot.here {
            // A directory's times change as it is emptied.
            Some(here) if here.is_dir() => return Ok(Next::Enter),
            Some(here) if (self.keep)(spot.path, &here) => {
                Err(io::Error::other("it was changed meanwhile"))
            }
            _ => remove(spot.upper, spot.name),
        }
        .doing("remove the host's", spot.path)?;
        Ok(Next::Skip)
    }

    fn leave(&mut self, spot: &Spot<'_>) -> Result<(), FilesError> {
        fs::unlinkat(spot.upper, spot.name, AtFlags::REMOVEDIR)
            .doing("remove the host's", spot.path)
    }
}

/// Gives a file to the owner of `like`. Only root can; others own what they make, and keep the group
/// if they are in it.
fn give(
    like: &Facts,
    chown: impl Fn(Option<Uid>, Option<Gid>) -> rustix::io::Result<()>,
) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(like.uid), Gid::from_raw(like.gid));
    let given = match chown(Some(uid), Some(gid)) {
        Err(Errno::PERM) => chown(None, Some(gid)),
        other => other,
    };
    match given {
        // In a user namespace, some owners have no number.
        Err(Errno::PERM | Errno::INVAL) => Ok(()),
        other => Ok(other?),
    }
}

fn times(modified: Time) -> Timestamps {
    let time = Timespec { tv_sec: modified.0, tv_nsec: modified.1.into() };
    Timestamps { last_access: time, last_modification: time }
}
