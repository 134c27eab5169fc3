//! A run whose sandbox is kept.

use std::ffi::OsStr;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use agentkernel_core::{Command, Place, Spec, Stdio};
use agentkernel_protocol::Role;
use agentkernel_store::audit::Kind;
use agentkernel_store::{Name, Record, StoreError};
use serde_json::{Value, json};

use super::exec::{Client, code, not_noted};
use super::settle::is_said_to_run;
use super::{NewSandbox, Sandboxes};
use crate::action::{Outcome, Run};
use crate::command::{Called, CommandRun, Finished, Peer};
use crate::engine::tell_ports;
use crate::streams::Streams;
use crate::{EngineError, Route, demand, journal};

impl Sandboxes<'_> {
    /// Runs a command as [`Engine::run`](crate::Engine::run) does, but in a new sandbox that lives
    /// while it does, and is kept, stopped, when it has ended. If the command can't be started
    /// nothing is kept.
    ///
    /// Everything inside is ended with the command, and with the calling process, too.
    pub fn run_kept(&self, mut run: Run, name: Option<Name>) -> Result<Outcome, EngineError> {
        let start = Instant::now();
        self.engine.settle_image(run.backend.as_deref(), &mut run.spec, &run.provision)?;
        let (streams, stdio) = Streams::connect(run.terminal.is_given(run.stdin), run.stdin)?;
        streams.name_terminal(&run.spec, &mut run.command);
        let backend = self.engine.expect_driver(run.backend.as_deref())?;
        demand::check(backend, &run.spec, streams.is_terminal())?;
        // Before anything is made, so that no signal comes too early to be forwarded.
        let command = CommandRun::new(streams, run.command.time_limit)?;
        let record = self.create(NewSandbox {
            name,
            backend: run.backend,
            spec: run.spec,
            labels: Default::default(),
            ttl: None,
            idle: None,
            origin: None,
        })?;
        match self.run_in(&record, &run.command, command, stdio, start) {
            Ok(driven) => self.conclude(driven, start),
            Err(error) => {
                // What is told is why there is nothing to keep.
                let _ = self.put_by(&record);
                let _ = self.remove(record.id.as_str(), true);
                Err(error)
            }
        }
    }

    fn run_in(
        &self,
        record: &Record,
        command: &Command,
        run: CommandRun,
        stdio: Stdio,
        start: Instant,
    ) -> Result<Driven, EngineError> {
        let (backend, spec) = (self.backend(record)?, self.spec(record)?);
        let (record, lock) = self.lock(record.id.as_str())?;
        let place = backend.boot_live(&spec, self.life(&record, false)?)?;
        let (record, dial) = self.settle_in(&record, &*place)?;
        tell_ports(&spec, place.ports());
        let process = backend.process(&spec, command, &|| place.image())?;
        let code = code(backend, &spec)?;
        drop(lock);
        self.note(Kind::Start, &record, Value::Null)?;
        backend.open_streams(&stdio)?;
        let client =
            Client::start(dial.into_link(), &stdio, process, code.as_ref(), Role::Foreground)?;
        let noted = self.note(Kind::Command, &record, journal::command(command, &spec.image));
        let peer = Kept { client, place: &*place };
        let told = peer.client.told();
        match run.drive_ready(stdio, &peer, told, &Called::of(&spec, command), start) {
            Ok(course) => {
                let finished = course.here(start);
                Ok(Driven { record, spec, place, finished, noted })
            }
            Err(error) => {
                let ended = Some(json!({ "error": error.why }));
                // What went wrong is the better thing to say.
                let _ = self.note_ended(Kind::Ended, &record, Value::Null, ended);
                Err(error)
            }
        }
    }

    /// Ends the place, and keeps what it has left.
    fn conclude(&self, driven: Driven, start: Instant) -> Result<Outcome, EngineError> {
        let Driven { record, spec, place, finished, noted } = driven;
        let (walls, limits) = (place.walls().to_vec(), place.limits().to_vec());
        let (mut notes, ports) = (place.notes().to_vec(), place.ports().to_vec());
        let destroyed = place.destroy();
        let kills = destroyed.as_ref().map_or(0, |remains| remains.oom_kills);
        let (timeline, ended) = (finished.timeline, finished.ending(kills));
        let end_noted =
            self.note_ended(Kind::Ended, &record, Value::Null, Some(journal::ended(&ended)));
        let kept = self.put_by(&record)?;
        notes.extend(noted.and(end_noted).err().map(not_noted));
        let remains =
            destroyed.map_err(|error| EngineError::failed("can't end the sandbox", &error))?;
        let outcome = Outcome {
            backend: self.backend(&record)?.name(),
            route: match kept {
                Some(name) => Route::Kept(name.into()),
                None => Route::Cold("it was to be kept, but somebody has removed it".into()),
            },
            module: spec.image.module_name().map(OsStr::to_owned),
            profile: spec.profile,
            ended,
            broken: finished.deliver_rest(),
            phases: timeline.phases(start, Instant::now()),
            walls,
            limits,
            notes,
            ports,
            remains,
        };
        Ok(outcome)
    }

    /// Says in the store that the sandbox has stopped, unless somebody else has, and returns what it
    /// is called by now. `None` if it was removed.
    fn put_by(&self, record: &Record) -> Result<Option<Name>, EngineError> {
        let _lock = match self.store.lock(&record.id) {
            Err(StoreError::NotFound { .. }) => return Ok(None),
            lock => lock?,
        };
        let record = self.store.find(record.id.as_str())?;
        if !is_said_to_run(&record) {
            return Ok(Some(record.name));
        }
        self.close_door(&record)?;
        let record = self.stopped(&record, "its command has ended")?;
        self.note(Kind::Stop, &record, Value::Null)?;
        Ok(Some(record.name))
    }
}

/// A command that has ended in a place that has not.
struct Driven {
    record: Record,
    spec: Spec,
    place: Box<dyn Place>,
    finished: Finished,
    /// Whether its start is in the audit log.
    noted: Result<(), EngineError>,
}

/// The one command that a place was booted for, though others may be started in it, too.
struct Kept<'a> {
    client: Client,
    place: &'a dyn Place,
}

impl Peer for Kept<'_> {
    fn link(&self) -> BorrowedFd<'_> {
        self.client.link()
    }

    fn kill(&self) {
        self.place.kill();
    }

    fn explain(&self, step: u16, error: io::Error) -> EngineError {
        self.place.explain(step, error).into()
    }
}
