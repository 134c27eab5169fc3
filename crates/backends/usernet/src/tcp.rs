//! The guest's connections: each ends in the stack here, and goes on as a socket of the host's.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use agentkernel_sys::descriptor::Interest;
use agentkernel_sys::{machine, socket};
use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::HardwareAddress;

use crate::device::Device;
use crate::packet::{self, Flow, Unreachable};

/// How many there are at once, and how many of them may not have come about yet.
pub const MOST: usize = 512;
pub const OPENING: usize = 64;

/// What is under way of each direction of each. More than two packets, so that one is read while the other
/// one is written; none of it takes memory before it is used.
const ROOM: usize = 256 << 10;

/// The longest packet with which a guest opens one: an address, and all options that there may be.
const LONGEST_FIRST: usize = 256;

/// How long a guest may take to go on with one that it has opened.
const PATIENCE: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(30);

pub struct Connections {
    stack: Interface,
    sockets: SocketSet<'static>,
    open: HashMap<Flow, Connection>,
}

struct Connection {
    host: TcpStream,
    stage: Stage,
}

enum Stage {
    /// The host's socket is about to be connected, and the guest's first packet waits for how it turns out.
    Opening {
        first: Vec<u8>,
    },
    Open(Ends),
}

/// An open one's ends.
struct Ends {
    guest: SocketHandle,
    since: Instant,
    /// Whether the other one has been told that this one has nothing more to say.
    host_ended: bool,
    guest_ended: bool,
}

impl Connections {
    pub fn new(device: &mut Device) -> io::Result<Self> {
        let mut seed = [0; 8];
        machine::random(&mut seed)?;
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = u64::from_ne_bytes(seed);
        let mut stack = Interface::new(config, device, Instant::now());
        // Whoever the guest speaks to, it speaks to the stack.
        stack.set_any_ip(true);
        Ok(Self { stack, sockets: SocketSet::new(Vec::new()), open: HashMap::new() })
    }

    /// Has the stack take the packet that the device has next.
    fn take(&mut self, device: &mut Device) {
        self.stack.poll_ingress_single(Instant::now(), device, &mut self.sockets);
    }

    /// Takes a segment of the guest's, which is the device's next packet, for nobody who is known as yet.
    /// The stack refuses what belongs to no connection.
    pub fn segment(&mut self, flow: Flow, resets: bool, device: &mut Device) {
        match self.open.get(&flow).map(|connection| &connection.stage) {
            Some(Stage::Opening { .. }) if resets => drop(self.open.remove(&flow)),
            // It can't wait for what is being waited for already.
            Some(Stage::Opening { .. }) => {}
            Some(Stage::Open(_)) | None => {
                self.take(device);
                self.go_on(&flow, false);
            }
        }
    }

    /// Whether anything is known of a flow.
    pub fn knows(&self, flow: &Flow) -> bool {
        self.open.contains_key(flow)
    }

    /// Opens one to who is at `to`, for the guest that has sent `first`, which is the device's next packet.
    pub fn begin(&mut self, flow: Flow, to: SocketAddr, first: Vec<u8>, device: &mut Device) {
        let opening = |connection: &&Connection| matches!(connection.stage, Stage::Opening { .. });
        if self.open.len() >= MOST {
            return self.take(device);
        }
        if first.len() > LONGEST_FIRST || self.open.values().filter(opening).count() >= OPENING {
            // The guest says it once more.
            return;
        }
        match connect(to) {
            Ok(host) => {
                let stage = Stage::Opening { first };
                self.open.insert(flow, Connection { host, stage });
            }
            Err(error) => self.refuse(first, &error, device),
        }
    }

    /// Tells the guest that one has not come about.
    fn refuse(&mut self, first: Vec<u8>, error: &io::Error, device: &mut Device) {
        match Unreachable::by(error) {
            None | Some(Unreachable::Port) => {
                device.pass_held(first);
                self.take(device);
            }
            Some(why) => packet::unreachable(&first, why, &mut device.outgoing),
        }
    }

    /// What is wanted of the host's sockets.
    pub fn interests(&self) -> impl Iterator<Item = (Flow, Interest<'_>)> {
        self.open.iter().map(|(flow, connection)| {
            let host = connection.host.as_fd();
            let interest = match &connection.stage {
                Stage::Opening { .. } => Interest::writable(host),
                Stage::Open(ends) => {
                    let guest = self.sockets.get::<Socket>(ends.guest);
                    // What the host has not taken yet is still there.
                    match (!ends.host_ended && guest.can_send(), guest.recv_queue() > 0) {
                        (true, true) => Interest::either(host),
                        (true, false) => Interest::readable(host),
                        (false, true) => Interest::writable(host),
                        (false, false) => Interest::none(),
                    }
                }
            };
            (*flow, interest)
        })
    }

    /// Goes on with one whose socket is ready.
    pub fn ready(&mut self, flow: &Flow, device: &mut Device) {
        match self.open.get_mut(flow) {
            Some(Connection { host, stage: Stage::Opening { first } }) => {
                let first = std::mem::take(first);
                match host.take_error().and_then(|error| error.map_or(Ok(()), Err)) {
                    Ok(()) => self.accept(flow, first, device),
                    Err(error) => {
                        self.open.remove(flow);
                        self.refuse(first, &error, device);
                    }
                }
            }
            _ => self.go_on(flow, true),
        }
    }

    /// Has the stack accept what the guest has opened.
    fn accept(&mut self, flow: &Flow, first: Vec<u8>, device: &mut Device) {
        let room = || SocketBuffer::new(vec![0; ROOM]);
        let mut socket = Socket::new(room(), room());
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        if socket.listen(flow.to).is_err() {
            self.open.remove(flow);
            return;
        }
        let guest = self.sockets.add(socket);
        let since = Instant::now();
        if let Some(connection) = self.open.get_mut(flow) {
            let ends = Ends { guest, since, host_ended: false, guest_ended: false };
            connection.stage = Stage::Open(ends);
        }
        device.pass_held(first);
        self.take(device);
    }

    /// Passes on what each end of an open one has said; `ready` is whether the host's may have said anything.
    fn go_on(&mut self, flow: &Flow, ready: bool) {
        let Some(Connection { host, stage: Stage::Open(ends) }) = self.open.get_mut(flow) else {
            return;
        };
        let guest = self.sockets.get_mut::<Socket>(ends.guest);
        let passed = ends.pass_out(guest, host).and_then(|()| match ready {
            true => ends.pass_in(guest, host),
            false => Ok(()),
        });
        if passed.is_err() {
            // As it has ended for the host, so it does for the guest.
            guest.abort();
        }
    }

    /// Has the stack send what it has to, and puts away what is over. Returns when it is time for more.
    pub fn send(&mut self, device: &mut Device) -> Option<Duration> {
        let now = Instant::now();
        self.open.retain(|_, connection| {
            let Stage::Open(ends) = &connection.stage else { return true };
            let guest = self.sockets.get_mut::<Socket>(ends.guest);
            if guest.state() == State::SynReceived && now > ends.since + PATIENCE {
                guest.abort();
            }
            true
        });
        // Each turn sends a packet of each; the device takes no more than there is room for.
        while !device.outgoing.is_full()
            && self.stack.poll_egress(now, device, &mut self.sockets)
                == PollResult::SocketStateChanged
        {}
        self.open.retain(|_, connection| {
            let Stage::Open(ends) = &connection.stage else { return true };
            let state = self.sockets.get::<Socket>(ends.guest).state();
            let is_over = matches!(state, State::Closed | State::Listen | State::TimeWait);
            if is_over {
                if !(ends.host_ended && ends.guest_ended) {
                    // It was broken off. If it can't be told so, it is closed.
                    let _ = socket::break_off(connection.host.as_fd());
                }
                self.sockets.remove(ends.guest);
            }
            !is_over
        });
        self.stack.poll_delay(now, &self.sockets).map(Duration::from)
    }
}

impl Ends {
    /// Passes on what the guest has said, as far as the host takes it.
    fn pass_out(&mut self, guest: &mut Socket<'_>, mut host: &TcpStream) -> io::Result<()> {
        while guest.can_recv() {
            let written = guest.recv(|bytes| match host.write(bytes) {
                Ok(written) => (written, Ok(written)),
                Err(error) => (0, Err(error)),
            });
            match written {
                Ok(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(written) => drop(written?),
                // It has said all.
                Err(_) => break,
            }
        }
        let is_new = matches!(guest.state(), State::Listen | State::SynReceived);
        if !is_new && !guest.may_recv() && !self.guest_ended && guest.state() != State::Closed {
            self.guest_ended = true;
            // Who has gone already is heard of below.
            let _ = host.shutdown(Shutdown::Write);
        }
        Ok(())
    }

    /// Passes on what the host has said, as far as there is room for it.
    fn pass_in(&mut self, guest: &mut Socket<'_>, mut host: &TcpStream) -> io::Result<()> {
        while guest.can_send() && !self.host_ended {
            let read = guest.send(|room| match host.read(room) {
                Ok(read) => (read, Ok(read)),
                Err(error) => (0, Err(error)),
            });
            match read {
                Ok(Ok(0)) => {
                    self.host_ended = true;
                    guest.close();
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(read) => drop(read?),
                Err(_) => break,
            }
        }
        Ok(())
    }
}

/// A socket that will be connected.
fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let host = socket::connect_to(to)?;
    // The guest has decided already what to send at once.
    host.set_nodelay(true)?;
    Ok(host)
}
