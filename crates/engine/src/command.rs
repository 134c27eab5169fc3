//! One command in one place, from the boot to its end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use agentkernel_core::{Command, Ended, Remains, Spec, Stdio, Usage};
use agentkernel_protocol::{Decoder, FromAgent, Stage, Status, ToAgent, VERSION};
use agentkernel_sys::descriptor::{self, Interest};
use agentkernel_sys::signal::{self, Signals};
use agentkernel_sys::socket;

use crate::action::{Broken, EngineError, Phases};
use crate::streams::Streams;

/// The command of a link that carries only one.
pub const FIRST: u32 = 0;

/// The agent that starts a command, and the power over it.
pub trait Peer {
    fn link(&self) -> BorrowedFd<'_>;

    /// Kills the command with all that goes with it. Its end is told over the link, or the link
    /// closes.
    fn kill(&self);

    /// Says why the place did not get ready.
    fn explain(&self, step: u16, error: io::Error) -> EngineError;
}

/// What a command is called when it could not be started.
pub struct Called {
    program: String,
    directory: String,
}

impl Called {
    pub fn of(spec: &Spec, command: &Command) -> Self {
        let program = command.words(&spec.image).next();
        let program = program.map(|program| program.to_string_lossy().into_owned());
        let directory = command.directory.as_ref().or(spec.directory.as_ref());
        let directory = directory.map_or("the home".into(), |d| d.display().to_string());
        Self { program: program.unwrap_or_default(), directory }
    }
}

/// How long a command may take to die that was killed at its time limit.
const DEATH_PATIENCE: Duration = Duration::from_secs(5);

/// How long an agent may take to start a command in a place that was ready before. It may be held
/// meanwhile, while the sandbox's files are copied.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// Signals that end or steer a program by custom: what is sent to us is meant for the command.
pub const FORWARDED: [i32; 7] = [
    signal::SIGHUP,
    signal::SIGINT,
    signal::SIGQUIT,
    signal::SIGTERM,
    signal::SIGUSR1,
    signal::SIGUSR2,
    signal::SIGALRM,
];

/// A command about to be run, with all that connects it to the caller.
pub struct CommandRun {
    streams: Streams,
    signals: Signals,
    time_limit: Option<Duration>,
    /// How long the agent of a place that was ready before may take to say whether the command runs.
    patience: Duration,
}

/// Where the time of a run went until its command ended.
///
/// What the agent did is measured by its own clock, for its words may lie unread while this
/// process waits for a processor. It is believed as far as it fits.
#[derive(Debug, Clone, Copy)]
pub struct Timeline {
    ended: Instant,
    ready: Duration,
    exec: Duration,
}

impl Timeline {
    /// The phases of a run that began at `start` and was over at `end`. They add up exactly.
    pub fn phases(self, start: Instant, end: Instant) -> Phases {
        let until_ended = self.ended.saturating_duration_since(start);
        let exec = self.exec.min(until_ended);
        let ready = self.ready.min(until_ended - exec);
        let boot = until_ended - exec - ready;
        Phases { boot, ready, exec, shutdown: end.saturating_duration_since(self.ended) }
    }
}

/// What came of a command in a place that was ready before.
pub enum Course {
    Finished(Finished),
    /// The place was gone before its agent had read what to run: nothing was, and it can be run
    /// elsewhere.
    Unread(CommandRun, Stdio),
}

/// A command that has ended.
pub struct Finished {
    pub timeline: Timeline,
    /// What its agent says that it used.
    usage: Usage,
    streams: Streams,
    end: End,
}

/// How it ended, as far as can be told before its place is gone.
enum End {
    Status(Status),
    TimedOut,
    Lost(String),
}

impl Course {
    /// How the command ended, where there is no other place for it.
    pub fn here(self, start: Instant) -> Finished {
        match self {
            Self::Finished(finished) => finished,
            Self::Unread(run, _) => {
                let why = "the sandbox's agent was gone before it read what to run".into();
                let ended = Some((None, Instant::now(), End::Lost(why)));
                Heard { ended, ..Heard::default() }.finish(start, run.streams)
            }
        }
    }
}

impl Finished {
    /// Says what was used where whoever has ended the place can't.
    pub fn complete(&self, remains: &mut Remains) {
        if remains.usage == Usage::default() {
            remains.usage = self.usage.clone();
        }
    }

    /// Delivers the output that is left, once its place is gone, and returns what could not be
    /// delivered.
    pub fn deliver_rest(self) -> Vec<Broken> {
        self.streams.deliver_rest()
    }

    /// Whether want of memory can have been the reason. The kernel kills for that with an ordinary
    /// signal; a shell that waited for the victim says 137.
    pub fn may_be_out_of_memory(&self) -> bool {
        const KILLED: u8 = signal::SIGKILL as u8;
        matches!(
            self.end,
            End::Status(Status::Signaled(KILLED) | Status::Exited(137)) | End::Lost(_)
        )
    }

    /// How it ended, now that it is known how often memory ran out meanwhile.
    pub fn ending(&self, oom_kills: u64) -> Ended {
        match &self.end {
            End::TimedOut => Ended::TimedOut,
            _ if oom_kills > 0 && self.may_be_out_of_memory() => Ended::OutOfMemory,
            End::Status(Status::Exited(code)) => Ended::Exited(*code),
            End::Status(Status::Signaled(signal)) => Ended::Signaled(*signal),
            End::Lost(why) => Ended::Lost(why.clone()),
        }
    }
}

/// What has been heard of the command, and when; by the agent's clock, and by ours.
#[derive(Default)]
struct Heard {
    ready: Option<Duration>,
    started: Option<(Duration, Instant)>,
    ended: Option<(Option<Duration>, Instant, End)>,
    usage: Usage,
    /// When an agent that does not say what came of the start is given up; none if it has yet to
    /// make the place.
    give_up: Option<Instant>,
    /// Whether it was killed at its time limit, which is how it ends whatever else is said.
    timed_out: bool,
    /// Whether the agent was told more than what to run.
    told_more: bool,
    /// Whether it was gone with that unread.
    unread: bool,
}

impl CommandRun {
    /// Takes over the caller's signals from now on.
    pub fn new(streams: Streams, time_limit: Option<Duration>) -> Result<Self, EngineError> {
        let resizes = streams.is_terminal().then_some(signal::SIGWINCH);
        let received: Vec<i32> = FORWARDED.into_iter().chain(resizes).collect();
        let signals = Signals::receive(&received)
            .map_err(|error| EngineError::failed("can't receive signals", &error))?;
        Ok(Self { streams, signals, time_limit, patience: START_PATIENCE })
    }

    /// Carries the command's streams, signals and time limit until it has ended. Processes that it
    /// left behind may still run, and output may be left to deliver when the place is gone.
    pub fn drive(
        self,
        peer: &dyn Peer,
        called: &Called,
        start: Instant,
    ) -> Result<Finished, EngineError> {
        let mut run = self;
        let mut heard = Heard::default();
        run.carry_on(&mut heard, &mut Decoder::default(), peer, called, |_| false)?;
        Ok(heard.finish(start, run.streams))
    }

    /// The same, where the place had been ready for long when it was told, at `told` by the clock
    /// that its agent shares with us, to start the command. What it has for `stdio` is kept here
    /// until the agent has been heard: else the ends of its output would never be the last ones.
    pub fn drive_ready(
        mut self,
        stdio: Stdio,
        peer: &dyn Peer,
        told: Duration,
        called: &Called,
        start: Instant,
    ) -> Result<Course, EngineError> {
        let give_up = Some(Instant::now() + self.patience);
        let mut heard = Heard { ready: Some(told), give_up, ..Heard::default() };
        let mut decoder = Decoder::default();
        self.carry_on(&mut heard, &mut decoder, peer, called, Heard::is_answered)?;
        if heard.unread {
            return Ok(Course::Unread(self, stdio));
        }
        drop(stdio);
        self.carry_on(&mut heard, &mut decoder, peer, called, |_| false)?;
        Ok(Course::Finished(heard.finish(start, self.streams)))
    }

    /// Carries until the command has ended, or as much has been heard as is `enough`.
    fn carry_on(
        &mut self,
        heard: &mut Heard,
        decoder: &mut Decoder,
        peer: &dyn Peer,
        called: &Called,
        enough: impl Fn(&Heard) -> bool,
    ) -> Result<(), EngineError> {
        while heard.ended.is_none() && !enough(heard) {
            let link_ready = self.wait(peer, heard.deadline(self.time_limit))?;
            if !link_ready && heard.is_unheard() {
                peer.kill();
                heard.give_up(self.patience);
                break;
            }
            if heard.is_overdue(self.time_limit) {
                if heard.timed_out {
                    // An agent that does not say so keeps nobody waiting.
                    heard.ended = Some((None, Instant::now(), End::TimedOut));
                    break;
                }
                heard.timed_out = true;
                peer.kill();
            }
            self.forward_signals(peer, heard)?;
            if link_ready {
                self.listen(peer, decoder, heard, called)?;
            }
        }
        Ok(())
    }

    /// Waits for something to do, and carries the streams meanwhile. Returns whether the link has
    /// something to say.
    fn wait(&mut self, peer: &dyn Peer, deadline: Option<Instant>) -> Result<bool, EngineError> {
        let timeout = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let mut interests =
            vec![Interest::readable(peer.link()), Interest::readable(self.signals.as_fd())];
        self.streams.add_interests(&mut interests);
        descriptor::poll(&mut interests, timeout).map_err(broken_link)?;
        let ready: Vec<bool> = interests.iter().map(Interest::is_ready).collect();
        self.streams.carry(&ready[2..])?;
        Ok(ready[0])
    }

    fn forward_signals(&mut self, peer: &dyn Peer, heard: &mut Heard) -> Result<(), EngineError> {
        while let Some(signal) = self.signals.take().map_err(broken_link)? {
            if signal == signal::SIGWINCH {
                self.streams.resize();
                continue;
            }
            heard.told_more = true;
            send_signal(peer, signal);
            // A command that was stopped could not heed it, as timeout(1) knows too.
            if matches!(signal, signal::SIGTERM | signal::SIGHUP) {
                send_signal(peer, signal::SIGCONT);
            }
        }
        Ok(())
    }

    /// Hears what the agent says.
    fn listen(
        &mut self,
        peer: &dyn Peer,
        decoder: &mut Decoder,
        heard: &mut Heard,
        called: &Called,
    ) -> Result<(), EngineError> {
        let mut buffer = [0; 1024];
        let (read, [terminal, ..]) = match socket::receive(peer.link(), &mut buffer) {
            Ok(received) => received,
            // So says the kernel if what was sent last lies unread at the other end.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                heard.unread = !heard.told_more && heard.is_ready_to_start();
                Default::default()
            }
            Err(error) => return Err(broken_link(error)),
        };
        if read == 0 {
            return heard.lose("the sandbox's agent is gone");
        }
        if let Some(terminal) = terminal {
            self.streams.connect_terminal(terminal)?;
        }
        let mut rest = &buffer[..read];
        while !rest.is_empty() && heard.ended.is_none() {
            match decoder.next(&mut rest, FromAgent::parse) {
                Ok(None) => {}
                Ok(Some(word)) => heard.hear(word, peer, called)?,
                Err(error) => {
                    peer.kill();
                    return heard.lose(&format!("the sandbox's agent spoke nonsense: {error}"));
                }
            }
        }
        Ok(())
    }
}

impl Heard {
    fn hear(
        &mut self,
        word: FromAgent,
        peer: &dyn Peer,
        called: &Called,
    ) -> Result<(), EngineError> {
        let now = Instant::now();
        match word {
            FromAgent::Hello { version: VERSION, at } if self.ready.is_none() => {
                self.ready = Some(at);
                Ok(())
            }
            FromAgent::Unready { step, errno } if self.ready.is_none() => {
                Err(peer.explain(step, io::Error::from_raw_os_error(errno)))
            }
            FromAgent::Terminal { command: FIRST } if self.started.is_none() => Ok(()),
            FromAgent::Started { command: FIRST, at } if self.is_ready_to_start() => {
                self.started = Some((at, now));
                Ok(())
            }
            FromAgent::NotStarted { command: FIRST, stage, errno } if self.started.is_none() => {
                Err(not_started(called, stage, &io::Error::from_raw_os_error(errno)))
            }
            FromAgent::Ended { command: FIRST, status, at, user, system, max_resident }
                if self.started.is_some() =>
            {
                self.usage = Usage { user, system, max_resident };
                self.ended = Some((Some(at), now, End::Status(status)));
                Ok(())
            }
            _ => {
                peer.kill();
                self.lose(&format!("the sandbox's agent said {word:?} at the wrong time"))
            }
        }
    }

    /// Whether it is known if the command has started, or that it never will.
    fn is_answered(&self) -> bool {
        self.started.is_some() || self.unread
    }

    fn is_ready_to_start(&self) -> bool {
        self.ready.is_some() && self.started.is_none()
    }

    /// The place has gone or gone mad. That is an error if it was still being made; once it is ready
    /// the command may have started, though that was not heard.
    fn lose(&mut self, why: &str) -> Result<(), EngineError> {
        if self.ready.is_none() {
            let why = format!("the sandbox could not be made: {why}");
            return Err(EngineError { hint: None, ..EngineError::refused(why, String::new()) });
        }
        self.ended = Some((None, Instant::now(), End::Lost(why.into())));
        Ok(())
    }

    fn is_unheard(&self) -> bool {
        self.started.is_none() && self.give_up.is_some_and(|at| at <= Instant::now())
    }

    /// The agent was told to start the command, so it may have.
    fn give_up(&mut self, patience: Duration) {
        let seconds = patience.as_secs();
        let why = format!(
            "the sandbox's agent has not said for {seconds} seconds whether the command runs"
        );
        self.ended = Some((None, Instant::now(), End::Lost(why)));
    }

    /// When there is something to do though nothing is heard: the command's time is up, which is
    /// counted from its start, or that is not told of.
    fn deadline(&self, time_limit: Option<Duration>) -> Option<Instant> {
        if self.started.is_none() {
            return self.give_up;
        }
        let patience = if self.timed_out { DEATH_PATIENCE } else { Duration::ZERO };
        self.started?.1.checked_add(time_limit?)?.checked_add(patience)
    }

    fn is_overdue(&self, time_limit: Option<Duration>) -> bool {
        self.started.is_some()
            && self.deadline(time_limit).is_some_and(|deadline| Instant::now() >= deadline)
    }

    fn finish(self, start: Instant, streams: Streams) -> Finished {
        let (ended_at, ended, end) =
            self.ended.unwrap_or_else(|| (None, start, End::Lost(String::new())));
        let (started_at, started) = self.started.unwrap_or((Duration::ZERO, ended));
        let exec = match ended_at {
            Some(ended_at) => ended_at.saturating_sub(started_at),
            None => ended.saturating_duration_since(started),
        };
        let ready = started_at.saturating_sub(self.ready.unwrap_or(started_at));
        let end = if self.timed_out { End::TimedOut } else { end };
        Finished { timeline: Timeline { ended, ready, exec }, usage: self.usage, streams, end }
    }
}

fn send_signal(peer: &dyn Peer, signal: i32) {
    let Ok(signal) = u8::try_from(signal) else { return };
    let Ok(word) = (ToAgent::Signal { command: FIRST, signal }).encode() else { return };
    // An agent that has gone says so by the end of its link; and one that does not hear is not
    // waited for.
    let _ = socket::send_now(peer.link(), &word, &[]);
}

fn broken_link(error: io::Error) -> EngineError {
    EngineError::failed("can't hear the sandbox's agent", &error)
}

/// Why the command's program did not start, in the words of a shell.
pub fn not_started(called: &Called, stage: Stage, error: &io::Error) -> EngineError {
    let failed = |what: &str| EngineError::failed(what, error);
    match stage {
        Stage::Program => program_not_started(&called.program, error),
        Stage::Directory => EngineError::refused(
            format!("can't start in {}: {error}", called.directory),
            "name a directory that is in the sandbox; mount it with --project or --volume".into(),
        ),
        Stage::Place => failed("can't give the command its network and limits"),
        Stage::Session => failed("can't make a session for the command"),
        Stage::Streams => failed("can't connect the command's streams"),
        Stage::Terminal => failed("can't open a terminal in the sandbox"),
        Stage::Limits => failed("can't limit the command's process"),
        Stage::Identity => failed("can't become the command's user"),
        Stage::Privileges => failed("can't give up privileges"),
        Stage::Landlock => failed("can't put Landlock in force"),
        Stage::Seccomp => failed("can't put the system call filter in force"),
    }
}

fn program_not_started(program: &str, error: &io::Error) -> EngineError {
    let program = if program.is_empty() { "\"\"" } else { program };
    let (why, hint, exit_code) = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => (
            format!("{program}: not found in the sandbox"),
            "it must be in the image: on the PATH inside, or at the path that was given; a script \
             also needs its interpreter there",
            127,
        ),
        io::ErrorKind::PermissionDenied => (
            format!("{program}: not executable in the sandbox: {error}"),
            "it must be a file that its user there may execute",
            126,
        ),
        _ => (
            format!("{program}: can't be executed in the sandbox: {error}"),
            "it must be a program for this machine, or a script that starts with #!; a WebAssembly \
             module runs with -B wasm",
            126,
        ),
    };
    EngineError { exit_code, ..EngineError::refused(why, hint.into()) }
}

#[cfg(test)]
mod tests;
