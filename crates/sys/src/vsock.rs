//! Sockets between a virtual machine and its host (vsock(7)), as the machine has them.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::{check, retry};

/// Listens at `port` for stream connections of the host's.
pub fn listen(port: u32) -> io::Result<OwnedFd> {
    /// Only the host connects, and waits for an answer before it does so again.
    const BACKLOG: i32 = 8;
    let (socket, address) = (stream()?, address(libc::VMADDR_CID_ANY, port));
    // SAFETY: the kernel reads as much of the address as it is told.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), LENGTH) })?;
    // SAFETY: no memory is involved.
    check(unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) })?;
    Ok(socket)
}

/// Connects to whoever listens at `port` on the host.
pub fn connect_to_host(port: u32) -> io::Result<OwnedFd> {
    let (socket, address) = (stream()?, address(libc::VMADDR_CID_HOST, port));
    // SAFETY: the kernel reads as much of the address as it is told.
    retry(|| unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), LENGTH) })?;
    Ok(socket)
}

const LENGTH: libc::socklen_t = size_of::<libc::sockaddr_vm>() as libc::socklen_t;

fn address(cid: u32, port: u32) -> libc::sockaddr_vm {
    // SAFETY: all-zero is a valid address.
    let mut address: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
    address.svm_family = libc::AF_VSOCK as libc::sa_family_t;
    address.svm_cid = cid;
    address.svm_port = port;
    address
}

fn stream() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    // SAFETY: no memory is involved.
    let fd = check(unsafe { libc::socket(libc::AF_VSOCK, kind, 0) })?;
    // SAFETY: the kernel has just opened it, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
