//! What the two sides of a boot share: their links, and the few words that go over them.

use std::os::fd::OwnedFd;

use agentkernel_core::BootError;
use agentkernel_guest::Nearest;
use agentkernel_sys::socket;

/// What the two sides need of each other while the place is made.
pub struct Doors {
    pub link: OwnedFd,
    /// Tells the agent that its numbers are mapped, and then brings the trees that it wants; none
    /// if it maps its own numbers.
    pub entry: Option<OwnedFd>,
    pub admission: Admission,
    /// Of a living place: where clients come in, and what is told of its end.
    pub listener: Option<OwnedFd>,
    pub fate: Option<OwnedFd>,
}

/// How the command, or a living place's agent, gets under its limits.
pub struct Admission {
    /// Where the engine will send the doors of its group, or word that there is none; nowhere if
    /// it is in its group already, or is to have none.
    pub door: Option<OwnedFd>,
    /// Its limits by itself.
    pub beyond_group: Vec<Nearest>,
    /// Its limits by itself if there is no group.
    pub instead_of_group: Vec<Nearest>,
}

/// The engine's words to the agent and the command, one byte each.
pub mod word {
    pub const MAPPED: u8 = b'm';
    pub const TREE: u8 = b't';
    pub const ADMITTED: u8 = b'a';
    pub const NO_GROUP: u8 = b'n';
}

/// A step that is none of the root's, as its number in the agent's refusal. The root's own steps
/// are numbered from 0.
pub mod step {
    pub const PARENT: u16 = 0xffff;
    pub const NAMESPACES: u16 = 0xfffe;
    pub const COMMAND: u16 = 0xfffd;
    pub const MAPPING: u16 = 0xfffc;
    pub const IDENTITY: u16 = 0xfffb;
    pub const PRIVATE_MOUNTS: u16 = 0xfffa;
    pub const HOST_NAME: u16 = 0xfff9;
    pub const DESCRIPTORS: u16 = 0xfff8;
    pub const LANDLOCK: u16 = 0xfff7;
    pub const BEHIND: u16 = 0xfff6;
}

/// Two ends of a link.
pub fn pair() -> Result<(OwnedFd, OwnedFd), BootError> {
    socket::pair().map_err(|source| BootError::Failed { what: "can't make a link".into(), source })
}
