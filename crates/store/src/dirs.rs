//! Where everything lies.

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::Errno;

use crate::{Id, Name};

/// The longest path that a socket can have, in bytes; `sun_path` of unix(7) without its NUL.
const LONGEST_SOCKET_PATH: usize = 107;

/// The folders of one user. The paths are computed, not looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dirs {
    state: PathBuf,
    runtime: PathBuf,
}

/// Why a folder can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DirsError {
    #[error("neither XDG_STATE_HOME nor HOME names an absolute path")]
    NoHome,
    #[error("{path} is not a folder, or is a link to one")]
    NotAFolder { path: PathBuf },
    #[error("{path} belongs to user {owner}, not to user {us}")]
    NotOurs { path: PathBuf, owner: u32, us: u32 },
    #[error("{path} is open to other users (mode {mode:04o})")]
    Open { path: PathBuf, mode: u32 },
    #[error("sockets in {path} would have paths that are too long")]
    TooLong { path: PathBuf },
    #[error("can't use the folder {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

impl DirsError {
    /// What the user can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::NoHome => "set HOME or XDG_STATE_HOME to a folder of yours".into(),
            Self::NotAFolder { path } => format!(
                "see who made {}, then remove it, or set XDG_STATE_HOME and XDG_RUNTIME_DIR to folders of yours",
                path.display()
            ),
            Self::NotOurs { .. } => {
                "set XDG_STATE_HOME and XDG_RUNTIME_DIR to folders of yours".into()
            }
            Self::Open { path, .. } => {
                format!("see what is in it, then close it: chmod 700 {}", path.display())
            }
            Self::TooLong { .. } => {
                format!("set XDG_RUNTIME_DIR to a folder with a path of at most {} bytes", {
                    LONGEST_SOCKET_PATH - "/agentkernel/sandboxes/0123456789ab.sock".len()
                })
            }
            Self::Io { .. } => {
                "set XDG_STATE_HOME and XDG_RUNTIME_DIR to folders that you can write in".into()
            }
        }
    }
}

impl Dirs {
    /// Finds the folders of the calling process's user by its environment. Does no I/O.
    pub fn of_caller() -> Result<Self, DirsError> {
        Self::find(|name| std::env::var_os(name), rustix::process::geteuid().as_raw())
    }

    /// Finds the folders of the user `uid` by the XDG variables that `lookup` gives. A relative
    /// path in one does not count, as the XDG Base Directory Specification demands. Does no I/O.
    pub fn find(lookup: impl Fn(&str) -> Option<OsString>, uid: u32) -> Result<Self, DirsError> {
        let absolute = |name| lookup(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let state = absolute("XDG_STATE_HOME")
            .or_else(|| Some(absolute("HOME")?.join(".local/state")))
            .ok_or(DirsError::NoHome)?
            .join("agentkernel");
        let runtime = match absolute("XDG_RUNTIME_DIR") {
            Some(folder) => folder.join("agentkernel"),
            None if uid == 0 => "/run/agentkernel".into(),
            None => format!("/tmp/agentkernel-{uid}").into(),
        };
        Ok(Self { state, runtime })
    }

    /// The folder of what outlives a reboot.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The folder of what does not.
    pub fn runtime(&self) -> &Path {
        &self.runtime
    }

    /// The database of records.
    pub fn store(&self) -> PathBuf {
        self.state.join("store.db")
    }

    /// The audit log.
    pub fn audit(&self) -> PathBuf {
        self.state.join("audit.jsonl")
    }

    /// The folder of all sandboxes' folders.
    pub fn sandboxes(&self) -> PathBuf {
        self.state.join("sandboxes")
    }

    /// The folder of one sandbox. [`Store::lock`](crate::Store::lock) makes it.
    pub fn sandbox(&self, id: &Id) -> PathBuf {
        self.sandboxes().join(id.as_str())
    }

    /// The file that is locked while a sandbox is started, stopped or removed. It is not in the
    /// sandbox's folder, so that who removes that is not in the way of who waits.
    pub(crate) fn sandbox_lock(&self, id: &Id) -> PathBuf {
        self.locks().join(id.as_str())
    }

    pub fn locks(&self) -> PathBuf {
        self.state.join("locks")
    }

    /// The folder of [cards](crate::Store::card).
    pub(crate) fn cards(&self) -> PathBuf {
        self.state.join("cards")
    }

    pub(crate) fn card(&self, name: &Name) -> PathBuf {
        self.cards().join(name.as_str())
    }

    /// What a sandbox wrote.
    pub fn layers(&self, id: &Id) -> PathBuf {
        self.sandbox(id).join("layers")
    }

    /// A sandbox's background commands.
    pub fn commands(&self, id: &Id) -> PathBuf {
        self.sandbox(id).join("commands")
    }

    /// The folder of all snapshots' folders.
    pub fn snapshots(&self) -> PathBuf {
        self.state.join("snapshots")
    }

    /// The folder of one snapshot.
    pub fn snapshot(&self, id: &Id) -> PathBuf {
        self.snapshots().join(id.as_str())
    }

    /// The folder of the sandboxes' sockets.
    pub fn sockets(&self) -> PathBuf {
        self.runtime.join("sandboxes")
    }

    /// The socket that a live sandbox's agent listens on.
    pub fn socket(&self, id: &Id) -> PathBuf {
        self.sockets().join(format!("{id}.sock"))
    }

    pub fn daemon_socket(&self) -> PathBuf {
        self.runtime.join("daemon.sock")
    }

    /// The file that a daemon holds locked for as long as it lives.
    pub fn daemon_lock(&self) -> PathBuf {
        self.runtime.join("daemon.lock")
    }

    pub fn daemon_log(&self) -> PathBuf {
        self.state.join("daemon.log")
    }

    /// Makes the folders where they are missing and [checks](Self::check) them.
    pub fn prepare(&self) -> Result<(), DirsError> {
        self.prepare_state()?;
        self.fits_sockets()?;
        make(&self.runtime)?;
        make(&self.sockets())
    }

    /// [`prepare`](Self::prepare) for the part that outlives a reboot.
    pub fn prepare_state(&self) -> Result<(), DirsError> {
        make(&self.state)?;
        make(&self.locks())?;
        make(&self.cards())?;
        make(&self.sandboxes())?;
        make(&self.snapshots())
    }

    /// Refuses folders that are not the caller's alone: one in `/tmp` may have been put there by
    /// anybody. Makes nothing; folders that are missing are fine.
    pub fn check(&self) -> Result<(), DirsError> {
        self.check_state()?;
        self.fits_sockets()?;
        private_if_any(&self.runtime)?;
        private_if_any(&self.sockets())?;
        Ok(())
    }

    /// [`check`](Self::check) for the part that outlives a reboot.
    pub fn check_state(&self) -> Result<(), DirsError> {
        private_if_any(&self.state)?;
        Ok(())
    }

    fn fits_sockets(&self) -> Result<(), DirsError> {
        let longest = self.sockets().as_os_str().as_bytes().len() + "/0123456789ab.sock".len();
        if longest > LONGEST_SOCKET_PATH {
            return Err(DirsError::TooLong { path: self.runtime.clone() });
        }
        Ok(())
    }
}

/// Makes the folder with mode 0700 if it is missing, and what is above it; then checks it.
fn make(path: &Path) -> Result<(), DirsError> {
    if private_if_any(path)? {
        return Ok(());
    }
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| DirsError::Io { path: path.into(), source })?;
    private(path)
}

/// Checks the folder if it is there; says whether it is.
fn private_if_any(path: &Path) -> Result<bool, DirsError> {
    match private(path) {
        Ok(()) => Ok(true),
        Err(DirsError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(err) => Err(err),
    }
}

/// Whether the folder is a real one, ours, and closed to everybody else.
fn private(path: &Path) -> Result<(), DirsError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let path = path.to_path_buf();
    let stat = match open(&path, flags, Mode::empty()).and_then(fstat) {
        Err(Errno::NOTDIR | Errno::LOOP) => return Err(DirsError::NotAFolder { path }),
        Err(errno) => return Err(DirsError::Io { path, source: errno.into() }),
        Ok(stat) => stat,
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Err(DirsError::NotAFolder { path });
    }
    let us = rustix::process::geteuid().as_raw();
    if stat.st_uid != us {
        return Err(DirsError::NotOurs { path, owner: stat.st_uid, us });
    }
    let mode = stat.st_mode & 0o7777;
    if mode & 0o077 != 0 {
        return Err(DirsError::Open { path, mode });
    }
    Ok(())
}
