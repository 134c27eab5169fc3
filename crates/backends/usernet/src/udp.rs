//! The guest's datagrams, by one socket of the host's for each of its flows.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use agentkernel_far::packets::LONGEST;

use crate::device::Outgoing;
use crate::packet::{self, Flow, Unreachable};

/// How many there are at once. One more ends that which was silent for longest.
pub const MOST: usize = 256;

/// How long one is silent that is of use: as long as others that translate addresses wait.
const SILENCE: Duration = Duration::from_secs(120);

/// How many datagrams are taken of one before others have their turn.
const TURN: usize = 32;

pub struct Datagrams {
    open: HashMap<Flow, Exchange>,
    /// Of no more than one datagram.
    buffer: Vec<u8>,
}

struct Exchange {
    socket: UdpSocket,
    used: Instant,
    /// The last datagram that went out, so that the guest can be told what it has met.
    last: Vec<u8>,
}

impl Datagrams {
    pub fn new() -> Self {
        Self { open: HashMap::new(), buffer: vec![0; usize::from(LONGEST)] }
    }

    /// Sends on what the guest has sent to one who is at `to`. What can't be sent at once is lost, as it
    /// may be in every network.
    pub fn send(
        &mut self,
        flow: Flow,
        to: SocketAddr,
        (payload, whole): (&[u8], &[u8]),
        out: &mut Outgoing,
    ) {
        if !self.open.contains_key(&flow) {
            match connect(to) {
                Ok(socket) => {
                    self.make_room();
                    let exchange = Exchange { socket, used: Instant::now(), last: Vec::new() };
                    self.open.insert(flow, exchange);
                }
                Err(error) => return tell(whole, &error, out),
            }
        }
        let Some(exchange) = self.open.get_mut(&flow) else { return };
        exchange.used = Instant::now();
        exchange.last.clear();
        exchange.last.extend(whole);
        // The first call may bring an error of an earlier datagram.
        for _ in 0..2 {
            match exchange.socket.send(payload) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    tell(whole, &error, out);
                }
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    return tell(whole, &error, out);
                }
                _ => return,
            }
        }
    }

    fn make_room(&mut self) {
        if self.open.len() < MOST {
            return;
        }
        let oldest = self.open.iter().min_by_key(|(_, exchange)| exchange.used);
        if let Some(oldest) = oldest.map(|(flow, _)| *flow) {
            self.open.remove(&oldest);
        }
    }

    pub fn sockets(&self) -> impl Iterator<Item = (Flow, BorrowedFd<'_>)> {
        self.open.iter().map(|(flow, exchange)| (*flow, exchange.socket.as_fd()))
    }

    /// Tells the guest what has come for one, as long as there is room.
    pub fn receive(&mut self, flow: &Flow, out: &mut Outgoing) {
        let Some(exchange) = self.open.get_mut(flow) else { return };
        for _ in 0..TURN {
            if out.is_full() {
                return;
            }
            match exchange.socket.recv(&mut self.buffer) {
                Ok(read) => {
                    exchange.used = Instant::now();
                    packet::datagram(flow, &self.buffer[..read], out);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => tell(&exchange.last, &error, out),
            }
        }
    }

    /// Ends what was silent for too long, and returns when it is time for the next.
    pub fn end_silent(&mut self) -> Option<Instant> {
        let now = Instant::now();
        self.open.retain(|_, exchange| now < exchange.used + SILENCE);
        self.open.values().map(|exchange| exchange.used + SILENCE).min()
    }
}

fn connect(to: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_nonblocking(true)?;
    socket.connect(to)?;
    Ok(socket)
}

fn tell(packet: &[u8], error: &io::Error, out: &mut Outgoing) {
    if let Some(why) = Unreachable::by(error) {
        packet::unreachable(packet, why, out);
    }
}
