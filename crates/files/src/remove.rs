//! Removing a tree that somebody hostile made.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, unlinkat};
use rustix::io::Errno;

use crate::descent::{Descent, Mounts, c_name, next_names};

/// How often a directory is emptied that somebody goes on filling.
const ATTEMPTS: u8 = 4;

/// Removes what is at `path` with all that is in it, whatever that is; nothing there is success.
///
/// No link is followed and no mount crossed, and a tree may be deeper than a path can say. Directories that the
/// caller owns are made accessible on the way. What can't be removed (such as an immutable file) stays, the rest
/// goes, and the first such error is returned. `path` must end in a name, and its parent is trusted.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "that is no name"))?;
    let name = c_name(name.as_bytes())?;
    let parent =
        path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match rustix::fs::openat(
        CWD,
        parent,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    ) {
        Ok(parent) => remove_in(parent, name),
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// As [`remove_tree`], of `name` in `parent`.
pub(crate) fn remove_in(parent: OwnedFd, name: CString) -> io::Result<()> {
    let mut removal = Removal {
        descent: Descent::new(parent, Mounts::Refuse),
        levels: vec![Level::default()],
        names: Vec::new(),
        failed: None,
    };
    removal.remove(&name);
    while let Some(level) = removal.levels.last_mut() {
        match level.directories.pop() {
            Some(next) => removal.enter(next),
            None => removal.leave()?,
        }
    }
    removal.failed.map_or(Ok(()), Err)
}

struct Removal {
    descent: Descent,
    levels: Vec<Level>,
    names: Vec<CString>,
    failed: Option<io::Error>,
}

/// A directory on the way to where the removal is.
#[derive(Default)]
struct Level {
    /// What it is in the one above it; the top has none.
    directory: Directory,
    /// Those in it that are still to be removed.
    directories: Vec<Directory>,
}

#[derive(Default)]
struct Directory {
    name: CString,
    attempts: u8,
}

impl Removal {
    /// Removes `name` here, or remembers it if it is a directory.
    fn remove(&mut self, name: &CStr) {
        match unlinkat(self.descent.here(), name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) => {
                if let Some(level) = self.levels.last_mut() {
                    level.directories.push(Directory { name: name.to_owned(), attempts: 0 });
                }
            }
            Err(errno) => self.note(errno.into()),
        }
    }

    fn enter(&mut self, directory: Directory) {
        let opened = match self.descent.open_shut(&directory.name, Mode::RWXU) {
            Ok((opened, _)) => opened,
            Err(Errno::NOENT) => return,
            Err(errno) => return self.note(errno.into()),
        };
        if let Err(error) = self.descent.enter(opened) {
            return self.note(error);
        }
        self.levels.push(Level { directory, directories: Vec::new() });
        self.remove_files();
    }

    fn remove_files(&mut self) {
        let mut names = std::mem::take(&mut self.names);
        loop {
            match next_names(self.descent.here(), &mut names) {
                Ok(()) if names.is_empty() => break,
                Ok(()) => names.iter().for_each(|name| self.remove(name)),
                Err(error) => {
                    self.note(error);
                    break;
                }
            }
        }
        self.names = names;
    }

    /// Goes up, and removes the directory that was left.
    fn leave(&mut self) -> io::Result<()> {
        let Some(Level { directory, .. }) = self.levels.pop() else { return Ok(()) };
        let Some(above) = self.levels.last_mut() else { return Ok(()) };
        if let Err(error) = self.descent.leave() {
            return Err(self.failed.take().unwrap_or(error));
        }
        match unlinkat(self.descent.here(), &directory.name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            // Somebody filled it meanwhile, or a file system's listing left something out.
            Err(Errno::NOTEMPTY | Errno::EXIST)
                if directory.attempts < ATTEMPTS && self.failed.is_none() =>
            {
                above.directories.push(Directory { attempts: directory.attempts + 1, ..directory });
            }
            Err(errno) => self.note(errno.into()),
        }
        Ok(())
    }

    fn note(&mut self, error: io::Error) {
        self.failed.get_or_insert(error);
    }
}
