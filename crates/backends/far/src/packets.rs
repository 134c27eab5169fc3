//! Packets of a network over a stream of bytes: each after its length, in two bytes, the higher one first.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use agentkernel_sys::descriptor::{self, Interest};

/// No packet is longer. The longer they are, the fewer there are.
pub const LONGEST: u16 = 65_520;

/// The own addresses of who has the device, and how long the prefixes of their networks are. The first is of a
/// network that nobody routes (RFC 7335), so that none of the host's is hidden by it; the other is nobody
/// else's either, and private (RFC 4193), so that programs prefer version 4 where they have a choice.
pub const ADDRESSES: [(IpAddr, u8); 2] = [
    (IpAddr::V4(Ipv4Addr::new(192, 0, 0, 2)), 29),
    (IpAddr::V6(Ipv6Addr::new(0xfd61, 0x6b6e, 0x7573, 0, 0, 0, 0, 2)), 64),
];

/// What comes before each.
pub const HEAD: usize = 2;

/// What is under way in a process, of each direction.
const ROOM: usize = 256 << 10;

/// Packets that come out of a stream.
pub struct Incoming {
    buffer: Vec<u8>,
    unread: Range<usize>,
}

impl Default for Incoming {
    fn default() -> Self {
        Self { buffer: vec![0; ROOM], unread: 0..0 }
    }
}

impl Incoming {
    /// Reads once, if there is room for one packet more. The ranges that were returned are of no use then.
    pub fn fill(&mut self, stream: BorrowedFd<'_>) -> io::Result<()> {
        if self.unread.is_empty() {
            self.unread = 0..0;
        } else if self.buffer.len() - self.unread.end < HEAD + usize::from(LONGEST) {
            self.buffer.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
        }
        if self.unread.end == self.buffer.len() {
            return Ok(());
        }
        match descriptor::read(stream, &mut self.buffer[self.unread.end..])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.unread.end += read;
                Ok(())
            }
        }
    }

    /// Where the next whole one is, if there is one. One that is too long is an error, after which nothing
    /// can be read.
    pub fn take_next(&mut self) -> io::Result<Option<Range<usize>>> {
        let unread = &self.buffer[self.unread.clone()];
        let Some((head, rest)) = unread.split_first_chunk::<HEAD>() else { return Ok(None) };
        let length = u16::from_be_bytes(*head);
        if length > LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if rest.len() < usize::from(length) {
            return Ok(None);
        }
        let start = self.unread.start + HEAD;
        self.unread.start = start + usize::from(length);
        Ok(Some(start..self.unread.start))
    }

    /// One of them.
    pub fn packet(&self, range: Range<usize>) -> &[u8] {
        self.buffer.get(range).unwrap_or_default()
    }
}

/// Carries packets between an interface (`agentkernel_sys::network::tun`) and a stream, until one of them
/// ends, or `end` can be read. Who does not take them at the other end of the stream holds up what goes there,
/// and nothing else.
pub fn carry(device: &OwnedFd, stream: &OwnedFd, end: BorrowedFd<'_>) -> io::Result<()> {
    let (device, stream) = (device.as_fd(), stream.as_fd());
    descriptor::set_nonblocking(device)?;
    descriptor::set_nonblocking(stream)?;
    let (mut incoming, mut buffer) = (Incoming::default(), vec![0; ROOM]);
    let mut unsent = 0..0;
    loop {
        let (from, to) = match unsent.is_empty() {
            true => (Interest::readable(device), Interest::readable(stream)),
            false => (Interest::none(), Interest::either(stream)),
        };
        let mut ready = [from, to, Interest::readable(end)];
        descriptor::poll(&mut ready, None)?;
        let [from, to, end] = ready.map(|interest| interest.is_ready());
        if end {
            return Ok(());
        }
        if from {
            unsent = 0..collect(device, &mut buffer)?;
        }
        if to {
            unless_waiting(incoming.fill(stream))?;
            while let Some(range) = incoming.take_next()? {
                // What it does not take is lost, as in every network.
                let _ = descriptor::write(device, incoming.packet(range));
            }
        }
        if !unsent.is_empty() {
            let sent = descriptor::write(stream, buffer.get(unsent.clone()).unwrap_or_default());
            unsent.start += unless_waiting(sent)?;
        }
    }
}

/// As many packets of the device's as there are, and as there is room for.
fn collect(device: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    const LONG: usize = LONGEST as usize;
    let mut filled = 0;
    while let Some((head, rest)) = buffer[filled..].split_first_chunk_mut::<HEAD>() {
        let Some(rest) = rest.get_mut(..LONG) else { break };
        let read = unless_waiting(descriptor::read(device, rest))?;
        if read == 0 {
            break;
        }
        // It was given room for no more.
        *head = (read as u16).to_be_bytes();
        filled += HEAD + read;
    }
    Ok(filled)
}

/// Nothing, of what has to wait.
fn unless_waiting<T: Default>(done: io::Result<T>) -> io::Result<T> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(T::default()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use agentkernel_sys::socket;

    use super::*;

    #[test]
    fn packets_come_out_whole_however_they_were_cut() {
        let (ours, theirs) = socket::pair().unwrap();
        let mut incoming = Incoming::default();
        let mut heard = Vec::new();
        let packets: [&[u8]; 3] = [b"one", b"", &[7; 4000]];
        let all: Vec<u8> = packets
            .iter()
            .flat_map(|packet| [&(packet.len() as u16).to_be_bytes()[..], packet].concat())
            .collect();
        for piece in all.chunks(5) {
            socket::send(theirs.as_fd(), piece, &[]).unwrap();
            incoming.fill(ours.as_fd()).unwrap();
            while let Some(range) = incoming.take_next().unwrap() {
                heard.push(incoming.packet(range).to_vec());
            }
        }
        assert_eq!(heard, packets);
    }

    #[test]
    fn a_packet_that_is_too_long_ends_the_stream() {
        let (ours, theirs) = socket::pair().unwrap();
        let mut incoming = Incoming::default();
        socket::send(theirs.as_fd(), &(LONGEST + 1).to_be_bytes(), &[]).unwrap();
        incoming.fill(ours.as_fd()).unwrap();
        assert_eq!(incoming.take_next().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
