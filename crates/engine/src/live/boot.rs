//! A sandbox's place: started, stopped, paused, removed.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use agentkernel_core::{Life, Place};
use agentkernel_protocol::ToAgent;
use agentkernel_store::audit::Kind;
use agentkernel_store::{ProcessRef, Record, SandboxLock, State, StoreError};
use agentkernel_sys::socket;
use agentkernel_wire::PlaceRecord;
use serde_json::{Value, json};

use super::Sandboxes;
use super::dial::{Dial, DialError, PATIENCE};
use super::settle::is_said_to_run;
use crate::EngineError;

impl Sandboxes<'_> {
    /// Starts a sandbox that is not running, on the files that it has. The calling process must
    /// have a single thread. Returns whether there was anything to start.
    pub fn start(&self, asked: &str) -> Result<(Record, bool), EngineError> {
        let (record, lock) = self.lock(asked)?;
        if is_said_to_run(&record) {
            return Ok((record, false));
        }
        let record = self.boot(&record, &lock)?;
        self.note(Kind::Start, &record, Value::Null)?;
        Ok((record, true))
    }

    pub(super) fn boot(&self, record: &Record, _lock: &SandboxLock) -> Result<Record, EngineError> {
        let (backend, spec) = (self.driver(record)?, self.spec(record)?);
        let place = backend.boot_live(&spec, self.life(record, true)?)?;
        let started = self.settle_in(record, &*place).and_then(|(record, mut dial)| {
            dial.ask(|command| ToAgent::Release { command }, &[], PATIENCE)?;
            Ok(record)
        });
        match started {
            Ok(record) => {
                let released = place.release();
                let failed = |e| EngineError::failed("can't let the sandbox go on alone", &e);
                released.map_err(failed)?;
                Ok(record)
            }
            Err(error) => {
                // Whatever went wrong, nothing is left behind; only then is it told.
                let _ = place.destroy();
                let _ = self.close_door(record);
                Err(error)
            }
        }
    }

    /// How its place is to live, with a door for whoever wants to use it.
    pub(super) fn life(&self, record: &Record, outlives: bool) -> Result<Life, EngineError> {
        let failed = |what: &'static str| move |error: io::Error| EngineError::failed(what, &error);
        let layers = self.make_layers(record)?;
        // It may be of a place that has died without a word.
        self.close_door(record)?;
        let mut fate = File::options();
        fate.write(true).create(true).truncate(true).mode(0o600);
        let fate = fate.open(self.fate_file(record));
        let listener = socket::listen(&self.dirs.socket(&record.id));
        Ok(Life {
            name: Some(record.id.to_string()),
            listener: Some(listener.map_err(failed("can't make the sandbox's socket"))?),
            fate: Some(fate.map_err(failed("can't make the sandbox's files"))?.into()),
            layers: Some(layers),
            outlives,
            story: self.story(record),
            ttl: record.ttl.map(|ttl| left(record.created, ttl)),
            idle: record.idle,
        })
    }

    /// The directory of what it writes, made if it is missing.
    pub(super) fn make_layers(&self, record: &Record) -> Result<PathBuf, EngineError> {
        self.dirs.prepare()?;
        let layers = self.dirs.layers(&record.id);
        make_directory(&layers)
            .and_then(|()| layers.canonicalize())
            .map_err(|error| EngineError::failed("can't make the sandbox's folder", &error))
    }

    /// Waits until the place is ready, and writes down where it is. Only then may its agent be told
    /// to go on alone: whoever is killed in between takes the place along.
    pub(super) fn settle_in(
        &self,
        record: &Record,
        place: &dyn Place,
    ) -> Result<(Record, Dial), EngineError> {
        let dial = greeted(place)?;
        let process = ProcessRef::of(place.pid());
        let process = process.map_err(|e| EngineError::failed("can't find its process", &e))?;
        let note = PlaceRecord::of(place);
        let record = self.store.update(&record.id, |record| {
            record.state = State::Running;
            record.process = Some(process);
            record.place = Some(note.to_json());
            record.started = Some(SystemTime::now());
            record.why = None;
        })?;
        Ok((record, dial))
    }

    /// Asks everything inside to end, kills what is left after `grace`, and keeps the files.
    /// Returns whether there was anything to stop.
    pub fn stop(&self, asked: &str, grace: Duration) -> Result<(Record, bool), EngineError> {
        let (record, lock) = self.lock(asked)?;
        if !is_said_to_run(&record) {
            return Ok((record, false));
        }
        let record = self.stop_locked(&record, grace, &lock)?;
        self.note(Kind::Stop, &record, Value::Null)?;
        Ok((record, true))
    }

    fn stop_locked(
        &self,
        record: &Record,
        grace: Duration,
        _lock: &SandboxLock,
    ) -> Result<Record, EngineError> {
        // An agent that can't be asked, or does not heed it, is killed with all the rest.
        if let Ok(mut dial) = Dial::connect(&self.dirs.socket(&record.id)) {
            let patience = grace.saturating_add(PATIENCE);
            let _ = dial.ask(|command| ToAgent::Stop { command, grace }, &[], patience);
        }
        self.end_place(record)?;
        self.stopped(record, "somebody stopped it")
    }

    /// Removes a sandbox and its files. One that runs is only removed by `force`.
    pub fn remove(&self, asked: &str, force: bool) -> Result<Record, EngineError> {
        let (record, lock) = self.lock(asked)?;
        let name = &record.name;
        if is_said_to_run(&record) && !force {
            return Err(EngineError::refused(
                format!("the sandbox {name} is {}", record.state),
                format!("stop it first, or use agentkernel rm -f {name}"),
            ));
        }
        self.end_place(&record)?;
        self.erase(&record, &lock)?;
        self.note(Kind::Remove, &record, Value::Null)?;
        Ok(record)
    }

    /// Stops everything inside from running, until it is unpaused.
    pub fn pause(&self, asked: &str) -> Result<Record, EngineError> {
        let (record, _lock) = self.lock(asked)?;
        self.expect_running(&record)?;
        self.dial(&record)?.ask(|command| ToAgent::Pause { command }, &[], PATIENCE)?;
        let record = self.store.update(&record.id, |record| record.state = State::Paused)?;
        self.note(Kind::Pause, &record, Value::Null)?;
        Ok(record)
    }

    pub fn unpause(&self, asked: &str) -> Result<Record, EngineError> {
        let (record, _lock) = self.lock(asked)?;
        if record.state != State::Paused {
            return Err(EngineError::refused(
                format!("the sandbox {} is not paused, but {}", record.name, record.state),
                "only what is paused can be unpaused".into(),
            ));
        }
        self.dial(&record)?.ask(|command| ToAgent::Unpause { command }, &[], PATIENCE)?;
        let record = self.store.update(&record.id, |record| record.state = State::Running)?;
        self.note(Kind::Unpause, &record, Value::Null)?;
        Ok(record)
    }

    /// Sends a signal to everything inside.
    pub fn signal_all(&self, asked: &str, signal: u8) -> Result<Record, EngineError> {
        let record = self.find(asked)?;
        self.expect_running(&record)?;
        self.dial(&record)?.ask(|command| ToAgent::All { command, signal }, &[], PATIENCE)?;
        self.note(Kind::Signal, &record, json!({ "signal": signal }))?;
        Ok(record)
    }

    /// Connects to its agent.
    pub fn dial(&self, record: &Record) -> Result<Dial, EngineError> {
        // Where others could put a socket, it need not be the sandbox's.
        self.dirs.check()?;
        let dialled = Dial::connect(&self.dirs.socket(&record.id));
        dialled.map_err(|error| match error {
            DialError::Unreachable(_) | DialError::Gone => {
                // It may have ended a moment ago, which is the better thing to say.
                let now = self.find(record.id.as_str()).and_then(|now| self.expect_running(&now));
                now.err().unwrap_or_else(|| error.into())
            }
            error => error.into(),
        })
    }

    /// The sandbox of this name with its state as it is, for whoever wants to change it.
    pub(super) fn lock(&self, asked: &str) -> Result<(Record, SandboxLock), EngineError> {
        let found = self.store.find(asked)?;
        let lock = match self.store.lock(&found.id) {
            // It was removed meanwhile, which is told in the same words as if it never was.
            Err(StoreError::NotFound { .. }) => {
                return Err(self.store.find(asked).map_or_else(EngineError::from, |_| {
                    EngineError::failed("can't lock the sandbox", &"it is another one by now")
                }));
            }
            lock => lock?,
        };
        match self.settle_locked(found, &lock)? {
            Some(record) => Ok((record, lock)),
            None => Ok((self.store.find(asked)?, lock)),
        }
    }
}

/// Waits until the place is ready.
pub(super) fn greeted(place: &dyn Place) -> Result<Dial, EngineError> {
    let link = place.link().try_clone_to_owned();
    let link = link.map_err(|error| EngineError::failed("can't reach the sandbox", &error))?;
    Dial::greeted(link).map_err(|error| match error {
        DialError::Unready { step, error } => place.explain(step, error).into(),
        other => other.into(),
    })
}

/// What is left of a time to live; not nothing, so that it ends as others do.
fn left(created: SystemTime, ttl: Duration) -> Duration {
    let lived = SystemTime::now().duration_since(created).unwrap_or_default();
    ttl.saturating_sub(lived).max(Duration::from_millis(1))
}

fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}
