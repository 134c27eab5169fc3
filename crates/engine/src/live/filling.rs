//! Folders that are filled before anybody knows of them, and that are used by several.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use agentkernel_store::{Id, StoreError};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::{Errno, retry_on_intr};

use crate::EngineError;

/// A new folder that no record names yet. It is removed again unless it is [kept](Self::keep). If
/// the process is killed it stays, unlocked, for [`sweep`] to find.
pub(super) struct Filling {
    path: PathBuf,
    _lock: OwnedFd,
    kept: bool,
}

impl Filling {
    pub fn make(path: PathBuf) -> io::Result<Self> {
        DirBuilder::new().mode(0o700).create(&path)?;
        let lock = lock(&path, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { path, _lock: lock, kept: false })
    }

    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        if !self.kept {
            // What can't be removed now is a leftover.
            let _ = agentkernel_files::remove_tree(&self.path);
        }
    }
}

/// Removes the folders in `all` that are called after an id which nothing `is_known` by, and that
/// nobody is filling. Returns how many.
pub(super) fn sweep(
    all: &Path,
    is_known: impl Fn(&Id) -> Result<bool, StoreError>,
) -> Result<u64, EngineError> {
    let failed = |error: io::Error| EngineError::failed("can't clear away leftovers", &error);
    let entries = match fs::read_dir(all) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(failed(error)),
    };
    let mut removed = 0;
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let id = entry.file_name().to_str().and_then(|name| name.parse::<Id>().ok());
        let Some(id) = id else { continue };
        if is_known(&id)? {
            continue;
        }
        let _lock = match lock(&entry.path(), FlockOperation::NonBlockingLockExclusive) {
            Ok(lock) => lock,
            Err(error) if is_busy_or_gone(&error) => continue,
            Err(error) => return Err(failed(error)),
        };
        // Whoever was filling it has let go, and may have made it known first.
        if !is_known(&id)? {
            agentkernel_files::remove_tree(&entry.path()).map_err(failed)?;
            removed += 1;
        }
    }
    Ok(removed)
}

fn is_busy_or_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotFound)
}

/// Waits until nobody fills or removes the folder, and keeps it from being removed.
pub(super) fn share(path: &Path) -> io::Result<OwnedFd> {
    lock(path, FlockOperation::LockShared)
}

/// Waits until nobody uses the folder, and keeps others from it. `None` if there is no folder.
pub(super) fn claim(path: &Path) -> io::Result<Option<OwnedFd>> {
    match lock(path, FlockOperation::LockExclusive) {
        Ok(lock) => Ok(Some(lock)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Takes the folder's own lock, which goes with the descriptor. A sandbox's lock is another: it
/// is a file in the folder, and is made by whoever knows the sandbox already.
fn lock(path: &Path, operation: FlockOperation) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(path, flags, Mode::empty())?;
    match retry_on_intr(|| flock(&folder, operation)) {
        Err(Errno::WOULDBLOCK) => Err(io::ErrorKind::WouldBlock.into()),
        locked => Ok(locked.map(|()| folder)?),
    }
}
