//! Walking through what is to be copied.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Stat, fstat};

use super::error::{Located, Refusal, TransferError, Transferred, Where};
use super::item::{Item, NotRead, open_directory, refuse_kernels};
use crate::descent::{Descent, Mounts, next_names};

/// What is done with a tree: a directory is entered, then come the files in it, then its directories, then it is left.
pub(super) trait Visit {
    /// An inner error refuses the directory, which is then not visited.
    fn enter(
        &mut self,
        directory: BorrowedFd<'_>,
        stat: &Stat,
        below: &Below<'_>,
    ) -> Result<Result<(), Refusal>, TransferError>;
    /// Whether it takes what stands for a name that is gone, which is a device to others.
    fn takes_whiteouts(&self) -> bool {
        false
    }
    /// A file or a link.
    fn item(&mut self, item: Item, below: &Below<'_>) -> Result<(), TransferError>;
    /// `below` is the directory that is left.
    fn leave(&mut self, below: &Below<'_>) -> Result<(), TransferError>;
    fn done(&mut self) -> &mut Transferred;
}

/// Where something is, below the top of the walk.
pub(super) struct Below<'a> {
    levels: &'a [Level],
    name: &'a CStr,
}

impl Below<'_> {
    pub fn name(&self) -> &CStr {
        self.name
    }

    /// How many bytes [`Below::path`] adds.
    pub fn length(&self) -> usize {
        self.parts().map(|part| part.len() + 1).sum()
    }

    /// The path of it if the top's is `top`.
    pub fn path(&self, top: &Path) -> PathBuf {
        let mut path = top.to_owned();
        path.extend(self.parts());
        path
    }

    fn parts(&self) -> impl Iterator<Item = &OsStr> {
        let names = self.levels.iter().map(|level| level.name.as_c_str()).chain([self.name]);
        // The top's own name is in its path.
        names.map(|name| OsStr::from_bytes(name.to_bytes())).filter(|name| !name.is_empty())
    }
}

/// A directory on the way to where the walk is.
struct Level {
    /// Empty at the top.
    name: CString,
    /// The directories in it that are still to be visited.
    directories: Vec<CString>,
}

/// Walks through `top`, of which `path` tells, but doesn't enter it itself.
///
/// What can't be visited is refused; what is gone when its turn comes was never there.
pub(super) fn walk(
    top: OwnedFd,
    path: (&Path, Where),
    visit: &mut impl Visit,
) -> Result<(), TransferError> {
    if let Err(NotRead::Refused(refusal)) = refuse_kernels(top.as_fd()) {
        visit.done().refuse(|| path.0.to_owned(), refusal);
        return Ok(());
    }
    let level = Level { name: CString::default(), directories: Vec::new() };
    let mut walk =
        Walk { path, descent: Descent::new(top, Mounts::Cross), levels: vec![level], visit };
    walk.read()?;
    while let Some(level) = walk.levels.last_mut() {
        match level.directories.pop() {
            Some(next) => walk.enter(next)?,
            None => walk.leave()?,
        }
    }
    Ok(())
}

struct Walk<'a, V> {
    path: (&'a Path, Where),
    descent: Descent,
    levels: Vec<Level>,
    visit: &'a mut V,
}

impl<V: Visit> Walk<'_, V> {
    fn enter(&mut self, name: CString) -> Result<(), TransferError> {
        let opened = match open_directory((self.descent.here(), &name)) {
            Ok(opened) => opened,
            Err(why) => return self.not_read(why, &name),
        };
        let stat = fstat(&opened).map_err(|errno| self.failed("look at", &name, errno.into()))?;
        let below = Below { levels: &self.levels, name: &name };
        if let Err(refusal) = self.visit.enter(opened.as_fd(), &stat, &below)? {
            self.visit.done().refuse(|| below.path(self.path.0), refusal);
            return Ok(());
        }
        self.descent.enter(opened).map_err(|error| self.failed("enter", &name, error))?;
        self.levels.push(Level { name, directories: Vec::new() });
        self.read()
    }

    fn leave(&mut self) -> Result<(), TransferError> {
        let Some(Level { name, .. }) = self.levels.pop() else { return Ok(()) };
        if self.levels.is_empty() {
            return Ok(());
        }
        self.descent.leave().map_err(|error| self.failed("leave", &name, error))?;
        self.visit.leave(&Below { levels: &self.levels, name: &name })
    }

    /// Visits the files here, and remembers the directories.
    fn read(&mut self) -> Result<(), TransferError> {
        let mut names = Vec::new();
        loop {
            next_names(self.descent.here(), &mut names)
                .map_err(|error| self.failed("read", c"", error))?;
            if names.is_empty() {
                return Ok(());
            }
            for name in names.drain(..) {
                match Item::read((self.descent.here(), &name)) {
                    Ok(Item::Directory) => {
                        let level = self.levels.last_mut();
                        level.into_iter().for_each(|level| level.directories.push(name.clone()));
                    }
                    Ok(Item::Whiteout(_)) if !self.visit.takes_whiteouts() => {
                        self.not_read(NotRead::Refused(Refusal::Device), &name)?
                    }
                    Ok(item) => {
                        self.visit.item(item, &Below { levels: &self.levels, name: &name })?
                    }
                    Err(why) => self.not_read(why, &name)?,
                }
            }
        }
    }

    fn not_read(&mut self, why: NotRead, name: &CStr) -> Result<(), TransferError> {
        match why {
            NotRead::Gone => Ok(()),
            NotRead::Refused(refusal) => {
                let below = Below { levels: &self.levels, name };
                self.visit.done().refuse(|| below.path(self.path.0), refusal);
                Ok(())
            }
            NotRead::Failed(error) => Err(self.failed("open", name, error)),
        }
    }

    fn failed(&self, action: &'static str, name: &CStr, source: io::Error) -> TransferError {
        let path = Below { levels: &self.levels, name }.path(self.path.0);
        let at = Located { path, place: self.path.1 };
        TransferError::Failed { action: action.into(), at, source }
    }
}
