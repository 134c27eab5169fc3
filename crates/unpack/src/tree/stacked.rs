//! What layers hold together.

use std::collections::VecDeque;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, Timespec, fgetxattr, flistxattr, fstat, open, openat,
    readlinkat, statat,
};
use rustix::io::Errno;

use super::making::{OPAQUE, is_opaque_value, is_set};
use super::member::Attributes;
use super::parents::{join, open_below};

/// Trees that stand on each other, as overlayfs shows them. The topmost is the first.
pub(crate) struct Stacked(Vec<OwnedFd>);

/// What is at a path.
enum Found {
    Directory(OwnedFd, Stat),
    /// Something else, of this name in a directory.
    Other(OwnedFd, CString, Stat),
    /// Nothing, and nothing of what is below it shows.
    Hidden,
    Nothing,
    /// An ordinary user's own directory may be closed. There may be something.
    Closed,
}

/// The most that an extended attribute and all their names can take, in bytes.
const LONGEST_ATTRIBUTE: usize = 64 << 10;

/// How many steps may lead to a file, with those of links.
const MOST_STEPS: u32 = 4096;

impl Stacked {
    /// Those of `trees`, the topmost last.
    pub fn open(trees: &[PathBuf]) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = trees.iter().rev().map(|tree| Ok(open(tree, flags, Mode::empty())?));
        opened.collect::<io::Result<_>>().map(Self)
    }

    /// Whether there is something at a path, or may be.
    pub fn has(&self, path: &[u8]) -> bool {
        matches!(self.find(path), Found::Directory(..) | Found::Other(..) | Found::Closed)
    }

    /// What the directory at a path has; none if there is none.
    pub(super) fn directory(&self, path: &[u8]) -> Option<Attributes> {
        let Found::Directory(directory, stat) = self.find(path) else { return None };
        // If all are the caller's own, that layer's list says who owns it in the image.
        let id = |id| if rustix::process::geteuid().is_root() { id } else { 0 };
        Some(Attributes {
            mode: stat.st_mode & 0o7777,
            uid: id(stat.st_uid),
            gid: id(stat.st_gid),
            mtime: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as i64 },
            extended: attributes(&directory).unwrap_or_default(),
        })
    }

    /// Opens a regular file to be read; none if there is none that can be. Links are followed, and
    /// lead nowhere else than in the trees.
    pub fn open_file(&self, path: &[u8]) -> io::Result<Option<File>> {
        let parts = |path: &[u8]| -> Vec<Vec<u8>> {
            path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect()
        };
        let mut waiting: VecDeque<Vec<u8>> = parts(path).into();
        let mut here = Vec::new();
        for _ in 0..MOST_STEPS {
            let Some(part) = waiting.pop_front() else { return Ok(None) };
            match part.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    here.truncate(here.iter().rposition(|byte| *byte == b'/').unwrap_or(0));
                    continue;
                }
                _ => {}
            }
            let next = join(&here, &part);
            let (directory, name, stat) = match self.find(&next) {
                Found::Directory(..) => {
                    here = next;
                    continue;
                }
                Found::Other(directory, name, stat) => (directory, name, stat),
                Found::Hidden | Found::Nothing | Found::Closed => return Ok(None),
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Symlink => {
                    let target = readlinkat(&directory, &name, Vec::new())?.into_bytes();
                    if target.starts_with(b"/") {
                        here.clear();
                    }
                    parts(&target).into_iter().rev().for_each(|part| waiting.push_front(part));
                }
                FileType::RegularFile if waiting.iter().all(Vec::is_empty) => {
                    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    return match openat(&directory, &name, flags, Mode::empty()) {
                        Err(Errno::ACCESS) => Ok(None),
                        opened => Ok(Some(opened?.into())),
                    };
                }
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    fn find(&self, path: &[u8]) -> Found {
        for tree in &self.0 {
            match find_in(tree, path) {
                Ok(Found::Nothing) => {}
                Ok(found) => return found,
                Err(_) => return Found::Closed,
            }
        }
        Found::Nothing
    }
}

fn find_in(tree: &OwnedFd, path: &[u8]) -> Result<Found, Errno> {
    let open = |at: &OwnedFd, name: &CStr| {
        open_below(at, OsStr::from_bytes(name.to_bytes()), OFlags::PATH)
    };
    let mut here = open(tree, c".")?;
    let mut parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).peekable();
    let mut is_hiding = false;
    while let Some(part) = parts.next() {
        is_hiding |= is_opaque(&here);
        let name = CString::new(part).map_err(|_| Errno::INVAL)?;
        let stat = match statat(&here, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) if is_hiding => return Ok(Found::Hidden),
            Err(Errno::NOENT) => return Ok(Found::Nothing),
            stat => stat?,
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => here = open(&here, &name)?,
            // The only devices are whiteouts.
            FileType::CharacterDevice => return Ok(Found::Hidden),
            // Nothing is beneath what is no directory.
            _ if parts.peek().is_some() => return Ok(Found::Hidden),
            _ => return Ok(Found::Other(here, name, stat)),
        }
    }
    let stat = fstat(&here)?;
    Ok(Found::Directory(here, stat))
}

fn is_opaque(directory: &OwnedFd) -> bool {
    let mut value = [0; 1];
    let read = reopened(directory).and_then(|at| fgetxattr(at, OPAQUE, &mut value));
    read.is_ok_and(|length| is_opaque_value(&value[..length]))
}

/// A directory that was opened to be found things in only, to be read.
fn reopened(directory: &OwnedFd) -> Result<OwnedFd, Errno> {
    open_below(directory.as_fd(), OsStr::new("."), OFlags::RDONLY)
}

/// The attributes that a directory has and its archive gave it.
fn attributes(directory: &OwnedFd) -> Result<Vec<(CString, Vec<u8>)>, Errno> {
    let directory = reopened(directory)?;
    let mut names = vec![0; LONGEST_ATTRIBUTE];
    let length = flistxattr(&directory, &mut names)?;
    let mut attributes = Vec::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if is_set(name) {
            let name = CString::new(name).map_err(|_| Errno::INVAL)?;
            let mut value = vec![0; LONGEST_ATTRIBUTE];
            let length = fgetxattr(&directory, &name, &mut value)?;
            value.truncate(length);
            attributes.push((name, value));
        }
    }
    Ok(attributes)
}
