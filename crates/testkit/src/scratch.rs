//! Folders that a test may fill.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::{Caller, Captured, NotPassed, Verdict, lent};

/// A fresh folder, removed with all that is in it when dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    owner: Option<(u32, u32)>,
    /// With which program, and as whom, to end what may live in it.
    sandboxes: Option<(PathBuf, Caller)>,
    /// Where their engine is, if not where it usually is.
    host: Option<String>,
}

impl Scratch {
    /// The folders that stand for a caller's home, settings and so on; see
    /// [`Subject::agentkernel`](crate::Subject::agentkernel).
    pub(crate) const FOLDERS: [&str; 6] = ["home", "config", "state", "runtime", "tmp", "work"];

    /// How every scratch folder's name starts.
    pub const PREFIX: &str = "testkit-";

    /// Makes a folder in the host's temp folder that `owner` (user and group number, `None` for oneself) can fill and
    /// that nobody else can enter.
    pub fn new(owner: Option<(u32, u32)>) -> io::Result<Self> {
        let scratch = Self::with_mode(&std::env::temp_dir(), owner, 0o700)?;
        for folder in Self::FOLDERS {
            scratch.folder(folder)?;
        }
        Ok(scratch)
    }

    /// Makes an empty folder in `parent` that everybody can look into.
    pub fn public_in(parent: &Path) -> io::Result<Self> {
        Self::with_mode(parent, None, 0o755)
    }

    fn with_mode(parent: &Path, owner: Option<(u32, u32)>, mode: u32) -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // The real path, since that is what shows up in mounts and working directories.
        let parent = fs::canonicalize(parent)?;
        let path = parent.join(format!("{}{}-{count}", Self::PREFIX, std::process::id()));
        fs::create_dir(&path)?;
        let scratch = Self { path, owner, sandboxes: None, host: None };
        fs::set_permissions(&scratch.path, Permissions::from_mode(mode))?;
        scratch.give(&scratch.path)?;
        Ok(scratch)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same, which before it goes ends all sandboxes that `caller` has in it.
    pub(crate) fn with_sandboxes_of(
        mut self,
        program: &Path,
        caller: Caller,
        host: Option<String>,
    ) -> Self {
        self.host = host;
        self.sandboxes = Some((program.into(), caller));
        self
    }

    /// [`Subject::agentkernel`](crate::Subject::agentkernel)
    pub(crate) fn agentkernel(&self, program: &Path, caller: Caller) -> Command {
        let at = |folder: &str| self.path.join(folder);
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", at("home"))
            .env("XDG_CONFIG_HOME", at("config"))
            .env("XDG_STATE_HOME", at("state"))
            .env("XDG_RUNTIME_DIR", at("runtime"))
            .env("TMPDIR", at("tmp"))
            .envs(engines(program, caller, self.host.as_deref()))
            .current_dir(at("work"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        caller.become_in(&mut command);
        command
    }

    /// Ends the daemon and every sandbox that has its records here.
    fn end_sandboxes(&self) -> Verdict {
        let Some((program, caller)) = &self.sandboxes else { return Ok(()) };
        let agentkernel = |arguments: &[&str]| {
            let mut command = self.agentkernel(program, *caller);
            command.args(arguments);
            Captured::of(command)
        };
        if self.path.join("runtime/agentkernel/daemon.sock").exists() {
            agentkernel(&["daemon", "stop"])?.exits(0)?;
        }
        if self.path.join("state/agentkernel/store.db").exists() {
            let listed = agentkernel(&["ps", "-a", "-q"])?;
            let all = listed.exits(0)?.text();
            let all: Vec<&str> = all.lines().collect();
            if !all.is_empty() {
                agentkernel(&[&["rm", "-f"], &all[..]].concat())?.exits(0)?;
            }
            let listed = agentkernel(&["snapshot", "ls", "--json"])?;
            let listed: Value =
                serde_json::from_slice(&listed.exits(0)?.stdout).unwrap_or_default();
            let all = listed["snapshots"].as_array().into_iter().flatten();
            let all: Vec<&str> = all.filter_map(|one| one["id"].as_str()).collect();
            if !all.is_empty() {
                agentkernel(&[&["snapshot", "rm"], &all[..]].concat())?.exits(0)?;
            }
        }
        Ok(())
    }

    /// Makes a folder in the scratch, owned by the caller and closed to others; says where.
    pub fn folder(&self, name: impl AsRef<Path>) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        fs::create_dir(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(0o700))?;
        self.give(&path)?;
        Ok(path)
    }

    /// Writes a file in the scratch, owned by the caller; says where.
    pub fn file(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        fs::write(&path, content)?;
        self.give(&path)?;
        Ok(path)
    }

    /// Makes the caller the owner of what is at `path` in the scratch.
    pub fn give(&self, path: &Path) -> io::Result<()> {
        match self.owner {
            Some((uid, gid)) => chown(path, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(NotPassed::Failed(why) | NotPassed::Skipped(why)) = self.end_sandboxes() {
            eprintln!("could not end the sandboxes in {}: {why}", self.path.display());
        }
        if let Err(why) = fs::remove_dir_all(&self.path) {
            eprintln!("could not remove {}: {why}", self.path.display());
        }
    }
}

/// The PATH on which Apple's `container` is, or what stands for it: `scripts/lanes/apple.sh`.
fn apple() -> Option<(&'static str, OsString)> {
    let mut path = std::env::var_os("TESTKIT_APPLE")?;
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    Some(("PATH", path))
}

/// Where the container engines are that `caller` may use, as `scripts/lanes/containers.sh` tells. A
/// Podman that it does not name is not looked for: it would be started in folders of the tests'.
pub(crate) fn engines<'a>(
    program: &'a Path,
    caller: Caller,
    host: Option<&'a str>,
) -> impl Iterator<Item = (&'static str, OsString)> + use<'a> {
    let podman = match caller.is_root() {
        true => "TESTKIT_PODMAN_ROOT",
        false => "TESTKIT_PODMAN_USER",
    };
    let mut socket = OsString::from("unix://");
    socket.push(std::env::var_os(podman).unwrap_or_else(|| "/nowhere/podman.sock".into()));
    let lent = lent::socket_for(program);
    let lent = (!caller.is_root() && lent.exists()).then(|| {
        let mut address = OsString::from("unix://");
        address.push(lent);
        address
    });
    let docker = host.map(OsString::from).or(lent).or_else(|| std::env::var_os("DOCKER_HOST"));
    let docker = docker.map(|docker| ("DOCKER_HOST", docker));
    let machines =
        ["FIRECRACKER_BIN", "FIRECRACKER_KERNEL", "FIRECRACKER_JAIL", "FIRECRACKER_SNAPSHOTS"];
    let machines = machines.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    // One cluster is enough.
    let clusters = [
        "KUBECONFIG",
        "KUBERNETES_AGENT_IMAGE",
        "KUBERNETES_NAMESPACE",
        "NOMAD_ADDR",
        "NOMAD_TOKEN",
        "NOMAD_NAMESPACE",
        "NOMAD_AGENT_PATH",
    ];
    let clusters = clusters.into_iter().filter(move |_| host.is_none());
    let clusters = clusters.filter_map(|name| Some((name, std::env::var_os(name)?)));
    let own = docker.into_iter().chain([("CONTAINER_HOST", socket)]).chain(apple());
    own.chain(machines).chain(clusters)
}
