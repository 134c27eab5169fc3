//! A client, as it is seen from outside the place.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use agentkernel_core::Attachment;
use agentkernel_protocol::{
    CommandId, Decoder, FromAgent, LongDecoder, MAX_FRAME, Role, Stage, Start, ToAgent,
};
use agentkernel_sys::descriptor::Interest;
use agentkernel_sys::socket;
use agentkernel_sys::terminal::{self, RawMode};
use rustix::fs::{FileType, fstat};

use super::size::SizeWatch;
#[cfg(test)]
use crate::channel::Sink;
use crate::channel::{Channel, Channels};
use crate::error::MuxError;
use crate::handle::{Handle, Use};
use crate::message::{
    AT_ONCE, Address, After, ChannelId, FRAMES, LinkId, MAX_DATA, Message, Streams, WINDOW, WORDS,
};
use crate::stream::Outbox;
use crate::watch::{Spot, Watch};

/// More descriptors than any message carries need not wait for theirs.
const MOST_WAITING: usize = 2 * socket::MAX_DESCRIPTORS;

/// What asks for something that this stream can't carry hears this number (`EOPNOTSUPP` of Linux on
/// every architecture that it runs places on).
const NOT_SUPPORTED: i32 = 95;

/// An order on its way in.
struct Order {
    streams: Option<(CommandId, Streams)>,
    bytes: Vec<u8>,
    sent: usize,
}

/// A word on its way to the client.
struct Word {
    word: FromAgent,
    after: After,
    /// What goes along.
    descriptor: Option<OwnedFd>,
    /// How many bytes of the agent's words it stands for.
    length: u32,
}

/// A terminal that a command has asked for and not got yet.
struct Promised {
    channel: ChannelId,
    controller: OwnedFd,
}

/// A terminal that a command has.
struct Terminal {
    side: OwnedFd,
    sizes: SizeWatch,
    told: (u16, u16),
}

/// One client's connection.
pub struct Link {
    id: LinkId,
    /// Nobody yet, of one that was opened ahead.
    client: Option<OwnedFd>,
    /// When the agent's hello came, if nobody was there to hear it.
    greeted: Option<Instant>,
    decoder: LongDecoder,
    /// Descriptors that came for orders that are not whole yet.
    waiting: VecDeque<OwnedFd>,
    orders: VecDeque<Order>,
    /// Whether streams were begun, of which nothing has been read yet.
    begun: bool,
    /// How many bytes of orders the other end takes.
    credit: u32,
    words: VecDeque<Word>,
    /// How many bytes of the agent's words were received for which no credit was given again.
    open: u32,
    /// How many of them have been delivered.
    owed: u32,
    channels: Channels,
    next_channel: ChannelId,
    promised: BTreeMap<CommandId, Promised>,
    terminals: BTreeMap<ChannelId, Terminal>,
    /// Whether the client takes no more words now.
    full: bool,
    /// Whether the client has gone.
    gone: bool,
    /// Whether the agent has, or the place.
    closed: bool,
}

impl Link {
    /// Has the other end connect to the agent, for a client or for whoever [comes](Self::meet) next.
    pub fn open(id: LinkId, client: Option<OwnedFd>, out: &mut Outbox) -> Self {
        out.say(&Message::Open { link: id });
        Self {
            id,
            client,
            greeted: None,
            decoder: LongDecoder::default(),
            waiting: VecDeque::new(),
            orders: VecDeque::new(),
            begun: false,
            credit: WINDOW,
            words: VecDeque::new(),
            open: 0,
            owed: 0,
            channels: Channels::of(id),
            next_channel: FRAMES + 1,
            promised: BTreeMap::new(),
            terminals: BTreeMap::new(),
            full: false,
            gone: false,
            closed: false,
        }
    }

    /// Whether it has, or had, a client.
    pub fn is_met(&self) -> bool {
        self.client.is_some()
    }

    /// Whether it waits for a client.
    pub fn is_spare(&self) -> bool {
        self.client.is_none() && !self.closed
    }

    /// Takes a client. The hello that it hears is of that moment, as far as its clock goes.
    pub fn meet(&mut self, client: OwnedFd) {
        self.client = Some(client);
        let waited = self.greeted.take().map(|greeted| greeted.elapsed()).unwrap_or_default();
        for word in &mut self.words {
            if let FromAgent::Hello { at, .. } = &mut word.word {
                *at = at.saturating_add(waited);
            }
        }
    }

    /// Adds what wakes it.
    pub fn watch<'a>(&'a self, watch: &mut Watch<'a>, room: bool) {
        let client = self.client.as_ref().filter(|_| !self.gone);
        if let Some(client) = client.filter(|_| self.orders.is_empty() && (room || self.closed)) {
            watch.add(Spot::Frames(self.id), Interest::readable(client.as_fd()));
        }
        if let Some(client) = client.filter(|_| self.full) {
            watch.add(Spot::Room(self.id), Interest::writable(client.as_fd()));
        }
        // Of a command that has not been passed on nobody could take anything.
        self.channels.watch(watch, room && self.orders.is_empty());
        for (channel, terminal) in self.terminals.iter().filter(|_| room) {
            let at = Address { link: self.id, channel: *channel };
            watch.add(Spot::Size(at), terminal.sizes.interest());
        }
    }

    /// Whether it has begun streams since this was last asked.
    pub fn has_begun_streams(&mut self) -> bool {
        std::mem::take(&mut self.begun)
    }

    /// Does what has become ready.
    pub fn serve(&mut self, spot: Spot, out: &mut Outbox) {
        match spot {
            Spot::Frames(_) => self.hear(),
            Spot::Size(at) => self.resize(at, out),
            spot => self.channels.serve(spot, out),
        }
    }

    /// Takes what the other end says.
    pub fn take(&mut self, message: &Message<'_>, out: &mut Outbox) -> Result<(), MuxError> {
        match *message {
            Message::Close { .. } => self.close(out),
            Message::Word { after, frame, .. } => self.take_word(after, frame)?,
            Message::Credit { at, bytes } if at.channel == FRAMES => self.add_credit(bytes)?,
            _ => self.channels.hear(message, out)?,
        }
        Ok(())
    }

    /// Hears what the client says, if all that it said before has been passed on. One that has gone, or
    /// talks nonsense, is lost.
    fn hear(&mut self) {
        if !self.gone && self.orders.is_empty() && !self.try_hear().unwrap_or(false) {
            self.lose();
        }
    }

    fn try_hear(&mut self) -> io::Result<bool> {
        let Some(client) = &self.client else { return Ok(true) };
        let mut buffer = [0; 16 * 1024];
        let (read, descriptors) = match socket::receive_now(client.as_fd(), &mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            received => received?,
        };
        if self.closed {
            // Nobody is left who could obey.
            return Ok(read > 0);
        }
        self.waiting.extend(descriptors.into_iter().flatten());
        if self.waiting.len() > MOST_WAITING {
            return Ok(false);
        }
        let mut rest = &buffer[..read];
        while !rest.is_empty() {
            let order = self.decoder.next(&mut rest, ToAgent::parse).map_err(io::Error::other)?;
            if let Some(order) = order
                && !self.obey(order)?
            {
                return Ok(false);
            }
        }
        Ok(read > 0)
    }

    /// Passes an order on, with whatever stands for its descriptors, or refuses it. Returns false
    /// if it lacks descriptors.
    fn obey(&mut self, order: ToAgent) -> io::Result<bool> {
        let streams = match &order {
            ToAgent::Root { command } | ToAgent::UserNamespace { command } => {
                self.refuse(FromAgent::Failed { command: *command, errno: NOT_SUPPORTED });
                return Ok(true);
            }
            ToAgent::Attach { command, attachment: Attachment::Mount { .. } } => {
                self.refuse(FromAgent::Failed { command: *command, errno: NOT_SUPPORTED });
                return Ok(self.descriptors::<1>().is_some());
            }
            ToAgent::Start { command, start } => match self.connect(*command, start) {
                Some(Ok(streams)) => Some((*command, streams)),
                Some(Err((stage, errno))) => {
                    self.refuse(FromAgent::NotStarted { command: *command, stage, errno });
                    return Ok(true);
                }
                None => return Ok(false),
            },
            ToAgent::Carry { command, .. } => match self.connect_given() {
                Some(Ok(streams)) => Some((*command, streams)),
                Some(Err((_, errno))) => {
                    self.refuse(FromAgent::Failed { command: *command, errno });
                    return Ok(true);
                }
                None => return Ok(false),
            },
            _ => None,
        };
        let bytes = order.encode().map_err(io::Error::other)?;
        self.orders.push_back(Order { streams, bytes, sent: 0 });
        Ok(true)
    }

    /// Connects a command's streams, or says why it can't be started; nothing if they are missing.
    fn connect(
        &mut self,
        command: CommandId,
        start: &Start,
    ) -> Option<Result<Streams, (Stage, i32)>> {
        if let Some(size) = start.terminal {
            let channel = self.number()?;
            return Some(match self.open_terminal(command, channel, size) {
                Ok(()) => Ok(Streams::Terminal(channel)),
                Err(error) => Err((Stage::Terminal, error.raw_os_error().unwrap_or(0))),
            });
        }
        if matches!(start.role, Role::Background { .. }) {
            self.descriptors::<3>()?;
            return Some(Err((Stage::Place, NOT_SUPPORTED)));
        }
        self.connect_given()
    }

    /// Connects the streams that came along; nothing if they are missing.
    fn connect_given(&mut self) -> Option<Result<Streams, (Stage, i32)>> {
        let [input, output, errors] = self.descriptors::<3>()?;
        let shared = is_same(&output, &errors);
        let handles = || -> io::Result<Vec<Channel>> {
            let mut channels = vec![
                Channel::source(Handle::foreign(input, Use::Reading)?),
                Channel::sink(Handle::foreign(output, Use::Writing)?),
            ];
            if !shared {
                channels.push(Channel::sink(Handle::foreign(errors, Use::Writing)?));
            }
            Ok(channels)
        };
        let channels = match handles() {
            Ok(channels) => channels,
            Err(error) => return Some(Err((Stage::Streams, error.raw_os_error().unwrap_or(0)))),
        };
        let mut numbers = Vec::with_capacity(3);
        for channel in channels {
            let number = self.number()?;
            self.channels.insert(number, channel);
            numbers.push(number);
        }
        let (input, output) = (numbers[0], numbers[1]);
        let errors = numbers.get(2).copied().unwrap_or(output);
        Some(Ok(Streams::Given([input, output, errors])))
    }

    /// Makes a terminal whose controlling side is the client's, and whose other side hands every
    /// byte through, to and from the controlling side of the one inside.
    fn open_terminal(
        &mut self,
        command: CommandId,
        channel: ChannelId,
        size: (u16, u16),
    ) -> io::Result<()> {
        let (controller, side) = terminal::open(c"/dev/ptmx")?;
        terminal::set_size(controller.as_fd(), size.0, size.1)?;
        // It is for good.
        std::mem::forget(RawMode::enter(side.as_fd())?);
        let sizes = SizeWatch::new(side.as_fd())?;
        let (source, sink) = (side.try_clone()?, side.try_clone()?);
        let both = Channel::both(Handle::own(source)?, Handle::own(sink)?);
        self.channels.insert(channel, both);
        self.terminals.insert(channel, Terminal { side, sizes, told: size });
        self.promised.insert(command, Promised { channel, controller });
        Ok(())
    }

    /// A number for one more channel, none when all have been used.
    fn number(&mut self) -> Option<ChannelId> {
        let number = self.next_channel;
        self.next_channel = number.checked_add(1)?;
        Some(number)
    }

    /// The next `N` descriptors that came along.
    fn descriptors<const N: usize>(&mut self) -> Option<[OwnedFd; N]> {
        if self.waiting.len() < N {
            return None;
        }
        let taken: Vec<OwnedFd> = self.waiting.drain(..N).collect();
        taken.try_into().ok()
    }

    /// Answers by itself.
    fn refuse(&mut self, word: FromAgent) {
        /// As many as no client leaves unread that reads at all.
        const MOST: usize = WORDS as usize / MAX_FRAME;
        self.words.push_back(Word { word, after: AT_ONCE, descriptor: None, length: 0 });
        if self.words.len() > MOST {
            self.lose();
        }
    }

    /// Takes a word of the agent's.
    fn take_word(&mut self, after: After, frame: &[u8]) -> Result<(), MuxError> {
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        self.open = self.open.saturating_add(length);
        if self.open > WORDS {
            return Err(MuxError::Rules("it said more than there was room for"));
        }
        let mut rest = frame;
        let word = Decoder::default().next(&mut rest, FromAgent::parse).ok().flatten();
        let word = word.filter(|_| rest.is_empty());
        let word = word.ok_or(MuxError::Rules("a word was none"))?;
        if self.gone {
            // With what it had been promised; who says this may not have heard of it.
            return Ok(());
        }
        let mut descriptor = None;
        match word {
            FromAgent::Terminal { command } => {
                let promised = self.promised.remove(&command);
                let promised = promised.ok_or(MuxError::Rules("nobody asked for a terminal"))?;
                descriptor = Some(promised.controller);
            }
            FromAgent::NotStarted { command, .. } => self.forget(command),
            FromAgent::Hello { .. } if !self.is_met() => self.greeted = Some(Instant::now()),
            _ => {}
        }
        self.words.push_back(Word { word, after, descriptor, length });
        Ok(())
    }

    /// Parts with a terminal that nobody got.
    fn forget(&mut self, command: CommandId) {
        if let Some(promised) = self.promised.remove(&command) {
            self.terminals.remove(&promised.channel);
            self.channels.remove(promised.channel);
        }
    }

    /// Notes that the other end takes more orders.
    fn add_credit(&mut self, bytes: u32) -> Result<(), MuxError> {
        self.credit = self.credit.saturating_add(bytes);
        match self.credit <= WINDOW {
            true => Ok(()),
            false => Err(MuxError::Rules("it gave more room than there is")),
        }
    }

    /// Passes on the size of a terminal, which may have been set.
    fn resize(&mut self, at: Address, out: &mut Outbox) {
        let Some(terminal) = self.terminals.get_mut(&at.channel) else { return };
        let more = terminal.sizes.take();
        if let Ok(size) = terminal::size(terminal.side.as_fd())
            && size != terminal.told
        {
            terminal.told = size;
            let (rows, columns) = size;
            out.say(&Message::Size { at, rows, columns });
        }
        if !more {
            self.terminals.remove(&at.channel);
        }
    }

    /// Notes that the agent has gone: there will be nothing more than what is here.
    pub fn close(&mut self, out: &mut Outbox) {
        self.closed = true;
        self.orders.clear();
        // An end whose output got lost on the way is not told; that the link ends is.
        let channels = &self.channels;
        self.words.retain(|word| {
            word.after.iter().all(|(channel, position)| {
                channels.sink(*channel).is_none_or(|sink| sink.has_received(*position))
            })
        });
        self.channels.end(out);
    }

    /// Parts with a client, and all that it gave.
    fn lose(&mut self) {
        self.gone = true;
        self.words.clear();
        self.waiting.clear();
        self.promised.clear();
        self.terminals.clear();
        self.channels.clear();
    }

    /// Does what can be done without having been woken. Returns false when it is over.
    pub fn go_on(&mut self, out: &mut Outbox) -> bool {
        self.deliver();
        self.pass_orders(out);
        self.channels.go_on(out);
        let channels = &self.channels;
        self.terminals.retain(|number, _| channels.has(*number));
        if self.owed >= WORDS / 4 && out.has_room() {
            let at = Address { link: self.id, channel: FRAMES };
            out.say(&Message::Credit { at, bytes: self.owed });
            self.open = self.open.saturating_sub(self.owed);
            self.owed = 0;
        }
        if self.closed {
            return self.is_met() && !self.gone && !self.words.is_empty();
        }
        if self.gone && self.orders.is_empty() {
            out.say(&Message::Close { link: self.id });
            return false;
        }
        true
    }

    /// Says to the client what it may hear by now. A command's words stay in their order.
    fn deliver(&mut self) {
        let Some(client) = &self.client else { return };
        self.full = false;
        let mut held: BTreeSet<Option<CommandId>> = BTreeSet::new();
        let mut at = 0;
        while let Some(word) = self.words.get(at) {
            let command = command(&word.word);
            if held.contains(&command) || !is_due(&word.after, &self.channels) {
                held.insert(command);
                at += 1;
                continue;
            }
            let (frame, descriptor) = (word.word.encode(), word.descriptor.as_ref());
            let descriptors = descriptor.map(AsFd::as_fd);
            // So little is taken whole or not at all.
            match socket::send_now(client.as_fd(), frame.as_bytes(), descriptors.as_slice()) {
                Ok(()) => {
                    self.owed = self.owed.saturating_add(word.length);
                    self.words.remove(at);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.full = true;
                    return;
                }
                Err(_) => return self.lose(),
            }
        }
    }

    fn pass_orders(&mut self, out: &mut Outbox) {
        while let Some(order) = self.orders.front_mut() {
            if self.credit == 0 || !out.has_room() {
                return;
            }
            if let Some((command, streams)) = order.streams.take() {
                out.say(&Message::Streams { link: self.id, command, streams });
                self.begun = true;
            }
            let rest = &order.bytes[order.sent..];
            let most = MAX_DATA.min(self.credit as usize).min(rest.len());
            out.say(&Message::Orders { link: self.id, bytes: &rest[..most] });
            self.credit -= u32::try_from(most).unwrap_or(self.credit);
            order.sent += most;
            if order.sent == order.bytes.len() {
                self.orders.pop_front();
            }
        }
    }

    #[cfg(test)]
    pub fn held(&self) -> usize {
        let sinks = self.channels.iter().filter_map(|channel| channel.sink.as_ref());
        sinks.map(Sink::held).sum::<usize>() + self.words.len() * size_of::<Word>()
    }
}

/// Whether output and errors go to the same pipe, socket or device. Then they share a channel, or
/// nobody could say in which order they were written.
fn is_same(output: &OwnedFd, errors: &OwnedFd) -> bool {
    let (Ok(output), Ok(errors)) = (fstat(output), fstat(errors)) else { return false };
    let kind = FileType::from_raw_mode(output.st_mode);
    // Each descriptor of a file has a position of its own.
    kind != FileType::RegularFile
        && (output.st_dev, output.st_ino) == (errors.st_dev, errors.st_ino)
}

/// Whether all has been delivered that must be before a word.
fn is_due(after: &After, channels: &Channels) -> bool {
    after.iter().all(|(channel, position)| {
        channels.sink(*channel).is_none_or(|sink| sink.has_delivered(*position))
    })
}

/// The command that a word is about.
fn command(word: &FromAgent) -> Option<CommandId> {
    match *word {
        FromAgent::Hello { .. } | FromAgent::Unready { .. } => None,
        FromAgent::Terminal { command }
        | FromAgent::Started { command, .. }
        | FromAgent::NotStarted { command, .. }
        | FromAgent::Ended { command, .. }
        | FromAgent::Done { command }
        | FromAgent::Failed { command, .. }
        | FromAgent::Listed { command, .. } => Some(command),
    }
}
