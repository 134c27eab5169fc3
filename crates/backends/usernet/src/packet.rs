//! Packets: what one is of, and the few that the stack does not make itself.

use std::io;
use std::net::{IpAddr, SocketAddr};

use agentkernel_far::packets::LONGEST;
use smoltcp::wire::{
    Icmpv4DstUnreachable, Icmpv4Packet, Icmpv4Repr, Icmpv6DstUnreachable, Icmpv6Packet, Icmpv6Repr,
    IpAddress, IpProtocol, Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr, TcpPacket, UdpPacket,
    UdpRepr,
};

use crate::device::{Outgoing, sums};

/// Of packets that somebody has made here.
const HOPS: u8 = 64;

/// From where in the guest to where outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flow {
    pub from: SocketAddr,
    pub to: SocketAddr,
}

/// What a packet of the guest's is, if it is of any use. Pieces of packets are of none: on the way here
/// every one has room that fits into a packet at all.
#[derive(Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    Segment { flow: Flow, opens: bool, resets: bool },
    Datagram { flow: Flow, payload: &'a [u8] },
}

pub fn read(bytes: &[u8]) -> Option<Packet<'_>> {
    match bytes.first()? >> 4 {
        4 => {
            let packet = Ipv4Packet::new_checked(bytes).ok()?;
            let is_whole = !packet.more_frags() && packet.frag_offset() == 0;
            let ends = (packet.src_addr().into(), packet.dst_addr().into());
            is_whole.then(|| read_inner(packet.next_header(), ends, packet.payload()))?
        }
        6 => {
            let packet = Ipv6Packet::new_checked(bytes).ok()?;
            let ends = (packet.src_addr().into(), packet.dst_addr().into());
            read_inner(packet.next_header(), ends, packet.payload())
        }
        _ => None,
    }
}

fn read_inner(
    protocol: IpProtocol,
    (from, to): (IpAddr, IpAddr),
    bytes: &[u8],
) -> Option<Packet<'_>> {
    let flow = |source, target| {
        let flow = Flow { from: (from, source).into(), to: (to, target).into() };
        (source != 0 && target != 0).then_some(flow)
    };
    match protocol {
        IpProtocol::Tcp => {
            let segment = TcpPacket::new_checked(bytes).ok()?;
            let flow = flow(segment.src_port(), segment.dst_port())?;
            let (resets, opens) = (segment.rst(), segment.syn() && !segment.ack());
            Some(Packet::Segment { flow, opens: opens && !resets, resets })
        }
        IpProtocol::Udp => {
            let datagram = UdpPacket::new_checked(bytes).ok()?;
            let flow = flow(datagram.src_port(), datagram.dst_port())?;
            Some(Packet::Datagram { flow, payload: datagram.payload() })
        }
        _ => None,
    }
}

/// Tells the guest what has come for one of its sockets. What is longer than any packet is lost.
pub fn datagram(flow: &Flow, payload: &[u8], out: &mut Outgoing) {
    let Flow { from: ours, to: theirs } = flow;
    let udp = UdpRepr { src_port: theirs.port(), dst_port: ours.port() };
    let length = udp.header_len() + payload.len();
    let emit = |bytes: &mut [u8], from: IpAddress, to: IpAddress| {
        let mut packet = UdpPacket::new_unchecked(bytes);
        let fill = |body: &mut [u8]| body.copy_from_slice(payload);
        udp.emit(&mut packet, &from, &to, payload.len(), fill, &sums());
    };
    let (from, to) = (theirs.ip(), ours.ip());
    in_ip((from, to), IpProtocol::Udp, length, out, |bytes| emit(bytes, from.into(), to.into()));
}

/// Puts something into a packet.
fn in_ip(
    ends: (IpAddr, IpAddr),
    next_header: IpProtocol,
    payload_len: usize,
    out: &mut Outgoing,
    fill: impl FnOnce(&mut [u8]),
) {
    match ends {
        (IpAddr::V4(src_addr), IpAddr::V4(dst_addr)) => {
            let head = Ipv4Repr { src_addr, dst_addr, next_header, payload_len, hop_limit: HOPS };
            add(head.buffer_len() + payload_len, out, |bytes| {
                head.emit(&mut Ipv4Packet::new_unchecked(&mut *bytes), &sums());
                fill(&mut bytes[head.buffer_len()..]);
            });
        }
        (IpAddr::V6(src_addr), IpAddr::V6(dst_addr)) => {
            let head = Ipv6Repr { src_addr, dst_addr, next_header, payload_len, hop_limit: HOPS };
            add(head.buffer_len() + payload_len, out, |bytes| {
                head.emit(&mut Ipv6Packet::new_unchecked(&mut *bytes));
                fill(&mut bytes[head.buffer_len()..]);
            });
        }
        // Of both families is none.
        _ => {}
    }
}

fn add(length: usize, out: &mut Outgoing, fill: impl FnOnce(&mut [u8])) {
    if let Some(length) = u16::try_from(length).ok().filter(|length| *length <= LONGEST) {
        out.packet(length, fill);
    }
}

/// Why a packet went nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreachable {
    Network,
    Host,
    /// It is not to be reached.
    Forbidden,
    Port,
}

impl Unreachable {
    /// What an error of a socket's means to whoever has sent a packet, if anything.
    pub fn by(error: &io::Error) -> Option<Self> {
        match error.kind() {
            io::ErrorKind::NetworkUnreachable => Some(Self::Network),
            io::ErrorKind::HostUnreachable | io::ErrorKind::TimedOut => Some(Self::Host),
            io::ErrorKind::PermissionDenied => Some(Self::Forbidden),
            io::ErrorKind::ConnectionRefused => Some(Self::Port),
            _ => None,
        }
    }
}

/// Tells the guest why this packet of its went nowhere.
pub fn unreachable(packet: &[u8], why: Unreachable, out: &mut Outgoing) {
    /// Ports, and the number by which a segment is known again.
    const SHOWN: usize = 8;
    let shown = |payload: &[u8]| payload.len().min(SHOWN);
    match packet.first().map(|byte| byte >> 4) {
        Some(4) => {
            let Ok(packet) = Ipv4Packet::new_checked(packet) else { return };
            let Ok(header) = Ipv4Repr::parse(&packet, &sums()) else { return };
            let data = &packet.payload()[..shown(packet.payload())];
            let reason = match why {
                Unreachable::Network => Icmpv4DstUnreachable::NetUnreachable,
                Unreachable::Host => Icmpv4DstUnreachable::HostUnreachable,
                Unreachable::Forbidden => Icmpv4DstUnreachable::HostProhibited,
                Unreachable::Port => Icmpv4DstUnreachable::PortUnreachable,
            };
            let told = Icmpv4Repr::DstUnreachable { reason, header, data };
            let ends = (header.dst_addr.into(), header.src_addr.into());
            in_ip(ends, IpProtocol::Icmp, told.buffer_len(), out, |bytes| {
                told.emit(&mut Icmpv4Packet::new_unchecked(bytes), &sums());
            });
        }
        Some(6) => {
            let Ok(packet) = Ipv6Packet::new_checked(packet) else { return };
            let Ok(header) = Ipv6Repr::parse(&packet) else { return };
            let data = &packet.payload()[..shown(packet.payload())];
            let reason = match why {
                Unreachable::Network => Icmpv6DstUnreachable::NoRoute,
                Unreachable::Host => Icmpv6DstUnreachable::AddrUnreachable,
                Unreachable::Forbidden => Icmpv6DstUnreachable::AdminProhibit,
                Unreachable::Port => Icmpv6DstUnreachable::PortUnreachable,
            };
            let told = Icmpv6Repr::DstUnreachable { reason, header, data };
            let (from, to) = (header.dst_addr, header.src_addr);
            let ends = (from.into(), to.into());
            in_ip(ends, IpProtocol::Icmpv6, told.buffer_len(), out, |bytes| {
                told.emit(&from, &to, &mut Icmpv6Packet::new_unchecked(bytes), &sums());
            });
        }
        _ => {}
    }
}
