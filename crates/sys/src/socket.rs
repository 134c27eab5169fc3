//! Unix sockets: made, joined, listened on, and descriptors sent over them; and the start and end of those of TCP.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::descriptor::{self, Interest};
use crate::{check, retry};

/// The most descriptors that one message carries here.
pub const MAX_DESCRIPTORS: usize = 8;

/// Two connected stream sockets, closed on exec.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [-1; 2];
    // SAFETY: `fds` has room for the two descriptors.
    check(unsafe {
        libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0, fds.as_mut_ptr())
    })?;
    // SAFETY: the kernel has just opened both, and nobody else owns them.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

/// Listens at `path`, which must not exist, for stream connections; only the caller's user may
/// connect. A path of any length will do, for it is reached through its directory.
pub fn listen(path: &Path) -> io::Result<OwnedFd> {
    /// Whoever comes while so many wait is told to try again (`EAGAIN`).
    const BACKLOG: i32 = 128;
    let socket = stream()?;
    at(path, |address, len| {
        // SAFETY: a new socket's file has the mode of its descriptor, so nobody else ever gets in.
        check(unsafe { libc::fchmod(socket.as_raw_fd(), 0o600) })?;
        // SAFETY: the kernel reads as much of the address as it is told.
        check(unsafe { libc::bind(socket.as_raw_fd(), address, len) })
    })?;
    // SAFETY: no memory is involved.
    check(unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) })?;
    Ok(socket)
}

/// Connects to whoever listens at `path`. One that does not take connections, or later what is
/// sent to it, is waited for no longer than `patience` at a time; then that fails (`WouldBlock`).
pub fn connect(path: &Path, patience: Duration) -> io::Result<OwnedFd> {
    let socket = stream()?;
    limit_waiting(socket.as_fd(), patience)?;
    at(path, |address, len| {
        // SAFETY: the kernel reads as much of the address as it is told.
        retry(|| unsafe { libc::connect(socket.as_raw_fd(), address, len) })
    })?;
    Ok(socket)
}

/// Has a send that must wait for its peer fail after `patience` (`WouldBlock`). Child-safe.
pub fn limit_waiting(socket: BorrowedFd<'_>, patience: Duration) -> io::Result<()> {
    let limit = libc::timeval {
        tv_sec: libc::time_t::try_from(patience.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_usec: libc::suseconds_t::from(patience.subsec_micros()),
    };
    // SAFETY: `limit` has the size that the kernel is told.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_SNDTIMEO,
            (&raw const limit).cast(),
            size_of::<libc::timeval>() as libc::socklen_t,
        )
    };
    check(set).map(drop)
}

/// Takes the next connection to a listening socket, closed on exec.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let none = std::ptr::null_mut();
    // SAFETY: without a place for the peer's address none is written.
    let fd = retry(|| unsafe {
        libc::accept4(listener.as_raw_fd(), none, std::ptr::null_mut(), libc::SOCK_CLOEXEC)
    })?;
    // SAFETY: the kernel has just opened it, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Ends a connection for whoever has a descriptor of it, on both sides. Child-safe.
pub fn close_for_all(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RDWR) }).map(drop)
}

/// Says that nothing more is sent. Child-safe.
pub fn end_sending(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_WR) }).map(drop)
}

/// A socket that never waits, and is about to be connected by TCP: it can be written to when it is, or
/// has an error then.
pub fn connect_to(to: SocketAddr) -> io::Result<TcpStream> {
    let family = if to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no memory is involved.
    let fd = check(unsafe { libc::socket(family, kind, 0) })?;
    // SAFETY: the kernel has just opened it, and nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let done = match to {
        SocketAddr::V4(to) => connect_at(&socket, &address_of_v4(to)),
        SocketAddr::V6(to) => connect_at(&socket, &address_of_v6(to)),
    };
    match done {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket.into()),
    }
}

fn address_of_v4(to: SocketAddrV4) -> libc::sockaddr_in {
    // SAFETY: all-zero is a valid address.
    let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    address.sin_family = libc::AF_INET as libc::sa_family_t;
    address.sin_port = to.port().to_be();
    address.sin_addr.s_addr = u32::from_ne_bytes(to.ip().octets());
    address
}

fn address_of_v6(to: SocketAddrV6) -> libc::sockaddr_in6 {
    // SAFETY: all-zero is a valid address.
    let mut address: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
    address.sin6_family = libc::AF_INET6 as libc::sa_family_t;
    address.sin6_port = to.port().to_be();
    address.sin6_addr.s6_addr = to.ip().octets();
    address.sin6_scope_id = to.scope_id();
    address
}

fn connect_at<A>(socket: &OwnedFd, address: &A) -> io::Result<()> {
    let length = size_of::<A>() as libc::socklen_t;
    // SAFETY: the kernel reads as much of the address as it is told, which is all of it.
    check(unsafe { libc::connect(socket.as_raw_fd(), std::ptr::from_ref(address).cast(), length) })
        .map(drop)
}

/// Has a connection be broken off when it is closed: the other end gets no more of it, and an error.
pub fn break_off(connection: BorrowedFd<'_>) -> io::Result<()> {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the option has the type that this call reads, and as much of it as it is told.
    check(unsafe {
        libc::setsockopt(
            connection.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        )
    })
    .map(drop)
}

/// Who is at the other end of a connection, as it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    pub pid: i32,
    pub uid: u32,
}

/// Who is at the other end of `socket`.
pub fn peer(socket: BorrowedFd<'_>) -> io::Result<Peer> {
    let mut found = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: `found` has the size that the kernel is told.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut found).cast(),
            &raw mut len,
        )
    })?;
    Ok(Peer { pid: found.pid, uid: found.uid })
}

fn stream() -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    let fd =
        check(unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the kernel has just opened it, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Does `call` with the address of `path`. An address holds 107 bytes, so a longer path is named
/// by its directory's descriptor.
fn at<T>(
    path: &Path,
    call: impl FnOnce(*const libc::sockaddr, libc::socklen_t) -> io::Result<T>,
) -> io::Result<T> {
    // SAFETY: all-zero is a valid address.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let (_directory, short);
    let bytes = match path.as_os_str().as_bytes() {
        bytes if bytes.len() < address.sun_path.len() => bytes,
        _ => {
            let (parent, name) = (path.parent(), path.file_name());
            let (Some(parent), Some(name)) = (parent, name) else {
                return Err(io::ErrorKind::InvalidInput.into());
            };
            let directory = File::open(parent)?;
            short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
            _directory = directory;
            short.as_os_str().as_bytes()
        }
    };
    if bytes.len() >= address.sun_path.len() || bytes.contains(&0) {
        return Err(io::ErrorKind::InvalidFilename.into());
    }
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    call((&raw const address).cast(), size_of::<libc::sockaddr_un>() as libc::socklen_t)
}

/// Room for the control message of [`MAX_DESCRIPTORS`], aligned as its header wants.
#[repr(align(8))]
struct Control([u8; CONTROL]);

// SAFETY: pure arithmetic.
const CONTROL: usize =
    unsafe { libc::CMSG_SPACE((MAX_DESCRIPTORS * size_of::<RawFd>()) as u32) } as usize;

/// Sends `bytes` whole, with `descriptors` (at most [`MAX_DESCRIPTORS`]) attached to the first of
/// them. A peer that has gone is an error, never a signal. Child-safe.
pub fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut sent = send_once(socket, bytes, descriptors)?;
    while sent < bytes.len() {
        sent += send_once(socket, &bytes[sent..], &[])?;
    }
    Ok(())
}

/// As [`send`], but never waits: fails if the peer has left no room for all of it, and then the
/// connection is of no more use. Child-safe.
pub fn send_now(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    match send_with(socket, bytes, descriptors, libc::MSG_DONTWAIT)? {
        sent if sent == bytes.len() => Ok(()),
        _ => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// As [`send`], but sends no more than there is room for now, and returns how much that was. If
/// there is no room at all that fails (`WouldBlock`), and no descriptor was sent either.
pub fn send_some(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    send_with(socket, bytes, descriptors, libc::MSG_DONTWAIT)
}

fn send_once(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    send_with(socket, bytes, descriptors, 0)
}

fn send_with(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
    flags: libc::c_int,
) -> io::Result<usize> {
    assert!(descriptors.len() <= MAX_DESCRIPTORS);
    let mut data = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = Control([0; CONTROL]);
    // SAFETY: all-zero is a valid message without anything.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut data;
    message.msg_iovlen = 1;
    if !descriptors.is_empty() {
        let len = size_of_val(descriptors) as u32;
        message.msg_control = control.0.as_mut_ptr().cast();
        // SAFETY: both are pure arithmetic.
        unsafe {
            message.msg_controllen = libc::CMSG_SPACE(len) as _;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            // SAFETY: the control buffer is aligned for and larger than one such message.
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(len) as _;
            let target = libc::CMSG_DATA(header).cast::<RawFd>();
            for (i, descriptor) in descriptors.iter().enumerate() {
                target.add(i).write_unaligned(descriptor.as_raw_fd());
            }
        }
    }
    let flags = flags | libc::MSG_NOSIGNAL;
    // SAFETY: the message and all that it points to live until the call is over.
    retry(|| unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, flags) })
        .map(|n| n as usize)
}

/// Descriptors that came with a message.
pub type Received = [Option<OwnedFd>; MAX_DESCRIPTORS];

/// Receives once into `buffer`, with the descriptors that came along, closed on exec. 0 bytes
/// mean that the peer has gone. Of more descriptors than [`MAX_DESCRIPTORS`] in one message the rest
/// is lost. Child-safe.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Received)> {
    receive_with(socket, buffer, 0)
}

/// As [`receive`], but never waits: fails if nothing is there (`WouldBlock`). Child-safe.
pub fn receive_now(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Received)> {
    receive_with(socket, buffer, libc::MSG_DONTWAIT)
}

/// Waits until there is something to receive, and leaves it there. Fails if the peer has gone without a
/// further word (`UnexpectedEof`), or has said none within `patience` (`TimedOut`).
pub fn await_word(socket: BorrowedFd<'_>, patience: Duration) -> io::Result<()> {
    let until = Instant::now() + patience;
    let mut heard = [Interest::readable(socket)];
    while !descriptor::poll(&mut heard, Some(until.saturating_duration_since(Instant::now())))? {
        // A signal may have ended the wait early.
        if Instant::now() >= until {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    let mut byte = [0_u8];
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    // SAFETY: there is room for the one byte.
    let read =
        retry(|| unsafe { libc::recv(socket.as_raw_fd(), byte.as_mut_ptr().cast(), 1, flags) })?;
    match read {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

fn receive_with(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    flags: libc::c_int,
) -> io::Result<(usize, Received)> {
    let mut data = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut control = Control([0; CONTROL]);
    let mut message = MaybeUninit::<libc::msghdr>::zeroed();
    // SAFETY: all-zero is a valid message without anything.
    let message = unsafe { message.assume_init_mut() };
    message.msg_iov = &raw mut data;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    // No room for more than are taken out below, or the rest would stay open for good.
    message.msg_controllen = size_of::<Control>() as _;
    // SAFETY: the message and all that it points to live until the call is over.
    let read = retry(|| unsafe {
        libc::recvmsg(socket.as_raw_fd(), &raw mut *message, flags | libc::MSG_CMSG_CLOEXEC)
    })? as usize;
    let mut received = Received::default();
    // SAFETY: the kernel has filled the control buffer with whole messages, and each descriptor
    // in it is newly opened and owned by nobody else.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const *message);
        if let Some(header) = header.as_ref()
            && header.cmsg_level == libc::SOL_SOCKET
            && header.cmsg_type == libc::SCM_RIGHTS
        {
            let len = header.cmsg_len - libc::CMSG_LEN(0) as usize;
            let source = libc::CMSG_DATA(header).cast::<RawFd>();
            for (i, slot) in received.iter_mut().enumerate().take(len / size_of::<RawFd>()) {
                *slot = Some(OwnedFd::from_raw_fd(source.add(i).read_unaligned()));
            }
        }
    }
    Ok((read, received))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_word_is_awaited_and_left_there() {
        let (ours, theirs) = pair().unwrap();
        let silent = await_word(ours.as_fd(), Duration::from_millis(1)).unwrap_err();
        assert_eq!(silent.kind(), io::ErrorKind::TimedOut);
        send(theirs.as_fd(), b"word", &[]).unwrap();
        drop(theirs);
        await_word(ours.as_fd(), Duration::ZERO).unwrap();
        assert_eq!(receive(ours.as_fd(), &mut [0; 8]).unwrap().0, 4);
        let gone = await_word(ours.as_fd(), Duration::ZERO).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn no_more_descriptors_are_received_than_are_handed_on() {
        let (ours, theirs) = pair().unwrap();
        // More than fit, as a peer with its own idea of this can send: in two messages of eight
        // nothing is lost, so one is made by hand.
        let null = File::open("/dev/null").unwrap();
        let many = [null.as_raw_fd(); 12];
        let mut byte = [0_u8];
        let mut data = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
        #[repr(align(8))]
        struct Large([u8; 128]);
        let mut control = Large([0; 128]);
        // SAFETY: as in `send_with`; the buffer has room for twelve descriptors.
        unsafe {
            let mut message: libc::msghdr = std::mem::zeroed();
            message.msg_iov = &raw mut data;
            message.msg_iovlen = 1;
            message.msg_control = control.0.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(size_of_val(&many) as u32) as _;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(size_of_val(&many) as u32) as _;
            libc::CMSG_DATA(header).cast::<[RawFd; 12]>().write_unaligned(many);
            check(libc::sendmsg(theirs.as_raw_fd(), &raw const message, 0) as libc::c_int).unwrap();
        }
        let (read, received) = receive(ours.as_fd(), &mut [0; 8]).unwrap();
        assert_eq!(read, 1);
        let numbers: Vec<RawFd> = received.iter().flatten().map(AsRawFd::as_raw_fd).collect();
        assert_eq!(numbers.len(), MAX_DESCRIPTORS);
        // The kernel gives out the lowest numbers, so one that leaked would follow on these.
        let next = numbers.iter().max().unwrap() + 1;
        let leaked = std::fs::read_link(format!("/proc/self/fd/{next}"));
        assert_ne!(leaked.ok().as_deref(), Some(Path::new("/dev/null")));
    }

    #[test]
    fn who_does_not_take_connections_or_bytes_is_not_waited_for_without_end() {
        let patience = Duration::from_millis(50);
        let path = std::env::temp_dir().join(format!("agentkernel-full-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        // SAFETY: no memory is involved. A listener may change how many can wait.
        check(unsafe { libc::listen(listener.as_raw_fd(), 0) }).unwrap();
        let first = connect(&path, patience).unwrap();
        let begin = Instant::now();
        let full = loop {
            match connect(&path, patience) {
                Ok(another) => std::mem::forget(another),
                Err(error) => break error,
            }
        };
        std::fs::remove_file(&path).unwrap();
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        let sent = send(first.as_fd(), &vec![0; 8 << 20], &[]);
        assert_eq!(sent.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(begin.elapsed() < Duration::from_secs(10));
    }
}
