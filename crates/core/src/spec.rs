//! What a sandbox is made of.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::{Bytes, Cpus, Port, Reference};

/// Everything a sandbox is made of, resolved and validated: every path is absolute, every
/// amount in range, every default filled in. Two equal specs make interchangeable sandboxes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// The profile whose defaults filled the rest.
    pub profile: Profile,
    pub image: Image,
    pub network: Network,
    /// The host's ports that lead into it, in order, no two of which clash.
    pub ports: Vec<Port>,
    pub root: RootAccess,
    /// What of the host is visible, in the order in which it is mounted.
    pub mounts: Vec<Mount>,
    /// Where commands start; `None` is the user's home.
    pub directory: Option<PathBuf>,
    pub user: User,
    /// Variables beyond the few that every command gets (`PATH`, `HOME`, `USER`).
    pub environment: BTreeMap<OsString, OsString>,
    pub limits: Limits,
    /// Refuse to run when any wall or limit falls short of the spec, a profile's own included.
    pub strict: bool,
}

impl Spec {
    /// The same without what is a command's own, not its place's.
    pub fn without_command(&self) -> Self {
        Self {
            // Only a name, by now.
            profile: Profile::Moderate,
            directory: None,
            environment: BTreeMap::new(),
            ..self.clone()
        }
    }
}

/// A named set of spec defaults, the same on every backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    Restrictive,
    Moderate,
    Permissive,
}

impl Profile {
    /// Every profile, the strictest first.
    pub const ALL: [Self; 3] = [Self::Restrictive, Self::Moderate, Self::Permissive];

    /// The name by which users ask for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Restrictive => "restrictive",
            Self::Moderate => "moderate",
            Self::Permissive => "permissive",
        }
    }
}

/// Where a sandbox's root file system comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Image {
    /// The machine's own programs and libraries, read-only, and nothing else of it.
    Host,
    /// A directory that holds a root file system. It is never written to.
    Rootfs(PathBuf),
    /// The name by which a container engine knows an image, such as `python:3.13`.
    Reference(String),
    /// A WebAssembly module, which is the program of every command. The root has no other.
    Module(Module),
}

/// Which module it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Module {
    /// Any: each command brings its own, as in the places of a pool.
    Any,
    /// The one in this file.
    File(PathBuf),
    /// The one that the store of images has under this name.
    Named(String),
}

impl Image {
    /// What the program of every command is called, if the image is that program.
    pub fn module_name(&self) -> Option<&OsStr> {
        match self {
            Self::Module(Module::File(path)) => path.file_name(),
            Self::Module(Module::Named(name)) => {
                let name = Reference::parse(name).map_or(name.as_str(), |parts| parts.name);
                Path::new(name).file_name()
            }
            Self::Host | Self::Rootfs(_) | Self::Reference(_) | Self::Module(Module::Any) => None,
        }
    }

    /// The name by which an engine or the store of images knows it, if it has one.
    pub fn reference(&self) -> Option<&str> {
        match self {
            Self::Reference(name) | Self::Module(Module::Named(name)) => Some(name),
            _ => None,
        }
    }
}

/// When an engine fetches an image by its name from where that leads to. It is no part of a
/// [`Spec`]: what a sandbox is made of is the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pull {
    /// If it is not there.
    #[default]
    Missing,
    /// Each time, so that it is the latest.
    Always,
    /// Not at all: what is not there can't be started.
    Never,
}

/// What a sandbox can reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// A loopback interface of its own and nothing else.
    None,
    /// Whatever the backend's host can reach.
    Full,
    /// Only the named hosts.
    Allow(Vec<String>),
}

/// Whether a command may write outside its private directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootAccess {
    /// Only `/tmp`, `/run`, `/dev/shm`, the home and writable mounts can be written.
    ReadOnly,
    /// Writes are kept in the sandbox and go with it.
    Writable,
}

/// A host directory or file that a sandbox sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// An absolute path on the host, without links, that existed when the spec was resolved.
    pub source: PathBuf,
    /// An absolute path in the sandbox, without `..`.
    pub target: PathBuf,
    pub access: Access,
}

impl Mount {
    /// Whether its target lies in the target of another of `all` that shows the host's own files,
    /// where no place for it may be made.
    pub fn lies_in_another(&self, all: &[Mount]) -> bool {
        all.iter().any(|other| {
            other.target != self.target
                && self.target.starts_with(&other.target)
                && other.access != Access::CopyOnWrite
        })
    }
}

/// What a sandbox may do with a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// See it.
    ReadOnly,
    /// See and change it; the host sees the changes.
    ReadWrite,
    /// See and change it; the host never sees the changes.
    CopyOnWrite,
}

/// As whom commands run, seen from inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum User {
    /// The image's unprivileged user: 1000 (`agent`) where the image has no say.
    Unprivileged,
    /// The caller's own number and name.
    Caller,
    /// A name that the image's own `/etc/passwd` must know.
    Named(String),
    /// A user number, and a group number (the same if not given).
    Ids { uid: u32, gid: u32 },
}

/// The most that a sandbox may use; `None` is as much as the host has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    pub cpus: Option<Asked<Cpus>>,
    pub memory: Option<Asked<Bytes>>,
    /// Processes and threads together.
    pub pids: Option<Asked<u32>>,
    /// All that is written to anything but a read-write mount.
    pub disk: Option<Asked<Bytes>>,
}

/// A value with where it came from: what somebody asked for is enforced or refused, while a
/// profile's own default may fall back to a nearer wall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked<T> {
    pub value: T,
    pub by: Origin,
}

/// Who asked for a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A flag, a variable or a file of the user's.
    User,
    /// The profile.
    Profile,
}

/// The limits by name, for refusals and reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitKind {
    Cpus,
    Memory,
    Pids,
    Disk,
}

impl LimitKind {
    /// The name of the flag that sets it, without dashes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpus => "cpus",
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Disk => "disk",
        }
    }
}
