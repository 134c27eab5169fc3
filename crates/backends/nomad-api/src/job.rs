//! From a spec to a job: the one place where policy becomes Nomad's words, and its docker driver's.
//!
//! | of the spec | who enforces it |
//! |---|---|
//! | `image` | the driver; only names are images |
//! | `network: none` | the driver: `network_mode = "none"` |
//! | `network: full` | Docker's own network, which is not the node's loopback |
//! | `root: read-only` | the driver, and folders of the allocation's where something may be written |
//! | `mounts`, `ports`, `limits.disk` | refused |
//! | `limits.memory` | the driver, of which a part is reserved unless somebody asked for it |
//! | `limits.cpus` | the driver if somebody asked, for which as much is reserved; else the agent |
//! | `limits.pids` | the driver |
//! | `user`, `environment`, `directory` | the agent, which becomes whom a command runs as |
//! | capabilities | the driver drops all but what the agent needs, and the agent drops those |
//! | no new privileges, system calls | the agent, for each command |

use std::path::Path;

use agentkernel_containers::{AGENT, DOOR, HELD, KEPT, pids_of_ours, refused};
use agentkernel_core::{
    Asked, BootError, Cpus, Image, LimitKind, Network, Origin, RootAccess, Spec,
};
use serde_json::{Value, json};

use crate::settings::Source;
use crate::words::NodeCpu;

/// What the only task is called, and its group.
pub const TASK: &str = "agent";
const GROUP: &str = "sandbox";

/// The words of a job's that say who has made it.
pub const MAKER: &str = "agentkernel";
pub const OWNER: &str = "agentkernel.owner";
pub const BOOT: &str = "agentkernel.boot";
/// That it keeps what is written in its sandbox, for as long as that is there.
pub const KEEPS: &str = "agentkernel.keeps";

/// Where an allocation's folder that its tasks have in common is inside, what is the engine's besides, and
/// where whoever brings the agent a stream comes in, who may go anywhere.
pub const ENGINES: [&str; 4] = ["/alloc", "/local", "/secrets", DOOR];

/// Where the program is put that is sent, and where it is inside.
const FOLDER: &str = "agentkernel";

/// What waits for the agent's program to be sent, as process 1, and becomes it. Nobody is waited for
/// longer than this takes.
const HOLD: &str = "a=/.agentkernel/agent; \
    trap 'kill $! 2>/dev/null; exec $a $0' USR1; \
    [ -x $a ] && exec $a $0; \
    sleep 60 & wait $!; exit 1";

const SHELL: &str = "/bin/sh";

/// What is reserved of a node's processors where nobody asked for any, in MHz.
const LITTLE_CPU: u64 = 50;

const MIB: u64 = 1 << 20;

/// What a job is made of, besides the spec.
#[derive(Debug, Clone)]
pub struct Parts<'a> {
    pub id: &'a str,
    pub region: Option<&'a str>,
    pub namespace: Option<&'a str>,
    pub datacenters: &'a [String],
    /// What a processor of the nodes is, if that has to be known.
    pub cpu: Option<NodeCpu>,
    pub source: &'a Source,
    /// Whether it keeps what is written in it, and goes on when a stream has ended.
    pub kept: bool,
    /// Whether it has more than one command.
    pub many_commands: bool,
    pub home: &'a str,
    /// The words that say who has made it.
    pub meta: &'a [(&'a str, &'a str)],
}

/// Whether more than a profile asks for the processors' limit to hold.
pub fn wants_exact_cpus(spec: &Spec) -> Option<Cpus> {
    let Asked { value, by } = spec.limits.cpus?;
    (by == Origin::User || spec.strict).then_some(value)
}

/// The name of a spec's image.
pub fn reference(spec: &Spec) -> Result<&str, BootError> {
    match &spec.image {
        Image::Reference(reference) => Ok(reference),
        Image::Host | Image::Rootfs(_) | Image::Module(_) => Err(BootError::Refused {
            why: "Nomad runs images by their names only".into(),
            fix: "name one with --image, such as debian:stable-slim".into(),
        }),
    }
}

/// Refuses what no job can be.
pub fn check(spec: &Spec) -> Result<(), BootError> {
    reference(spec)?;
    let far = |what: String| BootError::Refused {
        why: format!("{what}: Nomad's nodes can't see this machine"),
        fix: "use an engine on this machine, or put what is needed into the image".into(),
    };
    if let Some(mount) = spec.mounts.first() {
        return Err(far(format!("{} can't be mounted", mount.source.display())));
    }
    if let Some(port) = spec.ports.first() {
        return Err(far(format!("no port of this machine can lead to {}", port.target())));
    }
    if spec.limits.disk.is_some() {
        return Err(refused(
            LimitKind::Disk,
            "Nomad's docker driver does not bound what is written",
        ));
    }
    match spec.limits.memory {
        Some(asked) if asked.value.get() % MIB != 0 => {
            Err(refused(LimitKind::Memory, "Nomad counts in whole MiB"))
        }
        _ => Ok(()),
    }
}

/// The job, as it is registered.
pub fn job(spec: &Spec, parts: &Parts<'_>) -> Result<Value, BootError> {
    let own = |name: &str, value: &str| json!({"LTarget": format!("${{attr.{name}}}"), "RTarget": value, "Operand": "="});
    let mut constraints = vec![own("kernel.name", "linux"), own("cpu.arch", machine())];
    if let Some(cpu) = parts.cpu {
        // Of a node that is otherwise it would be another limit.
        constraints.push(own("cpu.totalcompute", &cpu.cpu_shares.to_string()));
        constraints.push(own("cpu.numcores", &cpu.total_cpu_cores.to_string()));
    }
    let meta: serde_json::Map<_, _> =
        parts.meta.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    let (nanos, hour) = (1_000_000_000_u64, 3_600_000_000_000_u64);
    Ok(json!({"Job": {
        "ID": parts.id,
        "Name": parts.id,
        "Region": parts.region.unwrap_or("global"),
        "Namespace": parts.namespace.unwrap_or("default"),
        "Type": "batch",
        "Datacenters": parts.datacenters,
        "Meta": meta,
        "Constraints": constraints,
        "TaskGroups": [{
            "Name": GROUP,
            "Count": 1,
            // What has ended is not begun again: nobody would know of it.
            "RestartPolicy": {"Attempts": 0, "Mode": "fail", "Interval": hour, "Delay": nanos},
            "ReschedulePolicy": {"Attempts": 0, "Unlimited": false},
            "EphemeralDisk": {"SizeMB": 20},
            "Tasks": [{
                "Name": TASK,
                "Driver": "docker",
                "User": "0:0",
                "Config": docker(spec, parts)?,
                "Resources": resources(spec, parts),
                "LogConfig": {"MaxFiles": 1, "MaxFileSizeMB": 1},
                "KillSignal": "SIGKILL",
                "KillTimeout": nanos,
            }],
        }],
    }}))
}

/// The docker driver's words.
fn docker(spec: &Spec, parts: &Parts<'_>) -> Result<Value, BootError> {
    let read_only = spec.root == RootAccess::ReadOnly;
    let folder = Path::new(AGENT).parent().unwrap_or(Path::new("/")).display();
    let how = if parts.kept { KEPT } else { HELD };
    let (entrypoint, agent, door) = match parts.source {
        // The one is in the other, so that it can be mounted there.
        Source::Sent => (
            json!([SHELL, "-c", HOLD, how]),
            format!("../alloc/{FOLDER}:{folder}:ro"),
            format!("../alloc/{FOLDER}/door:{DOOR}"),
        ),
        Source::Node(path) => {
            (json!([AGENT, how]), format!("{}:{AGENT}:ro", path.display()), format!("door:{DOOR}"))
        }
    };
    let mut volumes = vec![agent, door];
    if read_only {
        let homes = (parts.home != "/").then_some(parts.home);
        let writable = ["/tmp", "/run"].into_iter().chain(homes).enumerate();
        // Folders of the task's own; nothing can be started from memory there.
        volumes.extend(writable.map(|(number, path)| format!("writable-{number}:{path}")));
    }
    let mut config = json!({
        "image": reference(spec)?,
        "entrypoint": entrypoint,
        "hostname": "agentkernel",
        "network_mode": match spec.network {
            Network::None => "none",
            Network::Full | Network::Allow(_) => "default",
        },
        "volumes": volumes,
        "readonly_rootfs": read_only,
        "cap_drop": ["all"],
        // What the agent needs to become others, to end them, to carry files, and to let go of the rest.
        "cap_add": ["chown", "dac_override", "fowner", "kill", "setgid", "setpcap", "setuid"],
        // The filter that commands are under is installed by the agent, as everywhere.
        "security_opt": ["no-new-privileges", "seccomp=unconfined"],
        "logging": {"type": "none"},
    });
    if let Some(asked) = spec.limits.memory {
        config["memory_hard_limit"] = json!(asked.value.get() / MIB);
        config["shm_size"] = json!(asked.value.get());
    }
    if let Some(asked) = spec.limits.pids {
        config["pids_limit"] = json!(u64::from(asked.value) + pids_of_ours(parts.many_commands));
    }
    if parts.cpu.is_some() {
        config["cpu_hard_limit"] = json!(true);
    }
    Ok(config)
}

/// What is reserved on the node: all that somebody asked for, and of what a profile grants a part, or a
/// node would hold but a few sandboxes that do nothing.
fn resources(spec: &Spec, parts: &Parts<'_>) -> Value {
    let cpu = match (wants_exact_cpus(spec), parts.cpu) {
        (Some(cpus), Some(cpu)) => {
            let one = cpu.cpu_shares as f64 / cpu.total_cpu_cores.max(1) as f64;
            (one * f64::from(cpus.millis()) / 1000.0).round() as u64
        }
        _ => LITTLE_CPU,
    };
    let memory = spec.limits.memory.map_or(64, |asked| match asked.by {
        Origin::User => asked.value.get() / MIB,
        Origin::Profile => asked.value.get() / MIB / 16,
    });
    json!({"CPU": cpu, "MemoryMB": memory.max(10)})
}

/// What Nomad calls the machine that the agent is for.
fn machine() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
