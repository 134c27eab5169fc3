//! What clients ask of a living place.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use agentkernel_core::Attachment;
use agentkernel_protocol::{Carry, CommandId, FromAgent, Role, Stage, Start, ToAgent};
use agentkernel_sys::{descriptor, process, signal};

use super::{LiveAgent, Stopping};

/// Numbers that Linux has had on every architecture for ever; std names only their kinds.
mod errno {
    pub(super) const NO_SUCH_PROCESS: i32 = 3;
    pub(super) const BUSY: i32 = 16;
}

/// Why an order could not be carried out.
fn number(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(0)
}

impl LiveAgent<'_> {
    pub(super) fn obey(&mut self, link: u32, order: ToAgent) {
        match order {
            // A command may have ended a moment ago, which its sender will hear soon enough.
            ToAgent::Signal { command, signal } => {
                if let Some(running) = self.own(link, command) {
                    let _ = running.child.signal(i32::from(signal));
                }
            }
            ToAgent::Kill { command } => {
                if let Some(running) = self.own(link, command) {
                    running.kill();
                }
            }
            ToAgent::Start { command, start } => self.start_if_free(link, command, start),
            ToAgent::Carry { command, carry } => self.carry_if_free(link, command, &carry),
            ToAgent::Background { command, number, signal } => {
                let done = match self.commands.iter().find(|c| c.is_background(number)) {
                    Some(running) => running.child.signal_group(i32::from(signal)),
                    None => Err(io::Error::from_raw_os_error(errno::NO_SUCH_PROCESS)),
                };
                self.answer(link, command, done);
            }
            ToAgent::Release { command } => {
                self.released = true;
                self.answer(link, command, Ok(()));
            }
            ToAgent::List { command } => self.list(link, command),
            ToAgent::All { command, signal } => {
                let done = process::signal_all(i32::from(signal)).map(drop);
                self.dismiss_understudy();
                self.answer(link, command, done);
            }
            ToAgent::Root { command } => {
                self.hand_over(link, command, descriptor::open_path(c"/"));
            }
            ToAgent::UserNamespace { command } => {
                let namespace = self.namespace.as_ref().ok_or(io::ErrorKind::Unsupported.into());
                let namespace = namespace.and_then(OwnedFd::try_clone);
                self.hand_over(link, command, namespace);
            }
            ToAgent::Pause { command } => self.pause(link, command, true),
            ToAgent::Unpause { command } => self.pause(link, command, false),
            ToAgent::Hold { command } => self.hold(link, command),
            ToAgent::Stop { command, grace } => self.stop(link, command, grace),
            ToAgent::Attach { command, attachment } => {
                let done = self.attach(link, attachment);
                self.answer(link, command, done);
            }
        }
    }

    fn own(&self, link: u32, command: CommandId) -> Option<&super::Running> {
        self.commands.iter().find(|running| running.link == link && running.command == command)
    }

    fn answer(&mut self, link: u32, command: CommandId, done: io::Result<()>) {
        let word = match done {
            Ok(()) => FromAgent::Done { command },
            Err(error) => FromAgent::Failed { command, errno: number(&error) },
        };
        self.say(link, word);
    }

    /// Starts a command, unless its number is taken, or nothing may start now.
    fn start_if_free(&mut self, link: u32, command: CommandId, start: Box<Start>) {
        let taken = match start.role {
            Role::Background { number, .. } => {
                self.commands.iter().any(|c| c.is_background(number))
            }
            Role::Foreground | Role::Only => false,
        };
        if taken || self.own(link, command).is_some() {
            // Nobody who counts right does that.
            if let Some(link) = self.link(link) {
                link.broken = true;
            }
            return;
        }
        let result = match self.may_start() {
            true => self.start(link, command, start),
            false => Err(io::Error::from_raw_os_error(errno::BUSY)),
        };
        if let Err(error) = result {
            let errno = number(&error);
            self.say(link, FromAgent::NotStarted { command, stage: Stage::Place, errno });
        }
    }

    /// Carries files, whoever else is stopped, unless the number is taken or the place is about to end.
    fn carry_if_free(&mut self, link: u32, command: CommandId, carry: &Carry) {
        let taken = self.own(link, command).is_some();
        let Some(client) = self.link(link) else { return };
        let Some(streams) = client.take::<3>().filter(|_| !taken) else {
            client.broken = true;
            return;
        };
        if let Err(error) = self.carry(link, command, carry, streams) {
            self.answer(link, command, Err(error));
        }
    }

    fn list(&mut self, link: u32, command: CommandId) {
        let numbers: Vec<u32> = self
            .commands
            .iter()
            .filter_map(|running| match running.role {
                Role::Background { number, .. } => Some(number),
                Role::Foreground | Role::Only => None,
            })
            .collect();
        let listed = numbers.into_iter().map(|number| FromAgent::Listed { command, number });
        let words: Vec<FromAgent> = listed.chain([FromAgent::Done { command }]).collect();
        if let Some(link) = self.link(link) {
            link.say_all(&words);
        }
    }

    fn hand_over(&mut self, link: u32, command: CommandId, opened: io::Result<OwnedFd>) {
        match opened {
            Ok(opened) => {
                if let Some(link) = self.link(link) {
                    link.say(FromAgent::Done { command }, Some(opened.as_fd()));
                }
            }
            Err(error) => self.answer(link, command, Err(error)),
        }
    }

    /// A stop can't be caught or ignored. A process that had stopped before goes on with the
    /// others.
    fn pause(&mut self, link: u32, command: CommandId, paused: bool) {
        let signal = if paused { signal::SIGSTOP } else { signal::SIGCONT };
        let done = process::signal_all(signal).map(drop);
        if done.is_ok() {
            self.paused = paused;
        }
        self.answer(link, command, done);
    }

    /// Whoever holds the place may be killed before he lets go, so that its link's end does it.
    fn hold(&mut self, link: u32, command: CommandId) {
        self.holder = Some(link);
        let done = process::signal_all(signal::SIGSTOP);
        let done = done.and_then(|_| self.beside.get_mut().as_mut().map_or(Ok(()), |b| b.freeze()));
        self.answer(link, command, done);
    }

    pub(super) fn let_go(&mut self) {
        self.holder = None;
        if let Some(beside) = self.beside.get_mut() {
            beside.thaw();
        }
        if !self.paused {
            // If nothing is there to go on, nothing has to.
            let _ = process::signal_all(signal::SIGCONT);
        }
    }

    fn stop(&mut self, link: u32, command: CommandId, grace: Duration) {
        let by = process::clock().saturating_add(grace);
        self.stopping = Some(Stopping { by, link, command });
        // What was stopped could not heed it.
        let asked = process::signal_all(signal::SIGTERM);
        let _ = process::signal_all(signal::SIGCONT);
        if !asked.unwrap_or(false) {
            self.finish_stopping();
        }
    }

    /// Ends the place if it was to be stopped: nothing is left to wait for.
    pub(super) fn finish_stopping(&mut self) {
        if let Some(Stopping { link, command, .. }) = self.stopping.take() {
            // Whoever hears that it is done may end the machine that this runs in.
            if let Some(beside) = self.beside.get_mut() {
                beside.save();
            }
            self.say(link, FromAgent::Done { command });
            self.end("stopped");
        }
    }

    fn attach(&mut self, link: u32, attachment: Attachment) -> io::Result<()> {
        if !self.pristine {
            return Err(io::Error::from_raw_os_error(errno::BUSY));
        }
        let tree = match &attachment {
            Attachment::Mount { .. } => self.link(link).and_then(|link| link.take::<1>()),
            Attachment::User { .. } => None,
        };
        (self.attach)(attachment, tree.map(|[tree]| tree))
    }
}
