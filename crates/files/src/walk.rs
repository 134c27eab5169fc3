//! A walk through an upper directory beside the lower one that it lies on.
//!
//! Both are walked by descriptors. The walk neither recurses nor holds more than a few of them, so
//! that a tree may be deeper than a path or the stack could be; its memory is bounded by the number of
//! names in the directories on the way.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::directory::Directory;
use crate::error::{FilesError, While};
use crate::facts::Facts;

/// How many directories of a way down are held open at most.
const HELD: usize = 32;

/// A name that was found in the upper directory, or that an opaque one hides in the lower.
pub(crate) struct Spot<'a> {
    /// Absolute, in the sandbox.
    pub(crate) path: &'a Path,
    pub(crate) name: &'a OsStr,
    /// The directories that the name is in. No lower one where the upper's is new.
    pub(crate) upper: &'a Directory,
    pub(crate) lower: Option<&'a Directory>,
    /// What the name is in the upper directory, and what in the lower.
    pub(crate) here: Option<Facts>,
    pub(crate) there: Option<Facts>,
}

/// A directory that was entered.
pub(crate) struct Entered<'a> {
    pub(crate) path: &'a Path,
    pub(crate) lower: Option<&'a Directory>,
    pub(crate) opaque: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Go on with what is in this directory of the upper.
    Enter,
    Skip,
}

/// Whoever looks at what a walk finds. For every directory that is entered: first `entry`, then
/// `enter`, then all of what is in it, then `leave`. The top has only an `enter`. Names come sorted.
pub(crate) trait Visitor {
    fn entry(&mut self, spot: &Spot<'_>) -> Result<Next, FilesError>;

    fn enter(&mut self, _entered: &Entered<'_>) -> Result<(), FilesError> {
        Ok(())
    }

    fn leave(&mut self, _spot: &Spot<'_>) -> Result<(), FilesError> {
        Ok(())
    }
}

/// Directories from the top to where the walk is.
struct Trail {
    /// The last ones, at most [`HELD`]; never empty while there are any.
    held: VecDeque<Directory>,
    /// Device and inode of all.
    ids: Vec<(u64, u64)>,
}

impl Trail {
    fn new() -> Self {
        Trail { held: VecDeque::new(), ids: Vec::new() }
    }

    fn push(&mut self, directory: Directory, path: &Path) -> Result<(), FilesError> {
        let facts = directory.facts().doing("look at", path)?;
        self.ids.push((facts.dev, facts.ino));
        if self.held.len() == HELD {
            self.held.pop_front();
        }
        self.held.push_back(directory);
        Ok(())
    }

    /// Goes up by one. A directory that is no longer held is found again by `..`, and must be the
    /// one that it was: the sandbox may move directories meanwhile.
    fn pop(&mut self, path: &Path) -> Result<(), FilesError> {
        self.ids.pop();
        let left = self.held.pop_back();
        let (Some(left), true, Some(&id)) = (left, self.held.is_empty(), self.ids.last()) else {
            return Ok(());
        };
        let up = left.up().doing("leave", path)?;
        let facts = up.facts().doing("leave", path)?;
        if (facts.dev, facts.ino) != id {
            return Err(FilesError::Moved(path.to_owned()));
        }
        self.held.push_back(up);
        Ok(())
    }

    fn last(&self) -> Option<&Directory> {
        self.held.back()
    }

    fn depth(&self) -> usize {
        self.ids.len()
    }
}

/// A directory on the way, with what is left to look at.
struct Level {
    names: std::vec::IntoIter<OsString>,
    /// What it was when it was found; nothing for the top.
    here: Option<Facts>,
    there: Option<Facts>,
}

/// A directory to be entered, and the one under it.
struct Below {
    upper: Directory,
    lower: Option<Directory>,
    here: Option<Facts>,
    there: Option<Facts>,
}

struct Walk<'a> {
    uppers: Trail,
    /// As deep as `uppers` where there is a lower directory, else not.
    lowers: Trail,
    levels: Vec<Level>,
    path: PathBuf,
    skip: &'a [PathBuf],
}

/// Walks through `upper`, and `lower` beside it. `top` is where they show in the sandbox; `skip` are
/// paths at which nothing is looked at.
pub(crate) fn walk(
    upper: Directory,
    lower: Option<Directory>,
    top: &Path,
    skip: &[PathBuf],
    visitor: &mut dyn Visitor,
) -> Result<(), FilesError> {
    let (uppers, lowers) = (Trail::new(), Trail::new());
    let mut walk = Walk { uppers, lowers, levels: Vec::new(), path: top.to_owned(), skip };
    walk.descend(Below { upper, lower, here: None, there: None }, visitor)?;
    while let Some(level) = walk.levels.last_mut() {
        match level.names.next() {
            Some(name) => walk.look_at(&name, visitor)?,
            None => walk.ascend(visitor)?,
        }
    }
    Ok(())
}

impl Walk<'_> {
    fn look_at(&mut self, name: &OsStr, visitor: &mut dyn Visitor) -> Result<(), FilesError> {
        self.path.push(name);
        let next = match self.skip.contains(&self.path) {
            true => None,
            false => self.judge(name, visitor)?,
        };
        match next {
            Some(below) => self.descend(below, visitor),
            None => {
                self.path.pop();
                Ok(())
            }
        }
    }

    /// Has the visitor look at `name`, and opens it if it is to be entered.
    fn judge(&self, name: &OsStr, visitor: &mut dyn Visitor) -> Result<Option<Below>, FilesError> {
        let Some(spot) = self.spot(name)? else { return Ok(None) };
        let is_dir = spot.here.is_some_and(|here| here.is_dir());
        if visitor.entry(&spot)? == Next::Skip || !is_dir {
            return Ok(None);
        }
        let Some(upper) = found(spot.upper.open(name)).doing("open", spot.path)? else {
            return Ok(None);
        };
        // Looked up only now, since the visitor may have made it.
        let lower = match spot.lower {
            Some(lower) => found(lower.open(name)).doing("open the host's", spot.path)?,
            None => None,
        };
        Ok(Some(Below { upper, lower, here: spot.here, there: spot.there }))
    }

    /// What `name` is in the directories where the walk is, or nothing if it is in neither.
    fn spot<'a>(&'a self, name: &'a OsStr) -> Result<Option<Spot<'a>>, FilesError> {
        let Some(upper) = self.uppers.last() else { return Ok(None) };
        let lower = self.lower();
        let here = upper.stat(name).doing("look at", &self.path)?;
        let there = match lower {
            Some(lower) => lower.stat(name).doing("look at the host's", &self.path)?,
            None => None,
        };
        let spot = Spot { path: &self.path, name, upper, lower, here, there };
        Ok((here.is_some() || there.is_some()).then_some(spot))
    }

    fn lower(&self) -> Option<&Directory> {
        if self.lowers.depth() == self.uppers.depth() { self.lowers.last() } else { None }
    }

    fn descend(&mut self, below: Below, visitor: &mut dyn Visitor) -> Result<(), FilesError> {
        let Below { upper, lower, here, there } = below;
        let path = &self.path;
        let opaque = upper.is_opaque().doing("look at", path)?;
        visitor.enter(&Entered { path, lower: lower.as_ref(), opaque })?;
        let mut names = upper.names().doing("read", path)?;
        if let (true, Some(lower)) = (opaque, &lower) {
            names.extend(lower.names().doing("read the host's", path)?);
            names.sort_unstable();
            names.dedup();
        }
        self.uppers.push(upper, path)?;
        if let Some(lower) = lower {
            self.lowers.push(lower, path)?;
        }
        self.levels.push(Level { names: names.into_iter(), here, there });
        Ok(())
    }

    fn ascend(&mut self, visitor: &mut dyn Visitor) -> Result<(), FilesError> {
        if self.lowers.depth() == self.uppers.depth() {
            self.lowers.pop(&self.path)?;
        }
        self.uppers.pop(&self.path)?;
        let Some(Level { here, there, .. }) = self.levels.pop() else { return Ok(()) };
        let (Some(upper), Some(name)) = (self.uppers.last(), self.path.file_name()) else {
            return Ok(());
        };
        visitor.leave(&Spot { path: &self.path, name, upper, lower: self.lower(), here, there })?;
        self.path.pop();
        Ok(())
    }
}

/// Takes what is not there, or no directory any more, for nothing.
fn found(opened: std::io::Result<Directory>) -> std::io::Result<Option<Directory>> {
    match opened {
        Ok(directory) => Ok(Some(directory)),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            _ => Err(error),
        },
    }
}
