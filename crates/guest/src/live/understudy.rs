//! A process that is ready to become the next command.
//!
//! Making a process and putting the rules in force on it takes longer than all else of a start, so
//! it is done before somebody waits for it. Like the agent's, its memory and descriptors are hidden
//! from the commands. They can kill it, for it has their user; then another is made.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use agentkernel_protocol::{CommandId, LongDecoder, Stage, Start, ToAgent};
use agentkernel_sys::process::{self, Child, Fork, Namespaces};
use agentkernel_sys::{descriptor, signal, socket};

use crate::agent::fail;
use crate::command::{self, Failure, Own, Prepared, Rules, Streams};

/// How long it may take to take in its part. Commands can stop it, for they have its user, and the
/// agent has others to serve.
const PATIENCE: Duration = Duration::from_secs(5);

/// The process, waiting for its part.
pub(super) struct Understudy {
    child: Child,
    /// Brings the command and its streams; the end of it tells the process to end.
    stage: OwnedFd,
    /// Ends when its program runs; before that it says why that is not to be.
    failure: OwnedFd,
}

impl Understudy {
    pub fn prepare(rules: &Rules) -> io::Result<Self> {
        let (stage, inside) = socket::pair()?;
        socket::limit_waiting(stage.as_fd(), PATIENCE)?;
        let (failure, failure_inside) = descriptor::pipe()?;
        match process::fork(Namespaces::NONE, None)? {
            Fork::Parent(child) => Ok(Self { child, stage, failure }),
            Fork::Child => {
                let why = wait_and_become(rules, inside.as_fd(), failure_inside.as_fd());
                fail(why, failure_inside.as_fd())
            }
        }
    }

    pub fn pid(&self) -> process::Pid {
        self.child.pid()
    }

    /// Ends it, whatever state it is in.
    pub fn dismiss(self) {
        // It may be dead already.
        let _ = self.child.signal(signal::SIGKILL);
    }

    /// Has it become a command. `descriptors` are the command's streams, or the link over which the
    /// terminal goes that it gets. Returns the command's process, and what ends when its program
    /// runs. If the process is dead or does not listen, the command comes back.
    pub fn go_on(
        self,
        command: CommandId,
        start: Box<Start>,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(Child, OwnedFd), Box<Start>> {
        let order = ToAgent::Start { command, start };
        let sent = match order.encode() {
            Ok(frame) => socket::send(self.stage.as_fd(), &frame, descriptors),
            Err(error) => Err(io::Error::other(error)),
        };
        match (sent, order) {
            (Err(_), ToAgent::Start { start, .. }) => {
                // What it has of the command, if anything, must come to nothing.
                let _ = self.child.signal(signal::SIGKILL);
                Err(start)
            }
            _ => Ok((self.child, self.failure)),
        }
    }
}

fn wait_and_become(rules: &Rules, stage: BorrowedFd<'_>, failure: BorrowedFd<'_>) -> Failure {
    if let Err(why) = command::settle(rules, [stage, failure]) {
        return why;
    }
    let own = Own::find();
    if let Some(modules) = rules.modules {
        modules.runner.stand_by(modules.memory);
    }
    let (command, start, descriptors) = match receive(stage) {
        Ok(Some(part)) => part,
        // It is not needed any more.
        Ok(None) => process::exit_now(0),
        Err(error) => return (Stage::Place, error),
    };
    let mut descriptors = descriptors.into_iter();
    let mut next = || descriptors.next().ok_or(io::ErrorKind::NotConnected.into());
    let given = match start.terminal {
        Some((rows, columns)) => {
            next().map(|link| (Streams::Terminal { rows, columns }, Some(link)))
        }
        None => (|| Ok((Streams::Given([next()?, next()?, next()?]), None)))(),
    };
    let is_module = start.process.is_module;
    let given = given.and_then(|given| Ok((given, is_module.then(next).transpose()?)));
    match given {
        Ok(((streams, link), code)) => {
            let prepared = Prepared::new(start.process, streams, code);
            let link = link.as_ref().map_or(stage, |link| link.as_fd());
            prepared.become_program_late(rules, command, link, own, failure)
        }
        Err(error) => (Stage::Streams, error),
    }
}

/// What the process is to become, with the descriptors that came along.
type Part = (CommandId, Start, Vec<OwnedFd>);

fn receive(stage: BorrowedFd<'_>) -> io::Result<Option<Part>> {
    let mut decoder = LongDecoder::default();
    let mut descriptors = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        let (read, received) = socket::receive(stage, &mut buffer)?;
        descriptors.extend(received.into_iter().flatten());
        if read == 0 {
            return Ok(None);
        }
        let mut rest = &buffer[..read];
        let order = decoder.next(&mut rest, ToAgent::parse).map_err(io::Error::other)?;
        if let Some(ToAgent::Start { command, start }) = order {
            return Ok(Some((command, *start, descriptors)));
        }
    }
}
