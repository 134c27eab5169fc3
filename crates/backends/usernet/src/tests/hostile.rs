//! What only the kernel of a hostile guest could send.

use std::net::Ipv6Addr;

use super::*;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ACK: u8 = 16;
const FIN: u8 = 1;

const FROM: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 2);
const FROM_6: Ipv6Addr = Ipv6Addr::new(0xfd61, 0x6b6e, 0x7573, 0, 0, 0, 0, 2);

/// Every form of an address of the host's loopback, and of the guest's own network.
const LOOPBACK: [&str; 22] = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "0.0.0.1",
    "192.0.0.0",
    "192.0.0.1",
    "192.0.0.2",
    "192.0.0.3",
    "192.0.0.5",
    "192.0.0.7",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:0.0.0.0",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::7f00:1",
    "2002:7f00:1::",
    "2002:7f00:1::7f00:1",
    "fd61:6b6e:7573::1",
    "fe80::5efe:7f00:1",
];

/// What is inside of an IP packet, with whatever stands between as `extra`: options of version 4, or headers of
/// version 6, of which the first is a `next`.
fn packet((from, to): (IpAddr, SocketAddr), (next, extra): (u8, &[u8]), inner: &[u8]) -> Vec<u8> {
    let length = (extra.len() + inner.len()) as u16;
    let head = match (from, to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let words = 0x45 + (extra.len() / 4) as u8;
            let [high, low] = (length + 20).to_be_bytes();
            let head = [words, 0, high, low, 0, 7, 0, 0, 64, next, 0, 0];
            [&head[..], &from.octets(), &to.octets()].concat()
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let [high, low] = length.to_be_bytes();
            let head = [0x60, 0, 0, 0, high, low, next, 64];
            [&head[..], &from.octets(), &to.octets()].concat()
        }
        other => panic!("of two families: {other:?}"),
    };
    [&head, extra, inner].concat()
}

fn tcp(to: SocketAddr, flags: u8) -> Vec<u8> {
    let [high, low] = to.port().to_be_bytes();
    vec![0x80, 1, high, low, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]
}

fn udp(to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let [high, low] = to.port().to_be_bytes();
    let length = (payload.len() + 8) as u16;
    [&[0x80, 1, high, low], &length.to_be_bytes()[..], &[0, 0], payload].concat()
}

/// The guest's own address, of the family of this one.
fn guest_for(to: SocketAddr) -> IpAddr {
    if to.is_ipv4() { FROM.into() } else { FROM_6.into() }
}

/// A segment and a datagram to there.
fn both(from: IpAddr, to: SocketAddr) -> [Vec<u8>; 2] {
    let ends = (from, to);
    [packet(ends, (TCP, &[]), &tcp(to, SYN)), packet(ends, (UDP, &[]), &udp(to, b"escaped"))]
}

fn open(network: &Network) -> usize {
    network.connections.interests().count() + network.datagrams.sockets().count()
}

/// Servers by TCP and UDP at an address, whom nobody is to reach.
struct Unreached(TcpListener, UdpSocket);

impl Unreached {
    fn at(address: &str, port: u16) -> Option<Self> {
        let address: IpAddr = address.parse().unwrap();
        let listener = TcpListener::bind((address, port)).ok()?;
        let socket = UdpSocket::bind((address, listener.local_addr().unwrap().port())).ok()?;
        listener.set_nonblocking(true).unwrap();
        socket.set_nonblocking(true).unwrap();
        Some(Self(listener, socket))
    }

    fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    #[track_caller]
    fn are_alone(&self) {
        assert_eq!(self.0.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(self.1.recv(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}

/// Servers on each loopback that this host has, on one port.
fn on_loopbacks() -> (Vec<Unreached>, u16) {
    let first = Unreached::at("127.0.0.1", 0).unwrap();
    let port = first.port();
    let others = ["127.255.255.254", "::1"].into_iter();
    let others = others.filter_map(|address| Unreached::at(address, port));
    (others.chain([first]).collect(), port)
}

#[test]
fn no_form_of_an_address_leads_to_the_hosts_loopback() {
    let (servers, port) = on_loopbacks();
    let mut network = Network::new(|| "nameserver 127.0.0.1\n".into()).unwrap();
    for address in LOOPBACK {
        let to = SocketAddr::new(address.parse().unwrap(), port);
        heard(&mut network, both(guest_for(to), to));
        assert_eq!(open(&network), 0, "{address}");
    }
    servers.iter().for_each(Unreached::are_alone);
}

#[test]
fn a_forged_source_is_nobodys() {
    let own = own_address().unwrap_or(Ipv4Addr::new(192, 0, 2, 1));
    let server = Unreached::at(&own.to_string(), 0)
        .unwrap_or_else(|| Unreached::at("127.0.0.1", 0).unwrap());
    let to = SocketAddr::new(own.into(), server.port());
    let to_6 = SocketAddr::new(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(), 9);
    let mut network = Network::new(NO_SERVERS).unwrap();
    for from in ["127.0.0.1", "0.0.0.0", "192.0.0.1", "192.0.0.3", "10.0.2.15", "255.255.255.255"] {
        heard(&mut network, both(from.parse().unwrap(), to));
    }
    heard(&mut network, both(own.into(), to));
    for from in ["::1", "::", "fe80::2", "fd61:6b6e:7573::1", "::ffff:192.0.0.2", "ff02::1"] {
        heard(&mut network, both(from.parse().unwrap(), to_6));
    }
    // Of who is nobody no word comes back.
    assert_eq!(open(&network), 0);
    assert!(network.device.outgoing.is_empty());
    server.are_alone();
}

#[test]
fn pieces_and_headers_in_between_lead_nowhere() {
    let own = own_address().unwrap_or(Ipv4Addr::new(192, 0, 2, 1));
    let to = SocketAddr::new(own.into(), 9);
    let to_6 = SocketAddr::new(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(), 9);
    let mut network = Network::new(NO_SERVERS).unwrap();
    for inner in [(TCP, tcp(to, SYN)), (UDP, udp(to, b"escaped"))] {
        let (protocol, inner) = inner;
        // The first of many, one that overlaps it, the last one, and one of nowhere.
        for [high, low] in [[0x20, 0], [0x20, 1], [0, 1], [0x3f, 0xff]] {
            let mut piece = packet((FROM.into(), to), (protocol, &[]), &inner);
            [piece[6], piece[7]] = [high, low];
            heard(&mut network, [piece]);
        }
        // By way of, a piece that is whole, options for all who pass it on, and for the last one; and many.
        for (next, header) in [(43, 0), (44, 0), (0, 0), (60, 0), (43, 2), (51, 0), (50, 0), (4, 0)]
        {
            let mut extra = [protocol, header, 0, 0, 0, 0, 0, 0].repeat(usize::from(header) + 1);
            extra[0] = protocol;
            heard(&mut network, [packet((FROM_6.into(), to_6), (next, &extra), &inner)]);
        }
        let chain =
            [[60_u8, 0, 1, 4, 0, 0, 0, 0].repeat(4_000), vec![protocol, 0, 1, 4, 0, 0, 0, 0]];
        heard(&mut network, [packet((FROM_6.into(), to_6), (60, &chain.concat()), &inner)]);
        // A packet within a packet.
        let within = packet((FROM.into(), to), (protocol, &[]), &inner);
        for around in [4, 41, 47, 94, 137] {
            heard(&mut network, [packet((FROM.into(), to), (around, &[]), &within)]);
        }
    }
    assert_eq!(open(&network), 0);
    assert!(network.device.outgoing.is_empty());
}

#[test]
fn options_lead_to_nobody_else() {
    let Some(own) = own_address() else { return };
    let (loopbacks, port) = on_loopbacks();
    let listener = TcpListener::bind((own, port)).unwrap();
    let mut network = Network::new(NO_SERVERS).unwrap();
    let to = SocketAddr::new(own.into(), port);
    // Loose and strict ways by the loopback, one that has been gone already, and a record of the way.
    for (kind, at) in [(131, 4), (137, 4), (131, 8), (7, 4)] {
        let options = [1, kind, 7, at, 127, 0, 0, 1];
        heard(&mut network, [packet((FROM.into(), to), (TCP, &options), &tcp(to, SYN))]);
    }
    assert_eq!(network.connections.interests().count(), 1);
    assert_eq!(listener.accept().unwrap().0.local_addr().unwrap(), to);
    loopbacks.iter().for_each(Unreached::are_alone);
}

#[test]
fn packets_of_any_length_are_taken_or_lost() {
    let Some(own) = own_address() else { return };
    let server = UdpSocket::bind((own, 0)).unwrap();
    let to = server.local_addr().unwrap();
    let mut network = Network::new(NO_SERVERS).unwrap();
    let longest = usize::from(packets::LONGEST);
    let mut all = vec![vec![], vec![0x45], vec![0x60], vec![0xff; longest], vec![0; longest]];
    // It says that it is longer, or shorter, than it is: the whole of it, and what is in it.
    for (at, value) in [(2, 0), (2, 20), (2, 29), (2, 0xffff), (24, 0), (24, 7), (24, 0xffff)] {
        let mut lies = packet((FROM.into(), to), (UDP, &[]), &udp(to, b"escaped"));
        lies[at..at + 2].copy_from_slice(&u16::to_be_bytes(value));
        all.push(lies);
    }
    // Its header is longer than it is, or shorter than any.
    for words in [0x40, 0x44, 0x4f] {
        let mut lies = packet((FROM.into(), to), (UDP, &[]), &udp(to, b"escaped"));
        lies[0] = words;
        all.push(lies);
    }
    heard(&mut network, all);
    assert_eq!(open(&network), 0);
    let payload = content(longest - 28);
    heard(&mut network, [packet((FROM.into(), to), (UDP, &[]), &udp(to, &payload))]);
    let mut buffer = vec![0; 65_536];
    let read = server.recv(&mut buffer).unwrap();
    assert!(buffer[..read] == payload, "{read} bytes");
}

#[test]
fn who_sends_and_never_reads_gets_no_memory_by_that() {
    let (ours, theirs) = socket::pair().unwrap();
    for end in [&ours, &theirs] {
        descriptor::set_nonblocking(end.as_fd()).unwrap();
    }
    let mut network = Network::new(NO_SERVERS).unwrap();
    // What answers say is twice as long as this.
    let to = "[::1]:9".parse().unwrap();
    let whole = packet((FROM_6.into(), to), (UDP, &[]), &udp(to, b""));
    let framed = [&(whole.len() as u16).to_be_bytes()[..], &whole].concat().repeat(1_000);
    let mut unsent = &framed[..];
    // As a turn does it.
    while !network.device.outgoing.is_full() {
        while let Ok(sent) = descriptor::write(theirs.as_fd(), unsent) {
            unsent = if sent == unsent.len() { &framed } else { &unsent[sent..] };
        }
        network.hear(&ours).unwrap();
        network.device.outgoing.send(ours.as_fd()).unwrap();
    }
    let mut waiting = 0;
    while !network.device.outgoing.is_empty() {
        network.device.outgoing.send(ours.as_fd()).unwrap();
        waiting += descriptor::read(theirs.as_fd(), &mut vec![0; 1 << 20]).unwrap_or_default();
    }
    assert!(waiting < 2 << 20, "{waiting} bytes");
}

#[test]
fn an_opening_that_the_stack_does_not_take_leaves_nothing_open() {
    let Some((listener, address)) = listen() else { return };
    let mut network = Network::new(NO_SERVERS).unwrap();
    let ends = (FROM.into(), address);
    // It ends what it begins; and it has options of no sense.
    let mut garbled = tcp(address, SYN);
    garbled[12] = 0x60;
    garbled.extend([2, 0, 2, 1]);
    for inner in [tcp(address, SYN | FIN), garbled] {
        heard(&mut network, [packet(ends, (TCP, &[]), &inner)]);
        listener.accept().unwrap();
        let flows: Vec<_> = network.connections.interests().map(|(flow, _)| flow).collect();
        for flow in flows {
            network.connections.ready(&flow, &mut network.device);
        }
        network.connections.send(&mut network.device);
        assert_eq!(open(&network), 0);
    }
    // What belongs to none is refused, and opens none.
    heard(
        &mut network,
        [ACK, FIN | ACK, SYN | ACK, 0].map(|flags| packet(ends, (TCP, &[]), &tcp(address, flags))),
    );
    assert_eq!(open(&network), 0);
}

#[test]
fn a_storm_of_queries_is_bounded_and_its_end_answered() {
    const SERVER: &str = "127.7.7.54:53";
    let server = match UdpSocket::bind(SERVER) {
        Ok(server) => server,
        Err(why) => return eprintln!("skipped: no name server can be had: {why}"),
    };
    let mut network = Network::new(|| "nameserver 127.7.7.54\n".into()).unwrap();
    let to = SocketAddr::from(([192, 0, 0, 3], 53));
    let query = |port: u16| {
        let mut inner = udp(to, &port.to_be_bytes());
        inner[..2].copy_from_slice(&port.to_be_bytes());
        packet((FROM.into(), to), (UDP, &[]), &inner)
    };
    heard(&mut network, (1..=2_000).map(query));
    assert_eq!(network.datagrams.sockets().count(), udp::MOST);
    // As many as there was room for have come; then there is room again.
    server.set_nonblocking(true).unwrap();
    while server.recv(&mut [0; 8]).is_ok() {}
    server.set_nonblocking(false).unwrap();
    heard(&mut network, [query(30_000)]);
    let mut asked = [0; 8];
    let (length, from) = server.recv_from(&mut asked).unwrap();
    assert_eq!(asked[..length], 30_000_u16.to_be_bytes());
    server.send_to(b"answer", from).unwrap();
    let flows: Vec<_> = network.datagrams.sockets().map(|(flow, _)| flow).collect();
    for flow in flows {
        network.datagrams.receive(&flow, &mut network.device.outgoing);
    }
    assert!(!network.device.outgoing.is_empty());
}
