//! Talking to the agent of a living sandbox.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use agentkernel_protocol::{CommandId, Decoder, FromAgent, Stage, ToAgent, VERSION};
use agentkernel_sys::descriptor::{self, Interest};
use agentkernel_sys::socket;

/// A connection to an agent that has said hello.
///
/// The agent may be hostile: what it says is bounded, in size by its frames and in time by
/// [`PATIENCE`], and anything but the answer to what was asked is an error.
pub struct Dial {
    link: OwnedFd,
    decoder: Decoder,
    heard: Heard,
    next: CommandId,
}

/// What has been received and not yet decoded.
struct Heard {
    bytes: [u8; 1024],
    start: usize,
    end: usize,
    descriptor: Option<OwnedFd>,
}

/// How long an agent may take to answer what it can do at once.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Why an agent can't be talked to, or did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("nobody answers there: {0}")]
    Unreachable(io::Error),
    #[error("the sandbox's agent is gone")]
    Gone,
    #[error("the sandbox's agent has not answered for {} seconds", .0.as_secs())]
    Silent(Duration),
    #[error("the sandbox's agent spoke nonsense: {0}")]
    Nonsense(String),
    #[error(
        "the sandbox's agent is of version {0} of the protocol, and this agentkernel of {VERSION}"
    )]
    Version(u16),
    #[error("the place could not be made ready, at step {step}: {error}")]
    Unready { step: u16, error: io::Error },
    #[error("{0}")]
    Refused(io::Error),
    #[error("can't be started: {error}")]
    NotStarted { stage: Stage, error: io::Error },
}

/// What an agent answers to a request.
#[derive(Debug, Default)]
pub struct Answer {
    /// What came along.
    pub descriptor: Option<OwnedFd>,
    /// The numbers that were listed.
    pub listed: Vec<u32>,
}

/// How long all of an answer may take, however often the agent says a bit of it.
struct Limit {
    patience: Duration,
    until: Instant,
}

impl Limit {
    fn new(patience: Duration) -> Self {
        Self { patience, until: Instant::now() + patience }
    }
}

impl Dial {
    /// Connects to the agent that listens at `path`.
    pub fn connect(path: &Path) -> Result<Self, DialError> {
        Self::greeted(socket::connect(path, PATIENCE).map_err(not_sent)?)
    }

    /// Waits for the hello on `link`.
    pub fn greeted(link: OwnedFd) -> Result<Self, DialError> {
        Self::greeted_within(link, PATIENCE)
    }

    fn greeted_within(link: OwnedFd, patience: Duration) -> Result<Self, DialError> {
        let mut dial = Self::ready(link);
        match dial.hear(&Limit::new(patience))? {
            FromAgent::Hello { version: VERSION, .. } => Ok(dial),
            FromAgent::Hello { version, .. } => Err(DialError::Version(version)),
            FromAgent::Unready { step, errno } => {
                Err(DialError::Unready { step, error: io::Error::from_raw_os_error(errno) })
            }
            other => Err(nonsense(&other)),
        }
    }

    /// Talks on over the link of an agent that has said hello already.
    pub fn ready(link: OwnedFd) -> Self {
        let heard = Heard { bytes: [0; 1024], start: 0, end: 0, descriptor: None };
        Self { link, decoder: Decoder::default(), heard, next: 1 }
    }

    /// The link itself, for a command that is to be driven over it. Nothing may have been asked
    /// that was not answered.
    pub fn into_link(self) -> OwnedFd {
        self.link
    }

    /// Sends an order with descriptors and returns at once.
    pub fn say(&self, order: &ToAgent, descriptors: &[BorrowedFd<'_>]) -> Result<(), DialError> {
        let frame = order.encode().map_err(|error| DialError::Nonsense(error.to_string()))?;
        socket::send(self.link.as_fd(), &frame, descriptors).map_err(not_sent)
    }

    /// Asks for something and waits for the answer, which takes no longer than `patience`.
    pub fn ask(
        &mut self,
        order: impl FnOnce(CommandId) -> ToAgent,
        descriptors: &[BorrowedFd<'_>],
        patience: Duration,
    ) -> Result<Answer, DialError> {
        let id = self.next;
        self.next += 1;
        self.say(&order(id), descriptors)?;
        let limit = Limit::new(patience);
        let mut answer = Answer::default();
        loop {
            match self.hear(&limit)? {
                FromAgent::Done { command } | FromAgent::Started { command, .. }
                    if command == id =>
                {
                    answer.descriptor = self.heard.descriptor.take();
                    return Ok(answer);
                }
                FromAgent::Failed { command, errno } if command == id => {
                    return Err(DialError::Refused(io::Error::from_raw_os_error(errno)));
                }
                FromAgent::NotStarted { command, stage, errno } if command == id => {
                    let error = io::Error::from_raw_os_error(errno);
                    return Err(DialError::NotStarted { stage, error });
                }
                // Of who has carried files, and said before that it had.
                FromAgent::Ended { command, .. } if command < id => {}
                FromAgent::Listed { command, number } if command == id => {
                    /// More commands than any place can have.
                    const MOST: usize = 1 << 16;
                    if answer.listed.len() == MOST {
                        return Err(DialError::Nonsense("it lists without end".into()));
                    }
                    answer.listed.push(number);
                }
                other => return Err(nonsense(&other)),
            }
        }
    }

    fn hear(&mut self, limit: &Limit) -> Result<FromAgent, DialError> {
        loop {
            let Heard { bytes, start, end, .. } = &mut self.heard;
            let mut rest = &bytes[*start..*end];
            let word = self.decoder.next(&mut rest, FromAgent::parse);
            *start = *end - rest.len();
            match word {
                Ok(Some(word)) => return Ok(word),
                Ok(None) => self.receive(limit)?,
                Err(error) => return Err(DialError::Nonsense(error.to_string())),
            }
        }
    }

    fn receive(&mut self, limit: &Limit) -> Result<(), DialError> {
        let left = limit.until.saturating_duration_since(Instant::now());
        let mut interests = [Interest::readable(self.link.as_fd())];
        let ready = descriptor::poll(&mut interests, Some(left)).map_err(DialError::Unreachable)?;
        if !ready {
            return match left.is_zero() {
                true => Err(DialError::Silent(limit.patience)),
                false => Ok(()),
            };
        }
        match socket::receive(self.link.as_fd(), &mut self.heard.bytes) {
            Ok((0, _)) => Err(DialError::Gone),
            Ok((read, [descriptor, ..])) => {
                self.heard.start = 0;
                self.heard.end = read;
                if descriptor.is_some() {
                    self.heard.descriptor = descriptor;
                }
                Ok(())
            }
            Err(error) if is_gone(&error) => Err(DialError::Gone),
            Err(error) => Err(DialError::Unreachable(error)),
        }
    }
}

impl AsFd for Dial {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }
}

/// Why nothing could be said.
pub(super) fn not_sent(error: io::Error) -> DialError {
    match error.kind() {
        io::ErrorKind::WouldBlock => DialError::Silent(PATIENCE),
        _ if is_gone(&error) => DialError::Gone,
        _ => DialError::Unreachable(error),
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

fn nonsense(word: &FromAgent) -> DialError {
    DialError::Nonsense(format!("it said {word:?} at the wrong time"))
}

#[cfg(test)]
mod tests;
