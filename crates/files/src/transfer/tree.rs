//! Copying a directory with all that is in it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Stat, fstat};

use super::error::{Located, Refusal, TransferError, Transferred, Where};
use super::item::Item;
use super::walk::{Below, Visit, walk};
use super::write::{Settled, Writer};
use crate::descent::{Descent, Identity, Mounts};

/// Copies what is in `from`, of which `source` tells, into the directory `into`, and settles that as `from` is if
/// `new`.
pub(super) fn copy(
    from: OwnedFd,
    source: (&Path, Where),
    into: (OwnedFd, bool),
    target: &Path,
    writer: Writer,
) -> Result<Transferred, TransferError> {
    let (into, new) = into;
    let look = || Ok::<_, io::Error>((fstat(&from)?, fstat(&into)?, into.try_clone()?));
    let (stat, made_stat, top) = look().map_err(|error| writer.failed(target.into(), error))?;
    let made = Descent::new(into, Mounts::Cross);
    let mut tree =
        Tree { source, target, writer, made, top: Identity::of(&made_stat), levels: Vec::new() };
    tree.refuse_itself(&stat, || source.0.into())?;
    walk(from, source, &mut tree)?;
    if new {
        let settled = tree.writer.settle(top.as_fd(), &Settled::of(&stat));
        settled.map_err(|error| tree.writer.failed(target.into(), error))?;
    }
    Ok(tree.writer.done)
}

struct Tree<'a> {
    source: (&'a Path, Where),
    target: &'a Path,
    writer: Writer,
    made: Descent,
    /// What is copied into.
    top: Identity,
    /// What the directories that lead here are to have in the end; `None` was there before.
    levels: Vec<Option<Settled>>,
}

impl Tree<'_> {
    fn refuse_itself(
        &self,
        stat: &Stat,
        path: impl FnOnce() -> PathBuf,
    ) -> Result<(), TransferError> {
        if Identity::of(stat) != self.top {
            return Ok(());
        }
        Err(TransferError::IntoItself { at: Located { path: path(), place: self.source.1 } })
    }

    fn failed(&self, below: &Below<'_>, error: io::Error) -> TransferError {
        self.writer.failed(below.path(self.target), error)
    }
}

impl Visit for Tree<'_> {
    fn enter(
        &mut self,
        _directory: BorrowedFd<'_>,
        stat: &Stat,
        below: &Below<'_>,
    ) -> Result<Result<(), Refusal>, TransferError> {
        self.refuse_itself(stat, || below.path(self.source.0))?;
        let made = self.writer.directory((self.made.here(), below.name()));
        let (directory, new) = made.map_err(|error| self.failed(below, error))?;
        self.made.enter(directory).map_err(|error| self.failed(below, error))?;
        self.levels.push(new.then(|| Settled::of(stat)));
        Ok(Ok(()))
    }

    fn item(&mut self, item: Item, below: &Below<'_>) -> Result<(), TransferError> {
        let to = (self.made.here(), below.name());
        self.writer.item(item, to).map_err(|error| self.failed(below, error))
    }

    fn leave(&mut self, below: &Below<'_>) -> Result<(), TransferError> {
        let left = self.made.leave().map_err(|error| self.failed(below, error))?;
        let Some(Some(settled)) = self.levels.pop() else { return Ok(()) };
        self.writer.settle(left.as_fd(), &settled).map_err(|error| self.failed(below, error))
    }

    fn done(&mut self) -> &mut Transferred {
        &mut self.writer.done
    }
}
