//! Real clients in a network namespace of their own, whose only way out is a tun device; and guests that say
//! what no client would.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use agentkernel_far::packets;
use agentkernel_sys::process::{self, Namespaces};
use agentkernel_sys::{network, socket};

use super::*;

mod hostile;

const NO_SERVERS: fn() -> String = String::new;

/// Where a server listens here, for its test.
const SERVER: &str = "127.7.7.53:53";

/// Does something in a network of its own; `None`, with the reason printed, where there can be none.
fn in_guest<R: Send>(client: impl FnOnce() -> R + Send) -> Option<R> {
    let (ours, theirs) = socket::pair().unwrap();
    let end = theirs.try_clone().unwrap();
    let (never, _said) = socket::pair().unwrap();
    let served = || serve_by(&ours, || format!("nameserver {}", &SERVER[..10]));
    thread::scope(|scope| {
        let server = scope.spawn(served);
        let guest = scope.spawn(move || {
            process::unshare(Namespaces::NETWORK)?;
            network::loopback_up()?;
            let device = network::tun(b"tun0", packets::LONGEST, &ADDRESSES)?;
            thread::spawn(move || packets::carry(&device, &theirs, never.as_fd()));
            io::Result::Ok(client())
        });
        let did = guest.join();
        // Also where the client has failed, or its server would be waited for, and nobody heard why.
        socket::close_for_all(end.as_fd()).unwrap();
        server.join().unwrap().unwrap();
        let did = did.unwrap_or_else(|why| std::panic::resume_unwind(why));
        did.inspect_err(|why| eprintln!("skipped: no network of its own: {why}")).ok()
    })
}

/// An address of this host's but its loopback's.
fn own_address() -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    let found = socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr());
    match found.map(|address| address.ip()) {
        Ok(IpAddr::V4(address)) => Some(address),
        _ => {
            eprintln!("skipped: this host has no address but its loopback's");
            None
        }
    }
}

/// A server for one connection, or as many as there are.
fn listen() -> Option<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((own_address()?, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    Some((listener, address))
}

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + at / 251) as u8).collect()
}

#[test]
fn a_connection_carries_bytes_both_ways_and_ends_by_halves() {
    const LENGTH: usize = 5_000_000;
    let Some((listener, address)) = listen() else { return };
    let server = thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        let mut heard = Vec::new();
        peer.read_to_end(&mut heard).unwrap();
        // Only once the other one has ended.
        heard.reverse();
        peer.write_all(&heard).unwrap();
        heard.len()
    });
    let got = in_guest(|| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&content(LENGTH)).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        got
    });
    let Some(mut got) = got else { return };
    got.reverse();
    assert!(got == content(LENGTH), "{} bytes", got.len());
    assert_eq!(server.join().unwrap(), LENGTH);
}

#[test]
fn version_6_is_carried_too() {
    let own = UdpSocket::bind("[::]:0")
        .and_then(|socket| socket.connect("[2001:db8::1]:9").and_then(|()| socket.local_addr()));
    let Ok(own) = own else { return eprintln!("skipped: this host has no IPv6") };
    let listener = TcpListener::bind((own.ip(), 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        peer.write_all(b"hello").unwrap();
    });
    let heard = in_guest(|| {
        let mut heard = String::new();
        TcpStream::connect(address).unwrap().read_to_string(&mut heard).unwrap();
        heard
    });
    let Some(heard) = heard else { return };
    assert_eq!(heard, "hello");
    server.join().unwrap();
}

#[test]
fn where_the_host_has_no_way_to_is_unreachable() {
    // Of documents (RFC 3849), and the host's own network may have no way to anything of version 6.
    let to = "[2001:db8::1]:9".parse().unwrap();
    let direct = TcpStream::connect_timeout(&to, Duration::from_secs(3)).unwrap_err();
    if direct.kind() != io::ErrorKind::NetworkUnreachable {
        return eprintln!("skipped: the host says {direct}");
    }
    let kind = in_guest(|| TcpStream::connect(to).unwrap_err().kind());
    assert!(kind.is_none_or(|kind| kind == io::ErrorKind::NetworkUnreachable), "{kind:?}");
}

#[test]
fn who_is_refused_by_the_host_is_refused() {
    let Some((listener, address)) = listen() else { return };
    drop(listener);
    let Some(error) = in_guest(|| TcpStream::connect(address).unwrap_err()) else { return };
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn a_connection_that_is_broken_off_is_broken_off_at_the_other_end() {
    let Some((listener, address)) = listen() else { return };
    let server = thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        // Once the guest knows that it is connected.
        peer.read_exact(&mut [0; 1]).unwrap();
        socket::break_off(peer.as_fd()).unwrap();
        drop(peer);
        let (mut peer, _) = listener.accept().unwrap();
        peer.read(&mut [0; 8]).map_err(|error| error.kind())
    });
    let got = in_guest(|| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"a").unwrap();
        let got = stream.read(&mut [0; 8]).map_err(|error| error.kind());
        let stream = TcpStream::connect(address).unwrap();
        socket::break_off(stream.as_fd()).unwrap();
        drop(stream);
        // Before its network goes, with which all would end.
        (got, server.join().unwrap())
    });
    let Some(ends) = got else { return };
    assert_eq!(ends, (Err(io::ErrorKind::ConnectionReset), Err(io::ErrorKind::ConnectionReset)));
}

#[test]
fn what_listens_on_the_hosts_loopback_is_out_of_reach() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let own = own_address().unwrap_or(Ipv4Addr::new(10, 0, 2, 2));
    let addresses = [Ipv4Addr::LOCALHOST, Ipv4Addr::new(0, 0, 0, 0), own, [192, 0, 0, 1].into()];
    let done = in_guest(|| {
        for address in addresses {
            let patience = Duration::from_secs(5);
            assert!(TcpStream::connect_timeout(&(address, port).into(), patience).is_err());
        }
    });
    if done.is_some() {
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}

#[test]
fn datagrams_of_any_length_are_answered() {
    let Some(own) = own_address() else { return };
    let server = UdpSocket::bind((own, 0)).unwrap();
    let address = server.local_addr().unwrap();
    let lengths = [0, 1, 1472, 60_000];
    let answers = thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        for _ in lengths {
            let (length, from) = server.recv_from(&mut buffer).unwrap();
            server.send_to(&buffer[..length], from).unwrap();
        }
    });
    let done = in_guest(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect(address).unwrap();
        let mut buffer = vec![0; 65_536];
        for length in lengths {
            socket.send(&content(length)).unwrap();
            assert_eq!(socket.recv(&mut buffer).unwrap(), length);
            assert!(buffer[..length] == content(length));
        }
    });
    if done.is_some() {
        answers.join().unwrap();
    }
}

#[test]
fn a_datagram_to_nobody_is_refused() {
    let Some(own) = own_address() else { return };
    let address = UdpSocket::bind((own, 0)).unwrap().local_addr().unwrap();
    let kind = in_guest(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket.connect(address).unwrap();
        socket.send(b"hello").unwrap();
        socket.recv(&mut [0; 8]).unwrap_err().kind()
    });
    let Some(kind) = kind else { return };
    assert_eq!(kind, io::ErrorKind::ConnectionRefused);
}

#[test]
fn the_hosts_name_server_is_asked_on_its_loopback_too() {
    let server = match UdpSocket::bind(SERVER) {
        Ok(server) => server,
        Err(why) => return eprintln!("skipped: no name server can be had: {why}"),
    };
    let answers = thread::spawn(move || {
        let mut buffer = [0; 512];
        let (length, from) = server.recv_from(&mut buffer).unwrap();
        buffer[..length].reverse();
        server.send_to(&buffer[..length], from).unwrap();
    });
    let answer = in_guest(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect("192.0.0.3:53").unwrap();
        socket.send(b"abc").unwrap();
        let mut buffer = [0; 8];
        let length = socket.recv(&mut buffer).unwrap();
        buffer[..length].to_vec()
    });
    if let Some(answer) = answer {
        assert_eq!(answer, b"cba");
        answers.join().unwrap();
    }
}

#[test]
fn who_reads_nothing_holds_up_nobody_else() {
    let Some((listener, address)) = listen() else { return };
    thread::spawn(move || {
        for peer in listener.incoming() {
            // Until it is told no more, or the guest has gone.
            thread::spawn(move || {
                peer.map(|mut peer| while peer.write_all(&[7; 65_536]).is_ok() {})
            });
        }
    });
    in_guest(|| {
        let unread: Vec<_> = (0..20).map(|_| TcpStream::connect(address).unwrap()).collect();
        for _ in 0..20 {
            let mut read = TcpStream::connect(address).unwrap();
            read.read_exact(&mut vec![0; 300_000]).unwrap();
        }
        drop(unread);
    });
}

#[test]
fn one_connection_too_many_is_refused_and_the_others_go_on() {
    let Some((listener, address)) = listen() else { return };
    let server = thread::spawn(move || {
        let mut peers: Vec<_> = (0..tcp::MOST).map(|_| listener.accept().unwrap().0).collect();
        for peer in &mut peers {
            peer.write_all(b"a").unwrap();
        }
        peers
    });
    let done = in_guest(|| {
        let mut all: Vec<_> =
            (0..tcp::MOST).map(|_| TcpStream::connect(address).unwrap()).collect();
        let error = TcpStream::connect(address).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        for stream in &mut all {
            stream.read_exact(&mut [0; 1]).unwrap();
        }
        drop(all);
        // And then there is room again.
        TcpStream::connect(address).map_err(|error| error.kind())
    });
    if done.is_some() {
        drop(server.join().unwrap());
    }
}

/// A segment of the guest's.
fn segment(port: u16, to: Ipv4Addr, flags: u8) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0];
    packet.extend([192, 0, 0, 2]);
    packet.extend(to.octets());
    packet.extend(port.to_be_bytes());
    packet.extend(9_u16.to_be_bytes());
    packet.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    packet
}

/// Has a network hear packets, one by one.
fn heard(network: &mut Network, packets: impl IntoIterator<Item = Vec<u8>>) {
    let (ours, theirs) = socket::pair().unwrap();
    for end in [&ours, &theirs] {
        descriptor::set_nonblocking(end.as_fd()).unwrap();
    }
    for packet in packets {
        let framed = [&(packet.len() as u16).to_be_bytes()[..], &packet].concat();
        socket::send(theirs.as_fd(), &framed, &[]).unwrap();
        network.hear(&ours).unwrap();
        network.connections.send(&mut network.device);
        // The guest reads what it is told, so that there is room for more.
        network.device.outgoing.send(ours.as_fd()).unwrap();
        let _ = descriptor::read(theirs.as_fd(), &mut [0; 65_536]);
    }
}

const SYN: u8 = 2;

#[test]
fn a_flood_of_openings_is_bounded() {
    let mut network = Network::new(NO_SERVERS).unwrap();
    // Nobody has this address (RFC 5737), whatever becomes of it here.
    heard(&mut network, (1..=20_000).map(|port| segment(port, [192, 0, 2, 1].into(), SYN)));
    assert!(network.connections.interests().count() <= tcp::OPENING);
}

#[test]
fn a_flood_of_flows_is_bounded() {
    let mut network = Network::new(NO_SERVERS).unwrap();
    let datagrams = (1..=5_000).map(|port: u16| {
        let mut packet = segment(port, [192, 0, 2, 1].into(), SYN);
        packet[9] = 17;
        packet[24..26].copy_from_slice(&20_u16.to_be_bytes());
        packet
    });
    heard(&mut network, datagrams);
    assert!(network.datagrams.sockets().count() <= udp::MOST);
}

#[test]
fn what_is_no_packet_is_lost() {
    let mut network = Network::new(NO_SERVERS).unwrap();
    let mut state = 7_u64;
    let mut random = move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    let own: Ipv4Addr = own_address().unwrap_or(Ipv4Addr::LOCALHOST);
    heard(
        &mut network,
        (0..30_000).map(|_| {
            let mut packet = segment(40_000 + random() as u16 % 8, own, random() as u8);
            packet.extend((0..random() % 100).map(|_| 0xa5));
            let length = (packet.len() as u16).to_be_bytes();
            packet[2..4].copy_from_slice(&length);
            for _ in 0..random() % 4 {
                let at = random() % packet.len();
                packet[at] = random() as u8;
            }
            packet.truncate(random() % (2 * packet.len()) + 1);
            packet
        }),
    );
    assert!(network.connections.interests().count() <= tcp::MOST);
}

#[test]
fn packets_that_are_none_are_read_as_none() {
    assert_eq!(packet::read(&[]), None);
    for flags in [SYN, SYN | 4] {
        let whole = segment(1, [10, 0, 0, 1].into(), flags);
        assert!(packet::read(&whole).is_some());
        for length in 0..whole.len() {
            assert_eq!(packet::read(&whole[..length]), None);
        }
    }
    let mut piece = segment(1, [10, 0, 0, 1].into(), SYN);
    piece[6] = 0x20;
    assert_eq!(packet::read(&piece), None);
}

/// Seconds that a server at this address takes for connections, words and bytes, each way.
fn figures(address: SocketAddr) -> [f64; 4] {
    const MANY: u32 = 500;
    const BYTES: usize = 400_000_000;
    let time = |what: &mut dyn FnMut()| {
        let start = Instant::now();
        what();
        start.elapsed().as_secs_f64()
    };
    let connects = time(&mut || {
        for _ in 0..MANY {
            TcpStream::connect(address).unwrap();
        }
    });
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let words = time(&mut || {
        for _ in 0..MANY {
            stream.write_all(b"e").unwrap();
            stream.read_exact(&mut [0; 1]).unwrap();
        }
    });
    let mut buffer = vec![1; 128 << 10];
    stream.write_all(b"d").unwrap();
    let down = time(&mut || {
        let mut left = BYTES;
        while left > 0 {
            left -= stream.read(&mut buffer).unwrap().min(left);
        }
    });
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"u").unwrap();
    let up = time(&mut || {
        for _ in 0..BYTES / buffer.len() {
            stream.write_all(&buffer).unwrap();
        }
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    });
    let mega = BYTES as f64 / 1e6;
    let each = 1e6 / f64::from(MANY);
    [connects * each, words * each, mega / down, mega / up]
}

fn serve_figures(mut peer: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 128 << 10];
    loop {
        match peer.read(&mut buffer[..1])? {
            0 => return Ok(()),
            _ if buffer[0] == b'e' => peer.write_all(b"e")?,
            _ if buffer[0] == b'd' => loop {
                peer.write_all(&buffer)?;
            },
            _ => while peer.read(&mut buffer)? > 0 {},
        }
    }
}

/// `cargo test --release -p agentkernel-usernet -- --ignored --nocapture`
#[test]
#[ignore = "it takes figures, and asserts nothing"]
fn figures_against_the_hosts_own() {
    let Some((listener, address)) = listen() else { return };
    thread::spawn(move || {
        for peer in listener.incoming() {
            thread::spawn(move || peer.and_then(serve_figures));
        }
    });
    for _ in 0..3 {
        let through = in_guest(|| figures(address));
        let direct = figures(address);
        println!("us a connection, us a word and back, MB/s to the guest, MB/s from it");
        println!("through: {through:.1?}");
        println!("direct:  {direct:.1?}");
    }
}
