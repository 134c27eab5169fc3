//! Channels: bytes between a descriptor here and one at the other end of the stream.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;

use agentkernel_sys::descriptor::Interest;
use agentkernel_sys::terminal;
use rustix::io::ioctl_fionread;

use crate::error::MuxError;
use crate::handle::Handle;
use crate::message::{Address, ChannelId, LinkId, MAX_DATA, Message, RESERVE, WINDOW};
use crate::stream::Outbox;
use crate::watch::{Spot, Watch};

/// Bytes on their way to the other end.
#[derive(Debug)]
pub struct Source {
    handle: Handle,
    /// How many bytes the other end takes; below 0 when it has got some of its reserve.
    credit: i64,
    sent: u64,
    /// How many bytes are to be sent though there may be no credit.
    urgent: u64,
    /// Read and not yet sent.
    ahead: Vec<u8>,
}

impl Source {
    pub fn new(handle: Handle) -> Self {
        let credit = i64::from(WINDOW);
        Self { handle, credit, sent: 0, urgent: 0, ahead: Vec::new() }
    }

    /// What wakes it, for [`carry`](Self::carry), if the stream has room.
    pub fn interest(&self) -> Interest<'_> {
        match self.ahead.is_empty() && self.most() > 0 {
            true => Interest::readable(self.handle.as_fd()),
            false => Interest::none(),
        }
    }

    /// Whether it has something to carry without having been woken.
    pub fn is_ready(&self) -> bool {
        (self.urgent > 0 || !self.ahead.is_empty()) && self.most() > 0
    }

    /// How much may be sent at once.
    fn most(&self) -> usize {
        let urgent = i64::try_from(self.urgent).unwrap_or(i64::MAX);
        let most = self.credit.max(urgent.min(self.credit + i64::from(RESERVE)));
        usize::try_from(most).unwrap_or(0).min(MAX_DATA)
    }

    /// Carries what can be carried at once. Returns false when there will be no more, which is said.
    pub fn carry(&mut self, at: Address, out: &mut Outbox) -> bool {
        let most = self.most();
        if most == 0 {
            return true;
        }
        if !self.ahead.is_empty() {
            let bytes = self.ahead.len().min(most);
            out.say(&Message::Data { at, bytes: &self.ahead[..bytes] });
            self.ahead.drain(..bytes);
            self.note(bytes);
            return true;
        }
        match out.say_data(at, most, |room| self.handle.read(room)) {
            Ok(bytes @ 1..) => {
                self.note(bytes);
                true
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.urgent = 0;
                true
            }
            // A terminal's end is an error, and what can't be read any more has ended, too.
            Ok(0) | Err(_) => {
                out.say(&Message::End { at });
                false
            }
        }
    }

    fn note(&mut self, bytes: usize) {
        self.sent += bytes as u64;
        self.credit -= i64::try_from(bytes).unwrap_or(i64::MAX);
        self.urgent = self.urgent.saturating_sub(bytes as u64);
    }

    /// Has what is there now sent without waiting for credit, and returns how much will have been
    /// sent then.
    pub fn hurry(&mut self) -> u64 {
        // What a terminal holds can't be counted, only read; other pipes hold more than this.
        const TERMINAL: usize = 128 << 10;
        if terminal::is_terminal(self.handle.as_fd()) {
            let mut buffer = [0; 4096];
            while self.ahead.len() < TERMINAL {
                match self.handle.read(&mut buffer) {
                    Ok(read @ 1..) => self.ahead.extend_from_slice(&buffer[..read]),
                    _ => break,
                }
            }
            self.urgent = self.ahead.len() as u64;
        } else {
            let there = ioctl_fionread(self.handle.as_fd()).unwrap_or(0);
            self.urgent = there + self.ahead.len() as u64;
        }
        self.sent + self.urgent
    }

    /// Whether nothing is left of what was to be [hurried](Self::hurry).
    pub fn has_hurried(&self) -> bool {
        self.urgent == 0
    }

    pub fn add_credit(&mut self, bytes: u32) -> Result<(), MuxError> {
        self.credit += i64::from(bytes);
        match self.credit <= i64::from(WINDOW) {
            true => Ok(()),
            false => Err(MuxError::Rules("it gave more room than there is")),
        }
    }
}

/// Bytes that have come from the other end.
#[derive(Debug)]
pub struct Sink {
    handle: Handle,
    held: Vec<u8>,
    written: usize,
    /// How many bytes have been delivered since the beginning.
    delivered: u64,
    /// How many were received for which no credit has been given again.
    open: u32,
    /// How many of them have been delivered.
    owed: u32,
    ended: bool,
}

/// What is left of a sink when it has written what it could.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    Going,
    /// All is delivered that there will ever be.
    Over,
    /// Nobody takes it any more.
    Broken,
}

/// How much is delivered before the other end hears of it.
const GRANT: u32 = WINDOW / 4;

impl Sink {
    pub fn new(handle: Handle) -> Self {
        let (held, written, delivered) = (Vec::new(), 0, 0);
        Self { handle, held, written, delivered, open: 0, owed: 0, ended: false }
    }

    /// What wakes it, for [`write`](Self::write): room, or the end of whoever takes it.
    pub fn interest(&self) -> Interest<'_> {
        match self.held.is_empty() {
            true => Interest::gone(self.handle.as_fd()),
            false => Interest::writable(self.handle.as_fd()),
        }
    }

    /// Takes what has come, and writes what can be written of it.
    pub fn take(&mut self, bytes: &[u8]) -> Result<After, MuxError> {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.open = self.open.saturating_add(length);
        if self.ended || self.open > WINDOW + RESERVE {
            return Err(MuxError::Rules("it sent more than there was room for"));
        }
        if !self.held.is_empty() {
            self.held.extend_from_slice(bytes);
            return Ok(After::Going);
        }
        match self.handle.write(bytes) {
            Ok(written) => {
                self.note(written);
                self.held.extend_from_slice(&bytes[written..]);
                Ok(After::Going)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.held.extend_from_slice(bytes);
                Ok(After::Going)
            }
            Err(_) => Ok(After::Broken),
        }
    }

    /// Writes what can be written now, if a poll has found it ready.
    pub fn write(&mut self) -> After {
        if self.held.is_empty() {
            // It was woken by nothing but the end of whoever takes it.
            return After::Broken;
        }
        match self.handle.write(&self.held[self.written..]) {
            Ok(written) => {
                self.written += written;
                self.note(written);
                if self.written == self.held.len() {
                    self.written = 0;
                    self.held = Vec::new();
                }
                self.state()
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => After::Going,
            Err(_) => After::Broken,
        }
    }

    fn note(&mut self, written: usize) {
        self.delivered += written as u64;
        self.owed = self.owed.saturating_add(u32::try_from(written).unwrap_or(u32::MAX));
    }

    /// Notes that nothing more will come.
    pub fn end(&mut self) -> After {
        self.ended = true;
        self.state()
    }

    fn state(&self) -> After {
        if self.ended && self.held.is_empty() { After::Over } else { After::Going }
    }

    /// Gives credit for what was delivered, when it is enough to tell.
    pub fn give_credit(&mut self, at: Address, out: &mut Outbox) {
        if self.owed >= GRANT && !self.ended && out.has_room() {
            out.say(&Message::Credit { at, bytes: self.owed });
            self.open = self.open.saturating_sub(self.owed);
            self.owed = 0;
        }
    }

    /// Whether so many bytes have been delivered. All will have been when this is no more.
    pub fn has_delivered(&self, position: u64) -> bool {
        self.delivered >= position
    }

    /// Whether so many will have been delivered if nothing more comes, or nothing more can come.
    pub fn has_received(&self, position: u64) -> bool {
        self.ended || self.delivered + self.held() as u64 >= position
    }

    /// How many bytes wait here.
    pub fn held(&self) -> usize {
        self.held.len() - self.written
    }
}

/// Both ways of a channel. A terminal has two, every other stream one.
#[derive(Debug, Default)]
pub struct Channel {
    pub source: Option<Source>,
    pub sink: Option<Sink>,
}

impl Channel {
    pub fn source(handle: Handle) -> Self {
        Self { source: Some(Source::new(handle)), sink: None }
    }

    pub fn sink(handle: Handle) -> Self {
        Self { source: None, sink: Some(Sink::new(handle)) }
    }

    pub fn both(source: Handle, sink: Handle) -> Self {
        Self { source: Some(Source::new(source)), sink: Some(Sink::new(sink)) }
    }

    fn carry(&mut self, at: Address, out: &mut Outbox) {
        if let Some(source) = &mut self.source
            && !source.carry(at, out)
        {
            self.source = None;
        }
    }

    fn write(&mut self, at: Address, out: &mut Outbox) {
        let after = self.sink.as_mut().map(Sink::write);
        self.settle(after, at, out);
    }

    /// What comes for a sink that has gone was under way when that was told.
    fn take(&mut self, at: Address, bytes: &[u8], out: &mut Outbox) -> Result<(), MuxError> {
        let after = self.sink.as_mut().map(|sink| sink.take(bytes)).transpose()?;
        self.settle(after, at, out);
        Ok(())
    }

    fn end(&mut self, at: Address, out: &mut Outbox) {
        let after = self.sink.as_mut().map(Sink::end);
        self.settle(after, at, out);
    }

    fn settle(&mut self, after: Option<After>, at: Address, out: &mut Outbox) {
        match after {
            None | Some(After::Going) => {}
            Some(After::Over) => self.sink = None,
            Some(After::Broken) => {
                self.sink = None;
                out.say(&Message::Broken { at });
            }
        }
    }

    fn set_size(&self, rows: u16, columns: u16) {
        if let Some(source) = &self.source {
            // One that nobody uses any more has no size to be wrong.
            let _ = terminal::set_size(source.handle.as_fd(), rows, columns);
        }
    }
}

/// The channels of a link.
#[derive(Debug)]
pub struct Channels {
    link: LinkId,
    all: BTreeMap<ChannelId, Channel>,
}

impl Channels {
    pub fn of(link: LinkId) -> Self {
        Self { link, all: BTreeMap::new() }
    }

    pub fn insert(&mut self, number: ChannelId, channel: Channel) {
        self.all.insert(number, channel);
    }

    pub fn remove(&mut self, number: ChannelId) {
        self.all.remove(&number);
    }

    pub fn clear(&mut self) {
        self.all.clear();
    }

    pub fn has(&self, number: ChannelId) -> bool {
        self.all.contains_key(&number)
    }

    pub fn source(&mut self, number: ChannelId) -> Option<&mut Source> {
        self.all.get_mut(&number)?.source.as_mut()
    }

    pub fn sink(&self, number: ChannelId) -> Option<&Sink> {
        self.all.get(&number)?.sink.as_ref()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Channel> {
        self.all.values_mut()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Channel> {
        self.all.values()
    }

    fn at(&self, channel: ChannelId) -> Address {
        Address { link: self.link, channel }
    }

    /// Adds what wakes them, if the stream has `room` for what they have to say.
    pub fn watch<'a>(&'a self, watch: &mut Watch<'a>, room: bool) {
        for (number, channel) in &self.all {
            if let Some(source) = channel.source.as_ref().filter(|_| room) {
                watch.add(Spot::Source(self.at(*number)), source.interest());
            }
            if let Some(sink) = &channel.sink {
                watch.add(Spot::Sink(self.at(*number)), sink.interest());
            }
        }
    }

    /// Carries what has become ready.
    pub fn serve(&mut self, spot: Spot, out: &mut Outbox) {
        match spot {
            Spot::Source(at) if out.has_room() => {
                if let Some(channel) = self.all.get_mut(&at.channel) {
                    channel.carry(at, out);
                }
            }
            Spot::Sink(at) => {
                if let Some(channel) = self.all.get_mut(&at.channel) {
                    channel.write(at, out);
                }
            }
            _ => {}
        }
    }

    /// Hears what is said of one of them. Of one that is over the other end may not have heard yet.
    pub fn hear(&mut self, message: &Message<'_>, out: &mut Outbox) -> Result<(), MuxError> {
        let at = match *message {
            Message::Data { at, .. }
            | Message::End { at }
            | Message::Broken { at }
            | Message::Credit { at, .. }
            | Message::Size { at, .. } => at,
            _ => return Ok(()),
        };
        let Some(channel) = self.all.get_mut(&at.channel) else { return Ok(()) };
        match *message {
            Message::Data { bytes, .. } => channel.take(at, bytes, out)?,
            Message::End { .. } => channel.end(at, out),
            Message::Broken { .. } => channel.source = None,
            Message::Credit { bytes, .. } => {
                if let Some(source) = &mut channel.source {
                    source.add_credit(bytes)?;
                }
            }
            Message::Size { rows, columns, .. } => channel.set_size(rows, columns),
            _ => {}
        }
        Ok(())
    }

    /// Whether one of them has something to say without having been woken.
    pub fn are_ready(&self) -> bool {
        self.all.values().any(|channel| channel.source.as_ref().is_some_and(Source::is_ready))
    }

    /// Does what can be done without having been woken, and parts with those that are over.
    pub fn go_on(&mut self, out: &mut Outbox) {
        for (number, channel) in &mut self.all {
            let at = Address { link: self.link, channel: *number };
            if let Some(sink) = &mut channel.sink {
                sink.give_credit(at, out);
            }
            while channel.source.as_ref().is_some_and(Source::is_ready) && out.has_room() {
                channel.carry(at, out);
            }
        }
        self.all.retain(|_, channel| channel.source.is_some() || channel.sink.is_some());
    }

    /// Notes that nothing comes from the other end any more, or is taken there.
    pub fn end(&mut self, out: &mut Outbox) {
        for (number, channel) in &mut self.all {
            let at = Address { link: self.link, channel: *number };
            channel.source = None;
            channel.end(at, out);
            if channel.sink.is_some() {
                // There may be room again by now, and this the last time that anybody looks.
                channel.write(at, out);
            }
        }
    }
}
