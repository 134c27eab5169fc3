//! A connection to an engine.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agentkernel_containers::Product;
use agentkernel_core::BootError;
use bollard::errors::Error;
use bollard::{ClientVersion, Docker};
use rustix::fs::FlockOperation;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use crate::host::{self, Far, Host};
use crate::service::Service;
use crate::transport;

/// How long an engine may take for an answer, in seconds. To start a container takes the slowest of
/// machines a while; a pull has no end but its own.
const PATIENCE: u64 = 120;

/// How long it may take to say that it is there, for which it has nothing to do.
const GREETING: Duration = Duration::from_secs(20);

/// The version of the API that is tried first: the oldest that has all that is needed. An engine
/// that does not serve it says which it does.
const VERSION: (usize, usize) = (1, 41);

/// The oldest that has all that is needed but private control group namespaces by word.
const OLDEST: (usize, usize) = (1, 40);

/// An engine that answers.
pub struct Client {
    pub product: &'static Product,
    pub docker: Docker,
    /// On a thread of its own nothing runs: the caller may have to stay a process of a single one.
    pub runtime: Runtime,
    /// Its local socket, unless it is [far](Self::far).
    pub socket: Option<PathBuf>,
    pub host: Host,
    /// Held while the engine is served for us alone.
    _service: Option<Service>,
}

impl Client {
    /// Connects to the engine of `product`, and makes sure that it answers.
    pub fn connect(product: &'static Product) -> Result<Self, BootError> {
        let host = host::find(product)?;
        let (socket, service) = match &host {
            Host::Socket(socket) => (Some(socket.clone()), None),
            Host::OnDemand(program) => {
                let service = Service::start(product, program)?;
                (Some(service.socket().to_owned()), Some(service))
            }
            Host::Far(_) => (None, None),
        };
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|source| BootError::Failed {
            what: "can't set up the connection to the engine".into(),
            source,
        })?;
        let mut version = VERSION;
        // Twice at most: the engine names the version that it serves.
        for _ in 0..2 {
            let docker = open(&host, socket.as_deref(), version)
                .map_err(|error| unreachable(product, &host, socket.as_deref(), error))?;
            let error = match runtime.block_on(async { timeout(GREETING, docker.ping()).await }) {
                Ok(Ok(_)) => {
                    return Ok(Self { product, docker, runtime, socket, host, _service: service });
                }
                Ok(Err(error)) => error,
                Err(_) => Error::RequestTimeoutError,
            };
            version = match served(&error).filter(|served| *served != version) {
                Some(served) if served >= OLDEST => served,
                Some((major, minor)) => {
                    return Err(BootError::Unavailable {
                        why: format!(
                            "{} serves version {major}.{minor} of its API, and {}.{} is needed",
                            product.title, OLDEST.0, OLDEST.1
                        ),
                        fix: format!("use a newer {}", product.title),
                    });
                }
                None => return Err(unreachable(product, &host, socket.as_deref(), error)),
            };
        }
        Err(BootError::Failed {
            what: format!("can't agree with {} on a version of its API", product.title),
            source: io::ErrorKind::Unsupported.into(),
        })
    }
}

impl Client {
    /// Waits for one's turn among all who make containers here, and keeps it until this is dropped.
    /// Podman's service may die of two at once that want the caller's own numbers kept: it asks a
    /// library of the system's for these that is no good for threads (libsubid, seen in 4.3).
    pub fn turn(&self) -> Option<File> {
        let folder = File::open(self.socket.as_ref()?.parent()?).ok()?;
        // Whoever can't have it goes on without.
        rustix::fs::flock(&folder, FlockOperation::LockExclusive).ok()?;
        Some(folder)
    }

    /// Whether the engine is an ordinary user's, whose containers have users of their own. Of one that
    /// is far only its containers tell.
    pub fn is_rootless(&self) -> bool {
        let found = self.socket.as_ref().map(std::fs::metadata);
        found.is_some_and(|socket| socket.is_ok_and(|socket| socket.uid() != 0))
    }

    /// Whether it is another one's than the caller's, who is not root: what it mounts is to be mounted by
    /// itself, or not at all.
    pub fn is_anothers(&self) -> bool {
        !self.is_far() && !self.is_rootless() && !rustix::process::geteuid().is_root()
    }

    /// Whether it is elsewhere, and shares neither files nor processes with this machine.
    pub fn is_far(&self) -> bool {
        matches!(self.host, Host::Far(_))
    }
}

fn open(
    host: &Host,
    socket: Option<&Path>,
    (major_version, minor_version): (usize, usize),
) -> Result<Docker, Error> {
    let version = ClientVersion { major_version, minor_version };
    match (host, socket) {
        (Host::Far(far), _) => transport::docker(far, PATIENCE, &version),
        (_, socket) => {
            let socket = socket.unwrap_or(Path::new("")).to_string_lossy();
            Docker::connect_with_unix(&socket, PATIENCE, &version)
        }
    }
}

/// The version that an engine says it serves, in place of the one that was asked for: `Maximum
/// supported API version is 1.41` or `Minimum ...`.
fn served(error: &Error) -> Option<(usize, usize)> {
    let Error::DockerResponseServerError { status_code: 400, message } = error else { return None };
    let (_, rest) = message.split_once("supported API version is ")?;
    let number = |text: &str| {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        text[..digits].parse().ok()
    };
    let (major, minor) = rest.split_once('.')?;
    Some((number(major)?, number(minor)?))
}

/// Why an engine can't be reached.
fn unreachable(product: &Product, host: &Host, socket: Option<&Path>, error: Error) -> BootError {
    let Some(socket) = socket else { return out_of_reach(product, host, &error) };
    let at = socket.display();
    let kind = io_error(&error).map(io::Error::kind);
    let (why, fix) = match (kind, &error) {
        (Some(io::ErrorKind::PermissionDenied), _) => (
            format!("{} at {at} may not be used by this user", product.title),
            match group_of(socket) {
                Some(group) => format!(
                    "become a member of the group {group} (whose members can become root), as with \
                     usermod -aG {group} USER, and log in again"
                ),
                None => "use an engine of your own, such as rootless Podman".into(),
            },
        ),
        (Some(io::ErrorKind::NotFound), _) | (_, Error::SocketNotFoundError(_)) => {
            (format!("{} is not there: nothing at {at}", product.title), product.install.into())
        }
        (Some(io::ErrorKind::ConnectionRefused), _) => (
            format!("{} does not run: nobody listens at {at}", product.title),
            "start its daemon, as with systemctl start docker".into(),
        ),
        (_, Error::RequestTimeoutError) => (
            format!(
                "{} at {at} has not answered for {} seconds",
                product.title,
                GREETING.as_secs()
            ),
            "look what its daemon does".into(),
        ),
        _ => (
            format!("{} at {at} does not answer as it should: {}", product.title, words(&error)),
            "look what its daemon does".into(),
        ),
    };
    BootError::Unavailable { why, fix }
}

/// Why one that is far can't be reached.
fn out_of_reach(product: &Product, host: &Host, error: &Error) -> BootError {
    let title = product.title;
    let fix = match host {
        Host::Far(Far::Ssh { destination, .. }) => format!(
            "see that ssh {destination} works without a password, and that {} is installed there",
            product.name
        ),
        Host::Far(Far::Tcp { certificates: Some(_), .. }) => {
            "see that the engine listens there, and that DOCKER_CERT_PATH or the context has its own \
             ca.pem, and cert.pem and key.pem that it knows"
                .into()
        }
        _ => "see that the engine listens there, and whether it wants TLS (DOCKER_TLS_VERIFY=1)".into(),
    };
    let why = match error {
        Error::RequestTimeoutError => format!("it has not answered for {PATIENCE} seconds"),
        error => io_error(error).map_or_else(|| words(error), ToString::to_string),
    };
    BootError::Unavailable { why: format!("{title} at {host} can't be used: {why}"), fix }
}

/// The system's error under one of the client's.
fn io_error(error: &Error) -> Option<&io::Error> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(found) = error.downcast_ref::<io::Error>() {
            return Some(found);
        }
        source = error.source();
    }
    None
}

/// The name of the group that may use a socket, by the machine's own list.
fn group_of(socket: &Path) -> Option<String> {
    let gid = std::fs::metadata(socket).ok()?.gid();
    let groups = std::fs::read_to_string("/etc/group").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (gid != 0 && fields.nth(1)?.parse() == Ok(gid)).then(|| name.to_owned())
    })
}

/// What an error says, without the client's own words around it.
pub fn words(error: &Error) -> String {
    match error {
        Error::DockerResponseServerError { message, .. } => message.trim().to_owned(),
        error => error.to_string(),
    }
}

/// The status that an engine has answered with.
pub fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// An engine's refusal that has no better words.
pub fn failed(what: impl Into<String>, error: &Error) -> BootError {
    BootError::Failed { what: what.into(), source: io::Error::other(words(error)) }
}

/// How long a process may take to die that was killed.
pub const DEATH: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_that_an_engine_serves_is_understood() {
        let of = |status_code, message: &str| {
            served(&Error::DockerResponseServerError { status_code, message: message.into() })
        };
        let new = "client version 1.53 is too new. Maximum supported API version is 1.41";
        assert_eq!(of(400, new), Some((1, 41)));
        let old = "client version 1.41 is too old. Minimum supported API version is 1.44, please \
                   upgrade your client to a newer version";
        assert_eq!(of(400, old), Some((1, 44)));
        assert_eq!(of(400, "no"), None);
        assert_eq!(of(500, new), None);
    }
}
