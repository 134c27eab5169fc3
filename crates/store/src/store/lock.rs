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
        let folder = self.dirs.sandbox(id);
        let path = folder.join("lock");
        let failed = |source| StoreError::Io { path: path.clone(), source };
        let file = open(&folder, &path).map_err(failed)?;
        match retry_on_intr(|| flock(&file, FlockOperation::NonBlockingLockExclusive)) {
            Err(Errno::WOULDBLOCK) => return Ok(None),
            other => other.map_err(|errno| failed(errno.into()))?,
        }
        let is_left = is_at(&file, &path).map_err(failed)? && !self.has(id)?;
        Ok(is_left.then_some(SandboxLock { file }))
    }

    fn take_lock(
        &self,
        id: &Id,
        operation: FlockOperation,
    ) -> Result<Option<SandboxLock>, StoreError> {
        let folder = self.dirs.sandbox(id);
        let path = folder.join("lock");
        let failed = |source| StoreError::Io { path: path.clone(), source };
        loop {
            if !self.has(id)? {
                return Err(gone(id));
            }
            let file = open(&folder, &path).map_err(failed)?;
            match retry_on_intr(|| flock(&file, operation)) {
                Err(Errno::WOULDBLOCK) => return Ok(None),
                other => other.map_err(|errno| failed(errno.into()))?,
            }
            // Whoever had it may have removed the file, and maybe made another.
            if !is_at(&file, &path).map_err(failed)? {
                continue;
            }
            if !self.has(id)? {
                // It was removed between the first look and the lock, so the folder is ours alone.
                let removed = fs::remove_file(&path).and_then(|()| fs::remove_dir(&folder));
                return Err(removed.map_or_else(failed, |()| gone(id)));
            }
            return Ok(Some(SandboxLock { file }));
        }
    }
}

/// Opens the lock's file, and makes it and its folder if they are missing.
fn open(folder: &Path, path: &Path) -> io::Result<File> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
        other => other?,
    }
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32)
        .open(path)
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
