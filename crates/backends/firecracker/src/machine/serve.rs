//! What a machine does for its host: it makes its root when it is told to, and is the agent then.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use agentkernel_containers::serve_stream;
use agentkernel_far::word;
use agentkernel_sys::{descriptor, machine, process, socket, vsock};

use super::{net, root};
use crate::words::{Order, Own, PORT, READY, Reply};

/// How long a host may take for a word, over whatever lies between. One that was stopped meanwhile
/// has broken the connection.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long the host may take to let go of the last words.
const LAST: Duration = Duration::from_secs(5);

/// Listens for the host, and says so.
pub fn listen() -> io::Result<OwnedFd> {
    let failed = |error| io::Error::other(format!("can't listen for the host: {error}"));
    let listener = vsock::listen(PORT).map_err(failed)?;
    // Who does not wait for it refuses the connection.
    let _ = vsock::connect_to_host(READY);
    Ok(listener)
}

/// What there is of a machine before it begins.
#[derive(Default)]
struct Made {
    /// Where what is written is kept, if it is.
    kept: Option<OwnedFd>,
    /// The device of its network, if it has one.
    device: Option<OwnedFd>,
}

/// Serves hosts, one after the other, until one has it begin, and then that one to its end. At the other end
/// of `home` is process 1.
pub fn serve(listener: OwnedFd, home: OwnedFd) -> io::Result<()> {
    process::hide()?;
    let mut made = Made::default();
    loop {
        let host = socket::accept(listener.as_fd())?;
        // It may have gone, or been left behind by a copy of the machine.
        if let Ok(Some(own)) = obey(&host, &mut made) {
            settle(&own)?;
            if let Some(device) = made.device {
                net::hand_over(&home, &device, &socket::accept(listener.as_fd())?)?;
            }
            let errors = socket::accept(listener.as_fd())?;
            drop((listener, home));
            word::write(host.as_fd(), &Reply::Done)?;
            return live(host, errors, made.kept);
        }
    }
}

/// Does what a host says, until it has it begin, or goes. Notes what it has made.
fn obey(host: &OwnedFd, made: &mut Made) -> io::Result<Option<Own>> {
    loop {
        match word::read::<Order>(host.as_fd(), PATIENCE)? {
            Order::Begin(own) => return Ok(Some(own)),
            Order::Make(making) => {
                // The device's file, and the kernel's modules, are not those of the root.
                let device = making.network.then(net::make).transpose();
                let done = device.and_then(|device| Ok((device, root::make(&making, host)?)));
                let reply = match done {
                    Ok((device, kept)) => {
                        *made = Made { kept, device };
                        Reply::Done
                    }
                    Err(error) => Reply::Failed { why: error.to_string() },
                };
                word::write(host.as_fd(), &reply)?;
            }
        }
    }
}

/// Becomes another machine than any copy of it.
fn settle(own: &Own) -> io::Result<()> {
    machine::reseed(&own.seed)?;
    machine::set_clock(own.clock)?;
    root::name(&own.host_name)
}

fn live(host: OwnedFd, errors: OwnedFd, kept: Option<OwnedFd>) -> io::Result<()> {
    process::set_umask(0);
    let last = errors.try_clone()?;
    let served = serve_stream(host.try_clone()?, host, errors, kept);
    // With the machine everything is gone that was not taken yet, so whoever listens closes first.
    socket::end_sending(last.as_fd())?;
    let mut gone = [descriptor::Interest::readable(last.as_fd())];
    descriptor::poll(&mut gone, Some(LAST))?;
    served
}
