//! Commands in a living sandbox.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use agentkernel_core::{Command, Remains, Spec, Stdio};
use agentkernel_protocol::{Role, Start, ToAgent};
use agentkernel_store::Record;
use agentkernel_store::audit::Kind;
use agentkernel_sys::{process, socket};
use serde_json::{Value, json};

use super::Sandboxes;
use crate::action::{Outcome, Terminal};
use crate::command::{Called, CommandRun, FIRST, Finished, Peer};
use crate::streams::Streams;
use crate::{EngineError, Route, demand, journal};

/// Run one more command in a sandbox that lives, with the calling process's standard streams.
#[derive(Debug)]
pub struct Exec {
    pub command: Command,
    pub terminal: Terminal,
    /// Whether the command gets the caller's standard input, or none.
    pub stdin: bool,
}

impl Sandboxes<'_> {
    /// Runs a command in the sandbox `asked`, and returns when it has ended.
    pub fn exec(&self, asked: &str, exec: Exec) -> Result<Outcome, EngineError> {
        let start = Instant::now();
        let record = self.find(asked)?;
        self.expect_running(&record)?;
        let (backend, spec) = (self.backend(&record)?, self.spec(&record)?);
        let mut command = exec.command;
        let (streams, stdio) = Streams::connect(exec.terminal, exec.stdin)?;
        streams.name_terminal(&spec, &mut command);
        demand::check(backend, &spec, streams.is_terminal())?;
        let process = backend.process(&spec, &command)?;
        let run = CommandRun::new(streams, command.time_limit)?;
        let kills = backend.oom_kills(&Self::groups(&record));
        let link = self.dial(&record)?.into_link();
        backend.open_streams(&stdio)?;
        let peer = Client::start(link, &stdio, process, Role::Foreground)?;
        // Else the ends of its output would never be the last ones.
        drop(stdio);
        self.note(Kind::Command, &record, journal::command(&command))?;
        let finished = run.drive_ready(&peer, peer.told(), &Called::of(&spec, &command), start);
        let outcome = finished.map(|finished| self.outcome(&record, &spec, finished, kills, start));
        let ended = match &outcome {
            Ok(outcome) => journal::ended(&outcome.ended),
            Err(error) => json!({ "error": error.why }),
        };
        self.note_ended(Kind::Ended, &record, Value::Null, Some(ended))?;
        outcome
    }

    fn outcome(
        &self,
        record: &Record,
        spec: &Spec,
        finished: Finished,
        before: u64,
        start: Instant,
    ) -> Outcome {
        // Asking takes a file, so only who may have died of it asks.
        let kills = match finished.may_be_out_of_memory() {
            true => self.backend(record).map_or(0, |backend| {
                backend.oom_kills(&Self::groups(record)).saturating_sub(before)
            }),
            false => 0,
        };
        let place = Self::place(record);
        let (timeline, ended, usage) =
            (finished.timeline, finished.ending(kills), finished.usage.clone());
        let broken = finished.deliver_rest();
        Outcome {
            backend: self.backend(record).map_or("", |backend| backend.name()),
            route: Route::Live(record.name.to_string()),
            profile: spec.profile,
            ended,
            phases: timeline.phases(start, Instant::now()),
            walls: place.walls(),
            limits: place.limits(),
            notes: place.notes,
            remains: Remains { usage, oom_kills: kills },
            broken,
        }
    }
}

/// A command's own link to an agent.
pub struct Client {
    link: OwnedFd,
    told: Duration,
}

impl Client {
    /// Has the agent start a command whose streams are `stdio`. What comes of it is heard over the
    /// link. After an error nothing was started.
    pub fn start(
        link: OwnedFd,
        stdio: &Stdio,
        process: agentkernel_core::Process,
        role: Role,
    ) -> Result<Self, EngineError> {
        let terminal = match stdio {
            Stdio::Terminal { rows, columns } => Some((*rows, *columns)),
            Stdio::Streams(_) => None,
        };
        let start = Box::new(Start { process, terminal, role });
        let order = ToAgent::Start { command: FIRST, start }.encode().map_err(|error| {
            EngineError::refused(
                format!("the command is too long: {error}"),
                "pass less on its command line and in its environment".into(),
            )
        })?;
        let streams: Vec<BorrowedFd<'_>> = match stdio {
            Stdio::Streams(streams) => streams.iter().map(AsFd::as_fd).collect(),
            Stdio::Terminal { .. } => Vec::new(),
        };
        let told = process::clock();
        socket::send(link.as_fd(), &order, &streams)
            .map_err(|error| EngineError::failed("can't reach the sandbox's agent", &error))?;
        Ok(Self { link, told })
    }

    /// When the agent was told, by the clock that it shares with us.
    pub fn told(&self) -> Duration {
        self.told
    }
}

impl Peer for Client {
    fn link(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }

    fn kill(&self) {
        if let Ok(order) = (ToAgent::Kill { command: FIRST }).encode() {
            // An agent that has gone says so by the end of its link.
            let _ = socket::send(self.link.as_fd(), &order, &[]);
        }
    }

    fn explain(&self, step: u16, error: io::Error) -> EngineError {
        EngineError::failed(&format!("the agent failed at step {step}"), &error)
    }
}
