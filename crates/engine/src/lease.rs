//! A sandbox out of the daemon's pool, for one command.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use agentkernel_core::{Attachment, Backend, ImageFacts, Pristine, Remains, Spec, Usage};
use agentkernel_protocol::ToAgent;
use agentkernel_store::Dirs;
use agentkernel_store::audit::digest;
use agentkernel_sys::{identity, socket};
use agentkernel_wire::{DAEMON_VERSION, DaemonReply, DaemonRequest, PlaceRecord, SpecRecord};

use crate::EngineError;
use crate::lines::Lines;
use crate::live::{Dial, PATIENCE};

/// A lease. Dropping it ends the sandbox.
pub struct Lease {
    pub pool: String,
    /// The link to the agent, until it is taken.
    link: OwnedFd,
    /// The host's number of the place's process 1.
    pid: i32,
    place: String,
    daemon: Lines,
}

/// How long a daemon may take for what it does at once.
const DAEMON_PATIENCE: Duration = Duration::from_secs(5);

/// How long it may take until a sandbox is gone.
const END_PATIENCE: Duration = Duration::from_secs(30);

const NO_DAEMON: &str = "no daemon is running";

/// The key of the pool whose sandboxes do for `spec`: a digest of all that a sandbox is made of
/// before it is known for what.
pub fn pool_key(backend: &dyn Backend, spec: &Spec) -> Option<String> {
    let part = backend.pool_part(spec)?;
    Some(digest(format!("{}\n{}", backend.name(), SpecRecord::from(&part).to_json())))
}

impl Lease {
    /// Asks the daemon for a sandbox for `spec` out of a pool, or says why that makes no sense.
    pub fn ask(dirs: &Dirs, backend: &dyn Backend, spec: &Spec) -> Result<Asked, String> {
        let socket = dirs.daemon_socket();
        // Most often there is no daemon, and no need to know for which pool it would be asked.
        if !socket.exists() {
            return Err(NO_DAEMON.to_owned());
        }
        let Some(key) = pool_key(backend, spec) else {
            return Err(format!("the {} backend keeps none like it ready", backend.name()));
        };
        // Connected when all is ready to be said, so that the daemon wakes once and not twice.
        Asked::send(connect(&socket)?, &DaemonRequest::Lease { version: DAEMON_VERSION, key })
    }

    /// Takes the sandbox, or says why there is none.
    pub fn take(asked: Asked) -> Result<Self, String> {
        let (mut daemon, reply) = asked.receive()?;
        match (reply, daemon.take_descriptors().into_iter().next()) {
            (DaemonReply::Leased { pool, pid, place }, Some(link)) => {
                Ok(Self { pool, link, pid, place, daemon })
            }
            (DaemonReply::NoLease { why } | DaemonReply::Failed { why }, _) => Err(why),
            (other, _) => Err(format!("the daemon answered {other:?}")),
        }
    }

    /// Adds to the sandbox what `spec` wants beyond what all of the pool have. Nothing has run in
    /// it yet, so if this fails, another can be made in its place.
    pub fn attach(self, backend: &dyn Backend, spec: &Spec) -> Result<Self, EngineError> {
        if !backend.needs_attachments(spec) {
            return Ok(self);
        }
        let image = self.image();
        let mut fresh = Fresh { dial: Dial::ready(self.link), pid: self.pid, image };
        backend.attach(spec, &mut fresh)?;
        Ok(Self { link: fresh.dial.into_link(), ..self })
    }

    /// What the place says of its image.
    pub fn image(&self) -> ImageFacts {
        PlaceRecord::from_json(&self.place).image()
    }

    /// The link to the agent, and what is left of the lease.
    pub fn split(self) -> (OwnedFd, Held) {
        (self.link, Held { pool: self.pool, place: self.place, daemon: self.daemon })
    }
}

/// The place of a lease.
struct Fresh {
    dial: Dial,
    pid: i32,
    image: ImageFacts,
}

impl Pristine for Fresh {
    fn pid(&self) -> i32 {
        self.pid
    }

    fn image(&self) -> ImageFacts {
        self.image.clone()
    }

    fn user_namespace(&mut self) -> io::Result<OwnedFd> {
        let answer = self.dial.ask(|command| ToAgent::UserNamespace { command }, &[], PATIENCE);
        let namespace = answer.map_err(io::Error::other)?.descriptor;
        namespace.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn add(&mut self, attachment: Attachment, tree: Option<OwnedFd>) -> io::Result<()> {
        let tree: Vec<_> = tree.iter().map(AsFd::as_fd).collect();
        let order = |command| ToAgent::Attach { command, attachment };
        self.dial.ask(order, &tree, PATIENCE).map(drop).map_err(io::Error::other)
    }
}

/// A lease whose link is in use. The place ends when this does, beside whoever held it.
pub struct Held {
    pub pool: String,
    place: String,
    daemon: Lines,
}

impl Held {
    /// What is known of the sandbox's place.
    pub fn place(&self) -> PlaceRecord {
        PlaceRecord::from_json(&self.place)
    }

    /// Tells that nothing runs in the sandbox any more. Else, when this goes, it is ended at once.
    pub fn leave(self) {
        // Whoever does not hear it sees the end of the connection.
        let _ = self.daemon.send(&DaemonRequest::Over.to_line(), &[]);
    }

    /// Ends the sandbox, waits until it is gone, and returns what it has used.
    pub fn end(&mut self) -> Result<Remains, String> {
        let sent = self.daemon.send(&DaemonRequest::End.to_line(), &[]);
        let reply = sent.and_then(|()| self.daemon.receive(Some(Instant::now() + END_PATIENCE)));
        match reply.map(|line| line.map(|line| DaemonReply::from_line(&line))) {
            Ok(Some(Ok(DaemonReply::Ended { oom_kills, user_us, system_us, max_rss_bytes }))) => {
                let usage = Usage {
                    user: Duration::from_micros(user_us),
                    system: Duration::from_micros(system_us),
                    max_resident: max_rss_bytes,
                };
                Ok(Remains { usage, oom_kills })
            }
            Ok(Some(Ok(other))) => Err(format!("the daemon answered {other:?}")),
            Ok(Some(Err(error))) => Err(format!("the daemon spoke nonsense: {error}")),
            Ok(None) => Err("the daemon is gone".into()),
            Err(error) => Err(format!("the daemon can't be heard: {error}")),
        }
    }
}

/// Asks the daemon at `socket` one thing.
pub fn ask(socket: &Path, request: &DaemonRequest) -> Result<(Lines, DaemonReply), String> {
    Asked::send(connect(socket)?, request)?.receive()
}

/// Connects to the daemon at `socket`, if it is the caller's or root's.
fn connect(socket: &Path) -> Result<Lines, String> {
    let connected =
        socket::connect(socket, DAEMON_PATIENCE).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => NO_DAEMON.to_owned(),
            io::ErrorKind::WouldBlock => "the daemon does not take connections".to_owned(),
            _ => format!("the daemon can't be reached: {error}"),
        })?;
    // Where others could put a socket, somebody else may listen.
    let own = identity::effective().0;
    match socket::peer(connected.as_fd()) {
        Ok(peer) if peer.uid == own || peer.uid == 0 => Ok(Lines::new(connected)),
        Ok(peer) => Err(format!("the daemon there is user {}'s", peer.uid)),
        Err(error) => Err(format!("the daemon can't be known: {error}")),
    }
}

/// A daemon that has been asked something.
pub struct Asked(Lines);

impl Asked {
    fn send(daemon: Lines, request: &DaemonRequest) -> Result<Self, String> {
        daemon
            .send(&request.to_line(), &[])
            .map_err(|error| format!("the daemon can't be asked: {error}"))?;
        Ok(Self(daemon))
    }

    fn receive(self) -> Result<(Lines, DaemonReply), String> {
        let Self(mut daemon) = self;
        match daemon.receive(Some(Instant::now() + DAEMON_PATIENCE)) {
            Ok(Some(line)) => match DaemonReply::from_line(&line) {
                Ok(reply) => Ok((daemon, reply)),
                Err(error) => Err(format!("the daemon spoke nonsense: {error}")),
            },
            Ok(None) => Err("the daemon closed the connection".into()),
            Err(error) => Err(format!("the daemon does not answer: {error}")),
        }
    }
}
