//! The profiles as data. Nothing else decides anything by a profile's name.

use agentkernel_core::{Access, Bytes, Cpus, Network, Profile, RootAccess, User};

/// What a profile fills in where nobody said anything.
pub(crate) struct Defaults {
    pub network: Network,
    pub root: RootAccess,
    /// How a project is seen once somebody asks for it.
    pub project: Access,
    pub user: User,
    pub cpus: Option<Cpus>,
    pub memory: Option<Bytes>,
    pub pids: Option<u32>,
    /// The caller's variables that are copied. A `*` at the end stands for anything.
    pub variables: &'static [&'static str],
}

/// What a program of the caller's own needs to speak the caller's language and to find a way out.
/// `TERM` is not among them: it belongs to a terminal, which not every command gets.
const CALLER: &[&str] = &[
    "LANG",
    "LC_*",
    "TZ",
    "COLORTERM",
    "NO_COLOR",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
];

pub(crate) fn defaults(profile: Profile) -> Defaults {
    match profile {
        Profile::Restrictive => Defaults {
            network: Network::None,
            root: RootAccess::ReadOnly,
            project: Access::CopyOnWrite,
            user: User::Unprivileged,
            cpus: Some(Cpus::whole(1)),
            memory: Some(Bytes::mib(256)),
            pids: Some(64),
            variables: &[],
        },
        Profile::Moderate => Defaults {
            network: Network::None,
            root: RootAccess::Writable,
            project: Access::CopyOnWrite,
            user: User::Unprivileged,
            cpus: Some(Cpus::whole(2)),
            memory: Some(Bytes::mib(1024)),
            pids: Some(512),
            variables: &[],
        },
        Profile::Permissive => Defaults {
            network: Network::Full,
            root: RootAccess::Writable,
            project: Access::ReadWrite,
            user: User::Caller,
            cpus: None,
            memory: None,
            pids: None,
            variables: CALLER,
        },
    }
}
