//! What is said over the link before the agent serves it.
//!
//! Both are the same program, of one version; see [`agentkernel_far::word`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use agentkernel_core::{Identity, Life};
use agentkernel_guest::Nearest;
use serde::{Deserialize, Serialize};

/// The folder inside that the booter's is mounted at, and the socket in it.
pub const DOOR: &str = "/.agentkernel/door";
pub const LINK: &str = "link";

/// What the agent says first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The image's own, as far as it has them.
    pub passwd: String,
    pub group: String,
    /// The numbers of its namespaces, by the kernel's words for their kinds.
    pub namespaces: BTreeMap<String, u64>,
}

/// What the agent sees at a place that is shown to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub device: u64,
    pub inode: u64,
    /// Whether nothing that is mounted there or below can be written to.
    pub read_only: bool,
}

/// What the agent of a far place says first, for those who can't look themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FarAbout {
    pub about: About,
    /// Whether it has users of its own, in a user namespace.
    pub own_users: bool,
    /// Whether its kernel has Landlock.
    pub has_landlock: bool,
    /// The limits of its control groups, as [`Found`](agentkernel_sys::cgroup::Found) has them.
    pub cpu: Option<u64>,
    pub memory: Option<u64>,
    pub pids: Option<u64>,
    /// What is mounted in it, in that order.
    pub mounts: Vec<MountPoint>,
    /// The variables and the directory that its engine has started it with: the image's own, where the
    /// booter can't ask for those.
    pub environment: Vec<String>,
    pub directory: PathBuf,
}

/// Where something is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPoint {
    pub path: String,
    pub read_only: bool,
}

/// What it is told then.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Whom commands run as, who need not be in the image.
    pub user: Resident,
    /// Whether many can come in, and a file for its fate comes along. A place that is not far gets
    /// the socket by which they do.
    pub listener: bool,
    pub fate: bool,
    /// Where the engine shows what is the host's. If there is any, the agent says what it
    /// [sees](Seen) there, and waits for another word before it does anything.
    pub shown: Vec<PathBuf>,
    /// Directories of the engine's that no command is to enter.
    pub closed: Vec<PathBuf>,
    /// Whether commands are to have no sockets of the internet's: the place has a network that they are
    /// to be without.
    pub no_internet: bool,
    /// Limits that no control group holds.
    pub nearest: Vec<Nearest>,
    pub ttl_ms: Option<u64>,
    pub idle_ms: Option<u64>,
}

impl Setting {
    /// One for a place whose commands run as `user`, and that lives as `life` says.
    pub fn new(user: &Identity, nearest: Vec<Nearest>, life: &Life) -> Self {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let Identity { uid, gid, name, home } = user.clone();
        Self {
            user: Resident { name, home, uid, gid },
            listener: life.listener.is_some(),
            fate: life.fate.is_some(),
            shown: Vec::new(),
            closed: Vec::new(),
            no_internet: false,
            nearest,
            ttl_ms: life.ttl.map(ms),
            idle_ms: life.idle.map(ms),
        }
    }
}

/// A user of the place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resident {
    /// Empty if it has none.
    pub name: String,
    pub home: String,
    pub uid: u32,
    pub gid: u32,
}
