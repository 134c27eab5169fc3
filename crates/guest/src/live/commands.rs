//! The commands of a living place.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use agentkernel_protocol::{Carry, CommandId, Ending, FromAgent, Role, Start};
use agentkernel_sys::descriptor::{self, Interest};
use agentkernel_sys::process::{self, Child, Death, Fork, Namespaces, Usage};
use agentkernel_sys::signal;

use super::log::Log;
use super::understudy::Understudy;
use super::{Carrier, LiveAgent};
use crate::Rules;
use crate::agent::{started, status};

/// How long a place outlasts its only command, for a client that does not take leave.
const LONGEST_LEAVE: Duration = Duration::from_secs(1);

/// What whoever asks for what is not done here hears (`EOPNOTSUPP` of Linux on every architecture that
/// it runs places on).
const NOT_SUPPORTED: i32 = 95;

/// A command's process.
pub(super) struct Running {
    pub child: Child,
    /// Who hears of it, and under which number.
    pub link: u32,
    pub command: CommandId,
    /// Ends when the program runs, or says why it does not.
    starting: Option<OwnedFd>,
    pub role: Role,
    deadline: Option<Duration>,
    timed_out: bool,
}

impl Running {
    pub fn interest(&self) -> Interest<'_> {
        self.starting.as_ref().map_or(Interest::none(), |fd| Interest::readable(fd.as_fd()))
    }

    pub fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// Kills it if its time is up.
    pub fn keep_time(&mut self, now: Duration) {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.deadline = None;
            self.timed_out = true;
            self.kill();
        }
    }

    /// Kills its process group.
    pub fn kill(&self) {
        // It may have ended already.
        let _ = self.child.signal_group(signal::SIGKILL);
        let _ = self.child.signal(signal::SIGKILL);
    }

    /// Whether it is the background command `number`.
    pub fn is_background(&self, wanted: u32) -> bool {
        matches!(self.role, Role::Background { number, .. } if number == wanted)
    }
}

impl LiveAgent<'_> {
    /// Starts a command. What becomes of it is told when it is known.
    pub(super) fn start(
        &mut self,
        link: u32,
        command: CommandId,
        start: Box<Start>,
    ) -> io::Result<()> {
        let (role, is_module) = (start.role, start.process.is_module);
        let Some(client) = self.links.iter_mut().find(|l| l.id == link) else { return Ok(()) };
        let (streams, log) = match (start.terminal, role) {
            (Some(_), _) => (Vec::new(), None),
            (None, Role::Background { number, .. }) => {
                let Some([log, other, end]) = client.take() else { return Ok(()) };
                let null = self.null.as_ref().ok_or(io::ErrorKind::NotFound)?.try_clone()?;
                let (log, [output, errors]) = Log::open(number, [log, other], end)?;
                (vec![null, output, errors], Some(log))
            }
            (None, _) => {
                let Some(streams) = client.take::<3>() else { return Ok(()) };
                (streams.into(), None)
            }
        };
        let code = match is_module.then(|| client.take::<1>()) {
            Some(None) => return Ok(()),
            Some(code) => code,
            None => None,
        };
        let mut descriptors: Vec<BorrowedFd<'_>> = match start.terminal {
            Some(_) => vec![client.as_fd()],
            None => streams.iter().map(AsFd::as_fd).collect(),
        };
        descriptors.extend(code.iter().flatten().map(AsFd::as_fd));
        let (child, starting) =
            cast(&mut self.understudy, self.rules, command, start, &descriptors)?;
        let limit = match role {
            Role::Background { time_limit, .. } => time_limit,
            Role::Foreground | Role::Only => None,
        };
        if !self.pristine {
            // Commands have its user, and may have stopped it while it waited.
            let _ = child.signal(signal::SIGCONT);
        }
        self.pristine = false;
        self.logs.extend(log);
        self.commands.push(Running {
            child,
            link,
            command,
            starting: Some(starting),
            role,
            deadline: limit.map(|limit| process::clock() + limit),
            timed_out: false,
        });
        Ok(())
    }

    /// Has a process of the agent's carry files.
    pub(super) fn carry(
        &mut self,
        link: u32,
        command: CommandId,
        carry: &Carry,
        streams: [OwnedFd; 3],
    ) -> io::Result<()> {
        let carrier = self.carrier.filter(|_| self.stopping.is_none());
        let carrier = carrier.ok_or_else(|| io::Error::from_raw_os_error(NOT_SUPPORTED))?;
        // Who carries something in may plant a link.
        self.pristine = false;
        let child = match process::fork(Namespaces::NONE, None)? {
            Fork::Parent(child) => child,
            Fork::Child => process::exit_now(i32::from(become_carrier(carrier, carry, streams))),
        };
        self.commands.push(Running {
            child,
            link,
            command,
            starting: None,
            role: Role::Foreground,
            deadline: None,
            timed_out: false,
        });
        self.say(link, FromAgent::Started { command, at: process::clock() });
        Ok(())
    }

    /// Whether commands may be started now.
    pub(super) fn may_start(&self) -> bool {
        self.stopping.is_none() && !self.paused && self.holder.is_none()
    }

    /// Has a process ready for the next command, if one may come.
    pub(super) fn cast_understudy(&mut self) {
        let wanted = self.may_start() && (self.pristine || self.is_shared());
        if self.understudy.is_none() && wanted {
            // Without one the next command takes longer, or says why it can't be started.
            self.understudy = Understudy::prepare(self.rules).ok();
        }
    }

    /// Parts from one that may have been hit by a signal to everybody, such as a stop.
    pub(super) fn dismiss_understudy(&mut self) {
        if let Some(understudy) = self.understudy.take() {
            understudy.dismiss();
        }
    }

    /// Tells of starts and of those that came to nothing.
    pub(super) fn hear_of_starts(&mut self, ready: &[bool]) {
        for at in (0..ready.len()).filter(|at| ready[*at]) {
            self.hear_of_start(at);
        }
    }

    fn hear_of_start(&mut self, at: usize) {
        let running = &mut self.commands[at];
        let (link, command) = (running.link, running.command);
        let Some(starting) = running.starting.take() else { return };
        let word = started(command, starting.as_fd()).unwrap_or(FromAgent::Failed {
            command,
            // EIO: a pipe of our own that can't be read.
            errno: 5,
        });
        self.say(link, word);
    }

    /// Takes every death there is to take.
    pub(super) fn bury(&mut self) -> io::Result<()> {
        while self.deaths.take()?.is_some() {}
        loop {
            match process::take_any_death() {
                Ok(Some(death)) => self.on_death(&death),
                Ok(None) => return Ok(()),
                Err(error) if process::is_childless(&error) => {
                    self.finish_stopping();
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Tells of a command's death. Others who die here belonged to one.
    fn on_death(&mut self, death: &Death) {
        if self.understudy.as_ref().is_some_and(|understudy| understudy.pid() == death.pid) {
            self.understudy = None;
        }
        let Some(at) = self.commands.iter().position(|c| c.child.pid() == death.pid) else {
            return;
        };
        self.hear_of_start(at);
        let running = self.commands.remove(at);
        self.last_used = process::clock();
        let usage = match running.role {
            // It was all there was, so all there is goes with it, and counts as its own.
            Role::Only => {
                self.over = true;
                // For this the kernel goes through every process of the machine. Whoever is left
                // inside has process 1 for a parent or an ancestor.
                if process::has_children() {
                    let _ = process::signal_all(signal::SIGKILL);
                }
                process::await_all_deaths()
            }
            Role::Foreground | Role::Background { .. } => death.usage(),
        };
        if let Role::Background { number, .. } = running.role {
            let ending = match running.timed_out {
                true => Ending::TimedOut,
                false => Ending::Died(status(death)),
            };
            if let Some(log) = self.logs.iter_mut().find(|log| log.number == number) {
                log.end(ending);
            }
        }
        let Usage { user, system, max_resident } = usage;
        let (command, status, at) = (running.command, status(death), process::clock());
        self.say(
            running.link,
            FromAgent::Ended { command, status, at, user, system, max_resident },
        );
        if running.role == Role::Only {
            self.await_leave(running.link);
        }
    }

    /// Waits until a client has gone who has heard how all ended. The kernel takes a while to clear
    /// a place away, on processors that the client could use.
    fn await_leave(&self, link: u32) {
        let Some(link) = self.links.iter().find(|other| other.id == link) else { return };
        let until = process::clock() + LONGEST_LEAVE;
        let mut left = [Interest::readable(link.as_fd())];
        // It is no matter why this ends: so does the place.
        while !left[0].is_ready() {
            let rest = until.saturating_sub(process::clock());
            if rest.is_zero() || !self.poll(&mut left, Some(rest)).unwrap_or(false) {
                return;
            }
        }
    }

    /// Kills what the client `link` has started for itself, now that it has gone.
    pub(super) fn abandon(&mut self, link: u32) {
        for running in self.commands.iter().filter(|running| running.link == link) {
            match running.role {
                Role::Foreground => running.kill(),
                Role::Only => self.over = true,
                Role::Background { .. } => {}
            }
        }
    }
}

/// Carries files in the calling process, which nobody else is in, and returns its exit status.
fn become_carrier(carrier: &dyn Carrier, carry: &Carry, streams: [OwnedFd; 3]) -> u8 {
    let [a, b, c] = streams.each_ref().map(AsRawFd::as_raw_fd);
    // Else nobody would see the end of what the agent closes meanwhile.
    let kept = carrier.kept().map_or(-1, |kept| kept.as_raw_fd());
    let alone = descriptor::close_all_but(&mut [0, 1, 2, a, b, c, kept]);
    match alone.and_then(|()| process::new_session()) {
        Ok(()) => carrier.carry(carry, streams),
        Err(_) => 1,
    }
}

/// Has the understudy become a command, or another process if there is none that can.
fn cast(
    understudy: &mut Option<Understudy>,
    rules: &Rules,
    command: CommandId,
    start: Box<Start>,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<(Child, OwnedFd)> {
    let start = match understudy.take() {
        Some(ready) => match ready.go_on(command, start, descriptors) {
            Ok(started) => return Ok(started),
            Err(start) => start,
        },
        None => start,
    };
    let fresh = Understudy::prepare(rules)?.go_on(command, start, descriptors);
    fresh.map_err(|_| io::ErrorKind::BrokenPipe.into())
}
