//! A place, from a spec and Apple's tool.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use agentkernel_containers::{
    AGENT, BRING, FarAbout, Setting, identity_of, own_folder, own_name, process_of, start_first,
};
use agentkernel_core::{
    Asked, BootError, DestroyError, Identity, ImageFacts, Launch, Life, LimitInForce, LimitKind,
    Place, Port, Spec,
};
use agentkernel_far::{Bridge, FarError, FarPlace, Stream, Told, carry, word};
use agentkernel_guest::Nearest;
use agentkernel_sys::cgroup::{Controller, Limit};
use agentkernel_sys::descriptor::{self, Interest};
use agentkernel_sys::process;

use crate::config::{self, Parts};
use crate::mounts::{self, Found};
use crate::ports::{self, Picked};
use crate::program::Folder;
use crate::tool::{self, ToolError};
use crate::words::Container;
use crate::{image, probe, sweep};

/// How long it may take from the tool's word that it has started until the agent speaks.
const ARRIVAL: Duration = Duration::from_secs(60);

/// How long a machine may take to end.
const DEATH: Duration = Duration::from_secs(15);

/// How often it is looked whether one has.
const BREATH: Duration = Duration::from_millis(200);

/// What a container is called that keeps what is written in the sandbox `name`.
pub fn kept(name: &str) -> String {
    format!("agentkernel-{name}")
}

/// A container.
struct Made<'a> {
    name: &'a str,
    /// Whether anything was ever written in it that is kept.
    keeps: bool,
}

/// Boots one for a single command, which its agent starts at once.
pub fn boot_for(spec: &Spec, first: Launch<'_>) -> Result<Box<dyn Place>, BootError> {
    let place = boot(spec, Life::default())?;
    let process = process_of(spec, first.command, &place.image())?;
    start_first(&*place, process, &first.stdio)?;
    Ok(place)
}

pub fn boot(spec: &Spec, life: Life) -> Result<Box<dyn Place>, BootError> {
    let reference = image::reference(spec)?;
    let kept_name = life.name.as_deref().map(kept);
    let name = kept_name.clone().unwrap_or_else(own_name);
    // What can't be said is refused before anything is made or fetched.
    let nowhere = Path::new("/");
    let kept = kept_name.is_some();
    let parts = Parts { name: &name, reference, agent: nowhere, home: "/", ports: &[], kept };
    config::create(spec, &parts)?;
    ports::check(&spec.ports)?;
    let found = Found::look(&spec.mounts)?;
    let had = kept_name.as_deref().map(at_rest).transpose()?.flatten();
    let picked = pick_ports(spec, had.as_ref())?;
    let image = image::facts(reference)?;
    // Names are known only once the image's own lists are.
    let user = identity_of(&spec.user, &image);
    let user = user.unwrap_or_else(|_| Identity::known(1000, 1000, "agent"));
    let home = if user.uid == 0 { "/root" } else { &user.home };
    let folder = match &life.layers {
        Some(layers) => Folder::make(layers.join("agent"), false)?,
        None => Folder::make(own_folder(), true)?,
    };
    let arguments =
        config::create(spec, &Parts { agent: folder.path(), home, ports: &picked.ports, ..parts })?;
    // It takes a while to begin, as the container does.
    let bridge = start_bridge()?;
    if had.is_none() {
        make(&name, &arguments)?;
    }
    let made = Made { name: &name, keeps: had.is_some() };
    // From here on they are the tool's to take.
    let ports = picked.let_go();
    let wanted = Wanted { spec, ports: &ports, found };
    match greet(&bridge, &name, &wanted, &life, image) {
        Ok(Greeted { link, image, limits }) => {
            let told =
                Told { image, walls: probe::walls(&spec.network), limits, notes: Vec::new() };
            let kill = Box::new(move || end(&name, &folder));
            Ok(Box::new(FarPlace::new(bridge, link, told, kill).with_ports(ports)))
        }
        Err(error) => {
            bridge.kill();
            made.remove();
            Err(error)
        }
    }
}

/// The ports of a place, which are its container's if it `had` one.
fn pick_ports(spec: &Spec, had: Option<&Container>) -> Result<Picked, BootError> {
    let ports = match had {
        Some(container) => ports::of(container, &spec.ports)?,
        None => spec.ports.clone(),
    };
    ports::refuse_taken(&ports)?;
    Picked::new(&ports)
}

/// Starts the process that is at this end of the place's stream. Nothing of a command is passed on
/// its command line.
fn start_bridge() -> Result<Bridge, BootError> {
    let mut program = Command::new("/proc/self/exe");
    // Whose it is, for people who look at the list of processes.
    program.arg0("agentkerneld").args(["bridge", "apple"]).current_dir("/");
    Bridge::start(&mut program).map_err(far)
}

/// Serves as a bridge, to the end of the place.
pub fn bridge() -> io::Result<()> {
    // A terminal's signals are not for those who outlive it.
    process::new_session()?;
    let mut exec = None;
    let carried = carry(|name| {
        let (stream, child) = open_stream(name).map_err(|error| error.to_string())?;
        exec = Some(child);
        Ok(stream)
    });
    if let Some(mut exec) = exec {
        let ended = process::open_pidfd(exec.id().cast_signed())?;
        // It has nothing more to carry.
        if !descriptor::poll(&mut [Interest::readable(ended.as_fd())], Some(DEATH))? {
            exec.kill()?;
        }
        exec.wait()?;
    }
    carried
}

/// Starts the container `name`, and opens the stream into it: one exec that is held open. Both are the
/// bridge's to do, so that none that was started is left alone, whatever becomes of the booter.
fn open_stream(name: &str) -> Result<(Stream, Child), ToolError> {
    tool::ask(&["start", name], tool::WORK)?;
    let words = ["exec", "--interactive", "--uid", "0", "--gid", "0", name, AGENT, BRING];
    let mut command = Command::new(tool::PROGRAM);
    let mut child = tool::spawn(command.args(words).stdin(Stdio::piped()))?;
    let (input, output) = (child.stdout.take(), child.stdin.take());
    let errors = child.stderr.take().map(Into::into);
    match (input, output) {
        (Some(input), Some(output)) => {
            Ok((Stream { input: input.into(), output: output.into(), errors }, child))
        }
        _ => Err(ToolError::Unheard(io::ErrorKind::BrokenPipe.into())),
    }
}

fn make(name: &str, arguments: &[std::ffi::OsString]) -> Result<(), BootError> {
    let what = "Apple's containers can't make the sandbox";
    match tool::ask(arguments, tool::WORK) {
        Ok(_) => Ok(()),
        Err(ToolError::Refused { words, .. }) if words.contains("already exists") => {
            Err(BootError::Refused {
                why: format!("there is another container named {name}"),
                fix: "rename or delete that container; it is not agentkernel's".into(),
            })
        }
        Err(error) => Err(error.into_boot_error(what)),
    }
}

/// The container of this name, if there is one, once it counts as ended for its engine.
fn at_rest(name: &str) -> Result<Option<Container>, BootError> {
    let what = "can't see what the sandbox's container does";
    let until = Instant::now() + DEATH;
    loop {
        let found = sweep::find(name).map_err(|error| error.into_boot_error(what))?;
        let rests = found.as_ref().is_none_or(|one| one.status.state == "stopped");
        // A start that comes too early is refused, with better words.
        if rests || Instant::now() > until {
            return Ok(found);
        }
        let _ = descriptor::poll(&mut [], Some(BREATH));
    }
}

/// An agent that serves its link.
struct Greeted {
    link: OwnedFd,
    image: ImageFacts,
    limits: Vec<LimitInForce>,
}

/// How a place is to be.
struct Wanted<'a> {
    spec: &'a Spec,
    ports: &'a [Port],
    found: Found,
}

impl Wanted<'_> {
    /// Refuses a container that is not so, by what its agent says and what its engine does.
    fn verify(&self, name: &str, said: &FarAbout, home: &str) -> Result<(), BootError> {
        let mounts = &self.spec.mounts;
        // Only now it is known for certain.
        mounts::check(mounts, home)?;
        mounts::verify(mounts, &said.mounts)?;
        self.found.are_still(mounts)?;
        if self.ports.is_empty() {
            return Ok(());
        }
        let what = "can't see the ports of the sandbox's container";
        match sweep::find(name).map_err(|error| error.into_boot_error(what))? {
            Some(container) => ports::of(&container, self.ports).map(drop),
            None => {
                Err(BootError::Failed { what: what.into(), source: io::ErrorKind::NotFound.into() })
            }
        }
    }
}

/// Hears an agent, and tells it how its place is to be.
fn greet(
    bridge: &Bridge,
    name: &str,
    wanted: &Wanted<'_>,
    life: &Life,
    mut image: ImageFacts,
) -> Result<Greeted, BootError> {
    let unheard =
        |source| BootError::Failed { what: "the sandbox's agent does not answer".into(), source };
    let spec = wanted.spec;
    let (input, output) = bridge.open(name).map_err(|error| match &error {
        FarError::Open(words) => ports::refusal(words, wanted.ports).unwrap_or_else(|| far(error)),
        _ => far(error),
    })?;
    let said: FarAbout = word::read(input.as_fd(), ARRIVAL).map_err(unheard)?;
    (image.passwd, image.group) = (said.about.passwd.clone(), said.about.group.clone());
    let user = identity_of(&spec.user, &image)?;
    wanted.verify(name, &said, &user.home)?;
    let (limits, nearest) = limits(spec);
    word::write(output.as_fd(), &Setting::new(&user, nearest, life)).map_err(unheard)?;
    drop((input, output));
    let [listener, fate] = [&life.listener, &life.fate].map(|fd| fd.as_ref().map(AsFd::as_fd));
    let link = bridge.serve(listener, fate).map_err(far)?;
    Ok(Greeted { link, image, limits })
}

/// The limits in force, and the walls that stand for those that the tool has no option for.
fn limits(spec: &Spec) -> (Vec<LimitInForce>, Vec<Nearest>) {
    let limits = &spec.limits;
    let pids = limits.pids.map(|asked| u64::from(asked.value));
    let all = [
        (LimitKind::Cpus, limits.cpus.map(|Asked { value, .. }| u64::from(value.millis()))),
        (LimitKind::Memory, limits.memory.map(|asked| asked.value.get())),
        (LimitKind::Pids, pids),
    ];
    let in_force = all.into_iter().filter_map(|(kind, value)| {
        Some(LimitInForce { kind, value: value?, by: probe::means(kind) })
    });
    let near = pids.map(|value| Nearest::of(Limit { controller: Controller::Pids, value }));
    (in_force.collect(), near.into_iter().collect())
}

fn far(error: FarError) -> BootError {
    if let FarError::Open(words) = error {
        return tool::refusal("Apple's containers can't start the sandbox", &words);
    }
    BootError::Failed {
        what: "can't reach the sandbox".into(),
        source: io::Error::other(error.to_string()),
    }
}

impl Made<'_> {
    /// Removes it, unless it keeps something.
    fn remove(&self) {
        if self.keeps {
            let _ = tool::ask(&["stop", "--time", "0", self.name], tool::WORK);
            return;
        }
        // What can't be removed now is swept later.
        let _ = sweep::remove(self.name);
    }
}

/// Ends a container whose agent does not heed its link. Until then its agent's folder is kept.
fn end(name: &str, _agent: &Folder) -> Result<(), DestroyError> {
    sweep::remove(name).map_err(|error| DestroyError {
        what: format!("the container {name}"),
        source: io::Error::other(error.to_string()),
    })
}
