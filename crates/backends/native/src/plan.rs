//! A boot, planned: all that must be allocated, looked up or refused before the process splits.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use agentkernel_core::{Access, BootError, Command, Image, Launch, Network, Spec, Stdio, Wall};
use agentkernel_guest::{Prepared, Privileges, Streams};
use agentkernel_sys::descriptor::{self, Links};
use agentkernel_sys::process::ExecStrings;
use agentkernel_sys::seccomp::{Filter, Policy};
use agentkernel_sys::{landlock, machine};

use crate::identity::{self, Identity, Mapping};
use crate::limits::{self, LimitPlan};
use crate::root::{Root, c_string};

/// Where programs are looked for unless the spec says otherwise.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Everything that a boot takes.
#[derive(Debug)]
pub struct Plan {
    pub identity: Identity,
    pub mapping: Mapping,
    pub root: Root,
    pub limits: LimitPlan,
    /// Whether the sandbox gets a network of its own, with nothing but loopback.
    pub own_network: bool,
    pub first: Option<Prepared>,
    pub walls: Vec<Wall>,
    pub notes: Vec<String>,
}

impl Plan {
    pub fn new(spec: &Spec, first: Option<Launch<'_>>) -> Result<Self, BootError> {
        let mapping = Mapping::for_caller();
        let identity = resolve_identity(spec)?;
        let limits = LimitPlan::new(spec)?;
        let root = Root::plan(spec, &identity, mapping, limits.scratch)?;
        let landlock = landlock::version().ok();
        let walls = walls(spec, landlock);
        let notes = if writes_to_copies(spec) { note_on_copies() } else { Vec::new() };
        if spec.strict {
            refuse_missing(&walls)?;
            refuse_noted(&notes)?;
        }
        let first = match first {
            Some(launch) => Some(prepare(spec, launch, &identity, mapping, landlock, &root)?),
            None => None,
        };
        let own_network = spec.network == Network::None;
        Ok(Self { identity, mapping, root, limits, own_network, first, walls, notes })
    }
}

fn resolve_identity(spec: &Spec) -> Result<Identity, BootError> {
    let Image::Rootfs(dir) = &spec.image else {
        return identity::for_host(&spec.user);
    };
    let path = c_string(dir.as_os_str().as_bytes())?;
    let root = descriptor::resolve(descriptor::current_directory(), &path, Links::Refuse);
    let root = root.map_err(|source| BootError::Failed {
        what: format!("can't open the image {}", dir.display()),
        source,
    })?;
    identity::for_rootfs(&spec.user, root.as_fd())
}

fn prepare(
    spec: &Spec,
    launch: Launch<'_>,
    identity: &Identity,
    mapping: Mapping,
    landlock: Option<u32>,
    root: &Root,
) -> Result<Prepared, BootError> {
    let Launch { command, stdio } = launch;
    let environment = environment(spec, identity);
    let path = environment.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value);
    let programs = programs(command, path.map_or(OsStr::new(""), |path| path))?;
    let argv = command.argv.iter().map(|arg| c_string(arg.as_bytes())).collect::<Result<_, _>>()?;
    let directory = match &spec.directory {
        Some(directory) => c_string(directory.as_os_str().as_bytes())?,
        None => c_string(identity.home.as_bytes())?,
    };
    Ok(Prepared {
        programs,
        argv: ExecStrings::new(argv),
        environment: ExecStrings::new(variables(&environment)?),
        directory,
        uid: identity.uid,
        gid: identity.gid,
        drop_groups: mapping == Mapping::Many,
        streams: streams(stdio, mapping)?,
        limits: limits::for_every_process(),
        privileges: Privileges {
            filter: Filter::new(Policy { no_setuid_files: writes_to_host(spec) }),
            landlock,
            writable: root.writable.clone(),
        },
    })
}

/// Whether files that the sandbox makes stay on the host.
fn writes_to_host(spec: &Spec) -> bool {
    spec.mounts.iter().any(|mount| mount.access == Access::ReadWrite)
}

/// The streams, with root's pipes opened to the sandbox's user in the one direction that they are
/// for: else a program could not open `/dev/stdout`. It is the engine's or the caller's pipe, but
/// only its few holders ever notice its mode.
fn streams(stdio: Stdio, mapping: Mapping) -> Result<Streams, BootError> {
    const MODES: [u32; 3] = [0o644, 0o622, 0o622];
    let fds = match stdio {
        Stdio::Terminal { rows, columns } => return Ok(Streams::Terminal { rows, columns }),
        Stdio::Streams(fds) => fds,
    };
    if mapping == Mapping::Many {
        let pipes = fds.iter().zip(MODES);
        for (fd, mode) in pipes.filter(|(fd, _)| descriptor::is_anonymous_pipe(fd.as_fd())) {
            descriptor::set_mode(fd.as_fd(), mode).map_err(|source| BootError::Failed {
                what: "can't open a pipe to the sandbox's user".into(),
                source,
            })?;
        }
    }
    Ok(Streams::Given(fds))
}

/// The command's variables: the few that every program expects, then the spec's.
fn environment(spec: &Spec, identity: &Identity) -> Vec<(OsString, OsString)> {
    let basic = [("PATH", PATH), ("HOME", &identity.home), ("USER", &identity.name)];
    basic
        .into_iter()
        .filter(|(name, value)| {
            !value.is_empty() && !spec.environment.contains_key(OsStr::new(name))
        })
        .map(|(name, value)| (name.into(), value.into()))
        .chain(spec.environment.iter().map(|(name, value)| (name.clone(), value.clone())))
        .collect()
}

fn variables(environment: &[(OsString, OsString)]) -> Result<Vec<CString>, BootError> {
    let variable = |(name, value): &(OsString, OsString)| {
        c_string([name.as_bytes(), b"=", value.as_bytes()].concat())
    };
    environment.iter().map(variable).collect()
}

/// Where the command's program may be: at its path if it has one, else in the directories of
/// `path`, in their order.
fn programs(command: &Command, path: &OsStr) -> Result<Vec<CString>, BootError> {
    let program = command.argv.first().map_or(&b""[..], |program| program.as_bytes());
    if program.contains(&b'/') || program.is_empty() {
        return Ok(vec![c_string(program)?]);
    }
    let directories = path.as_bytes().split(|b| *b == b':');
    directories
        .map(|directory| match directory {
            // An empty one is the current directory, as shells have it.
            b"" => c_string(program),
            directory => c_string([directory, b"/", program].concat()),
        })
        .collect()
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
        .map(|name| Wall { name, missing: None })
        .chain([
            Wall { name: "network-namespace", missing: shared },
            Wall { name: "landlock", missing: unknown },
            Wall { name: "abstract-sockets", missing: reached },
        ])
        .collect()
}

fn writes_to_copies(spec: &Spec) -> bool {
    spec.image != Image::Host || spec.mounts.iter().any(|mount| mount.access == Access::CopyOnWrite)
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
    let mut lacking = walls.iter().filter(|wall| wanted.contains(&wall.name));
    let lacking = lacking.find_map(|wall| Some((wall.name, wall.missing.as_deref()?)));
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
