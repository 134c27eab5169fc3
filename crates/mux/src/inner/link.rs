//! A client, as its agent sees it.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use agentkernel_protocol::{CommandId, Decoder, FromAgent};
use agentkernel_sys::descriptor::{self, Interest};
use agentkernel_sys::socket;

use crate::channel::{Channel, Channels, Source};
use crate::error::MuxError;
use crate::handle::Handle;
use crate::message::{
    ALL, AT_ONCE, Address, After, ChannelId, FRAMES, LinkId, Message, Streams, WINDOW, WORDS,
};
use crate::stream::Outbox;
use crate::watch::{Spot, Watch};

/// The modes of pipes that are open to everybody in the one direction that they are for, or a
/// command could not open `/dev/stdout`.
const READABLE: u32 = 0o644;
const WRITABLE: u32 = 0o622;

/// Orders on their way to the agent.
struct Orders {
    bytes: Vec<u8>,
    sent: usize,
    /// What goes with the first byte.
    descriptors: Vec<OwnedFd>,
}

/// One connection to the agent.
pub struct Link {
    id: LinkId,
    agent: OwnedFd,
    decoder: Decoder,
    /// What the agent has handed over and not named yet.
    received: VecDeque<OwnedFd>,
    /// What goes with the next byte of orders.
    next: Vec<OwnedFd>,
    orders: VecDeque<Orders>,
    /// How many bytes of orders were received for which no credit was given again.
    open: u32,
    /// How many of them the agent has.
    owed: u32,
    words: VecDeque<(After, FromAgent)>,
    /// How many bytes of words the other end takes.
    credit: u32,
    channels: Channels,
    /// Where the output of commands goes.
    outputs: BTreeMap<CommandId, Vec<ChannelId>>,
    /// What commands' terminals will be called.
    terminals: BTreeMap<CommandId, ChannelId>,
    /// The controlling sides of terminals, until their commands end or the client hangs up: a command
    /// that has let go of all of its own, as at its exit, would be hung up by the last close of this.
    controllers: BTreeMap<ChannelId, OwnedFd>,
    /// Whether the client has gone.
    leaving: bool,
    /// Whether the agent has, or is of no more use.
    ended: bool,
}

impl Link {
    pub fn new(id: LinkId, agent: OwnedFd) -> Self {
        Self {
            id,
            agent,
            decoder: Decoder::default(),
            received: VecDeque::new(),
            next: Vec::new(),
            orders: VecDeque::new(),
            open: 0,
            owed: 0,
            words: VecDeque::new(),
            credit: WORDS,
            channels: Channels::of(id),
            outputs: BTreeMap::new(),
            terminals: BTreeMap::new(),
            controllers: BTreeMap::new(),
            leaving: false,
            ended: false,
        }
    }

    /// Adds what wakes it.
    pub fn watch<'a>(&'a self, watch: &mut Watch<'a>, room: bool) {
        let agent = self.agent.as_fd();
        if self.hears() && room {
            watch.add(Spot::Frames(self.id), Interest::readable(agent));
        }
        if !self.orders.is_empty() && !self.ended {
            watch.add(Spot::Room(self.id), Interest::writable(agent));
        }
        self.channels.watch(watch, room);
    }

    /// Whether it has something to say without having been woken.
    pub fn is_ready(&self) -> bool {
        self.channels.are_ready()
    }

    fn hears(&self) -> bool {
        !self.ended && (self.leaving || self.words.is_empty())
    }

    /// Does what has become ready.
    pub fn serve(&mut self, spot: Spot, out: &mut Outbox) {
        match spot {
            Spot::Frames(_) => self.hear(),
            spot => self.channels.serve(spot, out),
        }
    }

    /// Takes what the other end says.
    pub fn take(&mut self, message: &Message<'_>, out: &mut Outbox) -> Result<(), MuxError> {
        match *message {
            Message::Close { .. } => self.leave(),
            Message::Streams { command, streams, .. } => self.take_streams(command, streams),
            Message::Orders { bytes, .. } => self.take_orders(bytes)?,
            Message::Credit { at, bytes } if at.channel == FRAMES => self.add_credit(bytes)?,
            Message::End { at } => {
                self.controllers.remove(&at.channel);
                self.channels.hear(message, out)?;
            }
            _ => self.channels.hear(message, out)?,
        }
        Ok(())
    }

    /// Hears what the agent says.
    fn hear(&mut self) {
        if self.hears() && !self.try_hear().unwrap_or(false) {
            self.end();
        }
    }

    fn try_hear(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        let (read, descriptors) = match socket::receive_now(self.agent.as_fd(), &mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            received => received?,
        };
        if self.leaving {
            return Ok(read > 0);
        }
        self.received.extend(descriptors.into_iter().flatten());
        if self.received.len() > socket::MAX_DESCRIPTORS {
            // Nobody has asked for so many.
            return Ok(false);
        }
        let mut rest = &buffer[..read];
        while !rest.is_empty() {
            let word = self.decoder.next(&mut rest, FromAgent::parse).map_err(io::Error::other)?;
            if let Some(word) = word {
                let after = self.note(word)?;
                self.words.push_back((after, word));
            }
        }
        Ok(read > 0)
    }

    /// Takes notice of a word, and returns what has to be delivered before it.
    fn note(&mut self, word: FromAgent) -> io::Result<After> {
        match word {
            FromAgent::Terminal { command } => {
                let promised = self.terminals.remove(&command).zip(self.received.pop_front());
                let (channel, controller) = promised.ok_or(io::ErrorKind::InvalidData)?;
                let (source, sink) = (controller.try_clone()?, controller.try_clone()?);
                let both = Channel::both(Handle::own(source)?, Handle::own(sink)?);
                self.controllers.insert(channel, controller);
                self.channels.insert(channel, both);
                self.outputs.insert(command, vec![channel]);
            }
            FromAgent::NotStarted { command, .. } => {
                self.terminals.remove(&command);
                for channel in self.outputs.remove(&command).unwrap_or_default() {
                    self.controllers.remove(&channel);
                }
            }
            FromAgent::Ended { command, .. } => {
                let mut after = AT_ONCE;
                let outputs = self.outputs.remove(&command).unwrap_or_default();
                for (one, number) in after.iter_mut().zip(outputs) {
                    // All has been sent of one that is over.
                    let position = self.channels.source(number).map_or(ALL, Source::hurry);
                    *one = (number, position);
                    self.controllers.remove(&number);
                }
                return Ok(after);
            }
            _ => {}
        }
        Ok(AT_ONCE)
    }

    /// Notes that the agent has gone. What is in the pipes is all there will be.
    fn end(&mut self) {
        self.ended = true;
        for channel in self.channels.iter_mut() {
            channel.sink = None;
            if let Some(source) = &mut channel.source {
                source.hurry();
            }
        }
    }

    /// Notes that the client has gone.
    fn leave(&mut self) {
        self.leaving = true;
        self.channels.clear();
        self.controllers.clear();
        self.words.clear();
    }

    /// Makes the streams of a command, which go with the next byte of its order.
    fn take_streams(&mut self, command: CommandId, streams: Streams) {
        let made = match streams {
            Streams::Given(numbers) => self.make_pipes(command, numbers),
            Streams::Terminal(number) => {
                self.terminals.insert(command, number);
                Ok(())
            }
        };
        // Without its streams the order would make nonsense.
        if made.is_err() {
            self.end();
        }
    }

    fn make_pipes(&mut self, command: CommandId, numbers: [ChannelId; 3]) -> io::Result<()> {
        let [input, output, errors] = numbers;
        let (theirs, ours) = descriptor::pipe()?;
        descriptor::set_mode(theirs.as_fd(), READABLE)?;
        self.channels.insert(input, Channel::sink(Handle::own(ours)?));
        self.next.push(theirs);
        self.make_output(output)?;
        if errors == output {
            let shared = self.next.last().map(OwnedFd::try_clone).transpose()?;
            self.next.extend(shared);
        } else {
            self.make_output(errors)?;
        }
        self.outputs.insert(command, vec![output, errors]);
        Ok(())
    }

    fn make_output(&mut self, number: ChannelId) -> io::Result<()> {
        let (ours, theirs) = descriptor::pipe()?;
        descriptor::set_mode(theirs.as_fd(), WRITABLE)?;
        self.channels.insert(number, Channel::source(Handle::own(ours)?));
        self.next.push(theirs);
        Ok(())
    }

    fn take_orders(&mut self, bytes: &[u8]) -> Result<(), MuxError> {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.open = self.open.saturating_add(length);
        if self.open > WINDOW {
            return Err(MuxError::Rules("it sent more than there was room for"));
        }
        let descriptors = std::mem::take(&mut self.next);
        self.orders.push_back(Orders { bytes: bytes.into(), sent: 0, descriptors });
        Ok(())
    }

    /// Notes that the other end takes more words.
    fn add_credit(&mut self, bytes: u32) -> Result<(), MuxError> {
        self.credit = self.credit.saturating_add(bytes);
        match self.credit <= WORDS {
            true => Ok(()),
            false => Err(MuxError::Rules("it gave more room than there is")),
        }
    }

    /// Does what can be done without having been woken. Returns false when it is over.
    pub fn go_on(&mut self, out: &mut Outbox) -> bool {
        if !self.ended && !self.pass_orders().unwrap_or(false) {
            self.end();
        }
        self.channels.go_on(out);
        if self.owed >= WINDOW / 4 && out.has_room() {
            let at = Address { link: self.id, channel: FRAMES };
            out.say(&Message::Credit { at, bytes: self.owed });
            self.open = self.open.saturating_sub(self.owed);
            self.owed = 0;
        }
        self.say_words(out);
        if self.leaving {
            return !self.ended && !self.orders.is_empty();
        }
        if self.ended && self.words.is_empty() && !self.hurries() {
            out.say(&Message::Close { link: self.id });
            return false;
        }
        true
    }

    fn hurries(&self) -> bool {
        let mut sources = self.channels.iter().filter_map(|channel| channel.source.as_ref());
        sources.any(|source| !source.has_hurried())
    }

    fn say_words(&mut self, out: &mut Outbox) {
        while let Some((after, word)) = self.words.front() {
            let frame = word.encode();
            let frame = frame.as_bytes();
            let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
            if self.credit < length || !out.has_room() {
                return;
            }
            self.credit -= length;
            let message = Message::Word { link: self.id, after: *after, frame };
            match word {
                // Many commands end, or say something, a moment after their start.
                FromAgent::Started { .. } => out.say_soon(&message),
                _ => out.say(&message),
            }
            self.words.pop_front();
        }
    }

    /// Passes orders on to the agent. Returns false when it has gone.
    fn pass_orders(&mut self) -> io::Result<bool> {
        while let Some(orders) = self.orders.front_mut() {
            let descriptors: Vec<_> = orders.descriptors.iter().map(AsFd::as_fd).collect();
            let rest = &orders.bytes[orders.sent..];
            match socket::send_some(self.agent.as_fd(), rest, &descriptors) {
                Ok(sent) => {
                    self.owed = self.owed.saturating_add(u32::try_from(sent).unwrap_or(u32::MAX));
                    orders.sent += sent;
                    // Else the ends of the streams would never be the last ones.
                    orders.descriptors.clear();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
            if orders.sent == orders.bytes.len() {
                self.orders.pop_front();
            }
        }
        Ok(true)
    }
}
