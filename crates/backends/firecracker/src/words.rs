//! What is said between a machine and its host before the agent serves, as
//! [words](agentkernel_far::word) over a connection of the host's to [`PORT`].
//!
//! Both are one program of one version. A machine takes connections one after the other, so that one
//! which was stopped, copied and taken up again is there for its next host.

use std::time::Duration;

use agentkernel_containers::{FarAbout, Setting};
use serde::{Deserialize, Serialize};

/// Where a machine listens.
pub const PORT: u32 = 1024;

/// Where its host hears that it does.
pub const READY: u32 = 1025;

/// What a host says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Make the root. Said once in the life of a machine and of all its copies together.
    Make(Making),
    /// Then, to one that is to be saved: do all ahead that a machine does which is set to be this. From
    /// there on it can only be told to begin.
    Prepare(Setting),
    /// Serve on this connection from now on, with the last one for last words.
    Begin(Own),
}

/// What a machine's root is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Making {
    /// Whether a disk after that of the image keeps what is written; else memory does.
    pub kept: bool,
    /// In bytes, if what is written in memory is to be bounded.
    pub scratch: Option<u64>,
    /// Only private directories can be written.
    pub read_only: bool,
    /// The home of whom commands run as, if nothing else is to be written.
    pub home: String,
    /// Folders of the host's that it has copies of.
    pub mounts: Vec<Mounted>,
    /// Whom those belong to.
    pub owner: (u32, u32),
    /// Files of every root that are not as the image has them: paths, and what is in them.
    pub files: Vec<(String, String)>,
    /// Whether it has a network. Its packets go over a connection of their own, before that for last words.
    pub network: bool,
    /// Of all that commands use together: thousandths of a processor, bytes, a count.
    pub cpus: Option<u64>,
    pub memory: Option<u64>,
    pub pids: Option<u64>,
}

/// A folder of the host's, of which a machine has a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mounted {
    pub target: String,
    /// Whether the copy can be written to.
    pub writable: bool,
}

/// What a machine has and no copy of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Own {
    pub host_name: String,
    /// To be mixed into its random numbers.
    pub seed: [u8; 32],
    /// Since 1970.
    pub clock: Duration,
}

/// What a machine answers to each order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    Done,
    /// One that was prepared has begun, and serves.
    Begun(Box<FarAbout>),
    /// While it makes its root: send these of the folders, one after the other, each as
    /// `agentkernel_files` sends folders.
    Wants {
        folders: Vec<usize>,
    },
    Failed {
        why: String,
    },
}
