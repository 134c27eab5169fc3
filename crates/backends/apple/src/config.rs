//! From a spec to a container: the one place where policy becomes the words of Apple's tool.
//!
//! Every field of a [`Spec`] is somebody's: the tool's, by an option that this table has, the agent's,
//! inside, or nobody's, and then refused before anything is made.
//!
//! | of the spec | who enforces it |
//! |---|---|
//! | `image` | the tool; only names are images |
//! | `network: none` | the tool: `--network none`, a machine without an interface |
//! | `network: full` | the tool's own network, which is not the host's loopback |
//! | `network: allow` | refused |
//! | `root: read-only` | the tool: `--read-only`, and memory where something may be written |
//! | `mounts: ro, rw` | the tool, which shares [folders](mounts) with the machine |
//! | `mounts: cow` | refused |
//! | ports below 1024 inside | everybody's, by an argument of the machine's kernel |
//! | `ports` | the tool: `--publish`, by [numbers](crate::ports) that are picked here |
//! | `limits.cpus`, `limits.memory` | the tool: what the machine has; only whole processors and MiB |
//! | `limits.pids` | refused if somebody asked; a profile's by the agent, for each user |
//! | `limits.disk` | refused |
//! | `user`, `environment`, `directory` | the agent, which becomes whom a command runs as |
//! | capabilities | the tool drops all but what the agent needs, and the agent drops those |
//! | no new privileges, system calls | the agent, for each command |

use std::ffi::OsString;
use std::path::Path;

use agentkernel_containers::{AGENT, BROUGHT, refused};
use agentkernel_core::{
    Asked, BootError, Bytes, Cpus, LimitKind, Network, Origin, Port, RootAccess, Spec,
};

use crate::sweep::{LABEL, seal};
use crate::{mounts, ports};

/// The folder inside that the agent's program is in.
pub const FOLDER: &str = "/.agentkernel";

/// Below that the tool makes no machine.
const LEAST_MEMORY: u64 = 200 << 20;

const MIB: u64 = 1 << 20;

/// Lets everybody listen on every port inside. A container has its machine's network, whose kernel sets
/// this when it starts (since Linux 5.8).
const ALL_PORTS: &str = "sysctl.net.ipv4.ip_unprivileged_port_start=0";

/// What the agent needs to become others, to end them, and to let go of the rest. Commands have none.
const CAPABILITIES: [&str; 5] = ["CHOWN", "KILL", "SETGID", "SETPCAP", "SETUID"];

/// What a container is made of, besides the spec.
#[derive(Debug)]
pub struct Parts<'a> {
    pub name: &'a str,
    pub reference: &'a str,
    /// The folder with the agent's program.
    pub agent: &'a Path,
    /// Where the home of whom commands run as is, as far as it can be told without the image's lists.
    pub home: &'a str,
    /// The spec's ports, all of which have a number by now.
    pub ports: &'a [Port],
    /// Whether it keeps what is written in it; else it is removed at its end.
    pub kept: bool,
}

/// The arguments that make a container.
pub fn create(spec: &Spec, parts: &Parts<'_>) -> Result<Vec<OsString>, BootError> {
    let mut all = Arguments(vec!["create".into()]);
    all.option("--name", parts.name);
    all.option("--label", &format!("{LABEL}={}", seal(parts.name)));
    if !parts.kept {
        all.flag("--rm");
    }
    // The agent becomes whom commands run as.
    all.option("--uid", "0").option("--gid", "0").option("--workdir", "/");
    all.option("--entrypoint", AGENT);
    all.option("--cap-drop", "ALL");
    for name in CAPABILITIES {
        all.option("--cap-add", name);
    }
    network(&mut all, &spec.network)?;
    limits(&mut all, spec)?;
    if spec.root == RootAccess::ReadOnly {
        all.flag("--read-only").option("--read-only-path", "/dev");
    }
    all.option("--mount", &shown(parts.agent)?);
    for (path, mode) in private(spec, parts) {
        all.memory(&path, mode, spec.limits.memory);
    }
    mounts::check(&spec.mounts, parts.home)?;
    for mount in &spec.mounts {
        all.option("--mount", &mounts::word(mount)?);
    }
    if !parts.ports.is_empty() {
        all.option("--kernel-arg", ALL_PORTS);
    }
    for port in parts.ports {
        all.option("--publish", &ports::word(port));
    }
    // What begins like an option would be one.
    match parts.reference.starts_with('-') {
        true => Err(BootError::Refused {
            why: format!("{} is no image's name", parts.reference),
            fix: "name one with --image, such as debian:stable-slim".into(),
        }),
        false => {
            // A stream comes by an exec: what passes through process 1's own is written down.
            all.0.extend([parts.reference.into(), BROUGHT.into()]);
            Ok(all.0)
        }
    }
}

fn network(all: &mut Arguments, network: &Network) -> Result<(), BootError> {
    match network {
        Network::None => {
            all.option("--network", "none").flag("--no-dns");
            Ok(())
        }
        Network::Full => Ok(()),
        Network::Allow(_) => Err(BootError::Refused {
            why: "Apple's containers can't be let reach only some hosts".into(),
            fix: "use --network none or full, or another backend".into(),
        }),
    }
}

fn limits(all: &mut Arguments, spec: &Spec) -> Result<(), BootError> {
    let limits = &spec.limits;
    if let Some(asked) = limits.cpus {
        all.option("--cpus", &processors(asked)?.to_string());
    }
    if let Some(asked) = limits.memory {
        let size = format!("{}M", mebibytes(asked)?);
        all.option("--memory", &size).option("--shm-size", &size);
    }
    match (limits.pids, limits.disk) {
        (Some(Asked { by: Origin::User, .. }), _) => {
            Err(refused(LimitKind::Pids, "Apple's container command has no such option"))
        }
        (Some(_), _) if spec.strict => {
            Err(refused(LimitKind::Pids, "Apple's container command has no such option"))
        }
        (_, Some(_)) => {
            Err(refused(LimitKind::Disk, "Apple's container command has no such option"))
        }
        _ => Ok(()),
    }
}

/// A virtual machine has whole processors only.
fn processors(asked: Asked<Cpus>) -> Result<u32, BootError> {
    let millis = asked.value.millis();
    match millis % 1000 {
        0 => Ok(millis / 1000),
        _ => Err(refused(LimitKind::Cpus, "a virtual machine has whole processors only")),
    }
}

fn mebibytes(asked: Asked<Bytes>) -> Result<u64, BootError> {
    match asked.value.get() {
        bytes if bytes < LEAST_MEMORY => {
            Err(refused(LimitKind::Memory, "a virtual machine has 200 MiB at least"))
        }
        bytes if bytes % MIB != 0 => {
            Err(refused(LimitKind::Memory, "a virtual machine has whole MiB only"))
        }
        bytes => Ok(bytes / MIB),
    }
}

/// The directories that are in memory, with their modes: what is to be forgotten, and where the root
/// can't be written what can be.
fn private(spec: &Spec, parts: &Parts<'_>) -> Vec<(String, &'static str)> {
    let read_only = spec.root == RootAccess::ReadOnly;
    let forgotten = read_only || !parts.kept;
    // One that is made by us is in memory. An image's own homes are not hidden, unless nothing could
    // be written there.
    let is_ours = parts.home.starts_with("/home/");
    let home = parts.home != "/" && if is_ours { forgotten } else { read_only };
    let all = [(true, "/run", "1777"), (forgotten, "/tmp", "1777"), (home, parts.home, "0755")];
    let all = all.into_iter().filter(|(wanted, ..)| *wanted);
    all.map(|(_, path, mode)| (path.to_owned(), mode)).collect()
}

/// The tool's words for the agent's folder.
fn shown(folder: &Path) -> Result<String, BootError> {
    mounts::said(folder)
        .map(|path| format!("type=virtiofs,source={path},target={FOLDER},readonly"))
        .ok_or_else(|| BootError::Refused {
            why: format!(
                "{} can't be shown in one of Apple's containers: the container command can't say a \
                 path with , or =",
                folder.display()
            ),
            fix: "set TMPDIR, or XDG_STATE_HOME for sandboxes that live, to another path".into(),
        })
}

/// Arguments in the making.
struct Arguments(Vec<OsString>);

impl Arguments {
    fn flag(&mut self, name: &str) -> &mut Self {
        self.0.push(name.into());
        self
    }

    fn option(&mut self, name: &str, value: &str) -> &mut Self {
        self.0.extend([name.into(), value.into()]);
        self
    }

    fn memory(&mut self, path: &str, mode: &str, size: Option<Asked<Bytes>>) {
        let size = size.map(|asked| format!(",size={}", asked.value.get())).unwrap_or_default();
        self.option("--mount", &format!("type=tmpfs,target={path},mode={mode}{size}"));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;
    use std::num::NonZeroU16;

    use agentkernel_core::{Access, Image, Limits, Mount, Profile, Transport, User};

    use super::*;

    fn asked<T>(value: T, by: Origin) -> Option<Asked<T>> {
        Some(Asked { value, by })
    }

    fn spec() -> Spec {
        Spec {
            profile: Profile::Moderate,
            image: Image::Reference("debian".into()),
            network: Network::None,
            root: RootAccess::Writable,
            mounts: Vec::new(),
            ports: Vec::new(),
            directory: None,
            user: User::Unprivileged,
            environment: BTreeMap::from([("SECRET".into(), "hush".into())]),
            limits: Limits {
                cpus: asked(Cpus::whole(2), Origin::Profile),
                memory: asked(Bytes::mib(1024), Origin::Profile),
                pids: asked(512, Origin::Profile),
                disk: None,
            },
            strict: false,
        }
    }

    fn words(spec: &Spec, kept: bool) -> Result<Vec<String>, BootError> {
        let agent = std::env::temp_dir();
        let parts = Parts {
            name: "agentkernel-x",
            reference: "debian",
            agent: &agent,
            home: "/home/agent",
            ports: &spec.ports,
            kept,
        };
        let all = create(spec, &parts)?;
        Ok(all.into_iter().map(|word| word.into_string().unwrap()).collect())
    }

    fn refusal(change: impl FnOnce(&mut Spec)) -> String {
        let mut spec = spec();
        change(&mut spec);
        match words(&spec, false) {
            Err(BootError::Refused { why, .. }) => why,
            other => panic!("{other:?}"),
        }
    }

    fn has(words: &[String], part: &[&str]) -> bool {
        words.windows(part.len()).any(|window| window == part)
    }

    #[test]
    fn a_moderate_sandbox_is_said_word_by_word() {
        let words = words(&spec(), false).unwrap();
        let folder = std::env::temp_dir();
        let agent =
            format!("type=virtiofs,source={},target=/.agentkernel,readonly", folder.display());
        let memory = |path: &str| format!("type=tmpfs,target={path},size=1073741824");
        for part in [
            &["create", "--name", "agentkernel-x", "--label"][..],
            &["--rm", "--uid", "0", "--gid", "0", "--workdir", "/"],
            &["--entrypoint", "/.agentkernel/agent", "--cap-drop", "ALL", "--cap-add", "CHOWN"],
            &["--network", "none", "--no-dns", "--cpus", "2", "--memory", "1024M"],
            &["--shm-size", "1024M", "--mount", &agent, "--mount"],
            &[&memory("/run,mode=1777"), "--mount", &memory("/tmp,mode=1777"), "--mount"],
            &[&memory("/home/agent,mode=0755"), "debian", "brought"],
        ] {
            assert!(has(&words, part), "{part:?} in {words:?}");
        }
        assert_eq!(words.last().unwrap(), "brought");
        assert!(!words.iter().any(|word| word.contains("hush") || word == "--read-only"));
    }

    fn mount(access: Access) -> Mount {
        Mount { source: "/srv".into(), target: "/a".into(), access }
    }

    #[test]
    fn folders_and_ports_are_said_to_the_tool() {
        let port = Port {
            inside: NonZeroU16::new(80).unwrap(),
            transport: Transport::Tcp,
            address: Ipv4Addr::LOCALHOST.into(),
            outside: NonZeroU16::new(8080),
        };
        let (mounts, ports) = (vec![mount(Access::ReadOnly)], vec![port]);
        let words = words(&Spec { mounts, ports, ..spec() }, false).unwrap();
        assert!(has(&words, &["--mount", "type=virtiofs,source=/srv,target=/a,readonly"]));
        assert!(has(&words, &["--kernel-arg", ALL_PORTS, "--publish"]));
        assert!(has(&words, &["--publish", "127.0.0.1:8080:80/tcp", "debian", "brought"]));
    }

    #[test]
    fn what_is_kept_is_neither_removed_nor_in_memory() {
        let words = words(&spec(), true).unwrap();
        assert!(!has(&words, &["--rm"]));
        assert!(!words.iter().any(|word| word.contains("/tmp,mode") || word.contains("/home")));
    }

    #[test]
    fn a_read_only_root_has_memory_where_it_may_be_written() {
        let read_only = Spec { root: RootAccess::ReadOnly, network: Network::Full, ..spec() };
        let words = words(&read_only, true).unwrap();
        assert!(has(&words, &["--read-only", "--read-only-path", "/dev"]));
        assert!(words.iter().any(|word| word.contains("target=/tmp,mode=1777")));
        assert!(!words.iter().any(|word| word == "--network" || word == "--no-dns"));
    }

    #[test]
    fn paths_that_the_tool_would_take_apart_are_refused() {
        for path in ["/tmp/a,b", "/tmp/a=b"] {
            assert!(shown(Path::new(path)).is_err(), "{path}");
        }
    }

    #[test]
    fn what_it_has_no_option_for_is_refused_if_somebody_asked() {
        let user = Origin::User;
        for (got, why) in [
            (refusal(|spec| spec.limits.pids = asked(64, user)), "--pids can't be enforced"),
            (refusal(|spec| spec.strict = true), "--pids can't be enforced"),
            (
                refusal(|spec| spec.limits.disk = asked(Bytes::mib(1024), user)),
                "--disk can't be enforced",
            ),
            (
                refusal(|spec| {
                    spec.limits.cpus = asked(Cpus::from_millis(1500).unwrap(), Origin::User)
                }),
                "whole processors",
            ),
            (refusal(|spec| spec.limits.memory = asked(Bytes::mib(64), user)), "200 MiB at least"),
            (
                refusal(|spec| {
                    spec.limits.memory = asked(Bytes::new((1 << 30) + 1).unwrap(), user)
                }),
                "whole MiB",
            ),
            (
                refusal(|spec| spec.mounts = vec![mount(Access::CopyOnWrite)]),
                "/srv can't be mounted",
            ),
            (refusal(|spec| spec.network = Network::Allow(vec!["a".into()])), "only some hosts"),
        ] {
            assert!(got.contains(why), "{got}");
        }
    }
}
