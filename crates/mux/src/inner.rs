//! The side in the place: it is a client of the agent for each client outside.

mod link;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use agentkernel_sys::descriptor::Interest;
use agentkernel_sys::{process, socket};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::error::MuxError;
use crate::handle::{self, Use};
use crate::message::{LinkId, Message};
use crate::stream::Stream;
use crate::watch::{Spot, Watch};
use link::Link;

/// How long an agent may take to let one more client in; it waits for nothing else.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where the agent is.
enum Agent {
    /// It listens there.
    Listens(PathBuf),
    /// In the same process.
    Beside {
        /// The other end of the link that it was made with, until a client has it.
        first: Option<OwnedFd>,
        /// Clients that it has not taken yet.
        waiting: Vec<OwnedFd>,
    },
}

/// The inner side of a stream.
///
/// It belongs to one thread, which [serves](Self::serve). When it goes the agent sees all its
/// clients go, and kills what they have started for themselves.
pub struct Inner {
    stream: Stream,
    agent: Agent,
    links: BTreeMap<LinkId, Link>,
    turns: usize,
}

impl Agent {
    /// A new link to it.
    fn reach(&mut self) -> io::Result<OwnedFd> {
        match self {
            Self::Listens(path) => socket::connect(path, PATIENCE),
            Self::Beside { first, waiting } => match first.take() {
                Some(first) => Ok(first),
                None => {
                    let (ours, agents) = socket::pair()?;
                    waiting.push(agents);
                    Ok(ours)
                }
            },
        }
    }
}

impl Inner {
    /// Serves a stream whose other end is an [`Outer`](crate::Outer), for the agent that listens at
    /// `agent`. Both descriptors must be nobody else's.
    pub fn new(input: OwnedFd, output: OwnedFd, agent: PathBuf) -> io::Result<Self> {
        Self::with(input, output, Agent::Listens(agent))
    }

    /// Serves a stream for the agent that the calling process itself is, in turns of the agent's:
    /// [`poll`](Self::poll) and [`clients`](Self::clients). The first client gets `first`, the
    /// other end of the link that the agent was made with. So nothing in the place can reach the
    /// agent but by the stream, and nothing there can end this side.
    pub fn beside(input: OwnedFd, output: OwnedFd, first: OwnedFd) -> io::Result<Self> {
        Self::with(input, output, Agent::Beside { first: Some(first), waiting: Vec::new() })
    }

    fn with(input: OwnedFd, output: OwnedFd, agent: Agent) -> io::Result<Self> {
        let stream = Stream::new(input, output)?;
        Ok(Self { stream, agent, links: BTreeMap::new(), turns: 0 })
    }

    /// Serves the stream that the calling process's standard input and output are, as those of an
    /// exec in the place. The process may have as many files open then as it is allowed to, and
    /// hides what it holds from others. If commands have its user, they can end it all the same.
    pub fn standard(agent: PathBuf) -> io::Result<Self> {
        let most = getrlimit(Resource::Nofile).maximum;
        // With few of them it serves few clients.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most });
        // Whoever has started the process may have the same descriptors.
        let (input, output) = (io::stdin(), io::stdout());
        let (input, output) = (input.as_fd(), output.as_fd());
        let own = |fd: BorrowedFd<'_>, r#use| match handle::anew(fd, r#use) {
            Ok(anew) => Ok(anew),
            Err(_) => fd.try_clone_to_owned(),
        };
        let (input, output) = (own(input, Use::Reading)?, own(output, Use::Writing)?);
        // Commands may have its user; what others say is none of theirs.
        process::hide()?;
        Self::new(input, output, agent)
    }

    /// Serves until the stream has ended.
    pub fn serve(mut self) -> Result<(), MuxError> {
        while self.poll(&mut [], None)? {}
        Ok(())
    }

    /// Waits for `others` too, as [`descriptor::poll`] does, no longer than `most`, and does what
    /// there is to do for the stream. Returns false when that has ended.
    pub fn poll(
        &mut self,
        others: &mut [Interest<'_>],
        most: Option<Duration>,
    ) -> Result<bool, MuxError> {
        let mut going = true;
        for spot in self.wait(others, most)? {
            match spot {
                Spot::Input => going &= self.listen_to_stream()?,
                Spot::Output => going &= self.stream.write(),
                spot => self.serve_link(spot),
            }
        }
        let out = &mut self.stream.outbox;
        self.links.retain(|_, link| link.go_on(out));
        Ok(self.stream.flush() && going)
    }

    /// The agent's side of clients that have come since this was last asked.
    pub fn clients(&mut self) -> Vec<OwnedFd> {
        match &mut self.agent {
            Agent::Listens(_) => Vec::new(),
            Agent::Beside { waiting, .. } => std::mem::take(waiting),
        }
    }

    /// Whether all is said of an agent that has ended and let go of all its links.
    pub fn is_finished(&self) -> bool {
        self.links.is_empty() && self.stream.outbox.is_empty()
    }

    fn wait(
        &mut self,
        others: &mut [Interest<'_>],
        most: Option<Duration>,
    ) -> Result<Vec<Spot>, MuxError> {
        let mut watch = Watch::default();
        watch.add(Spot::Input, self.stream.input());
        watch.add(Spot::Output, self.stream.output());
        let room = self.stream.outbox.has_room();
        self.links.values().for_each(|link| link.watch(&mut watch, room));
        let ready = room && self.links.values().any(Link::is_ready);
        self.turns = self.turns.wrapping_add(1);
        let soon = self.stream.outbox.can_wait();
        let most = if ready { Some(Duration::ZERO) } else { most.into_iter().chain(soon).min() };
        watch.wait_beside(others, most, self.turns).map_err(MuxError::Poll)
    }

    fn serve_link(&mut self, spot: Spot) {
        let link = spot.link().and_then(|link| self.links.get_mut(&link));
        if let Some(link) = link {
            link.serve(spot, &mut self.stream.outbox);
        }
    }

    fn listen_to_stream(&mut self) -> Result<bool, MuxError> {
        let going = self.stream.read()?;
        let mut inbox = std::mem::take(&mut self.stream.inbox);
        while let Some(message) = inbox.next()? {
            self.hear(&message)?;
        }
        self.stream.inbox = inbox;
        Ok(going)
    }

    fn hear(&mut self, message: &Message<'_>) -> Result<(), MuxError> {
        if self.stream.hear_hello(message)? {
            return Ok(());
        }
        let out = &mut self.stream.outbox;
        match (message, message.link().and_then(|link| self.links.get_mut(&link))) {
            (Message::Word { .. }, _) => {
                Err(MuxError::Rules("it said what only the inner side says"))
            }
            (Message::Open { link }, None) => {
                match self.agent.reach() {
                    Ok(agent) => drop(self.links.insert(*link, Link::new(*link, agent))),
                    // It is no place that serves clients, or not any more.
                    Err(_) => out.say(&Message::Close { link: *link }),
                }
                Ok(())
            }
            (message, Some(link)) => link.take(message, out),
            (_, None) => Ok(()),
        }
    }
}
