//! Sandboxes' files kept under a name of their own, and sandboxes made from others' files.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use agentkernel_core::{Backend, Capability, Spec};
use agentkernel_files::{CopyError, copy_tree};
use agentkernel_protocol::ToAgent;
use agentkernel_store::audit::Kind;
use agentkernel_store::{Id, Name, NewRecord, Record, Snapshot, State, StoreError};
use agentkernel_wire::SpecRecord;
use serde_json::json;

use super::dial::Dial;
use super::filling::{self, Filling, no_folder};
use super::{Sandboxes, spec_of};
use crate::{EngineError, demand};

/// The file in a snapshot's folder that holds [`Record::applied`] of its sandbox.
const APPLIED: &str = "applied.json";

/// The folder in a snapshot's folder that holds the layers.
const LAYERS: &str = "layers";

/// How long an agent may take to hold everything: what was written may have to go to a disk first.
const HOLD: Duration = Duration::from_secs(120);

/// Keeps everything in a sandbox from running until it is dropped, or until the process ends.
pub(super) struct Held(Option<Dial>);

impl Held {
    /// The agent, who hears nobody else meanwhile; none if it does not run.
    pub fn agent(&mut self) -> Option<&mut Dial> {
        self.0.as_mut()
    }
}

impl Sandboxes<'_> {
    /// Keeps what a sandbox has written so far under a name of its own, made up after the
    /// sandbox's if there is none. A sandbox that runs stands still for as long as it takes.
    pub fn snapshot_create(
        &self,
        asked: &str,
        name: Option<Name>,
    ) -> Result<Snapshot, EngineError> {
        let (record, _lock) = self.lock(asked)?;
        if let Some(name) = &name {
            self.refuse_taken(name)?;
        }
        let (backend, spec) = (self.copying(&record)?, self.spec(&record)?);
        let id = random_id()?;
        let folder = self.dirs.snapshot(&id);
        let mut filling = Filling::snapshot(&self.dirs, &id)?;
        let held = self.hold(&record)?;
        let from = self.dirs.layers(&record.id);
        let bytes = copy_layers(backend, &spec, &from, &folder.join(LAYERS))?;
        filling.copy_kept(backend, &record.id, &id)?;
        drop(held);
        if let Some(applied) = &record.applied {
            fs::write(folder.join(APPLIED), applied).map_err(no_folder)?;
        }
        let snapshot = |name| Snapshot {
            id: id.clone(),
            name,
            of: record.name.to_string(),
            backend: record.backend.clone(),
            spec: record.spec.clone(),
            created: SystemTime::now(),
            bytes,
        };
        let insert = |name: &Name| self.store.insert_snapshot(&snapshot(name.clone()));
        let name = match name {
            Some(name) => insert(&name).map(|()| name)?,
            None => first_free(record.name.as_str(), insert)?,
        };
        filling.keep();
        self.note(Kind::Snapshot, &record, json!({ "snapshot": name.as_str(), "bytes": bytes }))?;
        Ok(self.store.find_snapshot(id.as_str())?)
    }

    /// All snapshots, the oldest first.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>, EngineError> {
        Ok(self.store.list_snapshots()?)
    }

    /// The images that sandboxes, snapshots and pools are made of, as their specs name them, each with
    /// what is made of it, such as `the sandbox web`.
    pub fn images_in_use(&self) -> Result<Vec<(String, String)>, EngineError> {
        let sandboxes = self.store.list()?;
        let sandboxes =
            sandboxes.iter().map(|one| (format!("the sandbox {}", one.name), &one.spec));
        let snapshots = self.store.list_snapshots()?;
        let snapshots =
            snapshots.iter().map(|one| (format!("the snapshot {}", one.name), &one.spec));
        let pools = self.store.list_pools()?;
        let pools = pools.iter().map(|one| (format!("the pool {}", one.name), &one.spec));
        let image = |(user, spec): (String, &String)| {
            // What can't be read can't be started either.
            let spec: Spec = SpecRecord::from_json(spec).ok()?.try_into().ok()?;
            Some((user, spec.image.reference()?.to_owned()))
        };
        Ok(sandboxes.chain(snapshots).chain(pools).filter_map(image).collect())
    }

    /// The snapshot of this name or id, and the spec of the sandboxes that are made from it.
    pub fn snapshot(&self, asked: &str) -> Result<(Snapshot, Spec), EngineError> {
        let snapshot = self.store.find_snapshot(asked)?;
        let spec = spec_of(&snapshot.spec, "snapshot", &snapshot.name)?;
        Ok((snapshot, spec))
    }

    /// Removes a snapshot. Sandboxes that were made from it stay as they are.
    pub fn snapshot_remove(&self, asked: &str) -> Result<Snapshot, EngineError> {
        let failed = |error| EngineError::failed("can't remove the snapshot's files", &error);
        let snapshot = self.store.find_snapshot(asked)?;
        let backend = self.engine.expect_driver(Some(&snapshot.backend))?;
        let folder = self.dirs.snapshot(&snapshot.id);
        let _claim = filling::claim(&folder).map_err(failed)?;
        let forgotten = backend.forget(snapshot.id.as_str(), None);
        forgotten.map_err(|e| EngineError::failed("can't remove the snapshot's files", &e))?;
        self.store.remove_snapshot(&snapshot.id)?;
        agentkernel_files::remove_tree(&folder).map_err(failed)?;
        self.note_snapshot(&snapshot, json!({ "removed": snapshot.name.as_str() }))?;
        Ok(snapshot)
    }

    fn refuse_taken(&self, name: &Name) -> Result<(), EngineError> {
        match self.store.list_snapshots()?.into_iter().find(|other| other.name == *name) {
            None => Ok(()),
            Some(Snapshot { id, .. }) => {
                let thing = agentkernel_store::Thing::Snapshot;
                Err(StoreError::NameTaken { thing, name: name.clone(), id }.into())
            }
        }
    }

    /// Fills the folder of a sandbox-to-be from a snapshot. Returns what it has for
    /// [`NewRecord::applied`], too.
    pub(super) fn fill_from_snapshot(
        &self,
        snapshot: &Snapshot,
        spec: &Spec,
        id: &Id,
    ) -> Result<(Filling<'_>, Option<String>), EngineError> {
        let folder = self.dirs.snapshot(&snapshot.id);
        let lost = |error| EngineError::failed("can't read the snapshot's files", &error);
        let _share = filling::share(&folder).map_err(lost)?;
        // It may have been removed before nobody could any more.
        self.store.find_snapshot(snapshot.id.as_str())?;
        let backend = self.engine.expect_driver(Some(&snapshot.backend))?;
        let mut filling = Filling::sandbox(&self.store, &self.dirs, id)?;
        copy_layers(backend, spec, &folder.join(LAYERS), &self.dirs.layers(id))?;
        filling.copy_kept(backend, &snapshot.id, id)?;
        let applied = match fs::read_to_string(folder.join(APPLIED)) {
            Ok(applied) => Some(applied),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(lost(error)),
        };
        Ok((filling, applied))
    }

    /// Makes `count` sandboxes that begin with what `asked` has written so far, and starts them if
    /// it runs. All of them are made, or none. Their names are `prefix` with a number from 1 on;
    /// without one that of `asked`, with the first numbers that are free.
    pub fn fork(
        &self,
        asked: &str,
        count: u32,
        prefix: Option<&str>,
    ) -> Result<Vec<Record>, EngineError> {
        let (record, lock) = self.lock(asked)?;
        let names = self.names_of_forks(&record, count, prefix)?;
        let (backend, spec) = (self.copying(&record)?, self.spec(&record)?);
        refuse_named_port(&record, &spec)?;
        let from = self.dirs.layers(&record.id);
        let mut filled = Vec::new();
        let held = self.hold(&record)?;
        for _ in &names {
            let id = random_id()?;
            let mut filling = Filling::sandbox(&self.store, &self.dirs, &id)?;
            copy_layers(backend, &spec, &from, &self.dirs.layers(&id))?;
            filling.copy_kept(backend, &record.id, &id)?;
            filled.push((id, filling));
        }
        drop(held);
        let begin = |(id, name): (&Id, &Name)| NewRecord {
            id: Some(id.clone()),
            name: name.clone(),
            backend: record.backend.clone(),
            spec: record.spec.clone(),
            labels: record.labels.clone(),
            ttl: record.ttl,
            idle: record.idle,
            applied: record.applied.clone(),
            origin: Some(record.name.to_string()),
        };
        let ids = filled.iter().map(|(id, _)| id);
        let all: Vec<_> = ids.zip(&names).map(begin).collect();
        let forks = self.store.insert_all(&all)?;
        filled.into_iter().for_each(|(_, filling)| filling.keep());
        drop(lock);
        let names: Vec<_> = names.iter().map(Name::as_str).collect();
        self.note(Kind::Fork, &record, json!({ "into": names }))?;
        for fork in &forks {
            self.note(Kind::Create, fork, json!({ "from": record.name.as_str() }))?;
        }
        if record.state != State::Running {
            return Ok(forks);
        }
        let start = |fork: &Record| Ok(self.start(fork.id.as_str())?.0);
        let started: Result<_, EngineError> = forks.iter().map(start).collect();
        if started.is_err() {
            for fork in &forks {
                // What is told is why they are not wanted any more.
                let _ = self.remove(fork.id.as_str(), true);
            }
        }
        started
    }

    fn names_of_forks(
        &self,
        record: &Record,
        count: u32,
        prefix: Option<&str>,
    ) -> Result<Vec<Name>, EngineError> {
        if let Some(prefix) = prefix {
            return (1..=count).map(|number| numbered(prefix, number)).collect();
        }
        let taken: Vec<_> = self.store.list()?.into_iter().map(|other| other.name).collect();
        let mut names = Vec::new();
        for number in 1.. {
            if names.len() == count as usize {
                break;
            }
            let name = numbered(shortened(record.name.as_str()), number)?;
            names.extend(Some(name).filter(|name| !taken.contains(name)));
        }
        Ok(names)
    }

    /// A sandbox's backend, if that can copy all that is kept, and this program can have it do so.
    fn copying(&self, record: &Record) -> Result<&'static dyn Backend, EngineError> {
        self.able(record, Capability::Snapshots)?;
        self.driver(record)
    }

    /// Stops everything in a sandbox from running, if it runs.
    pub(super) fn hold(&self, record: &Record) -> Result<Held, EngineError> {
        if record.state != State::Running {
            return Ok(Held(None));
        }
        let mut dial = self.dial(record)?;
        dial.ask(|command| ToAgent::Hold { command }, &[], HOLD)?;
        Ok(Held(Some(dial)))
    }
}

/// Refuses forks that could not be beside the sandbox that they are of.
fn refuse_named_port(record: &Record, spec: &Spec) -> Result<(), EngineError> {
    let Some(port) = demand::named_port(spec) else { return Ok(()) };
    let name = &record.name;
    Err(EngineError::refused(
        format!("a fork can't have the host's port {}, which is {name}'s", port.host()),
        format!(
            "agentkernel snapshot create {name}, and then create --from that with a -p of its own, \
             such as -p {}",
            port.target()
        ),
    ))
}

/// Copies what a sandbox has written to `to`, which is made. Returns the length of it all. What
/// the backend keeps besides, it makes anew.
fn copy_layers(
    backend: &dyn Backend,
    spec: &Spec,
    from: &Path,
    to: &Path,
) -> Result<u64, EngineError> {
    fs::create_dir(to).map_err(no_folder)?;
    let mut bytes = 0;
    for layer in backend.layers(spec, from) {
        // One that never ran has none.
        let Ok(name) = layer.upper.strip_prefix(from) else { continue };
        if layer.upper.symlink_metadata().is_err_and(|error| is_absence(&error)) {
            continue;
        }
        bytes += copy_tree(&layer.upper, &to.join(name))?.bytes;
    }
    Ok(bytes)
}

fn is_absence(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// Calls `claim` with names made of `base` and a number until one is not taken.
fn first_free(
    base: &str,
    claim: impl Fn(&Name) -> Result<(), StoreError>,
) -> Result<Name, EngineError> {
    let mut number = 1;
    loop {
        let name = numbered(shortened(base), number)?;
        match claim(&name) {
            Ok(()) => return Ok(name),
            Err(StoreError::NameTaken { .. }) => number += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// As much of a name as leaves room for a number.
fn shortened(name: &str) -> &str {
    const LONGEST: usize = 53;
    // A name has one byte for each of its letters.
    name.get(..LONGEST).unwrap_or(name)
}

fn numbered(base: &str, number: u32) -> Result<Name, EngineError> {
    Name::try_from(format!("{base}-{number}")).map_err(|error| {
        let hint = error.hint();
        EngineError::refused(error.to_string(), hint)
    })
}

pub(super) fn random_id() -> Result<Id, EngineError> {
    Id::random().map_err(|error| EngineError::failed("can't make up an id", &error))
}

impl From<CopyError> for EngineError {
    fn from(error: CopyError) -> Self {
        let hint = "nothing was made; see to that, then try again";
        Self::refused(error.to_string(), hint.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_made_up_is_never_too_long() {
        let long = "x".repeat(64);
        let name = numbered(shortened(&long), u32::MAX).map_err(|error| error.why).unwrap();
        assert_eq!(name.as_str().len(), 64);
        assert!(numbered(&long, 1).is_err());
        assert_eq!(shortened("web"), "web");
    }

    #[test]
    fn the_first_name_that_is_free_is_taken() {
        let taken = |name: &Name| match name.as_str() {
            "web-1" | "web-2" => Err(StoreError::NameTaken {
                thing: agentkernel_store::Thing::Snapshot,
                name: name.clone(),
                id: Id::random().unwrap(),
            }),
            _ => Ok(()),
        };
        let name = first_free("web", taken).map_err(|error| error.why).unwrap();
        assert_eq!(name.as_str(), "web-3");
    }
}
