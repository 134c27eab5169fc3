//! One process at a time for each sandbox.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::{Errno, retry_on_intr};

use super::sandboxes::gone;
use super::{Store, StoreError};
use crate::Id;

/// Keeps others from starting, stopping or removing a sandbox until it is dropped, or until the
/// process ends, however it does. If the process does not come to drop it, children that it forked
/// hold it, too, until they close their descriptor or run another program.
#[derive(Debug)]
pub struct SandboxLock {
    file: File,
}

impl Drop for SandboxLock {
    fn drop(&mut self) {
        // To close the file would not do: a child that was just forked may have it, too. It can
        // only fail for a descriptor that is none.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

impl Store {
    /// Waits until nobody else holds the sandbox's lock, and takes it. Makes the sandbox's folder
    /// if it is missing. The sandbox is known then, and stays so unless the caller removes it; one
    /// that was removed meanwhile is `NotFound`.
    pub fn lock(&self, id: &Id) -> Result<SandboxLock, StoreError> {
        let lock = self.take_lock(id, FlockOperation::LockExclusive)?;
        lock.ok_or_else(|| gone(id))
    }

    /// [`lock`](Self::lock), but `None` if somebody else holds it.
    pub fn try_lock(&self, id: &Id) -> Result<Option<SandboxLock>, StoreError> {
        self.take_lock(id, FlockOperation::NonBlockingLockExclusive)
    }

    /// Takes the lock of a folder that no record names, as a crash may leave one; `None` if a
    /// record does, or if somebody else holds the lock.
    pub fn lock_leftover(&self, id: &Id) -> Result<Option<SandboxLock>, StoreError> {
        let path = self.dirs.sandbox_lock(id);
        let failed = |source| StoreError::Io { path: path.clone(), source };
        let file = open(&path).map_err(failed)?;
        match retry_on_intr(|| flock(&file, FlockOperation::NonBlockingLockExclusive)) {
            Err(Errno::WOULDBLOCK) => return Ok(None),
            other => other.map_err(|errno| failed(errno.into()))?,
        }
        let lock = SandboxLock { file };
        let is_left = is_at(&lock.file, &path).map_err(failed)? && !self.has(id)?;
        Ok(is_left.then_some(lock))
    }

    /// Removes a lock that [`lock_leftover`](Self::lock_leftover) gave, when nothing is left.
    pub fn discard_lock(&self, id: &Id, lock: SandboxLock) {
        self.remove_lock(id);
        drop(lock);
    }

    fn take_lock(
        &self,
        id: &Id,
        operation: FlockOperation,
    ) -> Result<Option<SandboxLock>, StoreError> {
        let path = self.dirs.sandbox_lock(id);
        let failed = |source| StoreError::Io { path: path.clone(), source };
        loop {
            if !self.has(id)? {
                return Err(gone(id));
            }
            let file = open(&path).map_err(failed)?;
            match retry_on_intr(|| flock(&file, operation)) {
                Err(Errno::WOULDBLOCK) => return Ok(None),
                other => other.map_err(|errno| failed(errno.into()))?,
            }
            let lock = SandboxLock { file };
            // Whoever had it may have removed the file, and somebody may have made another.
            if !is_at(&lock.file, &path).map_err(failed)? {
                continue;
            }
            if !self.has(id)? {
                // It was removed after the first look, and its lock made again by this.
                self.remove_lock(id);
                return Err(gone(id));
            }
            make_folder(&self.dirs.sandbox(id))?;
            return Ok(Some(lock));
        }
    }

    /// Removes the lock's file, for who holds it, of a sandbox that is known no more. If it can't
    /// be removed, an empty file that nobody asks for again is left, which is no failure.
    pub(super) fn remove_lock(&self, id: &Id) {
        let _ = fs::remove_file(self.dirs.sandbox_lock(id));
    }
}

/// Opens the lock's file, and makes it if it is missing.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32)
        .open(path)
}

fn make_folder(path: &Path) -> Result<(), StoreError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map_err(|source| StoreError::Io { path: path.into(), source }),
    }
}

/// Whether `path` still names the open file.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(err) => Err(err),
    }
}
