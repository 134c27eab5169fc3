//! A run whose sandbox is kept.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use agentkernel_core::{Command, Place, Stdio};
use agentkernel_protocol::Role;
use agentkernel_store::audit::Kind;
use agentkernel_store::{Name, Record, StoreError};
use serde_json::{Value, json};

use super::exec::Client;
use super::{NewSandbox, Sandboxes};
use crate::action::{Outcome, Run};
use crate::command::{Called, CommandRun, Peer};
use crate::streams::Streams;
use crate::{EngineError, Route, demand, journal};

impl Sandboxes<'_> {
    /// Runs a command as [`Engine::run`](crate::Engine::run) does, but in a new sandbox that lives
    /// while it does, and is kept, stopped, when it has ended. Returns it, too, unless somebody has
    /// removed it meanwhile. If the command can't be started nothing is kept.
    ///
    /// Everything inside is ended with the command, and with the calling process, too.
    pub fn run_kept(
        &self,
        mut run: Run,
        name: Option<Name>,
    ) -> Result<(Outcome, Option<Record>), EngineError> {
        let start = Instant::now();
        let (streams, stdio) = Streams::connect(run.terminal, run.stdin)?;
        streams.name_terminal(&run.spec, &mut run.command);
        let backend = self.engine.select(run.backend.as_deref())?;
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
        let outcome = self.run_in(&record, &run.command, command, stdio, start);
        if outcome.is_err() {
            // What is told is why there is nothing to keep.
            let _ = self.remove(record.id.as_str(), true);
        }
        outcome
    }

    fn run_in(
        &self,
        record: &Record,
        command: &Command,
        run: CommandRun,
        stdio: Stdio,
        start: Instant,
    ) -> Result<(Outcome, Option<Record>), EngineError> {
        let (backend, spec) = (self.backend(record)?, self.spec(record)?);
        let process = backend.process(&spec, command)?;
        let (record, lock) = self.lock(record.id.as_str())?;
        let place = backend.boot_live(&spec, self.life(&record, false)?)?;
        let (record, dial) = self.settle_in(&record, &*place)?;
        drop(lock);
        self.note(Kind::Start, &record, Value::Null)?;
        let stdio = backend.hand_over(stdio)?;
        let client = Client::start(dial.into_link(), stdio, process, Role::Foreground)?;
        self.note(Kind::Command, &record, journal::command(command))?;
        let peer = Kept { client, place: &*place };
        let finished = run.drive_ready(&peer, &Called::of(&spec, command), start);
        let (walls, limits) = (place.walls().to_vec(), place.limits().to_vec());
        let notes = place.notes().to_vec();
        let destroyed = place.destroy();
        let ended = |ended| self.note_ended(Kind::Ended, &record, Value::Null, Some(ended));
        let finished = match finished {
            Ok(finished) => finished,
            Err(error) => {
                ended(json!({ "error": error.why }))?;
                return Err(error);
            }
        };
        let remains =
            destroyed.map_err(|error| EngineError::failed("can't end the sandbox", &error))?;
        let kept = self.put_by(&record)?;
        let (timeline, how) = (finished.timeline, finished.ending(remains.oom_kills));
        ended(journal::ended(&how))?;
        let outcome = Outcome {
            backend: backend.name(),
            route: Route::Cold("its sandbox is to be kept".into()),
            profile: spec.profile,
            ended: how,
            broken: finished.deliver_rest(),
            phases: timeline.phases(start, Instant::now()),
            walls,
            limits,
            notes,
            remains,
        };
        Ok((outcome, kept))
    }

    /// Says in the store that the sandbox has stopped. `None` if it was removed.
    fn put_by(&self, record: &Record) -> Result<Option<Record>, EngineError> {
        let _lock = match self.store.lock(&record.id) {
            Err(StoreError::NotFound { .. }) => return Ok(None),
            lock => lock?,
        };
        self.close_door(record)?;
        let record = self.stopped(record, "its command has ended")?;
        self.note(Kind::Stop, &record, Value::Null)?;
        Ok(Some(record))
    }
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
