//! Packets of a network over a stream of bytes: each after its length, in two bytes, the higher one first.

use std::io::{self, Write};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;

use agentkernel_sys::descriptor::{self, Interest};
use agentkernel_sys::socket;

use crate::word::Bytes;

/// No packet is longer. The longer they are, the fewer there are.
pub const LONGEST: u16 = 65_520;

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
/// ends. Whoever does not take them at one end holds them up at the other.
pub fn carry(device: OwnedFd, stream: OwnedFd) -> io::Result<()> {
    descriptor::set_nonblocking(device.as_fd())?;
    let (device, stream) = (device.as_fd(), stream.as_fd());
    thread::scope(|scope| {
        let inward =
            thread::Builder::new().name("packets".into()).spawn_scoped(scope, move || {
                // Whatever has ended it, the other one is to end, too.
                let ended = inward(device, stream);
                let _ = socket::close_for_all(stream);
                ended
            })?;
        let ended = outward(device, stream);
        let _ = socket::close_for_all(stream);
        // That it was closed is how it ended.
        let _ = inward.join();
        ended
    })
}

fn inward(device: BorrowedFd<'_>, stream: BorrowedFd<'_>) -> io::Result<()> {
    let mut incoming = Incoming::default();
    loop {
        while let Some(range) = incoming.take_next()? {
            // What it does not take is lost, as in every network.
            let _ = descriptor::write(device, incoming.packet(range));
        }
        incoming.fill(stream)?;
    }
}

fn outward(device: BorrowedFd<'_>, stream: BorrowedFd<'_>) -> io::Result<()> {
    let mut buffer = vec![0; ROOM];
    loop {
        let mut ready = [Interest::readable(device), Interest::gone(stream)];
        descriptor::poll(&mut ready, None)?;
        if ready[1].is_ready() {
            return Ok(());
        }
        let mut filled = 0;
        while buffer.len() - filled >= HEAD + usize::from(LONGEST) {
            let (head, rest) = buffer[filled..].split_at_mut(HEAD);
            let read = match descriptor::read(device, &mut rest[..usize::from(LONGEST)]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                read => read?,
            };
            // It was given room for no more.
            head.copy_from_slice(&u16::try_from(read).unwrap_or(LONGEST).to_be_bytes());
            filled += HEAD + read;
        }
        Bytes(stream).write_all(&buffer[..filled])?;
    }
}

#[cfg(test)]
mod tests {
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
