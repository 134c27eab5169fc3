//! Folders that are filled before anybody knows of them, and locks of snapshots.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use agentkernel_core::Backend;
use agentkernel_store::{Dirs, Id, SandboxLock, Store};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::{Errno, retry_on_intr};

use crate::EngineError;

/// A new folder that no record names yet, and that nobody takes for a leftover while this lives.
/// It is removed again unless it is [kept](Self::keep). If the process is killed it stays, for
/// [`Sandboxes::leftovers`](super::Sandboxes::leftovers) to find.
pub(super) struct Filling<'a> {
    path: PathBuf,
    /// `None` when it is let go.
    lock: Option<Lock<'a>>,
    /// What a backend's engine keeps under which name for it.
    kept: Option<(&'static dyn Backend, Id)>,
}

/// Held for as long as it is there.
enum Lock<'a> {
    Sandbox { store: &'a Store, id: Id, lock: SandboxLock },
    Snapshot(#[expect(dead_code, reason = "its end is what counts")] OwnedFd),
}

impl<'a> Filling<'a> {
    /// The folder of a sandbox-to-be.
    pub fn sandbox(store: &'a Store, dirs: &Dirs, id: &Id) -> Result<Self, EngineError> {
        let lock = store.lock_leftover(id)?.ok_or_else(|| {
            no_folder(io::Error::new(io::ErrorKind::AlreadyExists, "somebody else has it"))
        })?;
        let lock = Some(Lock::Sandbox { store, id: id.clone(), lock });
        let filling = Self { path: dirs.sandbox(id), lock, kept: None };
        make(&filling.path)?;
        Ok(filling)
    }

    /// The folder of a snapshot-to-be.
    pub fn snapshot(dirs: &Dirs, id: &Id) -> Result<Self, EngineError> {
        let path = dirs.snapshot(id);
        make(&path)?;
        let lock = lock(&path, FlockOperation::LockExclusive).map_err(no_folder)?;
        Ok(Self { path, lock: Some(Lock::Snapshot(lock)), kept: None })
    }

    /// Has the engine of `backend` keep for `to`, whose folder this is, what it keeps for `from`.
    pub fn copy_kept(
        &mut self,
        backend: &'static dyn Backend,
        from: &Id,
        to: &Id,
    ) -> Result<(), EngineError> {
        self.kept = Some((backend, to.clone()));
        Ok(backend.copy_kept(from.as_str(), to.as_str())?)
    }

    pub fn keep(mut self) {
        self.lock = None;
    }
}

impl Drop for Filling<'_> {
    fn drop(&mut self) {
        let Some(lock) = self.lock.take() else { return };
        // What can't be removed now is a leftover.
        if let Some((backend, id)) = &self.kept {
            let _ = backend.forget(id.as_str(), None);
        }
        let removed = agentkernel_files::remove_tree(&self.path);
        if let (Ok(()), Lock::Sandbox { store, id, lock }) = (removed, lock) {
            store.discard_lock(&id, lock);
        }
    }
}

fn make(path: &Path) -> Result<(), EngineError> {
    DirBuilder::new().mode(0o700).create(path).map_err(no_folder)
}

pub(super) fn no_folder(error: io::Error) -> EngineError {
    EngineError::failed("can't make a folder for the copy", &error)
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

/// [`claim`], but `None` if somebody uses it, too.
pub(super) fn try_claim(path: &Path) -> io::Result<Option<OwnedFd>> {
    match lock(path, FlockOperation::NonBlockingLockExclusive) {
        Ok(lock) => Ok(Some(lock)),
        Err(error) if is_busy_or_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_busy_or_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotFound)
}

/// Takes the folder's own lock, which goes with the descriptor.
fn lock(path: &Path, operation: FlockOperation) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(path, flags, Mode::empty())?;
    match retry_on_intr(|| flock(&folder, operation)) {
        Err(Errno::WOULDBLOCK) => Err(io::ErrorKind::WouldBlock.into()),
        locked => Ok(locked.map(|()| folder)?),
    }
}
