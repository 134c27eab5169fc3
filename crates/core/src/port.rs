//! Ports of the host that lead into a sandbox.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;

/// A port in a sandbox that is reached at one of the host's. The order is that in which they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// The one in the sandbox.
    pub inside: NonZeroU16,
    pub transport: Transport,
    /// The host's address at which it is reached. An unspecified one is all of its family.
    pub address: IpAddr,
    /// The host's; `None` is one that the system picks each time that a place is booted.
    pub outside: Option<NonZeroU16>,
}

/// What is spoken on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl Port {
    /// Where the host has it: `127.0.0.1:8080`, with port 0 for one that is not picked yet.
    pub fn host(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.outside.map_or(0, NonZeroU16::get))
    }

    /// What it is inside: `80/tcp`.
    pub fn target(&self) -> String {
        format!("{}/{}", self.inside, self.transport.name())
    }

    /// Whether the host can't have both at the same time.
    pub fn clashes_with(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.address, other.address);
        let same_family = ours.is_ipv4() == theirs.is_ipv4();
        let meet =
            ours == theirs || same_family && (ours.is_unspecified() || theirs.is_unspecified());
        self.transport == other.transport
            && self.outside.is_some()
            && self.outside == other.outside
            && meet
    }
}

impl fmt::Display for Port {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} -> {}", self.target(), self.host())
    }
}
