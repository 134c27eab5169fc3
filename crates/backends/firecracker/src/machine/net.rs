//! A machine's network: a device whose packets its host carries on. Process 1 carries them to the host, where no
//! command sees or ends it, and no limit of theirs is its own.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use agentkernel_far::{packets, word};
use agentkernel_sys::network;

use super::{NETWORK_ORDER, load_modules};

/// Makes the device. Whatever else is there, it needs one of the kernel's.
pub fn make() -> io::Result<OwnedFd> {
    load_modules(NETWORK_ORDER)?;
    network::tun(b"tun0", packets::LONGEST, &packets::ADDRESSES).map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::NotFound => {
                "the machine's kernel has no tun device (CONFIG_TUN), which --network full takes; \
                 agentkernel setup firecracker --force takes one with it, if there is one"
                    .into()
            }
            _ => format!("can't make the machine's network: {error}"),
        };
        io::Error::new(error.kind(), why)
    })
}

/// Has process 1, at the other end of `home`, carry the packets of `device` over `host`.
pub fn hand_over(home: &OwnedFd, device: &OwnedFd, host: &OwnedFd) -> io::Result<()> {
    word::send(home.as_fd(), &(), &[device.as_fd(), host.as_fd()])
}

/// Carries packets for the agent, at the other end of `home`, from when it asks for that to its end, of which
/// `end` tells. If it does not ask, it has closed its end.
pub fn carry_for(home: &OwnedFd, end: BorrowedFd<'_>) {
    let Ok(((), given)) = word::receive::<()>(home.as_fd()) else { return };
    if let [device, host] = &given[..] {
        // When it ends the device goes, and commands find no network.
        let _ = packets::carry(device, host, end);
    }
}
