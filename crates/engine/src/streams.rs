//! The caller's standard streams, connected to a command's.
//!
//! A pipe, a local connection or `/dev/null` is handed to the command as it is: its bytes never
//! come by here. Anything else a sandbox could reopen with more rights than it was given, or push input
//! into, so it stays here, and its bytes are relayed through a pipe or the command's own terminal.

use std::ffi::OsStr;
use std::io::{self, IsTerminal, stderr, stdin, stdout};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use agentkernel_core::{Command, Spec, Stdio};
use agentkernel_sys::descriptor::{self, Interest, Kind};
use agentkernel_sys::terminal::{self, RawMode};

use crate::action::{Broken, EngineError, Terminal};
use crate::relay::{Relay, Sink, Source};

/// What is relayed.
pub struct Streams {
    input: Option<Relay>,
    output: Vec<Relay>,
    terminal: Option<CallersTerminal>,
    broken: Vec<Broken>,
}

/// The caller's terminal while the command has one of its own.
#[derive(Default)]
struct CallersTerminal {
    /// The controlling side of the command's terminal, once there is one.
    controller: Option<OwnedFd>,
    /// Whether the caller's standard input is to be relayed to it.
    stdin: bool,
    /// Modes to be put back at the end, if standard input is a terminal.
    raw: Option<RawMode<'static>>,
}

impl Terminal {
    /// Whether a command gets one, with the caller's standard input if it is to have that.
    pub fn is_given(self, with_stdin: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => with_stdin && stdin().is_terminal() && stdout().is_terminal(),
        }
    }
}

impl Streams {
    /// Connects the calling process's streams to a command's, or its terminal to the command's, with
    /// its standard input if it is to have that.
    pub fn connect(terminal: bool, with_stdin: bool) -> Result<(Self, Stdio), EngineError> {
        if terminal {
            return Ok(Self::with_terminal(with_stdin));
        }
        Self::with_pipes(with_stdin)
            .map_err(|error| EngineError::failed("can't connect the command's streams", &error))
    }

    fn with_terminal(stdin: bool) -> (Self, Stdio) {
        let (rows, columns) = callers_size().unwrap_or((24, 80));
        let terminal = Some(CallersTerminal { stdin, ..CallersTerminal::default() });
        let streams = Self { input: None, output: Vec::new(), terminal, broken: Vec::new() };
        (streams, Stdio::Terminal { rows, columns })
    }

    fn with_pipes(with_stdin: bool) -> io::Result<(Self, Stdio)> {
        let mut streams =
            Self { input: None, output: Vec::new(), terminal: None, broken: Vec::new() };
        let input = if !with_stdin {
            null()?
        } else if may_be_handed_over(stdin().as_fd())? {
            stdin().as_fd().try_clone_to_owned()?
        } else {
            let (reading, writing) = descriptor::pipe()?;
            streams.input = Some(Relay::new(Source::own(stdin().as_fd())?, Sink::pipe(writing)?));
            reading
        };
        let output = streams.give_output(stdout().as_fd(), "standard output")?;
        let errors = streams.give_output(stderr().as_fd(), "standard error")?;
        Ok((streams, Stdio::Streams([input, output, errors])))
    }

    fn give_output(&mut self, own: BorrowedFd<'_>, name: &'static str) -> io::Result<OwnedFd> {
        if may_be_handed_over(own)? {
            return own.try_clone_to_owned();
        }
        let (reading, writing) = descriptor::pipe()?;
        self.output.push(Relay::new(Source::pipe(reading)?, Sink::own(own, name)?));
        Ok(writing)
    }

    /// Tells a command what kind of terminal it has, unless it or `spec` says so already.
    pub fn name_terminal(&self, spec: &Spec, command: &mut Command) {
        if let Some(kind) = std::env::var_os("TERM").filter(|_| self.is_terminal())
            && !spec.environment.contains_key(OsStr::new("TERM"))
        {
            command.environment.entry("TERM".into()).or_insert(kind);
        }
    }

    pub fn is_terminal(&self) -> bool {
        self.terminal.is_some()
    }

    /// Takes the controlling side of the command's terminal. Only now the caller's own terminal
    /// stops to interpret what is typed.
    pub fn connect_terminal(&mut self, controller: OwnedFd) -> Result<(), EngineError> {
        let connect = |terminal: &mut CallersTerminal| -> io::Result<(Option<Relay>, Relay)> {
            descriptor::set_nonblocking(controller.as_fd())?;
            let input = stdin();
            if terminal.stdin && input.is_terminal() {
                terminal.raw = Some(RawMode::enter(callers_terminal())?);
            }
            let input = terminal.stdin.then(|| {
                let source = Source::own(input.as_fd())?;
                Ok::<_, io::Error>(Relay::new(source, Sink::terminal(controller.try_clone()?)))
            });
            let source = Source::terminal(controller.try_clone()?);
            let output = Relay::new(source, Sink::own(stdout().as_fd(), "standard output")?);
            Ok((input.transpose()?, output))
        };
        let Some(terminal) = &mut self.terminal else {
            return Ok(());
        };
        let (input, output) = connect(terminal)
            .map_err(|error| EngineError::failed("can't connect the command's terminal", &error))?;
        terminal.controller = Some(controller);
        self.input = input;
        self.output.push(output);
        Ok(())
    }

    /// Gives the command's terminal the size of the caller's.
    pub fn resize(&self) {
        let controller = self.terminal.as_ref().and_then(|terminal| terminal.controller.as_ref());
        if let (Some(controller), Ok((rows, columns))) = (controller, callers_size()) {
            // A terminal that nobody uses any more has no size to be wrong.
            let _ = terminal::set_size(controller.as_fd(), rows, columns);
        }
    }

    /// Adds what the relays wait for, for [`carry`](Self::carry).
    pub fn add_interests<'a>(&'a self, interests: &mut Vec<Interest<'a>>) {
        interests.extend(self.input.iter().chain(&self.output).map(Relay::interest));
    }

    /// Carries what can be carried, given which of the interests added are ready.
    pub fn carry(&mut self, ready: &[bool]) -> Result<(), EngineError> {
        let mut ready = ready.iter().copied();
        // Whoever does not take input any more has no use for the rest of it.
        if let Some(input) = &mut self.input
            && ready.next() == Some(true)
            && !matches!(input.carry(), Ok(true))
        {
            self.input = None;
        }
        let mut ended = Vec::new();
        for (i, (relay, ready)) in self.output.iter_mut().zip(ready).enumerate() {
            if !ready {
                continue;
            }
            match relay.carry() {
                Ok(true) => {}
                Ok(false) => ended.push(i),
                Err(error) => {
                    self.broken.extend(relay.broken(error));
                    ended.push(i);
                }
            }
        }
        for i in ended.into_iter().rev() {
            self.output.remove(i);
        }
        Ok(())
    }

    /// Delivers the output that is left when everything in the place is dead, and returns what
    /// could not be delivered. The caller's terminal is as it was before.
    ///
    /// It does not wait for the output's end: a command can have left it with somebody outside,
    /// through a socket in a shared directory, who may never close it.
    pub fn deliver_rest(mut self) -> Vec<Broken> {
        for relay in &mut self.output {
            if let Err(error) = relay.carry_rest() {
                self.broken.extend(relay.broken(error));
            }
        }
        self.broken
    }
}

fn may_be_handed_over(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(matches!(descriptor::kind(fd)?, Kind::Pipe | Kind::LocalConnection | Kind::Null))
}

fn null() -> io::Result<OwnedFd> {
    Ok(std::fs::File::open("/dev/null")?.into())
}

/// Rows and columns of whichever standard stream is a terminal.
fn callers_size() -> io::Result<(u16, u16)> {
    terminal::size(stdin().as_fd())
        .or_else(|_| terminal::size(stdout().as_fd()))
        .or_else(|_| terminal::size(stderr().as_fd()))
}

/// Standard input for as long as the process lives.
fn callers_terminal() -> BorrowedFd<'static> {
    static STDIN: std::sync::LazyLock<io::Stdin> = std::sync::LazyLock::new(stdin);
    STDIN.as_fd()
}
