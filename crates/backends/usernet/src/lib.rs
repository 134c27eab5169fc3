//! A network for a guest that has a tun device, by nothing but this process's own sockets.
//!
//! The guest's packets come over a stream (`agentkernel_far::packets`). Its connections end here, in a
//! stack of this process (smoltcp), and each goes on as a socket of the host's, as its flows of datagrams
//! do. So the guest reaches what this process's user reaches by TCP and UDP, it takes no privilege, and
//! nothing of it is left when this process ends: slirp4netns and passt do the same.
//!
//! # What a guest reaches
//!
//! Whatever the host does, its own addresses included, but not its **loopback**, on which services
//! listen that trust whoever reaches them ([`reach`]). Names are looked up by the host's name servers, wherever
//! those are, which the guest finds at addresses of its own network. Of ICMP it hears why nothing was
//! reached; pings, other protocols, packets in pieces and whatever is for many receivers are lost.
//! Nobody reaches the guest.
//!
//! A connection comes about for the guest when it has for the host: so who is refused, or finds
//! nobody, learns what the host has.
//!
//! # What a guest can do
//!
//! It is hostile. What it says that is no packet is lost, or ends its network. At most
//! [`tcp::MOST`] connections are open, of which [`tcp::OPENING`] may not have come about, and
//! [`udp::MOST`] flows of datagrams; what is under way in each direction of one is bounded, as is what the
//! guest does not take. One connection more is refused, one flow more ends another. Who reads nothing holds up
//! nobody but itself: the host's sockets are not read while there is no room.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

mod device;
mod packet;
mod reach;
mod tcp;
mod udp;

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use agentkernel_far::packets::ADDRESSES;
use agentkernel_sys::descriptor::{self, Interest};

use device::Device;
use packet::{Flow, Packet, Unreachable};
use tcp::Connections;
use udp::Datagrams;

pub use reach::{SETTINGS, guest_settings};

/// How many descriptors a network may take.
pub const DESCRIPTORS: usize = tcp::MOST + udp::MOST;

/// Is a guest's network, of whom packets come over `stream`, until that ends.
pub fn serve(stream: &OwnedFd) -> io::Result<()> {
    serve_by(stream, settings)
}

fn serve_by(stream: &OwnedFd, settings: fn() -> String) -> io::Result<()> {
    descriptor::set_nonblocking(stream.as_fd())?;
    let mut network = Network::new(settings)?;
    loop {
        match network.turn(stream) {
            Err(error) if is_end(&error) => return Ok(()),
            turned => turned?,
        }
    }
}

/// Whether the guest has gone.
fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

struct Network {
    device: Device,
    connections: Connections,
    datagrams: Datagrams,
    /// Reads the host's resolver settings.
    settings: fn() -> String,
}

/// What a socket of the host's belongs to.
enum Side {
    Connection(Flow),
    Datagrams(Flow),
}

impl Network {
    fn new(settings: fn() -> String) -> io::Result<Self> {
        let mut device = Device::default();
        let connections = Connections::new(&mut device)?;
        Ok(Self { device, connections, datagrams: Datagrams::new(), settings })
    }

    /// Sends what there is to send, waits for something to happen, and deals with it.
    fn turn(&mut self, stream: &OwnedFd) -> io::Result<()> {
        let soon = self.connections.send(&mut self.device);
        self.device.outgoing.send(stream.as_fd())?;
        let silent = self.datagrams.end_silent();
        let silent = silent.map(|at| at.saturating_duration_since(Instant::now()));
        let room = !self.device.outgoing.is_full();
        // Until the guest takes something, nothing more can be made for it.
        let soon = soon.filter(|_| room);
        let (hears, ready) = self.wait(stream, soon.into_iter().chain(silent).min())?;
        if hears && room {
            self.hear(stream)?;
        }
        for side in ready {
            match side {
                Side::Connection(flow) => self.connections.ready(&flow, &mut self.device),
                Side::Datagrams(flow) => self.datagrams.receive(&flow, &mut self.device.outgoing),
            }
        }
        Ok(())
    }

    /// Waits. Returns whether the guest has said something, or has gone, and which sockets are ready.
    fn wait(&self, stream: &OwnedFd, most: Option<Duration>) -> io::Result<(bool, Vec<Side>)> {
        let out = &self.device.outgoing;
        let guest = match (out.is_full(), out.is_empty()) {
            (true, _) => Interest::writable(stream.as_fd()),
            (false, false) => Interest::either(stream.as_fd()),
            (false, true) => Interest::readable(stream.as_fd()),
        };
        let (mut sides, mut interests) = (Vec::new(), vec![guest]);
        for (flow, interest) in self.connections.interests() {
            sides.push(Side::Connection(flow));
            interests.push(interest);
        }
        if !out.is_full() {
            for (flow, socket) in self.datagrams.sockets() {
                sides.push(Side::Datagrams(flow));
                interests.push(Interest::readable(socket));
            }
        }
        descriptor::poll(&mut interests, most)?;
        let (guest, sockets) = (interests[0], &interests[1..]);
        let ready = sides.into_iter().zip(sockets).filter(|(_, socket)| socket.is_ready());
        Ok((guest.is_ready(), ready.map(|(side, _)| side).collect()))
    }

    /// Takes what the guest has sent.
    fn hear(&mut self, stream: &OwnedFd) -> io::Result<()> {
        match self.device.incoming.fill(stream.as_fd()) {
            // It was only there to be written to.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            filled => filled?,
        }
        while let Some(range) = self.device.incoming.take_next()? {
            let Device { incoming, outgoing, .. } = &mut self.device;
            let bytes = incoming.packet(range.clone());
            match packet::read(bytes) {
                Some(Packet::Datagram { flow, payload }) if is_guests(&flow) => {
                    match reach::leads(flow.to, self.settings) {
                        Some(to) => self.datagrams.send(flow, to, (payload, bytes), outgoing),
                        None => packet::unreachable(bytes, Unreachable::Forbidden, outgoing),
                    }
                }
                Some(Packet::Segment { flow, opens, resets }) if is_guests(&flow) => {
                    if !opens || self.connections.knows(&flow) {
                        self.device.pass(range);
                        self.connections.segment(flow, resets, &mut self.device);
                        continue;
                    }
                    match reach::leads(flow.to, self.settings) {
                        Some(to) => {
                            let first = bytes.to_vec();
                            self.device.pass(range);
                            self.connections.begin(flow, to, first, &mut self.device);
                        }
                        None => packet::unreachable(bytes, Unreachable::Forbidden, outgoing),
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether a packet is from who the guest is.
fn is_guests(flow: &Flow) -> bool {
    ADDRESSES.iter().any(|(address, _)| *address == flow.from.ip())
}

/// The host's resolver settings as they are now. Without any its own name server is asked.
fn settings() -> String {
    fs::read_to_string(SETTINGS).unwrap_or_default()
}

#[cfg(test)]
mod tests;
