//! A sandbox's layers copied, for snapshots and forks.

mod attributes;
mod error;
mod links;

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, mknodat, statat};
use rustix::io::Errno;

use crate::contents::Contents;
use crate::descent::{Descent, Identity, Mounts, c_name, length, next_names, open_shut_file};
use crate::remove::{remove_in, remove_tree};
use attributes::Attributes;
pub use error::CopyError;
use links::Links;

/// What a copy holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// How many names that are no directories.
    pub files: u64,
    /// The lengths of the regular files together, every file counted once, and one with holes for what it takes.
    pub bytes: u64,
    /// Whether no contents were copied, since the file system shares them between the two trees.
    pub reflinked: bool,
}

/// Makes `to`, which must not exist, an exact copy of the directory `from`.
///
/// Kept are contents (shared where the file system can, else with their holes), owners, permissions, times, extended
/// attributes, links, hard links within the tree, fifos, and the character devices 0:0 that stand for what an
/// overlay removed. Sockets are left out, since nobody listens any more. Attributes other than `user.*` are kept as
/// far as the caller may.
///
/// No link is followed. Any other device, and a mount in the tree, is an error. Nothing may change `from` meanwhile;
/// if something does, the copy is of mixed age or fails. Files and directories that their owner, the caller, shut to
/// himself are opened by changing their permissions for that time.
///
/// After an error there is no `to`. If the process is killed, a part of it may be there.
pub fn copy_tree(from: &Path, to: &Path) -> Result<Copied, CopyError> {
    let (source_parent, source_name) = split(from)?;
    let (parent, name) = split(to)?;
    match rustix::fs::mkdirat(&parent, &name, Mode::RWXU) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Err(CopyError::Exists { path: to.into() }),
        Err(errno) => return Err(CopyError::failed("make", to)(errno.into())),
    }
    let copied = Copying::new(source_parent, parent, from).run(&source_name, &name);
    if copied.is_err() {
        // The error that is told is the first one.
        let _ = remove_tree(to);
    }
    copied
}

/// Opens the directory that `path` is in.
fn split(path: &Path) -> Result<(OwnedFd, CString), CopyError> {
    let failed = CopyError::failed("find", path);
    let name = path.file_name().ok_or(io::Error::from(io::ErrorKind::InvalidInput));
    let name = name.and_then(|name| c_name(name.as_bytes()));
    let parent =
        path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(CWD, parent, flags, Mode::empty());
    name.and_then(|name| Ok((opened?, name))).map_err(failed)
}

struct Copying<'a> {
    /// The source's path, for what is said about it.
    from: &'a Path,
    source: Descent,
    made: Descent,
    levels: Vec<Level>,
    contents: Contents,
    attributes: Attributes,
    links: Option<Links>,
    top: Option<Top>,
    copied: Copied,
}

/// The two directories that the caller named.
struct Top {
    source: OwnedFd,
    made: OwnedFd,
    made_identity: Identity,
}

/// A directory on the way to where the copying is.
struct Level {
    name: CString,
    stat: Stat,
    /// The permissions that the source gets back.
    shut: Option<Mode>,
    /// The directories in it that are still to be copied.
    directories: Vec<CString>,
}

impl<'a> Copying<'a> {
    fn new(source_parent: OwnedFd, made_parent: OwnedFd, from: &'a Path) -> Self {
        Self {
            from,
            source: Descent::new(source_parent, Mounts::Refuse),
            made: Descent::new(made_parent, Mounts::Refuse),
            levels: Vec::new(),
            contents: Contents::new(),
            attributes: Attributes::new(),
            links: None,
            top: None,
            copied: Copied::default(),
        }
    }

    fn run(&mut self, source_name: &CStr, name: &CStr) -> Result<Copied, CopyError> {
        let result = self.copy(source_name, name);
        if result.is_err() {
            self.give_back();
        }
        self.copied.reflinked = self.contents.shared > 0 && self.contents.copied == 0;
        result.map(|()| self.copied)
    }

    fn copy(&mut self, source_name: &CStr, name: &CStr) -> Result<(), CopyError> {
        self.enter(source_name, name)?;
        self.top = Some(self.top().map_err(|error| self.failed("open", None, error))?);
        self.copy_files()?;
        while let Some(level) = self.levels.last_mut() {
            match level.directories.pop() {
                Some(next) => {
                    let made = rustix::fs::mkdirat(self.made.here(), &next, Mode::RWXU);
                    made.map_err(|errno| self.failed("make", Some(&next), errno))?;
                    self.enter(&next, &next)?;
                    self.copy_files()?;
                }
                None => self.leave()?,
            }
        }
        Ok(())
    }

    fn top(&self) -> io::Result<Top> {
        let (source, made) = (self.source.here(), self.made.here());
        let made_identity = Identity::of(&fstat(made)?);
        Ok(Top {
            source: source.try_clone_to_owned()?,
            made: made.try_clone_to_owned()?,
            made_identity,
        })
    }

    /// Goes down in both trees.
    fn enter(&mut self, source_name: &CStr, name: &CStr) -> Result<(), CopyError> {
        let (opened, shut) = match self.source.open_shut(source_name, Mode::RUSR | Mode::XUSR) {
            Ok(opened) => opened,
            Err(Errno::XDEV) => {
                return Err(CopyError::Mount { path: self.path(Some(source_name)) });
            }
            Err(errno) => return Err(self.failed("open", Some(source_name), errno)),
        };
        let stat = fstat(&opened).map_err(io::Error::from);
        let entered = stat.and_then(|stat| self.source.enter(opened).map(|()| stat));
        let mut stat = entered.map_err(|error| self.failed("enter", Some(source_name), error))?;
        if let Some(shut) = shut {
            stat.st_mode = (stat.st_mode & !0o7777) | shut.as_raw_mode();
        }
        self.levels.push(Level {
            name: source_name.to_owned(),
            stat,
            shut,
            directories: Vec::new(),
        });
        if self.top.as_ref().is_some_and(|top| top.made_identity == Identity::of(&stat)) {
            return Err(CopyError::IntoItself { path: self.path(None) });
        }
        let entered =
            self.made.open(name).map_err(io::Error::from).and_then(|made| self.made.enter(made));
        entered.map_err(|error| self.failed("enter the copy of", None, error))
    }

    /// Goes up in both trees, and gives the directories that were left what they are to have.
    fn leave(&mut self) -> Result<(), CopyError> {
        let Some(level) = self.levels.pop() else { return Ok(()) };
        if self.levels.is_empty() {
            self.remove_links().map_err(|error| self.failed("tidy up the copy of", None, error))?;
        }
        let left = self.source.leave().and_then(|source| {
            let made = self.made.leave();
            let copied = made
                .and_then(|made| self.attributes.copy(source.as_fd(), made.as_fd(), &level.stat));
            let given = give_back(source.as_fd(), &level);
            copied.and(given)
        });
        left.map_err(|error| self.failed("copy the attributes of", Some(&level.name), error))
    }

    fn remove_links(&mut self) -> io::Result<()> {
        match (self.links.take(), &self.top) {
            (Some(links), Some(top)) => remove_in(top.made.try_clone()?, links.into_name()),
            _ => Ok(()),
        }
    }

    /// Gives the source's directories back the permissions they had, as far as there is a way.
    fn give_back(&mut self) {
        while let Some(level) = self.levels.pop() {
            let Ok(left) = self.source.leave() else { return };
            let _ = give_back(left.as_fd(), &level);
        }
    }

    /// Copies what is no directory here, and remembers what is.
    fn copy_files(&mut self) -> Result<(), CopyError> {
        let mut names = Vec::new();
        loop {
            next_names(self.source.here(), &mut names)
                .map_err(|error| self.failed("read", None, error))?;
            if names.is_empty() {
                return Ok(());
            }
            for name in &names {
                self.copy_name(name)?;
            }
        }
    }

    fn copy_name(&mut self, name: &CStr) -> Result<(), CopyError> {
        let stat = statat(self.source.here(), name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| self.failed("look at", Some(name), errno))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let level = self.levels.last_mut();
                level.into_iter().for_each(|level| level.directories.push(name.to_owned()));
                return Ok(());
            }
            FileType::Socket => return Ok(()),
            FileType::CharacterDevice if stat.st_rdev == 0 => {}
            FileType::CharacterDevice | FileType::BlockDevice => {
                return Err(CopyError::Device { path: self.path(Some(name)) });
            }
            _ => {}
        }
        let copied = if stat.st_nlink > 1 {
            self.copy_linked(name, &stat)
        } else {
            self.copy_file(name, &stat)
        };
        match copied {
            Ok(()) => self.copied.files += 1,
            Err(error) if error.raw_os_error() == Some(Errno::XDEV.raw_os_error()) => {
                return Err(CopyError::Mount { path: self.path(Some(name)) });
            }
            Err(error) => return Err(self.failed("copy", Some(name), error)),
        }
        Ok(())
    }

    /// Copies a file that has more names, or gives it one more if it was copied.
    fn copy_linked(&mut self, name: &CStr, stat: &Stat) -> io::Result<()> {
        if let (None, Some(top)) = (&self.links, &self.top) {
            self.links = Some(Links::new(top.source.as_fd(), top.made.as_fd())?);
        }
        if let Some(links) = &self.links
            && links.link(stat, self.made.here(), name)?
        {
            return Ok(());
        }
        self.copy_file(name, stat)?;
        self.links.as_ref().map_or(Ok(()), |links| links.remember(stat, self.made.here(), name))
    }

    fn copy_file(&mut self, name: &CStr, stat: &Stat) -> io::Result<()> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        match kind {
            FileType::RegularFile => {
                let (from, stat) = open_shut_file(self.source.here(), name)?;
                let flags = OFlags::RDWR
                    | OFlags::CREATE
                    | OFlags::EXCL
                    | OFlags::NOFOLLOW
                    | OFlags::CLOEXEC;
                let to = File::from(rustix::fs::openat(
                    self.made.here(),
                    name,
                    flags,
                    Mode::RUSR | Mode::WUSR,
                )?);
                self.contents.copy(&from, &to, length(&stat))?;
                self.attributes.copy(from.as_fd(), to.as_fd(), &stat)?;
                self.copied.bytes += length(&stat).min(taken(&stat));
                return Ok(());
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(self.source.here(), name, Vec::new())?;
                rustix::fs::symlinkat(target, self.made.here(), name)?;
            }
            // A device's number is 0 here, and a fifo has none.
            _ => mknodat(self.made.here(), name, kind, Mode::RUSR | Mode::WUSR, 0)?,
        }
        attributes::copy_simple(self.made.here(), name, stat)
    }

    fn path(&self, name: Option<&CStr>) -> PathBuf {
        let mut path = self.from.to_owned();
        let below = self.levels.iter().skip(1).map(|level| level.name.as_c_str());
        // The first level's name is the last of the source's path already.
        let name = name.filter(|_| !self.levels.is_empty());
        for part in below.chain(name) {
            path.push(std::ffi::OsStr::from_bytes(part.to_bytes()));
        }
        path
    }

    fn failed(
        &self,
        action: &'static str,
        name: Option<&CStr>,
        error: impl Into<io::Error>,
    ) -> CopyError {
        CopyError::failed(action, &self.path(name))(error.into())
    }
}

/// How many bytes of a disk a file takes.
fn taken(stat: &Stat) -> u64 {
    /// What a file's blocks are counted in (stat(2)).
    const BLOCK: u64 = 512;
    u64::try_from(stat.st_blocks).unwrap_or(0) * BLOCK
}

fn give_back(source: BorrowedFd<'_>, level: &Level) -> io::Result<()> {
    level.shut.map_or(Ok(()), |shut| Ok(rustix::fs::fchmod(source, shut)?))
}
