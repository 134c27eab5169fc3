//! What a sandbox's state really is.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::SystemTime;

use agentkernel_core::Remnant;
use agentkernel_store::audit::Kind;
use agentkernel_store::{ProcessRef, Record, SandboxLock, State, StoreError};
use agentkernel_sys::descriptor::{self, Interest};
use agentkernel_sys::process;
use serde_json::json;

use super::Sandboxes;
use crate::EngineError;

/// Why a sandbox is stopped that ran when the machine went down.
pub const REBOOTED: &str = "the machine was rebooted";

/// Why one is stopped that is somebody else's now.
const ADOPTED: &str = "it was adopted, and lives on elsewhere";

impl Sandboxes<'_> {
    /// Brings the record of a sandbox in line with what is there, and returns it; `None` if the
    /// sandbox has come to the end of its time, and was removed.
    ///
    /// While another process starts, stops or removes it, the record stays as it is; but what is
    /// returned never says that a place lives which is dead.
    pub fn settle(&self, record: Record) -> Result<Option<Record>, EngineError> {
        if self.is_in_order(&record)? {
            return Ok(Some(record));
        }
        let lock = match self.store.try_lock(&record.id) {
            Ok(Some(lock)) => lock,
            Ok(None) => return Ok(Some(as_it_is(record)?)),
            // It was removed meanwhile.
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        self.settle_locked(record, &lock)
    }

    /// Whether all is as the record says, and the sandbox's time has not come.
    pub(super) fn is_in_order(&self, record: &Record) -> Result<bool, EngineError> {
        let in_order = match is_said_to_run(record) {
            true => is_alive(record)?,
            // Of a start that was killed.
            false => self.dirs.socket(&record.id).symlink_metadata().is_err(),
        };
        Ok(in_order && !is_expired(record))
    }

    /// [`settle`](Self::settle), for whoever holds its lock.
    pub(super) fn settle_locked(
        &self,
        record: Record,
        lock: &SandboxLock,
    ) -> Result<Option<Record>, EngineError> {
        let record = match self.store.find(record.id.as_str()) {
            Ok(record) => record,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut why = None;
        let record = match is_said_to_run(&record) && !is_alive(&record)? {
            true => {
                why =
                    fs::read_to_string(self.fate_file(&record)).ok().filter(|why| !why.is_empty());
                self.put_away(&record, why.as_deref())?
            }
            false if !is_said_to_run(&record) => {
                self.end_place(&record)?;
                record
            }
            false => record,
        };
        let ended_by_itself = matches!(why.as_deref(), Some("ttl" | "idle"));
        if !ended_by_itself && !is_expired(&record) {
            return Ok(Some(record));
        }
        self.end_place(&record)?;
        self.erase(&record, lock)?;
        let why = why.unwrap_or_else(|| "ttl".into());
        self.note(Kind::Expired, &record, json!({ "why": why }))?;
        Ok(None)
    }

    /// Clears away what a dead place has left, and says in the store that it is stopped.
    fn put_away(&self, record: &Record, fate: Option<&str>) -> Result<Record, EngineError> {
        self.end_place(record)?;
        let rebooted = record.process.as_ref().is_some_and(|process| !process.is_of_this_boot());
        let why = match fate {
            Some("ttl") => "its time was up",
            Some("idle") => "it was not used for long",
            Some("stopped") => "somebody stopped it",
            Some("adopted") => ADOPTED,
            _ if rebooted => REBOOTED,
            _ => "its processes were killed from outside",
        };
        let record = self.stopped(record, why)?;
        self.note(Kind::Ended, &record, json!({ "why": why }))?;
        Ok(record)
    }

    /// Ends its place, if there is one, and waits until nothing of it is left but its files.
    pub(super) fn end_place(&self, record: &Record) -> Result<(), EngineError> {
        let process = record.process.as_ref().map(open_process).transpose();
        let process = process.map_err(|e| EngineError::failed("can't look for its process", &e))?;
        let name = record.id.to_string();
        let remnant = Remnant { name, process: process.flatten(), groups: Self::groups(record) };
        let cleared = self.driver(record)?.clear(remnant);
        cleared.map_err(|error| EngineError::failed("can't end the sandbox", &error))?;
        self.close_door(record)
    }

    /// Removes its socket, if there is one.
    pub(super) fn close_door(&self, record: &Record) -> Result<(), EngineError> {
        match fs::remove_file(self.dirs.socket(&record.id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(EngineError::failed("can't remove the sandbox's socket", &error))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn stopped(&self, record: &Record, why: &str) -> Result<Record, EngineError> {
        Ok(self.store.update(&record.id, |record| {
            record.state = State::Stopped;
            record.process = None;
            record.place = None;
            record.stopped = Some(SystemTime::now());
            record.why = Some(why.into());
        })?)
    }

    /// Removes its files and its record, in this order: what has no record can't be found again.
    pub(super) fn erase(&self, record: &Record, _lock: &SandboxLock) -> Result<(), EngineError> {
        let folder = self.dirs.sandbox(&record.id);
        let failed = |error: &dyn std::fmt::Display| {
            EngineError::failed("can't remove the sandbox's files", error)
        };
        let layers = self.dirs.layers(&record.id);
        let forgotten = self.driver(record)?.forget(record.id.as_str(), Some(&layers));
        forgotten.map_err(|error| failed(&error))?;
        agentkernel_files::remove_tree(&folder).map_err(|error| failed(&error))?;
        Ok(self.store.remove(&record.id)?)
    }

    /// Where a place leaves word of why it has ended.
    pub(super) fn fate_file(&self, record: &Record) -> std::path::PathBuf {
        self.dirs.sandbox(&record.id).join("fate")
    }

    /// Waits until the sandbox has stopped, whoever stops it.
    pub fn wait(&self, asked: &str) -> Result<(), EngineError> {
        let record = self.find(asked)?;
        let process = record.process.as_ref().map(open_process).transpose();
        let process = process.map_err(|e| EngineError::failed("can't look for its process", &e))?;
        if let Some(process) = process.flatten() {
            let mut interests = [Interest::readable(process.as_fd())];
            while !descriptor::poll(&mut interests, None)
                .map_err(|error| EngineError::failed("can't wait for the sandbox", &error))?
            {
            }
        }
        self.settle(record).map(drop)
    }
}

pub(super) fn is_said_to_run(record: &Record) -> bool {
    matches!(record.state, State::Running | State::Paused)
}

/// The record, as it will be when whoever is at it has done so much.
fn as_it_is(record: Record) -> Result<Record, EngineError> {
    if !is_said_to_run(&record) || is_alive(&record)? {
        return Ok(record);
    }
    let why = Some("its processes have ended".into());
    Ok(Record { state: State::Stopped, process: None, place: None, why, ..record })
}

fn is_alive(record: &Record) -> Result<bool, EngineError> {
    let Some(process) = &record.process else { return Ok(false) };
    process.is_alive().map_err(|error| EngineError::failed("can't look for its process", &error))
}

fn is_expired(record: &Record) -> bool {
    let end = record.ttl.and_then(|ttl| record.created.checked_add(ttl));
    end.is_some_and(|end| end <= SystemTime::now())
}

/// A descriptor of this very process, if it still lives.
pub(super) fn open_process(process: &ProcessRef) -> io::Result<Option<OwnedFd>> {
    let opened = match process::open_pidfd(process.pid) {
        Ok(opened) => opened,
        Err(_) if !process.is_alive()? => return Ok(None),
        Err(error) => return Err(error),
    };
    // Only now that it is open it is certain that it stays the one that is looked at.
    Ok(process.is_alive()?.then_some(opened))
}
