//! What is remembered of each sandbox, snapshot and pool.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use crate::{Id, Name, ProcessRef};

/// All that is remembered of one sandbox. Times are kept to the millisecond.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Never changes.
    pub id: Id,
    /// Unique among the sandboxes of the store.
    pub name: Name,
    pub backend: String,
    /// JSON of the layer above.
    pub spec: String,
    pub labels: BTreeMap<String, String>,
    pub state: State,
    /// Process 1 of the place, as its host sees it, while there is one.
    pub process: Option<ProcessRef>,
    /// JSON of the layer above: walls, limits, groups.
    pub place: Option<String>,
    /// Never changes.
    pub created: SystemTime,
    /// When it was last started.
    pub started: Option<SystemTime>,
    /// When it last stopped.
    pub stopped: Option<SystemTime>,
    /// Why it stopped.
    pub why: Option<String>,
    /// How long after its creation it is stopped and removed.
    pub ttl: Option<Duration>,
    /// How long after its last use it is stopped and removed.
    pub idle: Option<Duration>,
    /// JSON of the layer above: what was carried to the host.
    pub applied: Option<String>,
    /// The snapshot or the sandbox that it was made from.
    pub origin: Option<String>,
}

/// A sandbox to remember. It gets the time of its creation, and the state `Created`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRecord {
    /// Made up if there is none. Who has filled its folder before it is known has one.
    pub id: Option<Id>,
    pub name: Name,
    pub backend: String,
    pub spec: String,
    pub labels: BTreeMap<String, String>,
    pub ttl: Option<Duration>,
    pub idle: Option<Duration>,
    pub applied: Option<String>,
    pub origin: Option<String>,
}

/// Where a sandbox is in its life. What is stored was true when it was written; whether the
/// process is still there, [`ProcessRef::is_alive`] tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Never started.
    Created,
    Running,
    Paused,
    /// Ended, its files kept.
    Stopped,
}

impl State {
    pub const ALL: [Self; 4] = [Self::Created, Self::Running, Self::Paused, Self::Stopped];

    /// The word for people, for programs and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.name())
    }
}

/// What a sandbox had written at some time, kept under a name of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub id: Id,
    /// Unique among the snapshots of the store.
    pub name: Name,
    /// The sandbox it was made of, which may be gone.
    pub of: String,
    pub backend: String,
    /// JSON of the layer above.
    pub spec: String,
    /// Kept to the millisecond.
    pub created: SystemTime,
    /// What it takes on the disk, if nothing is shared with others.
    pub bytes: u64,
}

/// How many sandboxes of which kind a daemon is to hold ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Unique among the pools of the store.
    pub name: Name,
    pub size: u32,
    pub backend: String,
    /// JSON of the layer above.
    pub spec: String,
    /// How long a sandbox may wait ready before it is replaced.
    pub max_age: Option<Duration>,
}
