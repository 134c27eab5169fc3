//! What is of no more use, removed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use agentkernel_store::audit::Kind;
use agentkernel_store::{Id, Record, State, StoreError};
use agentkernel_sys::socket;
use serde_json::json;

use super::{PATIENCE, Sandboxes, filling};
use crate::EngineError;

/// A sandbox that was made so recently may be about to be started.
const FRESH: Duration = Duration::from_secs(60);

/// Something that lies about and that no record knows, as a crash may leave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    pub id: Id,
    /// The folder or the socket.
    pub path: PathBuf,
}

/// What was removed, and what could not be.
#[derive(Debug, Default)]
pub struct Pruned {
    pub sandboxes: Vec<Record>,
    pub leftovers: Vec<Leftover>,
    pub errors: Vec<EngineError>,
}

impl Sandboxes<'_> {
    /// The sandboxes that [`prune`](Self::prune) would remove: those that are stopped, and those
    /// that were not started for a minute after they were made.
    pub fn prunable(&self) -> Result<Vec<Record>, EngineError> {
        let mut all = self.list()?;
        all.retain(is_prunable);
        Ok(all)
    }

    /// The folders, locks and sockets without a record, of places that do not live.
    pub fn leftovers(&self) -> Result<Vec<Leftover>, EngineError> {
        self.dirs.check()?;
        let folders = ids_in(&self.dirs.sandboxes(), "")?;
        let locks = ids_in(&self.dirs.locks(), "")?;
        let sockets = ids_in(&self.dirs.sockets(), ".sock")?;
        let mut all = Vec::new();
        // Records are made before files, so what has none now has lost it.
        for (id, path) in folders.into_iter().chain(locks).chain(sockets) {
            if !self.has(&id)? && !self.answers(&id) {
                all.push(Leftover { id, path });
            }
        }
        for (id, path) in ids_in(&self.dirs.snapshots(), "")? {
            if !self.has_snapshot(&id)? {
                all.push(Leftover { id, path });
            }
        }
        Ok(all)
    }

    /// Removes these sandboxes, as far as they are still to be pruned, and these leftovers. What
    /// somebody else is working on is left alone. Goes on after an error.
    pub fn prune(&self, sandboxes: &[Record], leftovers: &[Leftover]) -> Pruned {
        let mut pruned = Pruned::default();
        for record in sandboxes {
            match self.prune_sandbox(record) {
                Ok(removed) => pruned.sandboxes.extend(removed),
                Err(error) => pruned.errors.push(error),
            }
        }
        for leftover in leftovers {
            match self.prune_leftover(leftover) {
                Ok(true) => pruned.leftovers.push(leftover.clone()),
                Ok(false) => {}
                Err(error) => pruned.errors.push(error),
            }
        }
        pruned
    }

    fn prune_sandbox(&self, record: &Record) -> Result<Option<Record>, EngineError> {
        let lock = match self.store.try_lock(&record.id) {
            Ok(Some(lock)) => lock,
            Ok(None) | Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // It may have been started since.
        let Some(record) = self.settle_locked(record.clone(), &lock)?.filter(is_prunable) else {
            return Ok(None);
        };
        self.end_place(&record)?;
        self.erase(&record, &lock)?;
        self.note(Kind::Remove, &record, json!({ "by": "prune" }))?;
        Ok(Some(record))
    }

    fn prune_leftover(&self, leftover: &Leftover) -> Result<bool, EngineError> {
        let Leftover { id, path } = leftover;
        let failed = |error: io::Error| {
            EngineError::failed(&format!("can't remove {}", path.display()), &error)
        };
        if *path == self.dirs.socket(id) {
            return match fs::remove_file(path) {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                Err(error) => Err(failed(error)),
            };
        }
        if *path == self.dirs.snapshot(id) {
            let Some(_claim) = filling::try_claim(path).map_err(failed)? else { return Ok(false) };
            // It may have been filled and made known since.
            let is_left = !self.has_snapshot(id)?;
            if is_left {
                self.engine.forget(id.as_str(), None);
                agentkernel_files::remove_tree(path).map_err(failed)?;
            }
            return Ok(is_left);
        }
        let Some(lock) = self.store.lock_leftover(id)? else { return Ok(false) };
        if *path != self.dirs.locks().join(id.as_str()) {
            self.engine.forget(id.as_str(), Some(&self.dirs.layers(id)));
            agentkernel_files::remove_tree(path).map_err(failed)?;
        }
        self.store.discard_lock(id, lock);
        Ok(true)
    }

    fn has(&self, id: &Id) -> Result<bool, EngineError> {
        match self.store.find(id.as_str()) {
            Ok(_) => Ok(true),
            Err(StoreError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn has_snapshot(&self, id: &Id) -> Result<bool, EngineError> {
        match self.store.find_snapshot(id.as_str()) {
            Ok(_) => Ok(true),
            Err(StoreError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a place without a record lives, as one does whose store was moved away.
    fn answers(&self, id: &Id) -> bool {
        let dead = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused];
        match socket::connect(&self.dirs.socket(id), PATIENCE) {
            Ok(_) => true,
            Err(error) => !dead.contains(&error.kind()),
        }
    }
}

fn is_prunable(record: &Record) -> bool {
    match record.state {
        State::Stopped => true,
        State::Created => {
            let age = SystemTime::now().duration_since(record.created);
            age.is_ok_and(|age| age >= FRESH)
        }
        State::Running | State::Paused => false,
    }
}

/// What in a folder is called by an id and `end`, in the order of the ids.
fn ids_in(folder: &Path, end: &str) -> Result<Vec<(Id, PathBuf)>, EngineError> {
    let failed =
        |error: io::Error| EngineError::failed(&format!("can't list {}", folder.display()), &error);
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut all = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let id = name.to_str().and_then(|name| name.strip_suffix(end)?.parse().ok());
        all.extend(id.map(|id: Id| (id, entry.path())));
    }
    all.sort();
    Ok(all)
}
