//! A client of a living place, as its agent sees it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use agentkernel_protocol::{FromAgent, LongDecoder, ToAgent, VERSION};
use agentkernel_sys::{process, socket};

/// More descriptors than any message carries need not wait for theirs.
const MOST_WAITING: usize = 2 * socket::MAX_DESCRIPTORS;

/// One client's connection.
pub(super) struct Link {
    /// Unlike its place in a list, this stays the same.
    pub id: u32,
    fd: OwnedFd,
    decoder: LongDecoder,
    /// Descriptors that came for messages that are not whole yet, in their order.
    waiting: VecDeque<OwnedFd>,
    /// Whether nothing more can be said or heard.
    pub broken: bool,
    /// Whether it has ever said anything. One that has not may be a proxy's, opened for whoever comes next.
    pub spoke: bool,
}

impl Link {
    /// Greets a client.
    pub fn greet(id: u32, fd: OwnedFd) -> Self {
        let decoder = LongDecoder::default();
        let mut link =
            Self { id, fd, decoder, waiting: VecDeque::new(), broken: false, spoke: false };
        link.say(FromAgent::Hello { version: VERSION, at: process::clock() }, None);
        link
    }

    /// Says something. A client that leaves no room for so little does not listen, and is lost.
    pub fn say(&mut self, word: FromAgent, descriptor: Option<BorrowedFd<'_>>) {
        let descriptors = descriptor.as_slice();
        let sent = socket::send_now(self.fd.as_fd(), word.encode().as_bytes(), descriptors);
        self.broken |= sent.is_err();
    }

    /// Says several things at once, for each by itself takes much of the room that a link has.
    pub fn say_all(&mut self, words: &[FromAgent]) {
        let frames: Vec<_> = words.iter().map(FromAgent::encode).collect();
        let bytes: Vec<u8> = frames.iter().flat_map(|frame| frame.as_bytes()).copied().collect();
        self.broken |= socket::send_now(self.fd.as_fd(), &bytes, &[]).is_err();
    }

    /// Hears what there is to hear. A client that talks nonsense is lost.
    pub fn hear(&mut self) -> Vec<ToAgent> {
        let mut orders = Vec::new();
        self.broken |= !self.try_hear(&mut orders).unwrap_or(false);
        orders
    }

    /// Returns false when the client has gone.
    fn try_hear(&mut self, orders: &mut Vec<ToAgent>) -> io::Result<bool> {
        let mut buffer = [0; 16 * 1024];
        let (read, descriptors) = socket::receive(self.fd.as_fd(), &mut buffer)?;
        self.spoke |= read > 0;
        self.waiting.extend(descriptors.into_iter().flatten());
        if self.waiting.len() > MOST_WAITING {
            return Ok(false);
        }
        let mut rest = &buffer[..read];
        while !rest.is_empty() {
            let order = self.decoder.next(&mut rest, ToAgent::parse).map_err(io::Error::other)?;
            orders.extend(order);
        }
        Ok(read > 0)
    }

    /// The next `N` descriptors that came along.
    pub fn take<const N: usize>(&mut self) -> Option<[OwnedFd; N]> {
        if self.waiting.len() < N {
            self.broken = true;
            return None;
        }
        let taken: Vec<OwnedFd> = self.waiting.drain(..N).collect();
        taken.try_into().ok()
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
