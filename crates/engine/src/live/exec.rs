//! Commands in a living sandbox.

use std::cell::LazyCell;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use agentkernel_core::{Backend, Command, Image, Process, Remains, Spec, Stdio};
use agentkernel_protocol::{Role, Start, ToAgent};
use agentkernel_store::Record;
use agentkernel_store::audit::{Entry, Kind};
use agentkernel_sys::{process, socket};
use agentkernel_wire::{PlaceRecord, check_command};
use serde_json::json;

use super::Sandboxes;
use super::dial::not_sent;
use crate::action::{Outcome, Terminal};
use crate::command::{Called, CommandRun, FIRST, Finished, Peer};
use crate::journal::spec_digest;
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
    ///
    /// An audit log that can't be written is noted in the outcome; if the sandbox was made with
    /// `--strict` it is an error, before the command starts.
    pub fn exec(&self, asked: &str, exec: Exec) -> Result<Outcome, EngineError> {
        let start = Instant::now();
        let Exec { mut command, terminal, stdin } = exec;
        let terminal = terminal.is_given(stdin);
        let card = self.by_card(asked)?;
        let has_card = card.is_some();
        let ready = self
            .ready_to_exec(asked, card, &mut command, terminal, stdin)
            .inspect_err(|error| self.note_refused_command(asked, &command, error))?;
        let Ready { record, spec, place, run, stdio, process, code, kills, link } = ready;
        let digest = LazyCell::new(|| spec_digest(&spec));
        let note = |entry| self.note_of(&record, Some(digest.as_str()), entry);
        let entry = |kind| Entry::new(kind, self.journal.who());
        let note_command = || {
            let detail = journal::command(&command, &spec.image);
            note(Entry { detail, ..entry(Kind::Command) })
        };
        if spec.strict {
            note_command()?;
        }
        let peer = Client::start(link, &stdio, process, code.as_ref(), Role::Foreground)?;
        // Beside its start, where it costs nobody time.
        let noted = if spec.strict { Ok(()) } else { note_command() };
        if !has_card {
            self.store.leave_card(&record.id);
        }
        let called = Called::of(&spec, &command);
        let course = run.drive_ready(stdio, &peer, peer.told(), &called, start);
        let outcome = course
            .map(|course| self.outcome(&record, &spec, place, course.here(start), kills, start));
        let ended = match &outcome {
            Ok(outcome) => journal::ended(&outcome.ended),
            Err(error) => json!({ "error": error.why }),
        };
        let end_noted = note(Entry { ended: Some(ended), ..entry(Kind::Ended) });
        let mut outcome = outcome?;
        outcome.notes.extend(noted.and(end_noted).err().map(not_noted));
        Ok(outcome)
    }

    /// Does everything but start it. `card` is the record, if there is a card of it.
    fn ready_to_exec(
        &self,
        asked: &str,
        card: Option<Record>,
        command: &mut Command,
        terminal: bool,
        stdin: bool,
    ) -> Result<Ready, EngineError> {
        let record = card.map_or_else(|| self.find(asked), Ok)?;
        self.expect_running(&record)?;
        let (backend, spec) = (self.backend(&record)?, self.spec(&record)?);
        check_command(command, &spec.image)?;
        let (streams, stdio) = Streams::connect(terminal, stdin)?;
        streams.name_terminal(&spec, command);
        demand::check(backend, &spec, streams.is_terminal())?;
        let place = Self::place(&record);
        let process = backend.process(&spec, command, &|| place.image())?;
        let code = code(backend, &spec)?;
        let run = CommandRun::new(streams, command.time_limit)?;
        let kills = backend.oom_kills(&place.groups);
        let link = self.dial(&record)?.into_link();
        backend.open_streams(&stdio)?;
        Ok(Ready { record, spec, place, run, stdio, process, code, kills, link })
    }

    /// Writes down that a command was refused, by the name of its program as far as that is known.
    pub(super) fn note_refused_command(&self, asked: &str, command: &Command, error: &EngineError) {
        let image = self.store.find(asked).ok().and_then(|record| self.spec(&record).ok());
        let image = image.map_or(Image::Host, |spec| spec.image);
        self.note_refusal(Some(asked), journal::command(command, &image), error);
    }

    fn outcome(
        &self,
        record: &Record,
        spec: &Spec,
        place: PlaceRecord,
        finished: Finished,
        before: u64,
        start: Instant,
    ) -> Outcome {
        // Asking takes a file, so only who may have died of it asks.
        let kills = match finished.may_be_out_of_memory() {
            true => self
                .backend(record)
                .map_or(0, |backend| backend.oom_kills(&place.groups).saturating_sub(before)),
            false => 0,
        };
        let mut remains = Remains { oom_kills: kills, ..Remains::default() };
        finished.complete(&mut remains);
        let (timeline, ended) = (finished.timeline, finished.ending(kills));
        let broken = finished.deliver_rest();
        Outcome {
            backend: self.backend(record).map_or("", |backend| backend.name()),
            route: Route::Live(record.name.to_string()),
            module: spec.image.module_name().map(OsStr::to_owned),
            profile: spec.profile,
            ended,
            phases: timeline.phases(start, Instant::now()),
            walls: place.walls(),
            limits: place.limits(),
            ports: place.ports(),
            notes: place.notes,
            remains,
            broken,
        }
    }
}

/// All that starting a command takes.
struct Ready {
    record: Record,
    spec: Spec,
    place: PlaceRecord,
    run: CommandRun,
    stdio: Stdio,
    process: Process,
    code: Option<OwnedFd>,
    /// How many had died for want of memory before.
    kills: u64,
    link: OwnedFd,
}

/// The code of commands' module, if that is what they are, which may take another program to be had.
pub fn code(backend: &dyn Backend, spec: &Spec) -> Result<Option<OwnedFd>, EngineError> {
    match backend.code(spec) {
        Err(_) if !backend.can_boot() => Err(EngineError::elsewhere(backend)),
        code => Ok(code?),
    }
}

/// What a run's outcome says if the run could not be written down.
pub(super) fn not_noted(error: EngineError) -> String {
    format!("the run is not in the audit log: {}", error.why)
}

/// A command's own link to an agent.
pub struct Client {
    link: OwnedFd,
    told: Duration,
}

impl Client {
    /// Has the agent start a command whose streams are `stdio`, which nobody needs to keep then.
    /// What comes of it is heard over the link. If this fails the agent has not heard all of the
    /// order, and can't start it.
    pub fn start(
        link: OwnedFd,
        stdio: &Stdio,
        process: Process,
        code: Option<&OwnedFd>,
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
        let mut streams: Vec<BorrowedFd<'_>> = match stdio {
            Stdio::Streams(streams) => streams.iter().map(AsFd::as_fd).collect(),
            Stdio::Terminal { .. } => Vec::new(),
        };
        streams.extend(code.map(AsFd::as_fd));
        let told = process::clock();
        socket::send(link.as_fd(), &order, &streams).map_err(not_sent)?;
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
            let _ = socket::send_now(self.link.as_fd(), &order, &[]);
        }
    }

    fn explain(&self, step: u16, error: io::Error) -> EngineError {
        EngineError::failed(&format!("the agent failed at step {step}"), &error)
    }
}
