//! What a machine does for its host: it makes its root when it is told to, and is the agent then.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use agentkernel_containers::serve_stream;
use agentkernel_far::word;
use agentkernel_sys::{descriptor, machine, process, socket, vsock};

use super::root;
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

/// Serves hosts, one after the other, until one has it begin, and then that one to its end.
pub fn serve(listener: OwnedFd) -> io::Result<()> {
    process::hide()?;
    let mut kept = None;
    loop {
        let host = socket::accept(listener.as_fd())?;
        // It may have gone, or been left behind by a copy of the machine.
        if let Ok(Some(own)) = obey(&host, &mut kept) {
            settle(&own)?;
            let errors = socket::accept(listener.as_fd())?;
            drop(listener);
            word::write(host.as_fd(), &Reply::Done)?;
            return live(host, errors, kept);
        }
    }
}

/// Does what a host says, until it has it begin, or goes. Notes where what is written is kept, if it is.
fn obey(host: &OwnedFd, kept: &mut Option<OwnedFd>) -> io::Result<Option<Own>> {
    loop {
        match word::read::<Order>(host.as_fd(), PATIENCE)? {
            Order::Begin(own) => return Ok(Some(own)),
            Order::Make(making) => {
                let reply = match root::make(&making, host) {
                    Ok(written) => {
                        *kept = written;
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
