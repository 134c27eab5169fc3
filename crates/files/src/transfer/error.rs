use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Which of the two trees a path is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    Host,
    Sandbox,
}

/// A path with the tree that it is in. It is quoted when shown, since a sandbox may have chosen it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    pub path: PathBuf,
    pub place: Where,
}

impl fmt::Display for Located {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.place {
            Where::Host => "on the host",
            Where::Sandbox => "in the sandbox",
        };
        write!(f, "{:?} {place}", self.path)
    }
}

/// Why a copy ended early. What was copied before stays.
#[derive(Debug, Error)]
pub enum TransferError {
    #[error("there is no {at}")]
    Missing { at: Located },
    #[error("{at} is no directory")]
    NoDirectory { at: Located },
    #[error("{at} is a directory, which no file takes the place of")]
    IsDirectory { at: Located },
    #[error("{at} would be copied into itself")]
    IntoItself { at: Located },
    #[error("can't {action} {at}: {source}")]
    Failed {
        /// A verb, such as `open`.
        action: Cow<'static, str>,
        at: Located,
        source: io::Error,
    },
    #[error("the archive's member {member:?} {why}")]
    Member { member: PathBuf, why: Cow<'static, str> },
    #[error("can't read the archive: {source}")]
    Archive { source: io::Error },
    #[error("can't write the archive: {source}")]
    Output { source: io::Error },
    #[error("the sandbox's agent carries no files: {source}")]
    Agent { source: io::Error },
}

/// Why something was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Refusal {
    Device,
    Socket,
    Fifo,
    /// It lies in a file system that the kernel makes up, such as `/proc`.
    Kernel,
    /// The caller may not read it.
    Unreadable,
    /// It became something else while it was copied.
    Changed,
    /// Its name is longer than an archive should hold.
    TooLong,
    /// A kind of member that archives of other systems have.
    Unknown,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Device => "a device",
            Self::Socket => "a socket",
            Self::Fifo => "a fifo",
            Self::Kernel => "a file of the kernel's",
            Self::Unreadable => "not readable",
            Self::Changed => "changed meanwhile",
            Self::TooLong => "a name that is too long",
            Self::Unknown => "a kind of file that isn't known",
        })
    }
}

/// Something that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The source's path.
    pub path: PathBuf,
    pub why: Refusal,
}

/// What was copied, and what wasn't.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "something may have been refused"]
pub struct Transferred {
    /// How many files and links.
    pub files: u64,
    /// How many directories were made.
    pub directories: u64,
    /// The lengths of the files together, holes included.
    pub bytes: u64,
    /// The first 100 things that were left out.
    pub refused: Vec<Refused>,
    /// How many there were altogether.
    pub refusals: u64,
}

/// How many refusals are told one by one: a sandbox can make any number, with names of any length.
const TOLD: usize = 100;

impl Transferred {
    pub(super) fn refuse(&mut self, path: impl FnOnce() -> PathBuf, why: Refusal) {
        self.refusals += 1;
        if self.refused.len() < TOLD {
            self.refused.push(Refused { path: path(), why });
        }
    }

    /// Adds what somebody else has left out.
    pub(super) fn refuse_all(&mut self, others: Self) {
        let room = TOLD.saturating_sub(self.refused.len());
        self.refused.extend(others.refused.into_iter().take(room));
        self.refusals = self.refusals.saturating_add(others.refusals);
    }
}
