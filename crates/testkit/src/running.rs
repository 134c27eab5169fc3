//! Running programs under a deadline and keeping what they say.

use std::fmt;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStdin, Command, ExitStatus};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::captured::Shown;
use crate::{Captured, NotPassed, Verdict, ensure};

/// How long a program may run unless the test says otherwise: far longer than any takes, so that
/// only a hang meets it.
const DEADLINE: Duration = Duration::from_secs(20);

/// How long to wait on this machine for what takes no longer than `limit` on an ordinary one: a
/// slow machine, such as an emulated one, has how many times slower it is in `TESTKIT_PATIENCE`.
pub(crate) fn patiently(limit: Duration) -> Duration {
    static FACTOR: OnceLock<u32> = OnceLock::new();
    let factor = FACTOR.get_or_init(|| {
        let variable = std::env::var("TESTKIT_PATIENCE").ok();
        variable.and_then(|factor| factor.parse().ok()).filter(|factor| *factor > 0).unwrap_or(1)
    });
    limit * *factor
}

/// A started program. It is killed when dropped before it has ended.
#[derive(Debug)]
pub struct Running {
    child: Child,
    pidfd: OwnedFd,
    shown: String,
    started: Instant,
    deadline: Instant,
    events: Receiver<Event>,
    ended: bool,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// How much of the standard output the test has asked for and got.
    consumed: usize,
}

#[derive(Debug)]
enum Event {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    Ended,
}

impl Running {
    /// Starts `command` with the streams it was given; those that are pipes are collected.
    pub fn start(command: Command) -> Result<Self, NotPassed> {
        Self::launch(command, |child, sender| {
            if let Some(stdout) = child.stdout.take() {
                collect(stdout, Event::Stdout, sender);
            }
            if let Some(stderr) = child.stderr.take() {
                collect(stderr, Event::Stderr, sender);
            }
        })
    }

    /// Starts `command`, and takes what comes from `output` for its standard output.
    pub(crate) fn start_on(
        command: Command,
        output: impl Read + Send + 'static,
    ) -> Result<Self, NotPassed> {
        Self::launch(command, |_, sender| collect(output, Event::Stdout, sender))
    }

    fn launch(
        mut command: Command,
        collect_from: impl FnOnce(&mut Child, &SyncSender<Event>),
    ) -> Result<Self, NotPassed> {
        let shown = show(&command);
        let started = Instant::now();
        let mut child =
            command.spawn().map_err(|why| NotPassed::failed_to(&format!("start {shown}"), why))?;
        // A bounded channel: a program that says more than the test reads must wait.
        let (sender, events) = sync_channel(64);
        collect_from(&mut child, &sender);
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
        let watched = pidfd.try_clone()?;
        thread::spawn(move || {
            if readable_within(&watched, Duration::MAX).is_ok() {
                let _ = sender.send(Event::Ended);
            }
        });
        Ok(Self {
            child,
            pidfd,
            shown,
            started,
            deadline: started + patiently(DEADLINE),
            events,
            ended: false,
            stdout: Vec::new(),
            stderr: Vec::new(),
            consumed: 0,
        })
    }

    /// Sets how long the program may run, from its start; on a slow machine, longer.
    pub fn within(mut self, limit: Duration) -> Self {
        self.deadline = self.started + patiently(limit);
        self
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The writing end of its standard input, if that is a pipe and was not taken before.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Sends a signal to the program itself, and to nothing it started.
    pub fn signal(&self, signal: Signal) -> Verdict {
        Ok(pidfd_send_signal(&self.pidfd, signal)?)
    }

    /// The next line of its standard output, without its end. Waits for it.
    pub fn line(&mut self) -> Result<String, NotPassed> {
        self.until("\n")
    }

    /// Its next standard output up to `mark`, which is passed over. Waits for it.
    pub fn until(&mut self, mark: &str) -> Result<String, NotPassed> {
        loop {
            let rest = self.stdout.get(self.consumed..).unwrap_or_default();
            let found = rest.windows(mark.len()).position(|part| part == mark.as_bytes());
            if let Some(length) = found {
                let part = rest.get(..length).unwrap_or_default();
                let part = String::from_utf8_lossy(part).into_owned();
                self.consumed += length + mark.len();
                return Ok(part);
            }
            ensure!(self.receive()?, "{self} ended without saying {mark:?}");
        }
    }

    /// The first line of its standard error, without its end. Waits for it.
    pub fn error_line(&mut self) -> Result<String, NotPassed> {
        loop {
            if let Some(end) = self.stderr.iter().position(|byte| *byte == b'\n') {
                let line = self.stderr.get(..end).unwrap_or_default();
                return Ok(String::from_utf8_lossy(line).into_owned());
            }
            ensure!(self.receive()?, "{self} ended without an error");
        }
    }

    /// Closes its standard input if nobody took it, and waits until it has ended and its streams
    /// are closed.
    pub fn finish(mut self) -> Result<Captured, NotPassed> {
        drop(self.child.stdin.take());
        while self.receive()? {}
        Ok(Captured {
            status: self.child.wait()?,
            stdout: std::mem::take(&mut self.stdout),
            stderr: std::mem::take(&mut self.stderr),
            took: self.started.elapsed(),
            shown: std::mem::take(&mut self.shown),
        })
    }

    /// Waits until the program itself has ended, whoever still holds its streams.
    pub fn wait(&mut self) -> Result<ExitStatus, NotPassed> {
        while !self.ended && self.receive()? {}
        Ok(self.child.wait()?)
    }

    /// Waits until the program has ended or `limit` has passed; whether it has ended.
    pub fn ends_within(&self, limit: Duration) -> Result<bool, NotPassed> {
        readable_within(&self.pidfd, limit)
    }

    /// Waits for the next event; `false` after the last.
    fn receive(&mut self) -> Result<bool, NotPassed> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        match self.events.recv_timeout(left) {
            Ok(Event::Stdout(chunk)) => self.stdout.extend(chunk),
            Ok(Event::Stderr(chunk)) => self.stderr.extend(chunk),
            Ok(Event::Ended) => self.ended = true,
            Err(RecvTimeoutError::Disconnected) => return Ok(false),
            Err(RecvTimeoutError::Timeout) => return Err(self.overdue()),
        }
        Ok(true)
    }

    fn overdue(&self) -> NotPassed {
        let limit = self.deadline.duration_since(self.started);
        let state = match self.ended {
            true => "has ended, but its output is still open",
            false => "is still running",
        };
        NotPassed::Failed(format!("after {limit:?}, this {state}: {self}"))
    }
}

impl fmt::Display for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (stdout, stderr) = (Shown(&self.stdout), Shown(&self.stderr));
        write!(f, "{}, stdout {stdout}, stderr {stderr}", self.shown)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both do nothing to a child that was waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until there is something to read, which for a pidfd is when its process has ended;
/// `false` if there is not within `limit`.
pub(crate) fn readable_within(fd: &OwnedFd, limit: Duration) -> Result<bool, NotPassed> {
    // A limit that is no moment in time, or no number for the kernel, is no limit.
    let deadline = Instant::now().checked_add(limit);
    loop {
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut [PollFd::new(fd, PollFlags::IN)], timeout.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn collect(
    mut from: impl Read + Send + 'static,
    event: fn(Vec<u8>) -> Event,
    to: &SyncSender<Event>,
) {
    let to = to.clone();
    thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        // The end, an error (of a terminal whose other side is closed) and a receiver that is
        // gone all end the collecting.
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let chunk = buffer.get(..length).unwrap_or_default().to_vec();
            if to.send(event(chunk)).is_err() {
                return;
            }
        }
    });
}

/// The command line without the program's folder.
fn show(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let name = program.rsplit('/').next().unwrap_or_default().to_string();
    let arguments = command.get_args();
    let arguments = arguments.map(|argument| Shown(argument.as_encoded_bytes()).to_string());
    let words = [name].into_iter().chain(arguments);
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    #[test]
    fn streams_and_status_are_kept_apart() {
        let got = Captured::of(shell("echo out; echo err >&2; exit 3")).unwrap();
        got.exits(3).unwrap().prints("out\n").unwrap().complains("err\n").unwrap();
        assert!(got.exits(0).is_err());
        assert!(got.prints("err\n").is_err());
    }

    #[test]
    fn a_hang_is_a_failure_that_says_so() {
        let limit = Duration::from_millis(100);
        let hung = Running::start(shell("echo begun; exec sleep 60")).unwrap().within(limit);
        let why = format!("{:?}", hung.finish().unwrap_err());
        assert!(why.contains("still running") && why.contains("begun"), "{why}");
    }

    #[test]
    fn an_output_held_open_is_a_failure_that_says_so() {
        let limit = Duration::from_millis(200);
        let hung = Running::start(shell("sleep 1 & exit 0")).unwrap().within(limit);
        let why = format!("{:?}", hung.finish().unwrap_err());
        assert!(why.contains("still open"), "{why}");
    }

    #[test]
    fn lines_arrive_while_it_runs() {
        let mut command = shell("echo one; read answer; echo \"$answer\"");
        command.stdin(Stdio::piped());
        let mut running = Running::start(command).unwrap();
        assert_eq!(running.line().unwrap(), "one");
        let mut stdin = running.take_stdin().unwrap();
        std::io::Write::write_all(&mut stdin, b"two\n").unwrap();
        assert_eq!(running.line().unwrap(), "two");
        running.finish().unwrap().exits(0).unwrap();
    }
}
