//! What Firecracker lives in: a root with only what its machine is made of, and namespaces of its own.
//!
//! A hole in Firecracker is a way out of the machine, into whatever Firecracker may do. So that is next to
//! nothing: root's is a user who is nobody else, an ordinary user's is that user in a namespace of
//! users; neither has a network, another process, a privilege, or a file that it was not shown. It is
//! what Firecracker's own jailer does, and needs no copy of the program, nor root (FACTS.md).

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, chown, lchown};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use agentkernel_sys::descriptor::{self, Interest};
use agentkernel_sys::identity::{self, Range};
use agentkernel_sys::mount::{self, Detached, Restrictions};
use agentkernel_sys::process::{self, Child, ExecStrings, Fork, Namespaces};
use agentkernel_sys::signal;
use serde::{Deserialize, Serialize};

/// The first of the numbers of users who are nobody else, above those of sandboxes (native's
/// `OUTSIDE_BASE`), each by the number of the process that has the machine. They lie in the range that
/// systemd leaves to containers (systemd's UIDS-GIDS).
const STRANGERS: u32 = 0x6ac1_0000;
/// `PID_MAX_LIMIT` (proc_sys_kernel(5)).
const MOST_PROCESSES: u32 = 1 << 22;

const KVM: &str = "/dev/kvm";

/// How long the way in may take.
const START: Duration = Duration::from_secs(10);

/// What is where in it.
const KVM_INSIDE: &str = "dev/kvm";
const KVM_NODE: &CStr = c"dev/kvm";
const PROGRAM: &str = "firecracker";
const OWN: &str = "own";
const OWN_INSIDE: &CStr = c"/own";

/// If it is `none`, Firecracker is not kept apart: for one that is not static, or a wrapper of it.
pub const VARIABLE: &str = "FIRECRACKER_JAIL";

/// How Firecracker is kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// As a user who is nobody else, which takes root.
    Stranger,
    /// As the caller, in a user namespace.
    Caller,
    /// Not at all: the caller may not have such a namespace.
    None,
}

impl Kind {
    /// The best that the caller may have, unless that is not wanted.
    pub fn possible() -> Self {
        static POSSIBLE: OnceLock<Kind> = OnceLock::new();
        *POSSIBLE.get_or_init(|| match identity::effective() {
            _ if is_unwanted() => Self::None,
            (0, _) if identity::has_numbers(STRANGERS, MOST_PROCESSES) => Self::Stranger,
            _ if may_part() => Self::Caller,
            _ => Self::None,
        })
    }

    /// What is to be told of it.
    pub fn note(self) -> Option<String> {
        (self == Self::None).then(|| {
            let why = match is_unwanted() {
                true => format!("since {VARIABLE} says so"),
                false => "since you may make no user namespaces here".to_owned(),
            };
            format!("Firecracker is not kept apart from your other processes, {why}")
        })
    }
}

fn is_unwanted() -> bool {
    std::env::var_os(VARIABLE).is_some_and(|value| value == "none")
}

/// What it has of its own.
const CALLERS: Namespaces = APART.and(Namespaces::USER);
const APART: Namespaces = Namespaces::MOUNT
    .and(Namespaces::PID)
    .and(Namespaces::NETWORK)
    .and(Namespaces::IPC)
    .and(Namespaces::UTS);

/// Whether the caller may make user namespaces, and mounts in them.
fn may_part() -> bool {
    let (uid, gid) = identity::effective();
    match process::fork(CALLERS, None) {
        Ok(Fork::Child) => {
            let mapped = identity::map_ids(c"self", one(uid), one(gid), true);
            let parted = mapped.and_then(|()| mount::make_private());
            process::exit_now(i32::from(parted.is_err()))
        }
        Ok(Fork::Parent(child)) => child.wait().is_ok_and(|death| death.status() == Ok(0)),
        Err(_) => false,
    }
}

fn one(number: u32) -> Range {
    Range { inside: number, outside: number, count: 1 }
}

/// Of what is neither a program nor a device.
const FILE: Restrictions =
    Restrictions::NO_SETUID.and(Restrictions::NO_DEVICES).and(Restrictions::NO_EXEC);

/// Something that is shown in it.
struct Shown {
    path: CString,
    /// Relative to its root.
    name: CString,
    is_folder: bool,
    restrictions: Restrictions,
}

/// One that is being made.
pub struct Jail {
    kind: Kind,
    /// Who a stranger is.
    user: u32,
    caller: (u32, u32),
    own: PathBuf,
    shown: Vec<Shown>,
}

impl Jail {
    /// One with `own` as the folder that Firecracker works in.
    pub fn new(kind: Kind, own: &Path) -> io::Result<Self> {
        let mut jail = Self {
            kind,
            user: STRANGERS + std::process::id(),
            caller: identity::effective(),
            own: own.to_owned(),
            shown: Vec::new(),
        };
        jail.show_to_write(own, OWN)?;
        for entry in fs::read_dir(own)? {
            jail.give(&entry?.path())?;
        }
        Ok(jail)
    }

    /// Shows what is at `path`, and returns its path inside.
    pub fn show(&mut self, path: &Path, name: &str) -> io::Result<PathBuf> {
        self.add(path, name, FILE.and(Restrictions::READ_ONLY))
    }

    /// The same of what it may write to.
    pub fn show_to_write(&mut self, path: &Path, name: &str) -> io::Result<PathBuf> {
        self.give(path)?;
        self.add(path, name, FILE)
    }

    fn add(&mut self, path: &Path, name: &str, restrictions: Restrictions) -> io::Result<PathBuf> {
        let failed =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        // Links are the caller's, and followed here for the last time.
        let path = path.canonicalize().map_err(failed)?;
        if self.kind == Kind::None {
            return Ok(path);
        }
        let is_own = path.metadata()?.uid() == self.user;
        if self.kind == Kind::Stranger && !is_own && path.metadata()?.mode() & 0o004 == 0 {
            let why = format!("{} may not be read by all, as it has to be here", path.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        self.shown.push(Shown {
            is_folder: path.is_dir(),
            path: CString::new(path.as_os_str().as_bytes())?,
            name: CString::new(name)?,
            restrictions,
        });
        Ok(Path::new("/").join(name))
    }

    /// Makes it the owner of a file.
    fn give(&self, path: &Path) -> io::Result<()> {
        match self.kind {
            Kind::Stranger => chown(path, Some(self.user), Some(self.user)),
            Kind::Caller | Kind::None => Ok(()),
        }
    }

    /// Takes back what it was shown to write to, once it has ended.
    pub fn take_back(kind: Kind, folder: &Path) -> io::Result<()> {
        let (uid, gid) = identity::effective();
        if kind != Kind::Stranger {
            return Ok(());
        }
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            // It was another's till now, who may have put a link there.
            lchown(path, Some(uid), Some(gid))?;
        }
        chown(folder, Some(uid), Some(gid))
    }

    /// Starts `program` in it, with these arguments, and `output` as its standard output and error. It
    /// ends with the calling thread.
    pub fn start(
        mut self,
        program: &Path,
        arguments: &[&str],
        output: OwnedFd,
    ) -> io::Result<Child> {
        let alone = Restrictions::NO_SETUID.and(Restrictions::NO_DEVICES);
        let program = self.add(program, PROGRAM, alone.and(Restrictions::READ_ONLY))?;
        let program = CString::new(program.as_os_str().as_bytes())?;
        let words = [PROGRAM].into_iter().chain(arguments.iter().copied()).map(CString::new);
        let words = ExecStrings::new(words.collect::<Result<_, _>>()?);
        let nothing = ExecStrings::new(Vec::new());
        if self.kind == Kind::Caller {
            self.add(Path::new(KVM), KVM_INSIDE, Restrictions::NO_SETUID)?;
        }
        let mut entry = Entry {
            device: fs::metadata(KVM)?.rdev(),
            own: CString::new(self.own.as_os_str().as_bytes())?,
            trees: Vec::with_capacity(self.shown.len()),
            jail: self,
        };
        let input = OwnedFd::from(File::open("/dev/null")?);
        let streams = [input.as_fd(), output.as_fd(), output.as_fd()];
        let (told, tell) = descriptor::pipe()?;
        match process::fork(entry.namespaces(), None)? {
            Fork::Child => {
                let failed = entry.enter(streams, tell.as_fd()).err();
                let (step, error) = failed
                    .unwrap_or_else(|| (Step::Execute, process::exec(&program, &words, &nothing)));
                let [a, b, c, d] = error.raw_os_error().unwrap_or_default().to_le_bytes();
                // If nobody hears it, there is nobody.
                let _ = descriptor::write(tell.as_fd(), &[step as u8, a, b, c, d]);
                process::exit_now(1)
            }
            Fork::Parent(child) => {
                drop((entry, tell));
                match hear(&told).map_or_else(Some, |words| explain(&words)) {
                    None => Ok(child),
                    Some(error) => {
                        // It has ended, or is about to.
                        let _ = child.signal(signal::SIGKILL);
                        child.wait()?;
                        Err(error)
                    }
                }
            }
        }
    }
}

/// What is told until the exec, which ends it.
fn hear(told: &OwnedFd) -> io::Result<Vec<u8>> {
    let (until, mut words) = (Instant::now() + START, Vec::new());
    let mut buffer = [0; 16];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if !descriptor::poll(&mut [Interest::readable(told.as_fd())], Some(left))? {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match descriptor::read(told.as_fd(), &mut buffer)? {
            0 => return Ok(words),
            read => words.extend_from_slice(&buffer[..read]),
        }
    }
}

/// What can fail on the way in, by the number that tells of it.
#[derive(Debug, Clone, Copy)]
enum Step {
    Map,
    Part,
    Find,
    Root,
    Show,
    Settle,
    Execute,
}

impl Step {
    const ALL: [Self; 7] =
        [Self::Map, Self::Part, Self::Find, Self::Root, Self::Show, Self::Settle, Self::Execute];

    const fn what(self) -> &'static str {
        match self {
            Self::Map => "can't map its user",
            Self::Part => "can't part from other mounts",
            Self::Find => "can't find what it needs",
            Self::Root => "can't make its root",
            Self::Show => "can't show what it needs in its root",
            Self::Settle => "can't give up its privileges",
            Self::Execute => {
                "can't be executed where it has nothing but itself (it has to be static)"
            }
        }
    }
}

/// What it says when nothing is left but to execute the program.
const SETTLED: u8 = u8::MAX;

/// Why a start came to nothing that was told of so.
fn explain(words: &[u8]) -> Option<io::Error> {
    let told = match words {
        [SETTLED] => return None,
        [SETTLED, told @ ..] => told,
        told => told,
    };
    let [step, error @ ..] = told else {
        return Some(io::Error::other("it has died at its start"));
    };
    let what = Step::ALL.get(usize::from(*step)).map_or("", |step| step.what());
    let number = error.try_into().map(i32::from_le_bytes).unwrap_or_default();
    let error = io::Error::from_raw_os_error(number);
    Some(io::Error::new(error.kind(), format!("{what}: {error}")))
}

/// The way in. What it does is child-safe.
struct Entry {
    jail: Jail,
    /// The number of KVM's device.
    device: u64,
    own: CString,
    /// With room for all.
    trees: Vec<Detached>,
}

impl Entry {
    fn namespaces(&self) -> Namespaces {
        match self.jail.kind {
            Kind::Stranger => APART,
            Kind::Caller => CALLERS,
            Kind::None => Namespaces::NONE,
        }
    }

    fn enter(
        &mut self,
        streams: [BorrowedFd<'_>; 3],
        tell: BorrowedFd<'_>,
    ) -> Result<(), (Step, io::Error)> {
        let at = |step| move |error| (step, error);
        if self.jail.kind == Kind::None {
            process::change_directory(&self.own).map_err(at(Step::Root))?;
        } else {
            self.map().map_err(at(Step::Map))?;
            mount::make_private().map_err(at(Step::Part))?;
            self.find().map_err(at(Step::Find))?;
            self.make_root().map_err(at(Step::Root))?;
            self.furnish().map_err(at(Step::Show))?;
        }
        descriptor::become_standard_streams(streams)
            .and_then(|()| descriptor::close_on_exec_from(3))
            .and_then(|()| self.settle(tell))
            .map_err(at(Step::Settle))
    }

    fn map(&self) -> io::Result<()> {
        match self.jail.kind {
            Kind::Caller => {
                let (uid, gid) = self.jail.caller;
                identity::map_ids(c"self", one(uid), one(gid), true)
            }
            _ => Ok(()),
        }
    }

    /// Takes hold of all that is shown, while there are paths to it.
    fn find(&mut self) -> io::Result<()> {
        for shown in &self.jail.shown {
            let tree = Detached::copy(descriptor::open_path(&shown.path)?.as_fd(), false)?;
            tree.restrict(shown.restrictions, false)?;
            self.trees.push(tree);
        }
        Ok(())
    }

    /// Makes a root with a place for each, over a folder that is there.
    fn make_root(&self) -> io::Result<()> {
        process::set_umask(0);
        mount::mount(c"tmpfs", &self.own, Restrictions::NO_SETUID, c"mode=755,size=64k")?;
        process::change_directory(&self.own)?;
        mount::make_directory(c"dev", 0o755)?;
        for shown in &self.jail.shown {
            match shown.is_folder {
                true => mount::make_directory(&shown.name, 0o755)?,
                false => {
                    let here = descriptor::current_directory();
                    mount::make_file_in(here, &shown.name, 0o644, b"")?;
                }
            }
        }
        match self.jail.kind {
            Kind::Stranger => {
                let (major, minor) =
                    (rustix::fs::major(self.device), rustix::fs::minor(self.device));
                mount::make_device(KVM_NODE, major, minor, 0o666)
            }
            _ => Ok(()),
        }
    }

    fn furnish(&self) -> io::Result<()> {
        for (shown, tree) in self.jail.shown.iter().zip(&self.trees) {
            tree.attach(descriptor::open_path(&shown.name)?.as_fd())?;
        }
        mount::restrict(c".", Restrictions::READ_ONLY, false)?;
        mount::pivot_root_here()?;
        process::change_directory(OWN_INSIDE)
    }

    fn settle(&self, tell: BorrowedFd<'_>) -> io::Result<()> {
        // What it saves is read by others.
        process::set_umask(0o022);
        signal::reset_to_default(&[])?;
        if self.jail.kind != Kind::None {
            identity::drop_bounding_capabilities()?;
        }
        if self.jail.kind == Kind::Stranger {
            identity::become_user(self.jail.user, self.jail.user, true)?;
        }
        identity::drop_capabilities()?;
        identity::no_new_privileges()?;
        process::die_with_parent()?;
        // Which may have died before.
        descriptor::write(tell, &[SETTLED]).map(drop)
    }
}

#[cfg(test)]
mod tests;
