//! What every isolation engine implements.

use std::borrow::Cow;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{
    About, Access, Attachment, Command, ImageFacts, LimitKind, Port, Process, Provision, Spec,
    Stdio, Yardstick,
};

/// An isolation engine: it boots places from specs, and does nothing else that a user sees.
///
/// A backend is created without I/O and may be asked from several threads at once.
pub trait Backend: Sync {
    /// The name by which users ask for it: lower case, no spaces.
    fn name(&self) -> &'static str;

    /// What is said of it where backends are compared.
    fn about(&self) -> About;

    /// What its figures are measured against, besides the bare process.
    fn yardsticks(&self) -> &'static [Yardstick];

    /// What it can do and enforce, on the best machine it could run on. A spec that needs more
    /// is refused before [`boot`](Self::boot) is called.
    fn capabilities(&self) -> Capabilities;

    /// Whether this program can boot places with it. One that can't uses those that others have
    /// booted, and leaves all else to a program that can.
    fn can_boot(&self) -> bool {
        true
    }

    /// Whether this program can [provide](Self::provide) images for it.
    fn can_provide(&self) -> bool {
        self.can_boot()
    }

    /// Whether it can boot a place on this machine now. It finds out by trying, not by looking
    /// for files that usually mean so, and leaves nothing behind.
    fn probe(&self) -> Probe;

    /// Names the spec's image by its content, where the backend keeps images of its own: so it is the
    /// same one for as long as anybody has this spec, whatever its name comes to stand for. A
    /// [`boot`](Self::boot) of such a backend fetches nothing.
    fn pin(&self, _spec: &mut Spec) -> Result<Pinned, BootError> {
        Ok(Pinned::ByEngine)
    }

    /// Sees to it that the spec's image is there as `provision` says, built or fetched, and
    /// [tells](crate::tell) how far it is. A [`boot`](Self::boot) fetches an image that is missing,
    /// and does nothing else of this. Only one that [can](Self::can_provide) is asked, and only
    /// for a spec that it can boot; those that start no image by its name have nothing to do.
    fn provide(&self, _spec: &Spec, _provision: &Provision) -> Result<(), BootError> {
        Ok(())
    }

    /// Boots a place from `spec` for one command. It returns as soon as the place's link exists, which may be
    /// before the place is ready: the agent's hello says that, or its refusal why not.
    ///
    /// `first` is the command that the agent starts of its own accord once it is ready, which saves
    /// a round trip. The place ends with it.
    ///
    /// What the spec asks for and this machine can't enforce is an error here, before anything
    /// was started. After an error nothing is left behind. Dropping the place destroys it.
    fn boot(&self, spec: &Spec, first: Launch<'_>) -> Result<Box<dyn Place>, BootError>;

    /// Boots a place that lives on its own and serves commands to whoever reaches its agent.
    ///
    /// The calling process must have a single thread: the agent may be a copy of it, and does
    /// everything that a program does. The promises of [`boot`](Self::boot) hold until the place is
    /// [released](Place::release).
    fn boot_live(&self, spec: &Spec, life: Life) -> Result<Box<dyn Place>, BootError>;

    /// Refuses a spec that a place which keeps what is written can't enforce.
    fn check_kept(&self, _spec: &Spec) -> Result<(), BootError> {
        Ok(())
    }

    /// What the agent of a place made from `spec` has to start for `command`, which may differ
    /// from the spec in its user, directory and variables. `image` tells what the place
    /// [says](Place::image) of its image.
    fn process(
        &self,
        spec: &Spec,
        command: &Command,
        image: &dyn Fn() -> ImageFacts,
    ) -> Result<Process, BootError>;

    /// The code of the module that every command in a place made from `spec` runs, if its image is one,
    /// to be handed to the agent behind a command's streams.
    fn code(&self, _spec: &Spec) -> Result<Option<OwnedFd>, BootError> {
        Ok(None)
    }

    /// The part of a spec that a place is made of before it is known for what: what belongs to a
    /// command, or can be [attached](Self::attach), is left out. Places of equal parts are
    /// interchangeable. `None` where places can't be kept ready.
    fn pool_part(&self, spec: &Spec) -> Option<Spec>;

    /// Whether a place made from the [pool part](Self::pool_part) of `spec` needs attachments to be
    /// one of `spec`.
    fn needs_attachments(&self, _spec: &Spec) -> bool {
        false
    }

    /// Makes a place that was made from the [pool part](Self::pool_part) of `spec` one of `spec`,
    /// before anything has run in it. The calling process must have a single thread.
    fn attach(&self, _spec: &Spec, _place: &mut dyn Pristine) -> Result<(), BootError> {
        Ok(())
    }

    /// Makes streams of the caller's usable for the user inside a place, unless they stay on this side.
    fn open_streams(&self, _stdio: &Stdio) -> Result<(), BootError> {
        Ok(())
    }

    /// Ends a place that another process has booted, if it has not ended yet, and waits until
    /// nothing of it is left.
    fn clear(&self, remnant: Remnant) -> Result<Remains, DestroyError>;

    /// Has what the engine keeps for places of the [name](Life::name) `to`, of which there was none
    /// yet, begin as what it keeps for `from`. What a place keeps in its layers is not its own.
    fn copy_kept(&self, _from: &str, _to: &str) -> Result<(), BootError> {
        Err(BootError::Refused {
            why: format!("the {} backend can't copy a sandbox", self.name()),
            fix: "use another backend for snapshots and forks".into(),
        })
    }

    /// Removes what the engine keeps of the places that were booted under this
    /// [name](Life::name), all of which have ended, or were to be. What was [adopted](Self::adopt) by
    /// somebody else, as is seen by the `layers` that they had here, is theirs and stays.
    fn forget(&self, _name: &str, _layers: Option<&Path>) -> Result<(), DestroyError> {
        Ok(())
    }

    /// Sees to pools that the engine itself keeps for all of its clients, if it can: a
    /// [`boot`](Self::boot) that may be [pooled](Launch::pooled), and those that fill other pools, take out
    /// of them what was made of an equal spec.
    fn share(&self, _order: Shared<'_>) -> Result<Vec<SharedPool>, BootError> {
        Err(BootError::Refused {
            why: format!("the {} backend has no pools that are shared", self.name()),
            fix: "leave out --shared, or name a backend that has, as in -B kubernetes".into(),
        })
    }

    /// Sees to places that are kept where others may find them, too.
    fn adopt(&self, _order: Adopt<'_>) -> Result<Vec<Elsewhere>, BootError> {
        Err(BootError::Refused {
            why: format!("the {} backend has no sandboxes that can be adopted", self.name()),
            fix: "name a backend that has, as in -B kubernetes".into(),
        })
    }

    /// Removes what places have left whose makers were killed with nobody there to clear it away,
    /// and tells what that was. Whatever a place that lives may still need stays.
    fn sweep(&self) -> Vec<PathBuf>;

    /// How many processes of a place with these [groups](Place::groups) the kernel has killed for
    /// want of memory so far. Where that is another one, it is asked by their agents.
    fn oom_kills(&self, _groups: &[PathBuf]) -> u64 {
        0
    }

    /// What a place made from `spec` keeps in the directory that it was given in
    /// [`Life::layers`], seen from the host.
    fn layers(&self, _spec: &Spec, _directory: &Path) -> Vec<Layer> {
        Vec::new()
    }

    /// What a place made from `spec` and `image` keeps where only its agent reaches it: layers that are in
    /// `directory` once the agent has handed them out, by the names that its upper directories have there.
    fn carried(&self, _spec: &Spec, _image: &ImageFacts, _directory: &Path) -> Option<Vec<Layer>> {
        None
    }

    /// These directories, of which a [layer](Layer) says that they lie under it, as one: a descriptor of
    /// a mount that shows them and can't be written.
    fn merge(&self, _lower: &[PathBuf]) -> Result<OwnedFd, BootError> {
        Err(BootError::Unavailable {
            why: format!("the {} backend lays no directories over each other", self.name()),
            fix: "please report this".into(),
        })
    }

    /// The host's numbers for the users inside a place made from `spec`, which says this of its
    /// `image`.
    fn owners(&self, spec: &Spec, image: &ImageFacts) -> Result<Owners, BootError>;
}

/// What is to be done with pools that are [shared](Backend::share).
#[derive(Debug)]
pub enum Shared<'a> {
    /// Tells of all.
    List,
    /// Has one of so many, made of the spec.
    Set { name: &'a str, size: u32, spec: &'a Spec },
    /// What was taken out of it stays.
    Remove { name: &'a str },
}

/// What is to be done with places that can be [adopted](Backend::adopt).
#[derive(Debug)]
pub enum Adopt<'a> {
    /// Tells of all there are, whosever they are.
    List,
    /// Makes one the caller's, unless that is another's by now than who was [seen](Elsewhere::seen). What its
    /// next boot takes it up by is written into the `layers` that this is given.
    Take { name: &'a str, seen: &'a str, layers: &'a Path },
}

/// A place that is kept where others may find it. All of it is what others have written there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Elsewhere {
    /// Its [name](Life::name).
    pub name: String,
    /// Its [story](Life::story), if it was made with one.
    pub story: Option<String>,
    /// Who has it, for people.
    pub holder: String,
    /// Why it can't be used any more, if so.
    pub ended: Option<String>,
    /// What is compared.
    pub seen: String,
}

/// A pool that is shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedPool {
    pub name: String,
    pub size: u64,
    pub ready: u64,
}

/// What came of [`Backend::pin`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pinned {
    /// There was nothing to do: the image has no name, or the engine keeps it.
    ByEngine,
    /// The spec names the image by its content.
    Done,
    /// The image is not there.
    Missing,
    /// It is a module, and the backend runs programs, or the reverse.
    OfOtherKind,
}

/// How a place lives that is not bound to one command.
#[derive(Debug, Default)]
pub struct Life {
    /// What it is called where an engine keeps something for it: letters and digits that no other
    /// has. What was written under that name is there again.
    pub name: Option<String>,
    /// Where clients come in, besides the link: a listening local socket.
    pub listener: Option<OwnedFd>,
    /// A file that is told why the place has ended of its own accord: `ttl`, `idle` or `stopped`.
    pub fate: Option<OwnedFd>,
    /// An absolute path of a directory of the caller's, without links, that keeps what is
    /// written; without one it is kept in memory and goes with the place.
    pub layers: Option<PathBuf>,
    /// Whether it is to be [released](Place::release), to go on when its maker has gone.
    pub outlives: bool,
    /// What is written down beside it where others can find it, who know nothing else of it.
    pub story: Option<String>,
    /// After which time it ends.
    pub ttl: Option<Duration>,
    /// After which time it ends in which no command ran and nobody was connected.
    pub idle: Option<Duration>,
}

/// What another process than a place's maker has of it.
#[derive(Debug)]
pub struct Remnant {
    /// Its [name](Life::name).
    pub name: String,
    /// A descriptor of its first process, if that still lives.
    pub process: Option<OwnedFd>,
    /// [`Place::groups`], as its maker told.
    pub groups: Vec<PathBuf>,
}

/// A place in which nothing has run yet, as whoever has leased it reaches it.
pub trait Pristine {
    /// The host's number of its process 1, which lives.
    fn pid(&self) -> i32;

    /// What it [says](Place::image) of its image.
    fn image(&self) -> ImageFacts;

    /// Its user namespace, as its agent hands it out.
    fn user_namespace(&mut self) -> io::Result<OwnedFd>;

    /// Has its agent add something.
    fn add(&mut self, what: Attachment, tree: Option<OwnedFd>) -> io::Result<()>;
}

/// A directory of a sandbox whose changes are kept apart from what lies under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Where it is, seen from inside.
    pub target: PathBuf,
    /// The host's directories under it, the lowest first, each of the others in the form of overlayfs
    /// with `userxattr`; none for a root that was made up.
    pub lower: Vec<PathBuf>,
    /// The host's directory with the changes, in the form of overlayfs with `userxattr`.
    pub upper: PathBuf,
    /// Where something else is mounted, seen from inside. Neither that nor what is below it is the
    /// layer's.
    pub covered: Vec<PathBuf>,
    /// Directories inside that the backend makes in it where they are missing, with those above
    /// them.
    pub made: Vec<PathBuf>,
}

impl Layer {
    /// Those of a spec's copy-on-write mounts, over the host's own directories, where the mount of each
    /// number has the `upper` one.
    pub fn of_copies<'a>(
        spec: &'a Spec,
        covered: &'a [PathBuf],
        made: &'a [PathBuf],
        upper: impl Fn(usize) -> PathBuf + 'a,
    ) -> impl Iterator<Item = Self> + 'a {
        let copies = spec.mounts.iter().enumerate();
        let copies = copies.filter(|(_, mount)| mount.access == Access::CopyOnWrite);
        copies.map(move |(number, mount)| Self {
            target: mount.target.clone(),
            lower: vec![mount.source.clone()],
            upper: upper(number),
            covered: covered.iter().filter(|path| **path != mount.target).cloned().collect(),
            made: made.to_vec(),
        })
    }
}

/// How numbers of users and groups outside stand for those inside: `count` of them in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owners {
    pub outside: (u32, u32),
    pub inside: (u32, u32),
    pub count: u32,
    /// The host's numbers for whom commands run as.
    pub user: (u32, u32),
}

/// A command together with its streams, ready to start.
#[derive(Debug)]
pub struct Launch<'a> {
    pub command: &'a Command,
    pub stdio: Stdio,
    /// What [`code`](Backend::code) is, if the command is a module.
    pub code: Option<OwnedFd>,
    /// Whether it may be started in what pools have made ahead, as when theirs are all taken.
    pub pooled: bool,
}

/// A booted sandbox without its agent's services: an engine's side of the bargain.
pub trait Place {
    /// The byte stream to the agent, which speaks `agentkernel_protocol`. It is closed by the
    /// place's end, whatever ended it.
    fn link(&self) -> BorrowedFd<'_>;

    /// The walls in force around it, and those that are missing with the reason.
    fn walls(&self) -> &[Wall];

    /// The limits in force, and by what means.
    fn limits(&self) -> &[LimitInForce];

    /// What the place does less well than others do, as whole sentences without their full stop,
    /// each with the reason. None of it lets anything out of the place.
    fn notes(&self) -> &[String] {
        &[]
    }

    /// The host's ports that lead into it: those of its spec, with what was picked.
    fn ports(&self) -> &[Port] {
        &[]
    }

    /// What its image says of commands in it.
    fn image(&self) -> ImageFacts {
        ImageFacts::default()
    }

    /// The host's number of its first process.
    fn pid(&self) -> i32;

    /// The control groups that go with it, for whoever [clears](Backend::clear) it away.
    fn groups(&self) -> Vec<PathBuf>;

    /// Says in the words of the edge why the place did not get ready: `error` at this `step` of
    /// what [`boot`](Backend::boot) had planned, as its agent told.
    fn explain(&self, step: u16, error: io::Error) -> BootError;

    /// Lets it go on without the caller, who has told its agent so before. Whoever wants it gone
    /// [clears](Backend::clear) it away.
    fn release(self: Box<Self>) -> io::Result<()>;

    /// Kills everything inside, at once and without asking. The link closes once all of it is
    /// dead; calling this again changes nothing.
    fn kill(&self);

    /// Ends the place and waits until nothing of it is left: no process, mount, cgroup or file.
    /// Whatever still runs inside is killed.
    fn destroy(self: Box<Self>) -> Result<Remains, DestroyError>;
}

/// One thing that stands between a sandbox and its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wall {
    /// A stable name such as `seccomp`.
    pub name: Cow<'static, str>,
    /// Why it is missing; `None` while it stands.
    pub missing: Option<String>,
}

impl Wall {
    /// One that stands unless there is a reason why it does not.
    pub fn new(name: &'static str, missing: Option<String>) -> Self {
        Self { name: name.into(), missing }
    }
}

/// A limit and the means that enforces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitInForce {
    pub kind: LimitKind,
    /// In the limit's own unit: thousandths of a processor, bytes, or a count.
    pub value: u64,
    pub by: Limited,
}

/// What enforces a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Limited {
    /// The exact limit on the sandbox as a whole, by the named means (`cgroup v2`, `tmpfs`).
    Exactly(Cow<'static, str>),
    /// A weaker wall, by the named means, and why it is all there is.
    Nearly { means: Cow<'static, str>, why: String },
    /// Nothing, and why.
    Nowise { why: String },
}

/// What a place used and what became of it, known only once it is gone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remains {
    /// What all its processes used together.
    pub usage: Usage,
    /// How many of its processes the kernel killed for want of memory.
    pub oom_kills: u64,
}

/// Resources used, by processes that have ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    pub user: Duration,
    pub system: Duration,
    /// The largest resident set of any one process, in bytes.
    pub max_resident: u64,
}

/// What a backend can do or enforce. The names are those of the capability table in the docs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Capability {
    NetworkNone,
    NetworkFull,
    NetworkAllow,
    /// A full network includes the host's own loopback.
    HostLoopback,
    /// Ports of the host's lead into a place with a full network.
    Ports,
    RootReadOnly,
    ImageHost,
    ImageRootfs,
    ImageReference,
    /// The image is a WebAssembly module, which is the program of every command.
    ImageModule,
    /// It can be a component, too.
    ImageComponent,
    /// An image can be built from a folder.
    ImageBuild,
    MountReadOnly,
    MountReadWrite,
    MountCopyOnWrite,
    LimitCpus,
    LimitMemory,
    LimitPids,
    LimitDisk,
    Terminal,
    User,
    Live,
    /// What was changed in copy-on-write mounts can be told, and applied.
    Changes,
    /// The same of all else that is kept.
    RootChanges,
    /// All that is kept can be copied, for snapshots and forks.
    Snapshots,
}

impl Capability {
    /// The capability's name in tables, errors and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NetworkNone => "network none",
            Self::NetworkFull => "network full",
            Self::NetworkAllow => "network allow",
            Self::HostLoopback => "host loopback",
            Self::Ports => "ports",
            Self::RootReadOnly => "read-only root",
            Self::ImageHost => "image host",
            Self::ImageRootfs => "image rootfs",
            Self::ImageReference => "image reference",
            Self::ImageModule => "image module",
            Self::ImageComponent => "image component",
            Self::ImageBuild => "image build",
            Self::MountReadOnly => "mount ro",
            Self::MountReadWrite => "mount rw",
            Self::MountCopyOnWrite => "mount cow",
            Self::LimitCpus => "limit cpus",
            Self::LimitMemory => "limit memory",
            Self::LimitPids => "limit pids",
            Self::LimitDisk => "limit disk",
            Self::Terminal => "terminal",
            Self::User => "user",
            Self::Live => "live",
            Self::Changes => "changes",
            Self::RootChanges => "root changes",
            Self::Snapshots => "snapshots",
        }
    }
}

/// A set of capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities(&'static [Capability]);

impl Capabilities {
    pub const fn new(all: &'static [Capability]) -> Self {
        Self(all)
    }

    pub fn has(self, capability: Capability) -> bool {
        self.0.contains(&capability)
    }

    pub fn iter(self) -> impl Iterator<Item = Capability> {
        self.0.iter().copied()
    }
}

/// Whether a backend can be used on this machine now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// It can, with these walls, with limits by these means, and with what is to be
    /// [noted](Place::notes).
    Ready { walls: Vec<Wall>, limits: Vec<LimitInForce>, notes: Vec<String> },
    /// It can't: why, and what the user can do about it.
    Unavailable { why: String, fix: String },
}

/// Why a place could not be booted, in the words of the edge: what failed, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The backend can't be used on this machine as it is.
    #[error("{why}")]
    Unavailable { why: String, fix: String },
    /// The spec asks for something that can't be enforced or found here.
    #[error("{why}")]
    Refused { why: String, fix: String },
    /// Something that should have worked did not.
    #[error("{what}: {source}")]
    Failed { what: String, source: io::Error },
}

/// Why a program has no driver for an `engine` that it knows, and what to do.
pub fn undriven(engine: &str) -> (String, String) {
    let why = format!("{engine} is driven by agentkerneld, which is not installed");
    (why, "install agentkerneld beside agentkernel".into())
}

/// What of a place could not be removed.
#[derive(Debug, thiserror::Error)]
#[error("{what} was left behind: {source}")]
pub struct DestroyError {
    pub what: String,
    pub source: io::Error,
}
