//! The side outside: clients come to it as they would to the agent.

mod link;
mod size;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use agentkernel_sys::descriptor::Interest;
use agentkernel_sys::socket;

use crate::error::MuxError;
use crate::message::{LinkId, Message};
use crate::stream::Stream;
use crate::watch::{Spot, Watch};
use link::Link;
pub use size::SizeWatch;

/// As many clients at once as an agent serves.
const MOST_LINKS: usize = 256;

/// How long nobody is let in after that has failed, as for want of descriptors.
const REST: Duration = Duration::from_millis(100);

/// How long the other end is heard that takes nothing any more.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The outer side of a stream.
///
/// It belongs to one thread, which [serves](Self::serve). Clients connect to a listening socket, or
/// are [admitted](Self::admit) before. Dropping it closes all links; the other side takes that as
/// their clients' leave, and so does the agent.
pub struct Outer {
    stream: Stream,
    listener: Option<OwnedFd>,
    quit: Option<OwnedFd>,
    links: BTreeMap<LinkId, Link>,
    next: LinkId,
    turns: usize,
    rests_until: Option<Instant>,
    /// Until when the other end is heard, once it takes nothing any more.
    hears_until: Option<Instant>,
}

/// What is left when a stream has ended: output, and words about it, that clients have not taken
/// yet. It was all received, so that a command that has ended has ended well.
#[must_use = "dropping it loses what clients have not taken yet"]
pub struct Rest {
    outer: Outer,
    /// Why the stream has ended, if it did not end of itself.
    pub why: Option<MuxError>,
}

impl Outer {
    /// Serves a stream whose other end is an [`Inner`](crate::Inner): what is written to `output` is
    /// read there, and what is written there can be read from `input`. Both must be nobody else's.
    pub fn new(input: OwnedFd, output: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            stream: Stream::new(input, output)?,
            listener: None,
            quit: None,
            links: BTreeMap::new(),
            next: 0,
            turns: 0,
            rests_until: None,
            hears_until: None,
        })
    }

    /// Has clients come in by a listening socket. It is closed when the stream ends.
    pub fn listen(mut self, listener: OwnedFd) -> Self {
        self.listener = Some(listener);
        self
    }

    /// Has it end all links when `quit` can be read, or its other end is closed.
    pub fn quit_by(mut self, quit: OwnedFd) -> Self {
        self.quit = Some(quit);
        self
    }

    /// Takes one more client, whose connection's other end this is. If there are too many already
    /// it is closed.
    pub fn admit(&mut self, client: OwnedFd) {
        match self.spare() {
            Some(spare) => spare.meet(client),
            None => self.open(Some(client)),
        }
    }

    /// The link that was opened ahead, if there is one.
    fn spare(&mut self) -> Option<&mut Link> {
        self.links.values_mut().rev().find(|link| link.is_spare())
    }

    fn open(&mut self, client: Option<OwnedFd>) {
        if self.links.len() < MOST_LINKS {
            let link = Link::open(self.next, client, &mut self.stream.outbox);
            self.links.insert(self.next, link);
            self.next += 1;
        }
    }

    /// Serves until the stream has ended, or it is to quit.
    ///
    /// All links have been closed then whose clients have nothing more to hear. The others are
    /// left: of commands whose end is known, and whose output is not taken yet.
    pub fn serve(mut self) -> Rest {
        let why = loop {
            match self.turn(None) {
                Ok(true) => {}
                Ok(false) => break None,
                Err(why) => break Some(why),
            }
        };
        self.end();
        Rest { outer: self, why }
    }

    /// Waits, no longer than `most`, and does what there is to do. Returns false at the end.
    fn turn(&mut self, most: Option<Duration>) -> Result<bool, MuxError> {
        let ready = self.wait(most)?;
        let mut going = true;
        for spot in ready {
            match spot {
                Spot::Input => going &= self.listen_to_stream()?,
                // A stream that nobody takes from any more says so by that.
                Spot::Output => drop(self.stream.write()),
                Spot::Listener => self.let_in(),
                Spot::Quit => going = false,
                spot => self.serve_link(spot),
            }
        }
        self.go_on();
        if self.links.values_mut().any(Link::has_begun_streams) {
            // What a command finds in its input at once, or that there is none, goes along with its order.
            self.wait(Some(Duration::ZERO))?.into_iter().for_each(|spot| self.serve_link(spot));
            self.go_on();
        }
        if !self.stream.flush() && self.hears_until.is_none() {
            self.hears_until = Some(Instant::now() + LAST_WORDS);
        }
        Ok(going && self.hears_until.is_none_or(|until| until > Instant::now()))
    }

    fn wait(&mut self, most: Option<Duration>) -> Result<Vec<Spot>, MuxError> {
        let now = Instant::now();
        self.rests_until = self.rests_until.filter(|until| *until > now);
        let mut watch = Watch::default();
        watch.add(Spot::Input, self.stream.input());
        watch.add(Spot::Output, self.stream.output());
        if let Some(quit) = &self.quit {
            watch.add(Spot::Quit, Interest::readable(quit.as_fd()));
        }
        let room = self.stream.outbox.has_room();
        let open = room && self.rests_until.is_none();
        if let Some(listener) = self.listener.as_ref().filter(|_| open) {
            watch.add(Spot::Listener, Interest::readable(listener.as_fd()));
        }
        self.links.values().for_each(|link| link.watch(&mut watch, room));
        let until = [self.rests_until, self.hears_until].into_iter().flatten();
        let timeout = until.map(|until| until.saturating_duration_since(now)).chain(most).min();
        self.turns = self.turns.wrapping_add(1);
        watch.wait(timeout, self.turns).map_err(MuxError::Poll)
    }

    fn serve_link(&mut self, spot: Spot) {
        let link = spot.link().and_then(|link| self.links.get_mut(&link));
        if let Some(link) = link {
            link.serve(spot, &mut self.stream.outbox);
        }
    }

    fn let_in(&mut self) {
        let Some(listener) = &self.listener else { return };
        match socket::accept(listener.as_fd()) {
            Ok(client) => self.admit(client),
            Err(_) => self.rests_until = Some(Instant::now() + REST),
        }
    }

    /// Hears what the other end says. Returns false at the end of it.
    fn listen_to_stream(&mut self) -> Result<bool, MuxError> {
        let going = self.stream.read()?;
        let mut inbox = std::mem::take(&mut self.stream.inbox);
        while let Some(message) = inbox.next()? {
            self.hear(&message)?;
        }
        self.stream.inbox = inbox;
        Ok(going)
    }

    /// Takes what the other end says. Of what is no more it may say more, since it hears of that a
    /// moment later. The other end may be hostile: each message reaches at most the link that it
    /// names, and the descriptors that this one's client gave for it.
    fn hear(&mut self, message: &Message<'_>) -> Result<(), MuxError> {
        if self.stream.hear_hello(message)? {
            return Ok(());
        }
        match (message, message.link().and_then(|link| self.links.get_mut(&link))) {
            (
                Message::Open { .. }
                | Message::Streams { .. }
                | Message::Orders { .. }
                | Message::Size { .. },
                _,
            ) => Err(MuxError::Rules("it said what only the outer side says")),
            (message, Some(link)) => link.take(message, &mut self.stream.outbox),
            (_, None) => Ok(()),
        }
    }

    /// When a client leaves, the next one's link is opened, so that whoever comes then has its hello at
    /// once. One that the other end refuses is not opened again before that.
    fn go_on(&mut self) {
        let out = &mut self.stream.outbox;
        let mut left = false;
        self.links.retain(|_, link| {
            let goes_on = link.go_on(out);
            left |= !goes_on && link.is_met();
            goes_on
        });
        if left && self.listener.is_some() && self.spare().is_none() {
            self.open(None);
        }
    }

    /// Notes that nothing more can come.
    fn end(&mut self) {
        self.stream.close();
        self.listener = None;
        self.quit = None;
        let out = &mut self.stream.outbox;
        self.links.values_mut().for_each(|link| link.close(out));
        self.go_on();
    }

    /// How many bytes of data and words are held for clients.
    #[cfg(test)]
    fn held(&self) -> usize {
        self.links.values().map(Link::held).sum()
    }
}

impl Rest {
    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.outer.links.is_empty()
    }

    /// Delivers what is left, as fast as the clients take it; it ends when they go.
    pub fn deliver(mut self) -> io::Result<()> {
        let outer = &mut self.outer;
        while !outer.links.is_empty() {
            let mut watch = Watch::default();
            outer.links.values().for_each(|link| link.watch(&mut watch, false));
            for spot in watch.wait(None, 0)? {
                outer.serve_link(spot);
            }
            outer.go_on();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
