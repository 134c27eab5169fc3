//! The packets of one guest, as the stack's device: those that come are handed to it one by one, and those
//! that it makes wait for the guest to take them.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;

use agentkernel_far::packets::{Incoming, LONGEST};
use agentkernel_sys::descriptor;
use smoltcp::phy::{self, Checksum, ChecksumCapabilities, DeviceCapabilities, Medium};
use smoltcp::time::Instant;

/// How much may wait for the guest before nothing more is made for it, but for a packet or two.
const ROOM: usize = 512 << 10;

#[derive(Default)]
pub struct Device {
    pub incoming: Incoming,
    pub outgoing: Outgoing,
    next: Next,
}

/// What is to be handed to the stack.
#[derive(Default)]
enum Next {
    #[default]
    Nothing,
    Come(Range<usize>),
    Held(Vec<u8>),
}

impl Device {
    /// Has the stack receive this one, which has just come.
    pub fn pass(&mut self, packet: Range<usize>) {
        self.next = Next::Come(packet);
    }

    /// The same of one that was held back.
    pub fn pass_held(&mut self, packet: Vec<u8>) {
        self.next = Next::Held(packet);
    }
}

/// What waits for the guest.
#[derive(Default)]
pub struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outgoing {
    pub fn is_full(&self) -> bool {
        self.bytes.len() - self.sent >= ROOM
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.len() == self.sent
    }

    /// Adds a packet, which `fill` writes.
    pub fn packet<R>(&mut self, length: u16, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        self.bytes.extend(length.to_be_bytes());
        let start = self.bytes.len();
        self.bytes.resize(start + usize::from(length), 0);
        fill(&mut self.bytes[start..])
    }

    /// Sends what the guest takes at once.
    pub fn send(&mut self, to: BorrowedFd<'_>) -> io::Result<()> {
        while !self.is_empty() {
            match descriptor::write(to, &self.bytes[self.sent..]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                written => self.sent += written?,
            }
        }
        if self.is_empty() {
            self.bytes.clear();
            self.sent = 0;
        } else if self.sent >= ROOM {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        Ok(())
    }
}

/// The guest's kernel sums what it sends up, and checks what it gets. Nothing is lost between, so only the
/// latter makes a difference.
pub fn sums() -> ChecksumCapabilities {
    let mut sums = ChecksumCapabilities::default();
    for sum in [&mut sums.ipv4, &mut sums.tcp, &mut sums.udp, &mut sums.icmpv4, &mut sums.icmpv6] {
        *sum = Checksum::Tx;
    }
    sums
}

impl phy::Device for Device {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, Sending<'_>)> {
        let received = match std::mem::take(&mut self.next) {
            Next::Nothing => return None,
            Next::Come(range) => Received::Come(self.incoming.packet(range)),
            Next::Held(packet) => Received::Held(packet),
        };
        Some((received, Sending(&mut self.outgoing)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        (!self.outgoing.is_full()).then_some(Sending(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut all = DeviceCapabilities::default();
        all.medium = Medium::Ip;
        all.max_transmission_unit = usize::from(LONGEST);
        all.checksum = sums();
        all
    }
}

pub enum Received<'a> {
    Come(&'a [u8]),
    Held(Vec<u8>),
}

impl phy::RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        match self {
            Self::Come(packet) => take(packet),
            Self::Held(packet) => take(&packet),
        }
    }
}

pub struct Sending<'a>(&'a mut Outgoing);

impl phy::TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        // It has been told that none is longer.
        match u16::try_from(length) {
            Ok(length) if length <= LONGEST => self.0.packet(length, fill),
            _ => fill(&mut vec![0; length]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use agentkernel_far::packets::HEAD;
    use agentkernel_sys::socket;

    use super::*;

    #[test]
    fn what_a_guest_does_not_take_is_bounded() {
        let (ours, _theirs) = socket::pair().unwrap();
        descriptor::set_nonblocking(ours.as_fd()).unwrap();
        let mut outgoing = Outgoing::default();
        for _ in 0..10_000 {
            if outgoing.is_full() {
                break;
            }
            outgoing.packet(1000, |_| ());
            outgoing.send(ours.as_fd()).unwrap();
        }
        assert!(outgoing.is_full());
        assert!(outgoing.bytes.len() < 2 * ROOM + HEAD + 1000, "{}", outgoing.bytes.len());
    }
}
