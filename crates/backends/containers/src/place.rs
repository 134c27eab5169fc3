//! What stands around a container, and what its limits are in truth.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use agentkernel_core::{
    Asked, BootError, ImageFacts, LimitInForce, LimitKind, Limited, NUMBERS, Network, Origin,
    Owners, Spec, Stdio, Wall,
};
use agentkernel_guest::{Nearest, open_pipes};
use agentkernel_sys::cgroup::{Controller, Found, Limit};
use agentkernel_sys::identity;

use crate::greeting::About;
use crate::identity_of;

/// Why there is no Landlock on a kernel.
pub const NO_LANDLOCK: &str = "the kernel has no Landlock";

/// The walls that stand around every container.
pub const ALWAYS: [&str; 12] = [
    "mount-namespace",
    "pid-namespace",
    "ipc-namespace",
    "uts-namespace",
    "cgroup-namespace",
    "root",
    "proc",
    "session",
    "descriptors",
    "no-new-privileges",
    "capabilities",
    "seccomp",
];

/// The walls around a container. `own_users` is whether the engine gives it a user namespace, and
/// `no_landlock` why its kernel has none.
pub fn walls(network: &Network, own_users: bool, no_landlock: Option<&str>) -> Vec<Wall> {
    let users = (!own_users).then(|| {
        "the engine is root's and gives containers the host's own users; only its rootless mode \
         and its userns-remap do not"
            .to_owned()
    });
    let all = ALWAYS.into_iter().map(|name| Wall::new(name, None));
    let network = match network {
        Network::None => None,
        _ => Some("the spec asks for a network".to_owned()),
    };
    let others = [
        Wall::new("user-namespace", users),
        Wall::new("network-namespace", network),
        Wall::new("landlock", no_landlock.map(Into::into)),
    ];
    all.chain(others).collect()
}

/// Why there is no wall that an engine was asked for.
pub const LEFT_OUT: &str = "the engine has left it out";

/// The walls that are namespaces, and what the kernel calls those.
pub const NAMESPACES: [(&str, &str); 7] = [
    ("mount-namespace", "mnt"),
    ("pid-namespace", "pid"),
    ("ipc-namespace", "ipc"),
    ("uts-namespace", "uts"),
    ("cgroup-namespace", "cgroup"),
    ("network-namespace", "net"),
    ("user-namespace", "user"),
];

/// The walls as they are around an agent that says this: an engine may leave out what it was asked
/// for, as Podman does with control groups' namespaces where these are of version 1. It has to be the
/// agent's word, for an ordinary user may not look at processes of root's engine.
pub fn look(walls: Vec<Wall>, about: &About) -> io::Result<Vec<Wall>> {
    let look = |wall: Wall| {
        let known = NAMESPACES.iter().find(|(name, _)| *name == wall.name);
        let Some((name, kind)) = known.filter(|_| wall.missing.is_none()) else { return Ok(wall) };
        match shares(about, kind)? {
            true => Ok(Wall::new(name, Some(LEFT_OUT.into()))),
            false => Ok(wall),
        }
    };
    walls.into_iter().map(look).collect()
}

/// Whether an agent that says this has the caller's own namespace of this kind. One that does not
/// tell of it might.
pub fn shares(about: &About, kind: &str) -> io::Result<bool> {
    let own = fs::metadata(format!("/proc/self/ns/{kind}"))?.ino();
    Ok(about.namespaces.get(kind).is_none_or(|number| *number == own))
}

/// Refuses to leave out a wall where somebody wants every one.
pub fn refuse_missing(walls: &[Wall], spec: &Spec) -> Result<(), BootError> {
    let missing = |wall: &Wall| Some((wall.name.clone(), wall.missing.clone()?));
    let mut missing = walls.iter().filter_map(missing);
    // Left out by who asks for a network.
    match missing.find(|(name, _)| name != "network-namespace") {
        Some((name, why)) if spec.strict => Err(BootError::Refused {
            why: format!("--strict wants every wall, but {name} is missing: {why}"),
            fix: match &*name {
                "seccomp" => {
                    "leave out --strict, or use an engine on a machine that the agent is for"
                }
                "landlock" => "leave out --strict, or use a kernel with Landlock (Linux 5.13)",
                _ => "leave out --strict, or use a rootless engine",
            }
            .into(),
        }),
        _ => Ok(()),
    }
}

/// The limits of a container, as its control groups have them.
pub struct Enforced {
    pub limits: Vec<LimitInForce>,
    /// The nearest walls there are in place of those that its groups don't have.
    pub nearest: Vec<Nearest>,
}

impl Enforced {
    /// Compares what was asked for with what `found` says. Engines leave out what the machine can't
    /// do, with a warning at most; what a user asked for is refused then. `shares_users` is whether
    /// others' processes would be counted as those of this container's users.
    pub fn check(spec: &Spec, found: &Found, shares_users: bool) -> Result<Self, BootError> {
        let limits = &spec.limits;
        let cpus = limits.cpus.map(|asked| (u64::from(asked.value.millis()), asked.by));
        let memory = limits.memory.map(|asked| (asked.value.get(), asked.by));
        let pids = limits.pids.map(|asked| (u64::from(asked.value), asked.by));
        let wanted = [
            (LimitKind::Cpus, Controller::Cpu, cpus, found.cpu),
            (LimitKind::Memory, Controller::Memory, memory, found.memory),
            (LimitKind::Pids, Controller::Pids, pids, found.pids),
        ];
        let mut all = Self { limits: Vec::new(), nearest: Vec::new() };
        for (kind, controller, wanted, found) in wanted {
            let Some((value, by)) = wanted else { continue };
            let by = match (found.is_some_and(|found| is_near(kind, value, found)), by) {
                (true, _) => Limited::Exactly("control group".into()),
                (false, Origin::Profile)
                    if !spec.strict && kind == LimitKind::Pids && shares_users =>
                {
                    Limited::Nowise { why: NO_GROUP.into() }
                }
                (false, Origin::Profile) if !spec.strict => {
                    let nearest = Nearest::of(Limit { controller, value });
                    all.nearest.push(nearest);
                    Limited::Nearly { means: nearest.name().into(), why: NO_GROUP.into() }
                }
                (false, _) => return Err(refused(kind, NO_GROUP)),
            };
            all.limits.push(LimitInForce { kind, value, by });
        }
        if let Some(Asked { value, .. }) = limits.disk {
            // The engine refuses it where its storage can't.
            let by = Limited::Exactly("storage driver".into());
            all.limits.push(LimitInForce { kind: LimitKind::Disk, value: value.get(), by });
        }
        Ok(all)
    }
}

const NO_GROUP: &str = "the engine has made no control group for it, as where those of version 1 are \
                        not an ordinary user's";

/// Whether it is the limit. Memory comes in pages, a processor's time in microseconds, and the agent
/// needs room among the processes.
fn is_near(kind: LimitKind, wanted: u64, found: u64) -> bool {
    match kind {
        LimitKind::Pids => found >= wanted && found <= wanted + pids_of_ours(true),
        _ => found.abs_diff(wanted) <= 4096.min(wanted / 50 + 1),
    }
}

/// How many processes of a container nobody asked to count: the agent, and the process that it keeps
/// ready, unless that is to become the only command.
pub const fn pids_of_ours(many_commands: bool) -> u64 {
    if many_commands { 2 } else { 1 }
}

/// Why a limit can't be.
pub fn refused(kind: LimitKind, why: &str) -> BootError {
    let kind = kind.name();
    BootError::Refused {
        why: format!("--{kind} can't be enforced here: {why}"),
        fix: format!("leave out --{kind}, or use an engine that can"),
    }
}

/// Makes the streams usable for whoever commands are inside. To an ordinary caller's own engine that
/// is the caller, and others' pipes are not the caller's to open.
pub fn open_streams(stdio: &Stdio) -> Result<(), BootError> {
    match open_pipes(stdio) {
        Err(error)
            if error.kind() == io::ErrorKind::PermissionDenied && identity::effective().0 != 0 =>
        {
            Ok(())
        }
        done => done.map_err(|source| BootError::Failed {
            what: "can't open a pipe to the sandbox's user".into(),
            source,
        }),
    }
}

/// The host's numbers for those inside. An ordinary caller's engine shows that user's files as those
/// of the sandbox's user; root's has the same numbers inside and outside, whoever calls.
pub fn owners(spec: &Spec, image: &ImageFacts, caller: (u32, u32)) -> Result<Owners, BootError> {
    let user = identity_of(&spec.user, image)?;
    let inside = (user.uid, user.gid);
    Ok(match caller {
        _ if image.hosts_users => Owners { outside: inside, inside, count: 1, user: inside },
        (0, _) => Owners { outside: (0, 0), inside: (0, 0), count: NUMBERS, user: inside },
        _ => Owners { outside: caller, inside, count: 1, user: caller },
    })
}
