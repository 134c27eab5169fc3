//! A boot, planned: all that must be allocated, looked up or refused before the process splits.

use std::path::Path;
use std::time::Duration;

use agentkernel_core::{
    Access, BootError, Command, Identity, Image, Launch, Life, Network, Process, Spec, Stdio, Wall,
};
use agentkernel_guest::{
    Filters, Modules, Prepared, ResourceLimit, Rules, Runner, Streams, open_pipes,
};
use agentkernel_sys::seccomp::Policy;
use agentkernel_sys::{landlock, machine};

use crate::identity::Mapping;
use crate::limits::LimitPlan;
use crate::root::{self, Ground, Root};
use crate::users::Users;

/// Everything that a boot takes.
#[derive(Debug)]
pub struct Plan {
    pub identity: Identity,
    /// What its root stands on, if that is of the store: held, so that it is not cleared away.
    pub image: Option<agentkernel_images::Image>,
    pub mapping: Mapping,
    pub root: Root,
    pub limits: LimitPlan,
    /// Whether the sandbox gets a network of its own, with nothing but loopback.
    pub own_network: bool,
    pub rules: Rules,
    /// What Landlock is to hold the agent itself to, and with it all its commands.
    pub landlock: Option<u32>,
    pub purpose: Purpose,
    pub walls: Vec<Wall>,
    pub notes: Vec<String>,
}

/// What a place is for.
#[derive(Debug)]
pub enum Purpose {
    /// One command, which goes with it.
    Command(Prepared),
    /// Whatever comes over its links.
    Live { outlives: bool, ttl: Option<Duration>, idle: Option<Duration> },
}

/// How a place's commands are started.
struct Manner {
    filters: Filters,
    /// Whether they can be several, one beside the other.
    shared: bool,
    runner: Option<&'static dyn Runner>,
}

impl Plan {
    /// Plans a place for one command.
    pub fn for_command(
        spec: &Spec,
        launch: Launch<'_>,
        runner: Option<&'static dyn Runner>,
    ) -> Result<Self, BootError> {
        let Launch { command, stdio, code, .. } = launch;
        let mapping = Mapping::for_caller();
        let image = agentkernel_images::open_for(spec)?;
        let users = Users::of(spec, image.as_ref())?;
        let process = process(spec, command, &users)?;
        let policy = Policy { no_setuid_files: process.no_setuid_files, ..Policy::default() };
        open_streams(&stdio, mapping)?;
        let streams = match stdio {
            Stdio::Streams(fds) => Streams::Given(fds),
            Stdio::Terminal { rows, columns } => Streams::Terminal { rows, columns },
        };
        let purpose = Purpose::Command(Prepared::new(process, streams, code));
        let manner = Manner { filters: Filters::new(&[policy]), shared: false, runner };
        Self::new(spec, mapping, image, users, purpose, manner, None)
    }

    /// Plans a place that lives as `life` says.
    pub fn for_life(
        spec: &Spec,
        life: &Life,
        runner: Option<&'static dyn Runner>,
    ) -> Result<Self, BootError> {
        let purpose = Purpose::Live { outlives: life.outlives, ttl: life.ttl, idle: life.idle };
        // A place without a door is for one client, who may still bring mounts that must be ro or
        // rw.
        let filters = Filters::new(&Policy::OF_FILES);
        let manner = Manner { filters, shared: life.listener.is_some(), runner };
        let image = agentkernel_images::open_for(spec)?;
        let users = Users::of(spec, image.as_ref())?;
        let mapping = Mapping::for_caller();
        Self::new(spec, mapping, image, users, purpose, manner, life.layers.as_deref())
    }

    fn new(
        spec: &Spec,
        mapping: Mapping,
        image: Option<agentkernel_images::Image>,
        users: Users,
        purpose: Purpose,
        manner: Manner,
        layers: Option<&Path>,
    ) -> Result<Self, BootError> {
        let Manner { filters, shared, runner } = manner;
        let identity = users.identity(&spec.user)?;
        let besides = runner.zip(memory(spec)).map_or(0, |(runner, memory)| runner.besides(memory));
        let limits = LimitPlan::new(spec, layers.is_some(), besides)?;
        let trees = match (&spec.image, &image) {
            (Image::Rootfs(dir), _) => std::slice::from_ref(dir),
            (Image::Reference(_), Some(image)) => image.layers(),
            _ => &[],
        };
        let on = Ground { trees, identity: &identity, users: &users, mapping, layers };
        let root = Root::plan(spec, &on, limits.scratch)?;
        let landlock = landlock::version().ok();
        let walls = walls(spec, landlock);
        let on_tmpfs = layers.is_none() && writes_to_copies(spec);
        let own_network = spec.network == Network::None;
        let notes = if on_tmpfs { note_on_copies() } else { Vec::new() };
        if spec.strict {
            refuse_missing(&walls)?;
            refuse_noted(&notes)?;
        }
        let rules = Rules {
            drop_groups: mapping == Mapping::Many,
            limits: ResourceLimit::for_all(),
            filters,
            // Commands of one place that each made a promise of their own could not signal each
            // other.
            landlock: landlock.filter(|_| !shared),
            modules: runner.map(|runner| Modules {
                runner,
                memory: memory(spec),
                network: !own_network,
            }),
        };
        let landlock = landlock.filter(|_| shared);
        Ok(Self {
            identity,
            image,
            mapping,
            root,
            limits,
            own_network,
            rules,
            landlock,
            purpose,
            walls,
            notes,
        })
    }
}

/// How much memory a module may have of its own, in bytes.
pub fn memory(spec: &Spec) -> Option<u64> {
    spec.limits.memory.map(|asked| asked.value.get())
}

/// What has to be started for `command` in a place made from `spec`, whose image has these users.
pub fn process(spec: &Spec, command: &Command, users: &Users) -> Result<Process, BootError> {
    let process = users.process(spec, command)?;
    let user = command.user.as_ref().unwrap_or(&spec.user);
    let home = users.identity(user)?.home;
    Ok(Process { writable: root::writable(spec, &home)?, ..process })
}

/// Makes the streams usable for the sandbox's user. An ordinary caller is that user.
pub fn open_streams(stdio: &Stdio, mapping: Mapping) -> Result<(), BootError> {
    match mapping {
        Mapping::Many => open_pipes(stdio).map_err(|source| BootError::Failed {
            what: "can't open a pipe to the sandbox's user".into(),
            source,
        }),
        Mapping::Single { .. } => Ok(()),
    }
}

/// The walls that this machine lets us build around `spec`. Those that may never be missing are
/// either built or the boot fails, so they are listed as standing.
fn walls(spec: &Spec, landlock: Option<u32>) -> Vec<Wall> {
    const ALWAYS: [&str; 13] = [
        "user-namespace",
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
    let shared =
        (spec.network != Network::None).then(|| "the spec asks for the host's network".to_owned());
    let unknown = landlock.is_none().then(|| "the kernel has no Landlock".to_owned());
    // A network namespace keeps them out by itself.
    let reached = spec.network != Network::None
        && !landlock.is_some_and(landlock::keeps_abstract_sockets_out);
    let reached = reached.then(|| {
        "the host's network brings the host's abstract sockets, which Landlock keeps out from \
         Linux 6.12 on only"
            .to_owned()
    });
    ALWAYS
        .into_iter()
        .map(|name| Wall::new(name, None))
        .chain([
            Wall::new("network-namespace", shared),
            Wall::new("landlock", unknown),
            Wall::new("abstract-sockets", reached),
        ])
        .collect()
}

/// Whether its root is somebody's, and none that is made here.
pub fn is_foreign(image: &Image) -> bool {
    matches!(image, Image::Rootfs(_) | Image::Reference(_))
}

fn writes_to_copies(spec: &Spec) -> bool {
    is_foreign(&spec.image) || spec.mounts.iter().any(|mount| mount.access == Access::CopyOnWrite)
}

/// What a copy can't do here, if there is such a thing.
///
/// A directory that is to hide the original's is marked with an attribute. In a user namespace
/// that can only be one of the user's own (`userxattr`), and the layer with the changes is in a
/// tmpfs. The kernel mounts it all the same and fails later, with `EIO` and nothing lost.
pub fn note_on_copies() -> Vec<String> {
    let note = "in a copy-on-write directory and in the root of an image no directory of the \
                original can be removed with what is in it, replaced or renamed: that fails with \
                \"Input/output error\", since a tmpfs keeps no user attributes before Linux 6.6";
    if machine::tmpfs_keeps_user_attributes() { Vec::new() } else { vec![note.into()] }
}

fn refuse_noted(notes: &[String]) -> Result<(), BootError> {
    match notes.first() {
        None => Ok(()),
        Some(note) => Err(BootError::Refused {
            why: format!("--strict wants all of it to work, but {note}"),
            fix: "leave out --strict, mount the directory ro or rw, or use a newer kernel".into(),
        }),
    }
}

fn refuse_missing(walls: &[Wall]) -> Result<(), BootError> {
    // The namespace is left out by who asks for the host's network.
    let wanted = ["landlock", "abstract-sockets"];
    let mut lacking = walls.iter().filter(|wall| wanted.contains(&&*wall.name));
    let lacking = lacking.find_map(|wall| Some((&*wall.name, wall.missing.as_deref()?)));
    match lacking {
        None => Ok(()),
        Some((name, why)) => Err(BootError::Refused {
            why: format!("--strict wants every wall, but {name} is missing: {why}"),
            fix: match name {
                "landlock" => "leave out --strict, or use a kernel with Landlock (Linux 5.13)",
                _ => "leave out --strict, or do without the network",
            }
            .into(),
        }),
    }
}
