//! What a machine does for its host: it makes its root when it is told to, and is the agent then.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use agentkernel_containers::{Ahead, FarAbout, Setting, serve_ahead, serve_stream};
use agentkernel_far::word;
use agentkernel_sys::{machine, process, socket, vsock};

use super::{net, root};
use crate::words::{Order, Own, PORT, READY, Reply};

/// How long a host may take for a word, over whatever lies between. One that was stopped meanwhile
/// has broken the connection.
const PATIENCE: Duration = Duration::from_secs(60);

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
        // It may have gone.
        match obey(&host, &mut made) {
            Ok(Next::Begin(own)) => {
                let errors = begin(&own, made.device, &listener, &home)?;
                drop((listener, home));
                word::write(host.as_fd(), &Reply::Done)?;
                process::set_umask(0);
                // With the last words' connection closed, its other end hears of the end.
                return serve_stream(host.try_clone()?, host, errors, made.kept);
            }
            Ok(Next::Prepare(setting)) => {
                process::set_umask(0);
                let waiting = Waiting { host, listener, home, device: made.device };
                return serve_ahead(&setting, waiting);
            }
            Err(_) => {}
        }
    }
}

/// What a host wants that leads to nothing else that it may want.
enum Next {
    Begin(Own),
    Prepare(Setting),
}

/// Does what a host says, until it has it begin or prepare for that, or goes. Notes what it has made.
fn obey(host: &OwnedFd, made: &mut Made) -> io::Result<Next> {
    loop {
        match word::read::<Order>(host.as_fd(), PATIENCE)? {
            Order::Begin(own) => return Ok(Next::Begin(own)),
            Order::Prepare(setting) => return Ok(Next::Prepare(setting)),
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

/// A machine that is saved, and all its copies, till each of them begins.
struct Waiting {
    /// Who has it saved.
    host: OwnedFd,
    listener: OwnedFd,
    home: OwnedFd,
    device: Option<OwnedFd>,
}

impl Ahead for Waiting {
    fn needed(&self) -> [Option<BorrowedFd<'_>>; 4] {
        let [host, listener, home] = [&self.host, &self.listener, &self.home].map(AsFd::as_fd);
        [Some(host), Some(listener), Some(home), self.device.as_ref().map(AsFd::as_fd)]
    }

    fn begin(self, said: FarAbout) -> io::Result<[OwnedFd; 3]> {
        let Self { host, listener, home, device } = self;
        let said = word::encode(&Reply::Begun(Box::new(said)))?;
        word::write(host.as_fd(), &Reply::Done)?;
        drop(host);
        let (host, own) = loop {
            let host = socket::accept(listener.as_fd())?;
            // It may have gone.
            if let Ok(Order::Begin(own)) = word::read(host.as_fd(), PATIENCE) {
                break (host, own);
            }
        };
        let errors = begin(&own, device, &listener, &home)?;
        word::Bytes(host.as_fd()).write_all(&said)?;
        Ok([host.try_clone()?, host, errors])
    }
}

/// Becomes another machine than any copy of it, with its network, and takes the connection for last words.
fn begin(
    own: &Own,
    device: Option<OwnedFd>,
    listener: &OwnedFd,
    home: &OwnedFd,
) -> io::Result<OwnedFd> {
    settle(own)?;
    if let Some(device) = device {
        net::hand_over(home, &device, &socket::accept(listener.as_fd())?)?;
    }
    socket::accept(listener.as_fd())
}

/// Becomes another machine than any copy of it.
fn settle(own: &Own) -> io::Result<()> {
    machine::reseed(&own.seed)?;
    machine::set_clock(own.clock)?;
    root::name(&own.host_name)
}
