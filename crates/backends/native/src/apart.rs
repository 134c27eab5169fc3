//! Trees that are opened by a process of their own, in namespaces that this one does not enter.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use agentkernel_sys::mount::Detached;
use agentkernel_sys::process::{self, Fork, Namespaces};
use agentkernel_sys::socket;

/// What `open` opens in a process with these namespaces, once that has gone. It must be child-safe.
pub fn open(
    namespaces: Namespaces,
    open: impl FnOnce() -> io::Result<Detached>,
) -> io::Result<OwnedFd> {
    let (receiving, sending) = socket::pair()?;
    let child = match process::fork(namespaces, None)? {
        Fork::Parent(child) => child,
        Fork::Child => {
            let said = match open() {
                Ok(tree) => socket::send(sending.as_fd(), &[0; 4], &[tree.as_fd()]),
                Err(error) => {
                    let errno = error.raw_os_error().unwrap_or(0);
                    socket::send(sending.as_fd(), &errno.to_le_bytes(), &[])
                }
            };
            process::exit_now(i32::from(said.is_err()))
        }
    };
    drop(sending);
    let mut errno = [0; 4];
    let received = socket::receive(receiving.as_fd(), &mut errno);
    child.wait()?;
    match received? {
        (4, [Some(tree), ..]) => Ok(tree),
        (4, _) => Err(io::Error::from_raw_os_error(i32::from_le_bytes(errno))),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
