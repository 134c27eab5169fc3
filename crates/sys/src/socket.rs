//! Connected unix sockets, and descriptors sent over them.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

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

/// Room for the control message of [`MAX_DESCRIPTORS`], aligned as its header wants.
#[repr(align(8))]
struct Control([u8; 64]);

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

fn send_once(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    assert!(descriptors.len() <= MAX_DESCRIPTORS);
    let mut data = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = Control([0; 64]);
    // SAFETY: all-zero is a valid message without anything.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut data;
    message.msg_iovlen = 1;
    if !descriptors.is_empty() {
        let len = size_of_val(descriptors) as u32;
        message.msg_control = control.0.as_mut_ptr().cast();
        // SAFETY: both are pure arithmetic. Eight descriptors need 48 bytes.
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
    // SAFETY: the message and all that it points to live until the call is over.
    retry(|| unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) })
        .map(|n| n as usize)
}

/// Descriptors that came with a message.
pub type Received = [Option<OwnedFd>; MAX_DESCRIPTORS];

/// Receives once into `buffer`, with the descriptors that came along, closed on exec. 0 bytes
/// mean that the peer has gone. Child-safe.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Received)> {
    let mut data = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut control = Control([0; 64]);
    let mut message = MaybeUninit::<libc::msghdr>::zeroed();
    // SAFETY: all-zero is a valid message without anything.
    let message = unsafe { message.assume_init_mut() };
    message.msg_iov = &raw mut data;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = size_of::<Control>() as _;
    // SAFETY: the message and all that it points to live until the call is over.
    let read = retry(|| unsafe {
        libc::recvmsg(socket.as_raw_fd(), &raw mut *message, libc::MSG_CMSG_CLOEXEC)
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
