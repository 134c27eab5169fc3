//! What is tested: one backend, used by one kind of caller, on one route.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{fs, io};

use agentkernel_core::{Capability, LimitKind};
use serde_json::Value;

use crate::running::patiently;
use crate::scratch::engines;
use crate::{Captured, NotPassed, Route, Scratch, Stored, ensure, far, lent};

/// For a run that asks for nothing special.
pub const NO_FLAGS: [&str; 0] = [];

/// Who runs agentkernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// The user who runs the tests.
    Me,
    /// Another user, which only root can become. It has no further groups.
    User { uid: u32, gid: u32 },
}

impl Caller {
    /// An ordinary user for root to become. The number belongs to nobody, so that whatever is
    /// owned by it comes from a test.
    const ORDINARY: Self = Self::User { uid: 23456, gid: 23456 };

    /// Every caller the tests can be: oneself, and as root an ordinary user besides.
    pub fn all() -> Vec<Self> {
        match rustix::process::geteuid().is_root() {
            true => vec![Self::Me, Self::ORDINARY],
            false => vec![Self::Me],
        }
    }

    pub fn uid(self) -> u32 {
        match self {
            Self::Me => rustix::process::geteuid().as_raw(),
            Self::User { uid, .. } => uid,
        }
    }

    pub fn gid(self) -> u32 {
        match self {
            Self::Me => rustix::process::getegid().as_raw(),
            Self::User { gid, .. } => gid,
        }
    }

    pub fn is_root(self) -> bool {
        self.uid() == 0
    }

    /// Makes `command` run as this caller.
    pub fn become_in(self, command: &mut Command) {
        if let Self::User { uid, gid } = self {
            // The standard library drops the other groups along with root.
            command.uid(uid).gid(gid);
        }
    }

    /// The same command with the words of a `wrapper` before it that executes it, such as `nice`,
    /// and with no input and the output in pipes.
    pub fn through(self, wrapper: &[&str], command: &Command) -> Command {
        let (program, words) = wrapper.split_first().unwrap_or((&"env", &[]));
        let mut wrapped = Command::new(program);
        wrapped.args(words).arg(command.get_program()).args(command.get_args()).env_clear();
        let variables = command.get_envs();
        wrapped.envs(variables.filter_map(|(name, value)| Some((name, value?))));
        if let Some(directory) = command.get_current_dir() {
            wrapped.current_dir(directory);
        }
        self.become_in(&mut wrapped);
        wrapped.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        wrapped
    }

    fn owner(self) -> Option<(u32, u32)> {
        match self {
            Self::Me => None,
            Self::User { uid, gid } => Some((uid, gid)),
        }
    }
}

/// The variable that names an image in which the suites' commands can run.
const TEST_IMAGE: &str = "TESTKIT_IMAGE";

/// The same for the nodes of a cluster, each in its own words: Nomad takes `latest` for what is to be
/// fetched each time.
const PODS_IMAGE: &str = "TESTKIT_CLUSTER_IMAGE";
const ALLOCATIONS_IMAGE: &str = "TESTKIT_NOMAD_IMAGE";

/// The backends of clusters.
const PODS: &str = "kubernetes";
const ALLOCATIONS: &str = "nomad";

/// The backend of machines, which have a kernel of their own.
const MACHINES: &str = "firecracker";

/// The daemon, which belongs beside the program.
const DAEMON: &str = "agentkerneld";

/// A copy of the program in a folder that every user can reach, removed when dropped: a checkout
/// may lie where only root can look. The daemon comes along if it is there.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    _folder: Scratch,
}

impl Program {
    /// A copy of the one that `TESTKIT_PROGRAM` names, such as a smaller build of it, or of the one that was
    /// built with the tests.
    pub fn under_test(built: &str) -> io::Result<Self> {
        let named = std::env::var_os("TESTKIT_PROGRAM").map(PathBuf::from);
        Self::copy_of(named.as_deref().unwrap_or(Path::new(built)))
    }

    pub fn copy_of(original: &Path) -> io::Result<Self> {
        let folder = Scratch::public_in(&std::env::temp_dir())?;
        let path = folder.path().join("agentkernel");
        fs::copy(original, &path)?;
        let daemon = original.with_file_name(DAEMON);
        if daemon.exists() {
            fs::copy(daemon, folder.path().join(DAEMON))?;
        }
        Ok(Self { path, _folder: folder })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A limit that a backend can enforce on this machine for this caller, as `doctor` tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitInForce {
    pub name: String,
    /// Whether it is the limit itself rather than a weaker wall.
    pub exact: bool,
    /// Why it is not exact.
    pub why: String,
}

/// A backend as one kind of caller meets it on one route.
#[derive(Debug, Clone)]
pub struct Subject {
    pub program: PathBuf,
    pub backend: String,
    pub caller: Caller,
    pub route: Route,
    /// By [`Capability::name`].
    pub capabilities: BTreeSet<String>,
    pub limits: Vec<LimitInForce>,
    /// The walls that are missing here, as doctor tells.
    pub missing_walls: Vec<String>,
    /// What the backend does less well here than elsewhere, in the words of `doctor`.
    pub notes: Vec<String>,
    /// Why the backend can't be used here, in the words of `doctor`, or not on this route.
    pub unavailable: Option<String>,
    /// Where the engine is, if it is reached as one of another machine.
    pub host: Option<String>,
    /// Whether that machine is said to be one that the agent is not for.
    pub foreign: bool,
    /// The image of agentkernel's own store that its sandboxes have, if they have one.
    pub stored: Option<Stored>,
    /// Whether a few of many cases that are alike are enough, since an engine, or a slow machine, takes too
    /// long for all.
    pub sampled: bool,
}

impl Subject {
    /// A caller without a backend.
    pub(crate) fn nameless(program: PathBuf, caller: Caller) -> Self {
        Self {
            program,
            backend: String::new(),
            caller,
            route: Route::Cold,
            capabilities: BTreeSet::new(),
            limits: Vec::new(),
            missing_walls: Vec::new(),
            notes: Vec::new(),
            unavailable: None,
            host: None,
            foreign: false,
            stored: None,
            sampled: false,
        }
    }

    /// Every backend that `doctor` knows, for `caller` and the cold route; and an engine as if it were
    /// elsewhere, on a machine like this one and on another. To an ordinary user root's Docker is lent.
    pub fn all(program: &Path, caller: Caller) -> Result<Vec<Self>, NotPassed> {
        let bare = Self::nameless(program.into(), caller);
        let docker = lent::engine();
        if let (Some(engine), Caller::User { gid, .. }) = (&docker, caller) {
            lent::lend(engine.clone(), &lent::socket_for(program), gid, || ())
                .map_err(|why| NotPassed::failed_to("lend root's Docker", why))?;
        }
        let mut all = bare.found_by_doctor()?;
        if let Some(stored) = Stored::for_caller(&bare)? {
            // It has no other images.
            for machine in all.iter_mut().filter(|subject| subject.keeps_images()) {
                *machine = machine.clone().with_image(stored.clone());
            }
            let own = all.iter().find(|subject| subject.backend == "native").cloned();
            all.extend(own.map(|subject| subject.with_image(stored)));
        }
        // Once is enough: it is the same engine.
        if let Some(socket) = docker.filter(|_| caller.is_root()) {
            for foreign in [false, true] {
                let host = far::address_for(&socket, foreign)
                    .map_err(|why| NotPassed::failed_to("open a port", why))?;
                let far = Self { host: Some(host), foreign, ..bare.clone() }.found_by_doctor()?;
                all.extend(far.into_iter().filter(|subject| subject.backend == "docker"));
            }
        }
        Ok(all)
    }

    /// The same with this image, where what needs another is not looked at.
    fn with_image(self, stored: Stored) -> Self {
        let others = [
            Capability::ImageHost,
            Capability::ImageRootfs,
            Capability::ImageReference,
            Capability::ImageBuild,
        ];
        let mut capabilities = self.capabilities;
        capabilities.retain(|name| others.iter().all(|other| other.name() != name));
        Self { stored: Some(stored), capabilities, ..self }
    }

    fn found_by_doctor(&self) -> Result<Vec<Self>, NotPassed> {
        let bare = self;
        let scratch = bare.scratch()?;
        let mut doctor = bare.agentkernel(&scratch);
        doctor.args(["doctor", "--json"]);
        let got = Captured::of(doctor)?;
        // An unavailable backend may make the doctor's exit status that of a finding.
        let reading = |why| NotPassed::Failed(format!("doctor gave no JSON ({why}): {got}"));
        let document: Value =
            serde_json::from_slice(&got.stdout).map_err(|e| reading(e.to_string()))?;
        let backends = document["backends"].as_array();
        let backends = backends.ok_or_else(|| reading("no list of backends".into()))?;
        ensure!(!backends.is_empty(), "doctor knows no backend: {got}");
        backends.iter().map(|backend| bare.with_backend(backend)).collect()
    }

    fn with_backend(&self, entry: &Value) -> Result<Self, NotPassed> {
        let malformed = || NotPassed::Failed(format!("malformed backend in doctor: {entry}"));
        let list = |key| entry[key].as_array().map(Vec::as_slice).unwrap_or_default();
        let limit = |limit: &Value| LimitInForce {
            name: limit["name"].as_str().unwrap_or_default().into(),
            exact: limit["exact"].as_bool().unwrap_or_default(),
            why: limit["why"].as_str().unwrap_or_default().into(),
        };
        let ready = entry["ready"].as_bool().ok_or_else(malformed)?;
        let backend: String = entry["name"].as_str().ok_or_else(malformed)?.into();
        let lacking: &[Capability] = match self.host {
            Some(_) => &far::LACKING,
            None if lent::is_lent_to(&Self { backend: backend.clone(), ..self.clone() }) => {
                &lent::LACKING
            }
            None => &[],
        };
        let lacking = |name: &str| lacking.iter().any(|lacking| lacking.name() == name);
        Ok(Self {
            backend,
            capabilities: list("capabilities")
                .iter()
                .filter_map(Value::as_str)
                .filter(|name| !lacking(name))
                .map(Into::into)
                .collect(),
            limits: list("limits").iter().map(limit).collect(),
            missing_walls: list("walls")
                .iter()
                .filter(|wall| wall["in_force"] != true)
                .filter_map(|wall| wall["name"].as_str())
                .map(Into::into)
                .collect(),
            notes: list("notes").iter().filter_map(Value::as_str).map(Into::into).collect(),
            unavailable: (!ready)
                .then(|| entry["why"].as_str().unwrap_or("no reason given").into()),
            ..self.clone()
        })
    }

    /// The same on another route.
    pub fn on(&self, route: Route) -> Self {
        let lacking = match route {
            _ if self.keeps_images() && self.stored.is_none() => {
                Some("no image is named by TESTKIT_REGISTRY or TESTKIT_ARCHIVE, see scripts/lanes")
            }
            _ if self.has_pods() && self.image().is_none() => {
                Some("no image of its nodes is named by TESTKIT_CLUSTER_IMAGE")
            }
            _ if self.has_engine() && self.image().is_none() => {
                Some("no image is named by TESTKIT_IMAGE, see scripts/lanes/containers.sh")
            }
            Route::Live if !self.has(Capability::Live) => Some("its sandboxes don't live on"),
            Route::Pool if !self.program.with_file_name(DAEMON).exists() => {
                Some("there is no agentkerneld beside agentkernel")
            }
            _ => None,
        };
        let unavailable = self.unavailable.clone().or(lacking.map(Into::into));
        Self { route, unavailable, ..self.clone() }
    }

    /// The same on every route.
    pub fn on_all_routes(&self) -> Vec<Self> {
        Route::ALL.into_iter().map(|route| self.on(route)).collect()
    }

    /// `backend/caller/route`, as it stands before a behaviour's name.
    pub fn label(&self) -> String {
        let caller = if self.caller.is_root() { "root" } else { "user" };
        let far = self.host.as_ref().map_or("", |_| far::suffix(self.foreign));
        let image = match (&*self.backend, &self.stored) {
            ("native", Some(_)) => "-image",
            _ => "",
        };
        format!("{}{far}{image}/{caller}/{}", self.backend, self.route.name())
    }

    pub fn has(&self, capability: Capability) -> bool {
        self.capabilities.contains(capability.name())
    }

    /// Whether the command is a WebAssembly module, and there are no programs.
    pub fn runs_modules(&self) -> bool {
        let programs = [Capability::ImageHost, Capability::ImageReference];
        self.has(Capability::ImageModule) && !programs.into_iter().any(|image| self.has(image))
    }

    /// Whether modules can count with fractions. The guest of micro-VMs that is for tests can't: see
    /// `scripts/lanes/kvm.sh`.
    pub(crate) fn has_floats(&self) -> bool {
        self.backend != "hyperlight" || std::env::var_os("TESTKIT_PLAIN_GUEST").is_none()
    }

    /// Whether an engine makes its places, which takes a hundred times as long as the kernel does.
    pub(crate) fn has_engine(&self) -> bool {
        self.backend != "native" && !self.runs_modules()
    }

    /// Whether its places are machines with a kernel of their own, into which the host does not see.
    pub(crate) fn has_own_kernel(&self) -> bool {
        self.backend == MACHINES
    }

    /// Whether its places are containers of an engine on some machine, which a program of its own calls into.
    pub(crate) fn has_containers(&self) -> bool {
        ["docker", "podman"].contains(&&*self.backend)
    }

    /// Whether its places are pods, each of which is one user's.
    pub(crate) fn has_pods(&self) -> bool {
        self.backend == PODS
    }

    /// Whether its places are Nomad's allocations, whose streams are slow.
    pub(crate) fn has_allocations(&self) -> bool {
        self.backend == ALLOCATIONS
    }

    /// Whether a cluster finds the places, and its nodes the images.
    pub(crate) fn is_clusters(&self) -> bool {
        self.has_pods() || self.has_allocations()
    }

    /// Whether its places are behind a stream. Whoever is not a machine, and can tell of changes, reaches a
    /// place's files, and so its process, otherwise.
    pub(crate) fn is_far(&self) -> bool {
        self.host.is_some() || self.has_own_kernel() || !self.has(Capability::Changes)
    }

    /// Whether its images are agentkernel's own, without which it has nothing to start.
    fn keeps_images(&self) -> bool {
        self.backend == MACHINES
    }

    /// The variable that names an image for its commands.
    fn image_variable(&self) -> &'static str {
        match self.backend.as_str() {
            PODS => PODS_IMAGE,
            ALLOCATIONS => ALLOCATIONS_IMAGE,
            _ => TEST_IMAGE,
        }
    }

    /// How long the backend's engine may take to clear away what it has made of a sandbox, once all
    /// in that is dead; nothing where agentkernel does it itself.
    pub(crate) fn patience_for_engine(&self) -> Duration {
        match self.has_engine() {
            // A kubelet has more to do, and looks only now and then.
            true if self.has_pods() => patiently(Duration::from_secs(20)),
            true => patiently(Duration::from_secs(5)),
            false => Duration::ZERO,
        }
    }

    /// Whether commands can be root: in a pod nobody is.
    pub(crate) fn has_root(&self) -> bool {
        self.has(Capability::User) && !self.has_pods()
    }

    /// Whether sandboxes can have the permissive profile: it has the network, and the caller as its user.
    pub(crate) fn has_permissive(&self) -> bool {
        self.has(Capability::NetworkFull) && !(self.has_pods() && self.caller.is_root())
    }

    /// What is short on native and long enough to start sandboxes in: an engine takes its time for that.
    pub(crate) fn a_while(&self, on_native: Duration) -> Duration {
        match self.has_engine() {
            // Its kubelet looks once a second, and a pod's containers are made one after the other.
            true if self.has_pods() => patiently(on_native * 12),
            true => patiently(on_native * 4),
            false => patiently(on_native),
        }
    }

    /// Whether the limit itself can be enforced here; if not, the doctor's reason. What doctor
    /// has no word on is held to be enforced.
    pub fn exact_limit(&self, kind: LimitKind) -> Result<(), String> {
        match self.limits.iter().find(|limit| limit.name == kind.name()) {
            Some(limit) if !limit.exact => Err(limit.why.clone()),
            _ => Ok(()),
        }
    }

    /// A fresh folder owned by the caller. The sandboxes that live in it end with it.
    pub fn scratch(&self) -> Result<Scratch, NotPassed> {
        let scratch = Scratch::new(self.caller.owner())
            .map_err(|why| NotPassed::failed_to("make a scratch folder", why))?;
        Ok(scratch.with_sandboxes_of(&self.program, self.caller, self.host.clone()))
    }

    /// `agentkernel` without arguments: run by the caller in `work` of `scratch`, with the home
    /// and all of the XDG folders in `scratch` too, an environment of only these and `PATH`, no
    /// input, and the output in pipes. The test may change any of it.
    pub fn agentkernel(&self, scratch: &Scratch) -> Command {
        let mut command = scratch.agentkernel(&self.program, self.caller);
        command.envs(self.engine());
        command
    }

    /// The variables without which a container engine and its image can't be found.
    pub fn engine(&self) -> impl Iterator<Item = (&'static str, OsString)> {
        let image = self.image().map(|image| ("AGENTKERNEL_IMAGE", image));
        // Only on it the image can be had.
        let backend = image.as_ref().map(|_| ("AGENTKERNEL_BACKEND", self.backend.clone().into()));
        let data = self.stored.as_ref().map(|stored| ("XDG_DATA_HOME", stored.data.clone().into()));
        let engines = engines(&self.program, self.caller, self.host.as_deref());
        engines.chain(image).chain(backend).chain(data)
    }

    /// The command line of the backend's own engine, which for Podman is that of its service.
    pub(crate) fn engine_command(
        &self,
        words: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Command {
        let mut command = Command::new(&self.backend);
        command.args((self.backend == "podman").then_some("--remote")).args(words);
        command.envs(self.engine());
        command
    }

    /// The image to try a backend with that can't use the host's own programs.
    fn image(&self) -> Option<OsString> {
        if let Some(stored) = &self.stored {
            return Some(stored.image.clone().into());
        }
        let wanted = !self.backend.is_empty() && self.has_engine() && !self.keeps_images();
        wanted.then(|| std::env::var_os(self.image_variable())).flatten()
    }

    /// What leads `argv` with the `flags` of a run into a sandbox on the subject's route, as
    /// [`agentkernel`](Self::agentkernel) sets it up: on the cold one it is
    /// `agentkernel run -B BACKEND FLAGS -- ARGV`. Once the command runs, it is agentkernel's own
    /// process on every route.
    pub fn run_command(
        &self,
        scratch: &Scratch,
        flags: &[impl AsRef<OsStr>],
        argv: &[impl AsRef<OsStr>],
    ) -> Command {
        self.led(scratch, flags, None, argv)
    }

    /// The same with a module, the file at `module`, and its arguments.
    pub(crate) fn run_module(
        &self,
        scratch: &Scratch,
        flags: &[impl AsRef<OsStr>],
        module: &Path,
        arguments: &[impl AsRef<OsStr>],
    ) -> Command {
        self.led(scratch, flags, Some(module.as_os_str()), arguments)
    }

    fn led(
        &self,
        scratch: &Scratch,
        flags: &[impl AsRef<OsStr>],
        module: Option<&OsStr>,
        argv: &[impl AsRef<OsStr>],
    ) -> Command {
        let bare = self.agentkernel(scratch);
        let mut command = self.route.lead(&bare, &self.backend, flags, module, argv);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.caller.become_in(&mut command);
        command
    }

    /// Runs `argv` with `flags` from a scratch folder of its own, and waits for its end.
    pub fn run(
        &self,
        flags: &[impl AsRef<OsStr>],
        argv: &[impl AsRef<OsStr>],
    ) -> Result<Captured, NotPassed> {
        Captured::of(self.run_command(&self.scratch()?, flags, argv))
    }

    /// Runs a script with `sh -c` as [`run`](Self::run) does.
    pub fn shell(&self, flags: &[impl AsRef<OsStr>], script: &str) -> Result<Captured, NotPassed> {
        self.run(flags, &["sh", "-c", script])
    }
}
