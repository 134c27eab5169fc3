//! The agent's own life.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use agentkernel_protocol::{CommandId, Decoder, FromAgent, Stage, Status, ToAgent, VERSION};
use agentkernel_sys::descriptor::{self, Interest};
use agentkernel_sys::process::{self, Child, Death, Fork, Namespaces, Usage};
use agentkernel_sys::signal::{self, Signals};
use agentkernel_sys::socket;

use crate::Modules;
use crate::command::{Failure, Own, Prepared, Rules};

/// The command that a place is booted with.
const FIRST: CommandId = 0;

/// The agent of a place that runs one command and ends with it.
pub struct Agent {
    link: OwnedFd,
    deaths: Signals,
}

/// A command's process that has been made but waits for the place to be ready.
#[must_use = "without an agent that lets it go on it ends"]
pub struct Forked {
    child: Child,
    /// A byte lets it go on; the end of the stream tells it to end.
    gate: OwnedFd,
    /// Ends when its program runs; before that it says why that is not to be.
    failure: OwnedFd,
}

impl Agent {
    /// An agent on `link`. It receives the deaths of the caller's children from now on.
    pub fn new(link: OwnedFd) -> io::Result<Self> {
        Ok(Self { link, deaths: Signals::receive(&[signal::SIGCHLD])? })
    }

    /// Whether the engine has gone.
    pub fn is_deserted(&self) -> io::Result<bool> {
        descriptor::poll(&mut [Interest::gone(self.link())], Some(Duration::ZERO))
    }

    /// The descriptors that it can't do without: its link, and where it hears of deaths.
    pub(crate) fn into_parts(self) -> (OwnedFd, Signals) {
        (self.link, self.deaths)
    }

    fn link(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }

    /// Makes the first command's process ahead of everything else, so that it prepares itself
    /// beside the agent, who prepares the place. It first does what `place` wants of it, which must
    /// be child-safe.
    pub fn fork_first(
        &self,
        command: &Prepared,
        rules: &Rules,
        place: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<Forked> {
        let (gate_inside, gate) = descriptor::pipe()?;
        let (failure, failure_inside) = descriptor::pipe()?;
        match process::fork(Namespaces::NONE, None)? {
            Fork::Parent(child) => Ok(Forked { child, gate, failure }),
            Fork::Child => {
                drop(gate);
                let (gate, failure_to) = (gate_inside.as_fd(), failure_inside.as_fd());
                let failure = self.first_process(command, rules, place, gate, failure_to);
                fail(failure, failure_to)
            }
        }
    }

    fn first_process(
        &self,
        command: &Prepared,
        rules: &Rules,
        place: impl FnOnce() -> io::Result<()>,
        gate: BorrowedFd<'_>,
        failure: BorrowedFd<'_>,
    ) -> Failure {
        if let Err(error) = place() {
            return (Stage::Place, error);
        }
        if let Err(failure) = command.settle(rules, [self.link(), gate, failure]) {
            return failure;
        }
        match descriptor::read(gate, &mut [0]) {
            Ok(1) => command.become_program(rules, FIRST, self.link(), Own::find(), failure),
            _ => process::exit_now(127),
        }
    }

    /// Closes what came along from the engine, but for what the agent and `first` need, those who
    /// will run `modules`, and `others`.
    pub fn close_inherited(
        &self,
        first: Option<&Forked>,
        others: [Option<BorrowedFd<'_>>; 5],
        modules: Option<Modules>,
    ) -> io::Result<()> {
        let (link, deaths) = (self.link.as_raw_fd(), self.deaths.as_fd().as_raw_fd());
        let needed = Modules::needed(modules);
        let mut keep = [link, deaths, -1, -1, -1, -1, -1, -1, -1, -1, needed];
        if let Some(Forked { child, gate, failure }) = first {
            keep[2] = child.pidfd().as_raw_fd();
            keep[3] = gate.as_raw_fd();
            keep[4] = failure.as_raw_fd();
        }
        for (place, other) in keep[5..].iter_mut().zip(others) {
            *place = other.map_or(-1, |other| other.as_raw_fd());
        }
        descriptor::close_all_but(&mut keep)
    }

    /// Says that the place is ready, lets the first command go on, and serves the link until that
    /// command has ended or the engine has gone. Whatever else still runs dies with the caller,
    /// who is process 1.
    pub fn serve(&self, first: Forked) -> io::Result<()> {
        self.say(FromAgent::Hello { version: VERSION, at: process::clock() })?;
        descriptor::write(first.gate.as_fd(), &[1])?;
        self.say(first.await_start()?)?;
        let mut decoder = Decoder::default();
        loop {
            let mut ready =
                [Interest::readable(self.deaths.as_fd()), Interest::readable(self.link.as_fd())];
            descriptor::poll(&mut ready, None)?;
            if ready[0].is_ready()
                && let Some(death) = self.bury(first.child.pid())?
            {
                return self.say(ended(&death));
            }
            if ready[1].is_ready() && !self.obey(&first.child, &mut decoder)? {
                return Ok(());
            }
        }
    }

    /// Takes every death there is to take, and returns that of `command` if it is among them.
    fn bury(&self, command: process::Pid) -> io::Result<Option<Death>> {
        while self.deaths.take()?.is_some() {}
        let mut found = None;
        while let Some(death) = process::take_any_death().or_else(none_left)? {
            if death.pid == command {
                found = Some(death);
            }
        }
        Ok(found)
    }

    /// Does what the engine says. Returns false when it has gone.
    fn obey(&self, command: &Child, decoder: &mut Decoder) -> io::Result<bool> {
        let mut buffer = [0; 256];
        let (read, _) = socket::receive(self.link(), &mut buffer)?;
        let mut rest = &buffer[..read];
        while !rest.is_empty() {
            let order = decoder.next(&mut rest, ToAgent::parse).map_err(io::Error::other)?;
            // Its engine has nothing else to say.
            if let Some(ToAgent::Signal { command: FIRST, signal }) = order {
                // It may have ended a moment ago, which its sender will hear soon enough.
                let _ = command.signal(i32::from(signal));
            }
        }
        Ok(read > 0)
    }

    /// Sends one message to the engine.
    pub fn say(&self, message: FromAgent) -> io::Result<()> {
        socket::send(self.link(), message.encode().as_bytes(), &[])
    }
}

impl Forked {
    /// Waits until the program runs, or can't.
    fn await_start(&self) -> io::Result<FromAgent> {
        started(FIRST, self.failure.as_fd())
    }
}

/// Says through `failure` why a command's process can't go on, and ends it.
pub(crate) fn fail((stage, error): Failure, failure: BorrowedFd<'_>) -> ! {
    let errno = error.raw_os_error().unwrap_or(0);
    let [a, b, c, d] = errno.to_le_bytes();
    // If nobody reads it, nobody is left who could be told.
    let _ = descriptor::write(failure, &[stage as u8, a, b, c, d]);
    process::exit_now(127)
}

/// A word for what an executed program is known by, the end: a module's process goes on as it is.
const RUNS: [u8; 1] = [u8::MAX];

pub(crate) fn say_that_it_runs(failure: BorrowedFd<'_>) {
    // If nobody reads it, nobody waits for it.
    let _ = descriptor::write(failure, &RUNS);
}

/// What came through `failure`: the end, by which the program runs, or why it does not.
pub(crate) fn started(command: CommandId, failure: BorrowedFd<'_>) -> io::Result<FromAgent> {
    let mut why = [0; 5];
    Ok(match descriptor::read(failure, &mut why)? {
        0 | 1 => FromAgent::Started { command, at: process::clock() },
        _ => FromAgent::NotStarted {
            command,
            stage: Stage::from_number(why[0]).unwrap_or(Stage::Place),
            errno: i32::from_le_bytes([why[1], why[2], why[3], why[4]]),
        },
    })
}

pub(crate) fn status(death: &Death) -> Status {
    match death.status() {
        Ok(code) => Status::Exited(code),
        Err(signal) => Status::Signaled(signal),
    }
}

fn ended(death: &Death) -> FromAgent {
    let Usage { user, system, max_resident } = death.usage();
    FromAgent::Ended {
        command: FIRST,
        status: status(death),
        at: process::clock(),
        user,
        system,
        max_resident,
    }
}

/// Having no children left is nothing bad.
fn none_left(error: io::Error) -> io::Result<Option<Death>> {
    if process::is_childless(&error) { Ok(None) } else { Err(error) }
}
