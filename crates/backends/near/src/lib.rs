//! This side of a stream into a far place, for who carries it over connections that are cut.
//!
//! What is said here is said to the place in a [`Session`], and what comes from there is taken here. How a
//! session's bytes get there, and what tells that they do not any more, is the carrier's.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::Duration;

use agentkernel_far::session::{Said, Session};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep_until};

/// How long what is left to be said may take once this side, or the other, has gone.
pub const LAST: Duration = Duration::from_secs(10);

/// This side.
pub struct Near {
    ours: UnixStream,
    errors_to: File,
    /// What has come and was not taken yet.
    pending: Vec<u8>,
    said: Vec<u8>,
    /// Since when this side has nothing more to say, or the other.
    ended: Option<Instant>,
    over: bool,
    heard: bool,
}

/// What there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// Something is said here.
    Says,
    /// What has come may be taken.
    Takes,
    /// What was left to be said has taken too long.
    Late,
}

impl Near {
    /// One that says what comes from `ours`, no more than `most` bytes at a time, and writes there what comes
    /// from the other side, but for words of errors. Must be called on a runtime of tokio's.
    pub fn new(ours: StdUnixStream, errors_to: File, most: usize) -> io::Result<Self> {
        ours.set_nonblocking(true)?;
        let ours = UnixStream::from_std(ours)?;
        let said = vec![0; most];
        Ok(Self {
            ours,
            errors_to,
            pending: Vec::new(),
            said,
            ended: None,
            over: false,
            heard: false,
        })
    }

    /// Waits until there is something to do; where the session has no `room`, nothing more is said. Can be
    /// dropped at any time.
    pub async fn ready(&self, room: bool) -> Ready {
        tokio::select! {
            _ = self.ours.readable(), if room && self.ended.is_none() => Ready::Says,
            _ = self.ours.writable(), if !self.has_taken() => Ready::Takes,
            () = until_then(self.ended.map(|at| at + LAST)) => Ready::Late,
        }
    }

    /// Does it. Returns false if it is too late for that.
    pub fn go_on(&mut self, ready: Ready, session: &mut Session) -> bool {
        match ready {
            Ready::Says => match self.ours.try_read(&mut self.said) {
                Ok(read @ 1..) => session.say(&Said::Data(self.said[..read].to_vec())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => self.end(session),
            },
            Ready::Takes => match self.ours.try_write(&self.pending) {
                Ok(written) => drop(self.pending.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Nobody takes it any more.
                Err(_) => {
                    self.pending.clear();
                    self.end(session);
                }
            },
            Ready::Late => return false,
        }
        true
    }

    /// Takes what has come of the session.
    pub fn hear(&mut self, bytes: &[u8], session: &mut Session) -> io::Result<()> {
        for said in session.hear(bytes)? {
            match said {
                Said::Data(bytes) => self.pending.extend(bytes),
                // They are bounded by whoever reads them.
                Said::Words(bytes) => self.errors_to.write_all(&bytes)?,
                Said::End => {
                    session.tell();
                    self.ended.get_or_insert_with(Instant::now);
                    self.over = true;
                }
            }
        }
        self.heard |= session.is_known();
        Ok(())
    }

    /// Whether the other side has said anything since this was asked last.
    pub fn has_heard(&mut self) -> bool {
        std::mem::take(&mut self.heard)
    }

    /// This side has nothing more to say: the place is to end.
    pub fn end(&mut self, session: &mut Session) {
        if self.ended.is_none() {
            self.ended = Some(Instant::now());
            session.say(&Said::End);
        }
    }

    /// Has words of errors read here.
    pub fn complain(&mut self, words: &[u8]) -> io::Result<()> {
        self.errors_to.write_all(words)
    }

    /// Whether all that has come was taken, so that more may come.
    pub fn has_taken(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether this side has nothing more to say.
    pub fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Whether the place has ended, and all of it was taken.
    pub fn is_over(&self) -> bool {
        self.over && self.has_taken()
    }

    /// Whether what was left to be said has taken too long.
    pub fn is_late(&self) -> bool {
        self.ended.is_some_and(|at| at.elapsed() > LAST)
    }
}

async fn until_then(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// How long the other side may be out of reach, and how long it is waited between two tries: nobody tells
/// when it is back.
pub struct Absence {
    since: Instant,
    breath: Duration,
    most: Duration,
}

impl Absence {
    /// Before the first try that follows one that has failed, and before any.
    const BREATH: Duration = Duration::from_millis(50);
    const LONG_BREATH: Duration = Duration::from_secs(2);

    /// It is no longer than the agent there waits, unless what is written there is `kept` and the agent waits
    /// for as long as it takes.
    pub fn new(kept: bool) -> Self {
        let most = Duration::from_secs(if kept { 600 } else { 30 });
        Self { since: Instant::now(), breath: Self::BREATH, most }
    }

    /// The other side was there until now.
    pub fn begin(&mut self) {
        (self.since, self.breath) = (Instant::now(), Self::BREATH);
    }

    pub fn is_over(&self) -> bool {
        self.since.elapsed() > self.most
    }

    /// How long it is waited before the next try.
    pub fn breath(&mut self) -> Duration {
        let breath = self.breath;
        self.breath = (breath * 2).min(Self::LONG_BREATH);
        breath
    }
}

#[cfg(test)]
mod tests;
