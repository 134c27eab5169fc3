//! The network of a namespace.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use crate::socket;
use crate::{check, retry};

/// Brings up the loopback interface of the calling thread's network namespace, with 127.0.0.1
/// and ::1. Child-safe.
pub fn loopback_up() -> io::Result<()> {
    let mut request = Request::of(b"lo")?;
    request.0.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    request.make(libc::SIOCSIFFLAGS)
}

/// Makes an interface `name` of the calling thread's network namespace, whose packets, without anything
/// before them, are read from and written to what is returned; one packet each, of at most `mtu` bytes. The
/// interface has `addresses`, each with the length of its network's prefix, leads to everywhere that
/// these families reach, and goes when it is closed. A kernel without the first family fails; without
/// another one it does without that address. Fails with `NotFound` if the kernel has no such device
/// (`CONFIG_TUN`).
pub fn tun(name: &[u8], mtu: u16, addresses: &[(IpAddr, u8)]) -> io::Result<OwnedFd> {
    let device = File::options().read(true).write(true).open("/dev/net/tun")?;
    let mut request = Request::of(name)?;
    request.0.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the request has the type that this call reads and writes.
    check(unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request.0) })?;
    let mut request = Request::of(name)?;
    request.0.ifr_ifru.ifru_mtu = i32::from(mtu);
    request.make(libc::SIOCSIFMTU)?;
    let mut request = Request::of(name)?;
    request.0.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    request.make(libc::SIOCSIFFLAGS)?;
    // SAFETY: the name of a request ends with a zero.
    let index = unsafe { libc::if_nametoindex(request.0.ifr_name.as_ptr()) };
    for (number, (address, prefix)) in addresses.iter().enumerate() {
        match lead(index, *address, *prefix) {
            Err(_) if number > 0 => {}
            done => done?,
        }
    }
    Ok(device.into())
}

/// A request about an interface (netdevice(7)).
struct Request(libc::ifreq);

impl Request {
    fn of(name: &[u8]) -> io::Result<Self> {
        // SAFETY: all-zero is a valid request, with an empty name.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        if name.len() >= request.ifr_name.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        for (to, from) in request.ifr_name.iter_mut().zip(name) {
            *to = from.cast_signed();
        }
        Ok(Self(request))
    }

    fn make(&self, kind: libc::Ioctl) -> io::Result<()> {
        let kinds = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
        // SAFETY: no memory is involved.
        let socket = check(unsafe { libc::socket(libc::AF_INET, kinds, 0) })?;
        // SAFETY: the kernel has just opened it, and nobody else owns it.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        // SAFETY: the request has the type that this call reads.
        check(unsafe { libc::ioctl(socket.as_raw_fd(), kind, &raw const self.0) }).map(drop)
    }
}

/// Gives an interface an address, and sends to it all that is for nowhere else (rtnetlink(7)).
fn lead(interface: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
    let (family, bytes) = match address {
        IpAddr::V4(address) => (libc::AF_INET as u8, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6 as u8, address.octets().to_vec()),
    };
    let index = interface.to_ne_bytes();
    // The family, the prefix's length, flags, the scope (everywhere), the interface. Nobody else is on this
    // link whom the kernel would first have to ask, in its own time, whether the address is theirs.
    let own = [&[family, prefix, libc::IFA_F_NODAD as u8, 0][..], &index].concat();
    let own = [own, attribute(libc::IFA_LOCAL, &bytes), attribute(libc::IFA_ADDRESS, &bytes)];
    ask(libc::RTM_NEWADDR, &own.concat())?;
    // The family, no prefix of destinations or sources, the main table, set at boot, the scope (only
    // this link, since there is nobody between), to one receiver, no flags.
    let table = [libc::RT_TABLE_MAIN, libc::RTPROT_BOOT, libc::RT_SCOPE_LINK, libc::RTN_UNICAST];
    let route = [&[family, 0, 0, 0][..], &table, &[0; 4]].concat();
    ask(libc::RTM_NEWROUTE, &[route, attribute(libc::RTA_OIF, &index)].concat())
}

/// An attribute of a netlink message, none of which is longer than an address.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = (4 + value.len()) as u16;
    [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat()
}

/// Has the kernel make something new, by a netlink message.
fn ask(kind: u16, body: &[u8]) -> io::Result<()> {
    let kinds = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: no memory is involved.
    let fd = check(unsafe { libc::socket(libc::AF_NETLINK, kinds, libc::NETLINK_ROUTE) })?;
    // SAFETY: the kernel has just opened it, and nobody else owns it.
    let kernel = unsafe { OwnedFd::from_raw_fd(fd) };
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE) as u16;
    let length = (16 + body.len()) as u32;
    let header = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &flags.to_ne_bytes(), &[0; 8]];
    let message = [&header.concat()[..], body].concat();
    // SAFETY: the kernel reads as much as is there.
    retry(|| unsafe { libc::send(kernel.as_raw_fd(), message.as_ptr().cast(), message.len(), 0) })?;
    let mut answer = [0_u8; 512];
    let (read, _) = socket::receive(kernel.as_fd(), &mut answer)?;
    // After the header, 0 or what the error is, negated.
    match answer[..read].get(16..20).and_then(|code| code.try_into().ok()).map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}
