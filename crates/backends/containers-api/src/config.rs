//! From a spec to a container: the one place where policy becomes an engine's words.

use std::collections::HashMap;
use std::path::Path;

use agentkernel_containers::{AGENT, Bound, DOOR, FAR, pids_of_ours};
use agentkernel_core::{self as core, Access, Network, Port, RootAccess, Spec, hex};
use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig,
    Mount, MountBindOptions, MountBindOptionsPropagationEnum, MountType, PortBinding,
    ResourcesUlimits,
};
use sha2::{Digest, Sha256};

use crate::far::{HOLD, SHELL};

/// The label of our containers, whose value is their [seal].
pub const LABEL: &str = "agentkernel";

/// The label of those that keep what is written in them, whose value is their sandbox's folder.
pub const FOLDER: &str = "agentkernel.folder";

/// What a container is made of, besides the spec.
pub struct Parts<'a> {
    pub name: &'a str,
    pub reference: &'a str,
    pub way: Way<'a>,
    /// Whether the engine is an ordinary user's.
    pub rootless: bool,
    /// Whether [its ports are](crate::published::is_proxied).
    pub proxied: bool,
    /// Whether what is to be covered is told by a security option.
    pub covers_by_option: bool,
    /// Where the home of whom commands run as is, as far as it can be told without the image's lists.
    pub home: &'a str,
    /// As whom the caller's own files are to be seen by an engine of the caller's.
    pub kept_user: Option<(u32, u32)>,
    /// Whether it keeps what is written in it; else it is removed at its end.
    pub kept: bool,
    /// The folder of its sandbox, if that lives.
    pub folder: Option<&'a Path>,
}

/// How the agent gets in, and how it is reached.
#[derive(Clone, Copy)]
pub enum Way<'a> {
    /// By paths of this machine, as what else the engine is to mount.
    Near { agent: &'a Path, door: &'a Path, bound: Option<&'a Bound<'a>> },
    /// By a volume of the engine's, and the standard streams.
    Far { volume: &'a str },
    /// There is none, and commands are the engine's own exec. The home belongs to these numbers.
    Exec { owner: (u32, u32) },
}

pub fn container(spec: &Spec, parts: &Parts<'_>) -> ContainerCreateBody {
    let is_far = !matches!(parts.way, Way::Near { .. });
    let (entrypoint, cmd): (&[&str], &[&str]) = match parts.way {
        Way::Near { .. } => (&[AGENT], &[]),
        Way::Far { .. } => (&[AGENT], &[FAR]),
        Way::Exec { .. } => (&[SHELL], &["-c", HOLD]),
    };
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    ContainerCreateBody {
        image: Some(parts.reference.to_owned()),
        hostname: Some("agentkernel".into()),
        labels: Some(labels(parts)),
        // The agent becomes whom commands run as.
        user: Some("0:0".into()),
        working_dir: Some("/".into()),
        entrypoint: Some(words(entrypoint)),
        cmd: Some(words(cmd)),
        // Whoever is attached first is the only one, and the agent hears of the end.
        open_stdin: Some(is_far),
        stdin_once: Some(is_far),
        attach_stdin: Some(is_far),
        attach_stdout: Some(is_far),
        attach_stderr: Some(is_far),
        // What is published must be among the ports that an image is known for.
        exposed_ports: (!spec.ports.is_empty())
            .then(|| spec.ports.iter().map(Port::target).collect()),
        // Nothing but commands is to run.
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".into()]), ..Default::default() }),
        host_config: Some(host(spec, parts)),
        ..Default::default()
    }
}

fn labels(parts: &Parts<'_>) -> HashMap<String, String> {
    let folder = parts.folder.map(|folder| (FOLDER, folder.to_string_lossy().into_owned()));
    let all = [(LABEL, seal(parts.name))].into_iter().chain(folder);
    all.map(|(label, value)| (label.to_owned(), value)).collect()
}

/// What a container of this name and the caller's must be labelled with to be known as ours. One that
/// somebody else has made with a label of ours copied has another name, or none of our seals.
pub fn seal(name: &str) -> String {
    let uid = rustix::process::geteuid().as_raw();
    hex(&Sha256::digest(format!("agentkernel {uid} {name}")))
}

fn host(spec: &Spec, parts: &Parts<'_>) -> HostConfig {
    let limits = &spec.limits;
    let is_exec = matches!(parts.way, Way::Exec { .. });
    let memory = limits.memory.map(|asked| signed(asked.value.get()));
    HostConfig {
        auto_remove: Some(!parts.kept),
        network_mode: Some(match spec.network {
            Network::None => "none".into(),
            // The engine's own: what it can reach, but not the host's loopback.
            Network::Full | Network::Allow(_) => "default".into(),
        }),
        // Docker's default: who may have nothing can listen there all the same.
        sysctls: (!spec.ports.is_empty())
            .then(|| HashMap::from([("net.ipv4.ip_unprivileged_port_start".into(), "0".into())])),
        port_bindings: (!spec.ports.is_empty()).then(|| bindings(spec, parts)),
        mounts: Some(match parts.way {
            Way::Near { agent, door, bound } => {
                let own = [shared(agent, AGENT), shared(door, DOOR)].into_iter();
                own.chain(bound.iter().flat_map(|bound| bound.mounts).map(asked)).collect()
            }
            Way::Far { volume } => vec![agents_volume(volume, true)],
            Way::Exec { .. } => Vec::new(),
        }),
        readonly_rootfs: Some(spec.root == RootAccess::ReadOnly),
        tmpfs: Some(private(spec, parts)),
        readonly_paths: (spec.root == RootAccess::ReadOnly).then(closed),
        cap_drop: Some(vec!["ALL".into()]),
        // What the agent needs to become others, to end them, and to let go of the rest. Commands
        // have none.
        cap_add: (!is_exec).then(|| capabilities(&parts.way)),
        // An agent sees to both by itself.
        init: is_exec.then_some(true),
        ulimits: is_exec.then(|| vec![no_core()]),
        // The filter that commands are under is installed by the agent, as everywhere.
        security_opt: Some(security(parts)),
        masked_paths: (!parts.covers_by_option).then(|| COVERED.map(Into::into).into()),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        ipc_mode: Some("private".into()),
        userns_mode: parts.kept_user.map(|(uid, gid)| format!("keep-id:uid={uid},gid={gid}")),
        nano_cpus: limits.cpus.map(|asked| i64::from(asked.value.millis()) * 1_000_000),
        memory,
        // No more than that, with swap.
        memory_swap: memory,
        shm_size: memory,
        pids_limit: limits
            .pids
            .map(|asked| signed(u64::from(asked.value) + pids_of_ours(parts.kept))),
        storage_opt: limits
            .disk
            .map(|asked| HashMap::from([("size".to_owned(), asked.value.get().to_string())])),
        // What the agent says, if it can't be served: a line or two.
        log_config: Some(HostConfigLogConfig { typ: Some("none".into()), config: None }),
        ..Default::default()
    }
}

/// What an agent needs. One whom nobody sees from outside carries files, whosever they are.
fn capabilities(way: &Way<'_>) -> Vec<String> {
    let always = ["CHOWN", "KILL", "SETGID", "SETPCAP", "SETUID"].iter();
    let far = ["DAC_OVERRIDE", "FOWNER"].iter().filter(|_| matches!(way, Way::Far { .. }));
    always.chain(far).map(|name| (*name).to_owned()).collect()
}

/// What is there for all who may see it.
fn shared(source: &Path, target: &str) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(source.to_string_lossy().into_owned()),
        target: Some(target.to_owned()),
        read_only: Some(true),
        ..Default::default()
    }
}

/// What the spec asks for, where the engine is to mount that. What is mounted on the host later is not
/// seen.
fn asked(mount: &core::Mount) -> Mount {
    Mount {
        read_only: Some(mount.access == Access::ReadOnly),
        bind_options: Some(MountBindOptions {
            propagation: Some(MountBindOptionsPropagationEnum::RPRIVATE),
            ..Default::default()
        }),
        ..shared(&mount.source, &mount.target.to_string_lossy())
    }
}

/// The one limit that keeps a kernel from starting its machine's own program for a dump.
fn no_core() -> ResourcesUlimits {
    ResourcesUlimits { name: Some("core".into()), soft: Some(1), hard: Some(1) }
}

/// The ports, by what they are inside.
fn bindings(spec: &Spec, parts: &Parts<'_>) -> HashMap<String, Option<Vec<PortBinding>>> {
    let mut bindings = HashMap::new();
    for port in &spec.ports {
        // Rules of the kernel's would be about that very address, at which nothing arrives.
        let is_any = port.address.is_unspecified() && !parts.proxied;
        let binding = PortBinding {
            host_ip: Some(port.address.to_string()).filter(|_| !is_any),
            // None is one that the engine picks.
            host_port: port.outside.map(|outside| outside.to_string()),
        };
        bindings.entry(port.target()).or_insert_with(Vec::new).push(binding);
    }
    bindings.into_iter().map(|(target, bindings)| (target, Some(bindings))).collect()
}

/// What tells of the host or its kernel, or sets something there: what engines cover by themselves, and
/// what they leave to whoever has the number of the host's root.
const COVERED: [&str; 24] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/driver",
    "/proc/interrupts",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/key-users",
    "/proc/keys",
    "/proc/kpagecgroup",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/latency_stats",
    "/proc/pagetypeinfo",
    "/proc/pressure",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/slabinfo",
    "/proc/sys/kernel/cad_pid",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/vmallocinfo",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/kernel/notes",
];

fn security(parts: &Parts<'_>) -> Vec<String> {
    let mut options = vec!["no-new-privileges".into()];
    // Without an agent the engine's own is all there is.
    if !matches!(parts.way, Way::Exec { .. }) {
        options.push("seccomp=unconfined".into());
    }
    if parts.covers_by_option {
        options.push(format!("mask={}", COVERED.join(":")));
    }
    options
}

/// The volume with the agent's program.
pub fn agents_volume(name: &str, read_only: bool) -> Mount {
    let folder = Path::new(AGENT).parent().map(|folder| folder.to_string_lossy().into_owned());
    Mount {
        typ: Some(MountType::VOLUME),
        source: Some(name.to_owned()),
        target: folder,
        read_only: Some(read_only),
        ..Default::default()
    }
}

/// The directories that are in memory: what is to be forgotten, and where the root can't be written
/// what can be.
fn private(spec: &Spec, parts: &Parts<'_>) -> HashMap<String, String> {
    let size = spec.limits.memory.map(|asked| format!(",size={}", asked.value.get()));
    let options = |mode: &str| {
        format!("rw,nosuid,nodev,exec,mode={mode}{}", size.as_deref().unwrap_or_default())
    };
    let read_only = spec.root == RootAccess::ReadOnly;
    let forgotten = read_only || !parts.kept;
    // One that is made by us is in memory. An image's own homes are not hidden, unless nothing could
    // be written there.
    let is_ours = parts.home.starts_with("/home/");
    let owner = match parts.way {
        Way::Exec { owner: (uid, gid) } => format!(",uid={uid},gid={gid}"),
        // The agent gives it away.
        _ => String::new(),
    };
    let all = [
        (true, "/run", options("1777")),
        (forgotten, "/tmp", options("1777")),
        (
            parts.home != "/" && if is_ours { forgotten } else { read_only },
            parts.home,
            options("0755") + &owner,
        ),
    ];
    let bound = match parts.way {
        Way::Near { bound, .. } => bound,
        Way::Far { .. } | Way::Exec { .. } => None,
    };
    // What the engine mounts there is the caller's.
    let is_free = |path: &str| !bound.is_some_and(|bound| bound.covers(Path::new(path)));
    let all = all.into_iter().filter(|(wanted, path, _)| *wanted && is_free(path));
    all.map(|(_, path, options)| (path.to_owned(), options)).collect()
}

/// What can't be written where the root can't: the engines' own list, and devices' directory.
fn closed() -> Vec<String> {
    let engines = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
    engines.into_iter().chain(["/dev"]).map(Into::into).collect()
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
