//! A bridge, as whoever boots a place has it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::Duration;

use agentkernel_sys::descriptor::{self, Interest};
use agentkernel_sys::process::{self, Fork, Namespaces};
use agentkernel_sys::signal;
use agentkernel_sys::socket;

use crate::carry::{Order, Reply};
use crate::last::LastWords;
use crate::leaving;
use crate::word;

/// How long a bridge may take for what it has to do by itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// A bridge's process. Dropping it kills that, of which the place ends a moment later.
#[derive(Debug)]
pub struct Bridge {
    /// Gone when the place was released.
    process: Option<Process>,
    pid: i32,
    control: OwnedFd,
}

/// A program of its own, or a copy of its booter.
#[derive(Debug)]
pub(crate) enum Process {
    Started(std::process::Child),
    Copied(process::Child),
}

impl Process {
    fn kill(&mut self) -> io::Result<()> {
        match self {
            Self::Started(child) => child.kill(),
            Self::Copied(child) => child.signal(signal::SIGKILL),
        }
    }

    pub(crate) fn wait(&mut self) -> io::Result<()> {
        match self {
            Self::Started(child) => child.wait().map(drop),
            Self::Copied(child) => child.wait().map(drop),
        }
    }
}

/// Why a bridge is of no use.
#[derive(Debug, thiserror::Error)]
pub enum FarError {
    #[error("the process that is to carry the sandbox's stream can't be started: {0}")]
    Start(io::Error),
    /// In the words of whoever opens streams.
    #[error("{0}")]
    Open(String),
    #[error("it was interrupted while the sandbox was made")]
    Unwanted,
    #[error("the process that carries the sandbox's stream has ended: {0}")]
    Gone(io::Error),
}

impl Bridge {
    /// Starts `program`, which calls [`carry`](crate::carry).
    pub fn start(program: &mut Command) -> Result<Self, FarError> {
        let (control, theirs) = socket::pair().map_err(FarError::Start)?;
        let spawned = program.stdin(theirs).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        // Else the end of the other one would never be the last.
        program.stdin(Stdio::null());
        let child = spawned.map_err(FarError::Start)?;
        let pid = i32::try_from(child.id()).unwrap_or(i32::MAX);
        Ok(Self { process: Some(Process::Started(child)), pid, control })
    }

    /// Makes a copy of the calling process, which must have a single thread, that calls
    /// [`carry`](crate::carry) by `serve`. It has nothing else open, and has all memory in common with its
    /// booter that neither writes to: so it is there sooner than a program, and weighs less.
    pub fn copy(serve: impl FnOnce() -> io::Result<()>) -> Result<Self, FarError> {
        let (control, theirs) = socket::pair().map_err(FarError::Start)?;
        let nothing = File::options().read(true).write(true).open("/dev/null");
        let nothing = nothing.map_err(FarError::Start)?;
        match process::fork(Namespaces::NONE, None).map_err(FarError::Start)? {
            Fork::Child => {
                let streams = [theirs.as_fd(), nothing.as_fd(), nothing.as_fd()];
                // What ignores a closed pipe goes on to.
                let settled = signal::reset_to_default(&[signal::SIGPIPE])
                    .and_then(|()| descriptor::become_standard_streams(streams))
                    .and_then(|()| descriptor::close_all_but(&mut [0, 1, 2]))
                    .and_then(|()| process::change_directory(c"/"));
                let served = settled.and_then(|()| serve());
                process::exit_now(i32::from(served.is_err()))
            }
            Fork::Parent(child) => {
                let pid = child.pid();
                Ok(Self { process: Some(Process::Copied(child)), pid, control })
            }
        }
    }

    /// Has the stream into the place `place` opened: what can be read from it, and where to write
    /// what goes there. Whoever holds them when the place is [served](Self::serve) must let go.
    pub fn open(&self, place: &str) -> Result<(OwnedFd, OwnedFd), FarError> {
        self.say(&Order::Open { place: place.into() }, &[])?;
        self.opened(PATIENCE).map(|(input, output, _)| (input, output))
    }

    /// The same where to open it takes as long as to make the place, which is no longer than `patience`. A
    /// signal that is to end the caller, and is blocked, ends it.
    pub fn open_slowly(
        &self,
        place: &str,
        patience: Duration,
    ) -> Result<(OwnedFd, OwnedFd), FarError> {
        self.open_noted(place, patience).map(|(input, output, _)| (input, output))
    }

    /// The same, and what whoever has opened it [tells](crate::carry_noted) of that.
    pub fn open_noted(
        &self,
        place: &str,
        patience: Duration,
    ) -> Result<(OwnedFd, OwnedFd, Option<String>), FarError> {
        self.say(&Order::Open { place: place.into() }, &[])?;
        let signals = signal::endings();
        let signals = signals.map_err(FarError::Gone)?;
        let mut ready =
            [Interest::readable(self.control.as_fd()), Interest::readable(signals.as_fd())];
        descriptor::poll(&mut ready, Some(patience)).map_err(FarError::Gone)?;
        match ready[0].is_ready() || !ready[1].is_ready() {
            true => self.opened(Duration::ZERO),
            false => Err(FarError::Unwanted),
        }
    }

    fn opened(&self, patience: Duration) -> Result<(OwnedFd, OwnedFd, Option<String>), FarError> {
        match self.hear(patience)? {
            (Reply::Opened { note }, descriptors) => {
                let mut descriptors = descriptors.into_iter();
                let both = descriptors.next().zip(descriptors.next()).ok_or_else(nonsense)?;
                Ok((both.0, both.1, note))
            }
            (Reply::Failed { why }, _) => Err(FarError::Open(why)),
            (Reply::Gone { .. }, _) => Err(nonsense()),
        }
    }

    /// Has the stream carry links, and returns the first. Others may come by `listener`. What a
    /// place says of its [fate](LastWords::fate) is written to `fate`.
    pub fn serve(
        &self,
        listener: Option<BorrowedFd<'_>>,
        fate: Option<BorrowedFd<'_>>,
    ) -> Result<OwnedFd, FarError> {
        let (link, theirs) = socket::pair().map_err(FarError::Gone)?;
        let order = Order::Serve { listener: listener.is_some(), fate: fate.is_some() };
        let descriptors: Vec<_> =
            [Some(theirs.as_fd()), listener, fate].into_iter().flatten().collect();
        self.say(&order, &descriptors)?;
        Ok(link)
    }

    /// The number of its process.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Has the place end, and waits for nothing.
    pub fn kill(&self) {
        // It may have gone already.
        let _ = self.say(&Order::End, &[]);
    }

    /// Has the place end, unless it has, and waits for its last words. One that has not ended after
    /// `patience` is left (`TimedOut`): whoever has made it must end it otherwise.
    pub fn end(&mut self, patience: Duration) -> io::Result<LastWords> {
        self.kill();
        let told = match descriptor::poll(
            &mut [Interest::readable(self.control.as_fd())],
            Some(patience),
        )? {
            true => match word::receive::<Reply>(self.control.as_fd()) {
                Ok((Reply::Gone { words }, _)) => Ok(LastWords::new(words)),
                Ok(_) => Err(io::ErrorKind::InvalidData.into()),
                Err(error) => Err(error),
            },
            false => Err(io::ErrorKind::TimedOut.into()),
        };
        if told.is_ok()
            && let Some(process) = self.process.take()
        {
            leaving::bury(process, self.pid)?;
        }
        self.put_down();
        told
    }

    fn put_down(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may be dead already.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Lets the process go on without the caller, which sees that its booter has gone, and ends what it
    /// has begun.
    pub fn abandon(mut self) {
        self.process = None;
    }

    /// Lets the place go on without the caller.
    pub fn release(mut self) -> io::Result<()> {
        word::send(self.control.as_fd(), &Order::Release, &[])?;
        self.process = None;
        Ok(())
    }

    fn say(&self, order: &Order, descriptors: &[BorrowedFd<'_>]) -> Result<(), FarError> {
        word::send(self.control.as_fd(), order, descriptors).map_err(FarError::Gone)
    }

    fn hear(&self, patience: Duration) -> Result<(Reply, Vec<OwnedFd>), FarError> {
        let mut ready = [Interest::readable(self.control.as_fd())];
        match descriptor::poll(&mut ready, Some(patience)).map_err(FarError::Gone)? {
            true => word::receive(self.control.as_fd()).map_err(FarError::Gone),
            false => Err(FarError::Gone(io::ErrorKind::TimedOut.into())),
        }
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.put_down();
    }
}

fn nonsense() -> FarError {
    FarError::Gone(io::ErrorKind::InvalidData.into())
}

/// Ends the place of a bridge that somebody else has started, and waits until that has gone: it is asked to,
/// and one that has not within `patience` is killed, which ends its stream.
pub fn end(bridge: BorrowedFd<'_>, patience: Duration) -> io::Result<()> {
    for signal in [signal::SIGTERM, signal::SIGKILL] {
        // It may have ended of itself.
        let _ = process::signal_process(bridge, signal);
        if descriptor::poll(&mut [Interest::readable(bridge)], Some(patience))? {
            return Ok(());
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}
