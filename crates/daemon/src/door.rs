//! Where clients come in: one daemon for one user, and only that user.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use agentkernel_engine::Lines;
use agentkernel_store::{Dirs, ProcessRef};
use agentkernel_sys::{descriptor, socket};
use rustix::fs::{FlockOperation, flock};

use crate::DaemonError;

/// How long the lock of a daemon that is no more may be held, and how often it is tried.
const LETTING_GO: Duration = Duration::from_secs(2);
const BREATH: Duration = Duration::from_millis(5);

/// The daemon's listening socket, and the lock that makes it the only one.
pub struct Door {
    listener: OwnedFd,
    /// The socket's path, if it is ours to remove.
    path: Option<PathBuf>,
    _lock: File,
}

impl Door {
    /// Opens the door: the socket that a service manager hands over, or one of our own.
    pub fn open(dirs: &Dirs) -> Result<Self, DaemonError> {
        dirs.prepare()?;
        let lock = lock(dirs)?;
        if let Some(listener) = descriptor::handed_over() {
            return Ok(Self { listener, path: None, _lock: lock });
        }
        let path = dirs.daemon_socket();
        // Whoever had the lock before us may have left it.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(DaemonError::io("remove an old socket")(error));
            }
            _ => {}
        }
        let listener = socket::listen(&path).map_err(DaemonError::io("make the socket"))?;
        Ok(Self { listener, path: Some(path), _lock: lock })
    }

    /// Takes a client, if it is the same user or root. Others can't reach the socket unless
    /// somebody has opened its folder to them.
    pub fn admit(&self) -> io::Result<Option<(Lines, socket::Peer)>> {
        let client = socket::accept(self.listener.as_fd())?;
        let peer = socket::peer(client.as_fd())?;
        let own = rustix::process::geteuid().as_raw();
        Ok((peer.uid == own || peer.uid == 0).then(|| (Lines::new(client), peer)))
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // The next daemon removes what is left.
            let _ = fs::remove_file(path);
        }
    }
}

/// Takes the lock, in which the holder's number stands.
fn lock(dirs: &Dirs) -> Result<File, DaemonError> {
    let open = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(dirs.daemon_lock());
    let mut file = open.map_err(DaemonError::io("take the daemon's lock"))?;
    let until = Instant::now() + LETTING_GO;
    while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let holder = holder(&mut file);
        if lives(&holder) || Instant::now() > until {
            return Err(DaemonError::Running(holder));
        }
        let _ = descriptor::poll(&mut [], Some(BREATH));
    }
    let write = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    write(&mut file).map_err(DaemonError::io("write the daemon's lock"))?;
    Ok(file)
}

/// The number in the lock. One that is not there yet is none.
fn holder(file: &mut File) -> String {
    let mut holder = String::new();
    let _ = file.rewind().and_then(|()| file.read_to_string(&mut holder));
    holder.trim().to_owned()
}

/// Whether the process of that number runs. A killed daemon's lock may be held for a moment longer, by
/// a copy of it that was about to become another program.
fn lives(holder: &str) -> bool {
    let process = holder.parse().ok().and_then(|pid| ProcessRef::of(pid).ok());
    process.is_some_and(|process| process.is_alive().unwrap_or(true))
}
