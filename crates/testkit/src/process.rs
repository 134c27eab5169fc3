//! Running programs under a deadline and keeping what they said.

use std::fmt;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::{NotPassed, Verdict, ensure};

/// How long a program may run unless the test says otherwise: far longer than any takes, so that
/// only a hang meets it.
const DEADLINE: Duration = Duration::from_secs(20);

/// A started program. It is killed when dropped before it has ended.
#[derive(Debug)]
pub struct Running {
    child: Child,
    pidfd: OwnedFd,
    shown: String,
    started: Instant,
    deadline: Instant,
    chunks: Receiver<(Stream, Vec<u8>)>,
    seen: Seen,
    /// How much of the standard output was given out as lines.
    consumed: usize,
}

#[derive(Debug, Clone, Copy)]
enum Stream {
    Stdout,
    Stderr,
}

/// What came out of a program's standard streams.
#[derive(Debug, Default)]
struct Seen {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// How a program ended, and everything it said.
#[derive(Debug)]
pub struct Captured {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub status: ExitStatus,
    /// From just before it was started until it had ended and its streams were closed.
    pub took: Duration,
    shown: String,
}

impl Running {
    /// Starts `command` with the streams it was given; those that are pipes are collected.
    pub fn start(mut command: Command) -> Result<Self, NotPassed> {
        let shown = show(&command);
        let started = Instant::now();
        let mut child = command
            .spawn()
            .map_err(|why| NotPassed::failed_to(&format!("start {shown}"), why))?;
        // A bounded channel: a program that says more than the test reads must wait.
        let (sender, chunks) = sync_channel(16);
        if let Some(stdout) = child.stdout.take() {
            collect(Stream::Stdout, stdout, sender.clone());
        }
        if let Some(stderr) = child.stderr.take() {
            collect(Stream::Stderr, stderr, sender);
        }
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
        Ok(Self {
            child,
            pidfd,
            shown,
            started,
            deadline: started + DEADLINE,
            chunks,
            seen: Seen::default(),
            consumed: 0,
        })
    }

    /// Sets how long the program may run, from its start.
    pub fn within(mut self, limit: Duration) -> Self {
        self.deadline = self.started + limit;
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
        loop {
            let rest = self.seen.stdout.get(self.consumed..).unwrap_or_default();
            if let Some(length) = rest.iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8_lossy(rest.get(..length).unwrap_or_default());
                let line = line.into_owned();
                self.consumed += length + 1;
                return Ok(line);
            }
            ensure!(
                self.receive()?,
                "{} said no further line; {}",
                self.shown,
                self.seen
            );
        }
    }

    /// Closes its standard input if nobody took it, and waits until it has ended and its streams
    /// are closed.
    pub fn finish(mut self) -> Result<Captured, NotPassed> {
        drop(self.child.stdin.take());
        while self.receive()? {}
        let status = self.wait()?;
        let Seen { stdout, stderr } = std::mem::take(&mut self.seen);
        let (shown, took) = (std::mem::take(&mut self.shown), self.started.elapsed());
        Ok(Captured {
            stdout,
            stderr,
            status,
            took,
            shown,
        })
    }

    /// Waits until the program itself has ended, whoever still holds its streams.
    pub fn wait(&mut self) -> Result<ExitStatus, NotPassed> {
        if ended_within(&self.pidfd, self.left())? {
            return Ok(self.child.wait()?);
        }
        Err(self.overdue("is still running"))
    }

    /// Waits for the next piece of output; `false` at the end of both streams.
    fn receive(&mut self) -> Result<bool, NotPassed> {
        match self.chunks.recv_timeout(self.left()) {
            Ok((Stream::Stdout, chunk)) => self.seen.stdout.extend(chunk),
            Ok((Stream::Stderr, chunk)) => self.seen.stderr.extend(chunk),
            Err(RecvTimeoutError::Disconnected) => return Ok(false),
            Err(RecvTimeoutError::Timeout) => {
                let ended = ended_within(&self.pidfd, Duration::ZERO)?;
                return Err(self.overdue(match ended {
                    true => "has ended, but its output is still open",
                    false => "is still running",
                }));
            }
        }
        Ok(true)
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn overdue(&self, state: &str) -> NotPassed {
        let limit = self.deadline.duration_since(self.started);
        NotPassed::Failed(format!(
            "{} {state} after {limit:?}; {}",
            self.shown, self.seen
        ))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both do nothing to a child that was waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until the process of `pidfd` has ended; `false` if it has not within `limit`.
pub(crate) fn ended_within(pidfd: &OwnedFd, limit: Duration) -> Result<bool, NotPassed> {
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(std::io::Error::other)?;
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&timeout)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn collect(
    stream: Stream,
    mut from: impl Read + Send + 'static,
    to: SyncSender<(Stream, Vec<u8>)>,
) {
    thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        // The end, an error and a receiver that is gone all end the collecting.
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let chunk = buffer.get(..length).unwrap_or_default().to_vec();
            if to.send((stream, chunk)).is_err() {
                return;
            }
        }
    });
}

impl Captured {
    /// Starts `command` and waits for its end.
    pub fn of(command: Command) -> Result<Self, NotPassed> {
        Running::start(command)?.finish()
    }

    /// It ended with this exit status.
    pub fn exits(&self, code: i32) -> Result<&Self, NotPassed> {
        ensure!(
            self.status.code() == Some(code),
            "expected exit {code}: {self}"
        );
        Ok(self)
    }

    /// This signal killed it.
    pub fn dies_of(&self, signal: Signal) -> Result<&Self, NotPassed> {
        let wanted = Some(signal.as_raw());
        ensure!(
            self.status.signal() == wanted,
            "expected death by {signal:?}: {self}"
        );
        Ok(self)
    }

    /// Its standard output is exactly this.
    pub fn prints(&self, expected: impl AsRef<[u8]>) -> Result<&Self, NotPassed> {
        let expected = expected.as_ref();
        ensure!(
            self.stdout == expected,
            "expected stdout {}: {self}",
            Shown(expected)
        );
        Ok(self)
    }

    /// Its standard error is exactly this.
    pub fn complains(&self, expected: impl AsRef<[u8]>) -> Result<&Self, NotPassed> {
        let expected = expected.as_ref();
        ensure!(
            self.stderr == expected,
            "expected stderr {}: {self}",
            Shown(expected)
        );
        Ok(self)
    }

    /// Its standard error holds `part` somewhere.
    pub fn mentions(&self, part: &str) -> Result<&Self, NotPassed> {
        ensure!(
            self.errors().contains(part),
            "expected {part:?} in stderr: {self}"
        );
        Ok(self)
    }

    /// It took no longer than this.
    pub fn takes_less_than(&self, limit: Duration) -> Result<&Self, NotPassed> {
        ensure!(
            self.took < limit,
            "expected an end within {limit:?}: {self}"
        );
        Ok(self)
    }

    /// Its standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Its standard error as text.
    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

impl fmt::Display for Captured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            stdout,
            stderr,
            status,
            took,
            shown,
        } = self;
        let (stdout, stderr) = (Shown(stdout), Shown(stderr));
        write!(
            f,
            "{shown} gave {status} after {took:.1?}, stdout {stdout}, stderr {stderr}"
        )
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "stdout {}, stderr {}",
            Shown(&self.stdout),
            Shown(&self.stderr)
        )
    }
}

/// Bytes as a quoted text, cut in the middle where they are many.
struct Shown<'a>(&'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ENDS: usize = 400;
        let Self(bytes) = self;
        match bytes.split_at_checked(ENDS) {
            Some((first, rest)) if rest.len() > ENDS => {
                let (cut, last) = rest.split_at(rest.len() - ENDS);
                let (first, last) = (first.escape_ascii(), last.escape_ascii());
                write!(f, "\"{first}\" ... {} bytes ... \"{last}\"", cut.len())
            }
            _ => write!(f, "\"{}\"", bytes.escape_ascii()),
        }
    }
}

/// The command line without the program's folder.
fn show(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let name = program.rsplit('/').next().unwrap_or_default().to_string();
    let arguments = command
        .get_args()
        .map(|arg| Shown(arg.as_encoded_bytes()).to_string());
    [name]
        .into_iter()
        .chain(arguments)
        .collect::<Vec<_>>()
        .join(" ")
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
        got.exits(3)
            .unwrap()
            .prints("out\n")
            .unwrap()
            .complains("err\n")
            .unwrap();
        assert!(got.exits(0).is_err());
        assert!(got.prints("err\n").is_err());
    }

    #[test]
    fn a_hang_is_a_failure_that_says_so() {
        let limit = Duration::from_millis(100);
        let hung = Running::start(shell("echo begun; exec sleep 60"))
            .unwrap()
            .within(limit);
        let why = format!("{:?}", hung.finish().unwrap_err());
        assert!(
            why.contains("still running") && why.contains("begun"),
            "{why}"
        );
    }

    #[test]
    fn an_output_held_open_is_a_failure_that_says_so() {
        let limit = Duration::from_millis(200);
        let hung = Running::start(shell("sleep 1 & exit 0"))
            .unwrap()
            .within(limit);
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
