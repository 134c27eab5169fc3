//! Process 1 of a container.

mod brought;
mod far;
mod held;
mod install;
mod shown;

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::time::Duration;

use agentkernel_core::{Attachment, Identity};
use agentkernel_far::word;
use agentkernel_guest::{
    Agent, Beside, Carrier, Filters, LiveAgent, Nearest, ReadyAgent, ResourceLimit, Rules, Term,
};
use agentkernel_protocol::Carry;
use agentkernel_sys::seccomp::Policy;
use agentkernel_sys::{descriptor, identity, landlock, process, socket};

use crate::greeting::{About, DOOR, LINK, Resident, Setting};
use crate::place::NAMESPACES;
pub use far::{Ahead, serve_ahead, serve_stream};
pub use held::WELCOME;
use shown::Shown;

/// Where this program's file is inside, by which name it is the agent.
pub const AGENT: &str = "/.agentkernel/agent";

/// Its argument in a far place: its standard input and output are the stream there.
pub const FAR: &str = "far";

/// Its argument in a far place whose engine gives a stream to another process only, and that
/// process's.
pub const BROUGHT: &str = "brought";
pub const BRING: &str = "bring";

/// Its argument in a far place whose streams are cut easily, and that of whoever brings it one after the
/// other. All that is written there is kept by nothing but its running, if it is so: it waits for the
/// next stream when a place has ended. What may follow the first is a port of the loopback's, by which the
/// first stream may come as well.
pub const HELD: &str = "held";
pub const KEPT: &str = "kept";
pub const RELAY: &str = "relay";

/// The same of one that is in a pool until its first stream comes, and nobody knows when that is. An engine
/// may start its program again when it has ended: then it ends at once, since what it had lies around.
pub const POOLED: &str = "pooled";

/// Its argument where it is to put its program's file into a place to come; what follows is where, and
/// which folders it is to make.
pub const INSTALL: &str = "install";

/// Its argument where it is to put the lists of users of where it is into a folder, with a name for its
/// own; what follows is the folder, the name and the home.
pub const NAMES: &str = "names";

/// Its argument where a place to come must not begin before that is done; what follows is a folder, and what
/// it is to do.
pub const BESIDE: &str = "beside";

/// The argument of whoever waits for that, beside it; what follows is that folder.
pub const DONE: &str = "done";

/// Whether the calling process was started as the agent of a container, or to bring it a stream.
pub fn is_agent() -> bool {
    let is_ours = env::args_os().next().as_deref() == Some(OsStr::new(AGENT));
    is_ours && (std::process::id() == 1 || [BRING, RELAY, DONE].iter().any(|what| is_asked(what)))
}

fn is_asked(what: &str) -> bool {
    env::args_os().nth(1).as_deref() == Some(OsStr::new(what))
}

/// How long the booter may take for a word: it waits for nothing else.
const PATIENCE: Duration = Duration::from_secs(10);

/// Serves the place to its end, and returns the exit status.
pub fn serve() -> u8 {
    match try_serve() {
        Ok(()) => 0,
        Err(error) => {
            // The engine keeps it for whoever looks.
            eprintln!("agentkernel: the sandbox can't be made: {error}");
            1
        }
    }
}

fn try_serve() -> io::Result<()> {
    // Before anything is held that others must not see.
    process::hide()?;
    process::set_umask(0);
    if is_asked(BRING) {
        return brought::bring();
    }
    if [INSTALL, NAMES, BESIDE].iter().any(|what| is_asked(what)) {
        return put(&env::args_os().skip(1).collect::<Vec<_>>());
    }
    if is_asked(DONE) {
        return install::await_done(env::args_os().nth(2).unwrap_or_default().as_ref());
    }
    if is_asked(RELAY) {
        return held::bring();
    }
    if is_asked(HELD) || is_asked(POOLED) || is_asked(KEPT) {
        return held::serve(is_asked(KEPT));
    }
    if is_asked(BROUGHT) {
        brought::take()?;
        return far::serve();
    }
    match is_asked(FAR) {
        true => far::serve(),
        false => serve_near(),
    }
}

/// Puts what a place to come is to have.
fn put(words: &[OsString]) -> io::Result<()> {
    match words {
        [what, folder, rest @ ..] if what == BESIDE => {
            install::beside(folder.as_ref(), || put(rest))
        }
        [what, target, own @ ..] if what == INSTALL => install::install(target.as_ref(), own),
        [what, folder, name, home] if what == NAMES => {
            let (uid, gid) = identity::effective();
            let [name, home] = [name, home].map(|word| word.to_string_lossy().into_owned());
            install::install_names(folder.as_ref(), &Resident { name, home, uid, gid })
        }
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Serves a place on the booter's kernel.
fn serve_near() -> io::Result<()> {
    let link = socket::connect(&Path::new(DOOR).join(LINK), PATIENCE)?;
    let about = about();
    word::send(link.as_fd(), &about, &[])?;
    let (setting, descriptors) = word::receive::<Setting>(link.as_fd())?;
    if !setting.shown.is_empty() {
        word::send(link.as_fd(), &Shown::look(&setting)?.seen(), &[])?;
        word::receive::<()>(link.as_fd())?;
    }
    settle_in(&setting, &about)?;
    let mut descriptors = descriptors.into_iter();
    let mut next = |expected: bool| expected.then(|| descriptors.next()).flatten();
    let (listener, fate) = (next(setting.listener), next(setting.fate));
    let term = term(&setting, listener, fate);
    let agent = Agent::new(link)?;
    let (listener, fate) = (term.listener.as_ref(), term.fate.as_ref());
    let keep = [listener.map(AsFd::as_fd), fate.map(AsFd::as_fd), None, None, None];
    agent.close_inherited(None, keep, None)?;
    let rules = rules(&setting, None)?;
    live(ReadyAgent::new(agent, &rules), &rules, term, None)
}

fn about() -> About {
    let namespaces = NAMESPACES.iter().filter_map(|(_, kind)| {
        Some(((*kind).to_owned(), fs::metadata(format!("/proc/self/ns/{kind}")).ok()?.ino()))
    });
    About {
        passwd: read("/etc/passwd"),
        group: read("/etc/group"),
        namespaces: namespaces.collect(),
    }
}

/// Makes the place what it was set to be.
fn settle_in(setting: &Setting, about: &About) -> io::Result<()> {
    if !is_privileged() {
        // Nothing of that is its own to change, and it was made as it should be.
        return setting.nearest.iter().try_for_each(Nearest::apply);
    }
    // Some engines make the root's own directory so that not even root can write in it.
    let root = fs::metadata("/")?.mode() & 0o7777;
    if root & 0o200 == 0 {
        read_only_or(fs::set_permissions("/", Permissions::from_mode(root | 0o200)))?;
    }
    let shown = Shown::look(setting)?;
    for directory in ["/tmp", "/run"].into_iter().filter(|path| !shown.has(Path::new(path))) {
        open_to_all(directory)?;
    }
    settle(&setting.user, about, &shown)?;
    setting.closed.iter().try_for_each(|directory| close(directory))?;
    setting.nearest.iter().try_for_each(Nearest::apply)
}

/// Whether the agent can become whom commands run as, and make files theirs. If not, all are one user.
fn is_privileged() -> bool {
    identity::effective().0 == 0
}

fn term(setting: &Setting, listener: Option<OwnedFd>, fate: Option<OwnedFd>) -> Term {
    Term {
        listener,
        fate,
        ttl: setting.ttl_ms.map(Duration::from_millis),
        idle: setting.idle_ms.map(Duration::from_millis),
    }
}

/// Gets under the rules for all of the place, and makes those for its commands. What is written is in the
/// directory `kept`, if that outlasts the place.
fn rules(setting: &Setting, kept: Option<BorrowedFd<'_>>) -> io::Result<Rules> {
    // Whether it has more than one command.
    let shared = setting.listener;
    // Else a pipe of the agent's would take the number of a command's stream.
    agentkernel_sys::entry::open_standard_streams();
    // Commands of one place that each made a promise of their own could not signal each other.
    let landlock = landlock::version().ok();
    if let Some(version) = landlock.filter(|_| shared) {
        // Not every engine has promised that already, without which there is no other promise.
        identity::no_new_privileges()?;
        landlock::restrict_but_for(version, [].into_iter(), kept)?;
    }
    Ok(Rules {
        drop_groups: is_privileged(),
        limits: ResourceLimit::for_all(),
        filters: match setting.no_internet {
            true => Filters::without_internet(&Policy::OF_FILES),
            false => Filters::new(&Policy::OF_FILES),
        },
        landlock: landlock.filter(|_| !shared),
        modules: None,
    })
}

/// Lives to the end of the place. With whoever is beside it comes the directory of what is kept, if
/// anything is.
fn live(
    ready: ReadyAgent,
    rules: &Rules,
    term: Term,
    beside: Option<(&mut dyn Beside, Option<BorrowedFd<'_>>)>,
) -> io::Result<()> {
    // Whatever is added is added from outside.
    let mut attach = |_: Attachment, _| Err(io::ErrorKind::Unsupported.into());
    let live = LiveAgent::new(ready, rules, term, &mut attach);
    match beside {
        // Nobody else reaches its files.
        Some((beside, kept)) => live.carrying(&Files { kept }).with(beside).serve(),
        None => live.serve(),
    }
}

/// Carries files.
struct Files<'a> {
    kept: Option<BorrowedFd<'a>>,
}

impl Carrier for Files<'_> {
    fn kept(&self) -> Option<BorrowedFd<'_>> {
        self.kept
    }

    fn carry(&self, carry: &Carry, streams: [OwnedFd; 3]) -> u8 {
        match descriptor::open_path(c"/") {
            Ok(root) => agentkernel_files::serve(root.as_fd(), self.kept, carry, streams),
            Err(_) => 1,
        }
    }
}

/// A file of the image's, or as much of it as anybody needs. An image need not have it, and may have
/// what never ends, such as a fifo, in its place; as yet nobody is here to swap the two.
fn read(path: &str) -> String {
    const MOST: u64 = 256 << 10;
    let mut text = Vec::new();
    let is_file = fs::metadata(path).is_ok_and(|found| found.is_file());
    if let Some(file) = is_file.then(|| File::open(path).ok()).flatten() {
        let _ = file.take(MOST).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Lets everybody write in a private directory. Engines give a new one the permissions of the
/// image's directory that it hides, which an image need not even have.
fn open_to_all(path: &str) -> io::Result<()> {
    match fs::set_permissions(path, Permissions::from_mode(0o1777)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => read_only_or(done),
    }
}

/// Lets nobody into a directory, not even root, who has no capabilities here and is not its owner.
fn close(directory: &Path) -> io::Result<()> {
    const NOBODYS: u32 = i32::MAX.cast_unsigned();
    let done = fs::set_permissions(directory, Permissions::from_mode(0o000)).and_then(|()| {
        match chown(directory, Some(NOBODYS), Some(NOBODYS)) {
            // A place with users of its own has not all numbers.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            done => done,
        }
    });
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// An image that can't be written to does without.
fn read_only_or(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => Ok(()),
        done => done,
    }
}

/// Makes a home for a user who has none, and a name for one whom the image does not know: without it
/// many programs fail.
fn settle(user: &Resident, about: &About, shown: &Shown) -> io::Result<()> {
    if !shown.has(Path::new(&user.home)) {
        read_only_or(make_home(user))?;
    }
    read_only_or(name(user, about, shown))
}

fn make_home(user: &Resident) -> io::Result<()> {
    let path = Path::new(&user.home);
    match fs::metadata(path) {
        // It was mounted for the user.
        Ok(found) if found.uid() == 0 && is_mount(path, &found) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(0o755).create(path)?;
        }
        _ => return Ok(()),
    }
    chown(path, Some(user.uid), Some(user.gid))
}

fn is_mount(path: &Path, found: &fs::Metadata) -> bool {
    let above = path.parent().and_then(|above| fs::metadata(above).ok());
    above.is_some_and(|above| above.dev() != found.dev())
}

fn name(user: &Resident, about: &About, shown: &Shown) -> io::Result<()> {
    let (passwd, group) = name_lines(user, about);
    for (path, line) in [("/etc/passwd", passwd), ("/etc/group", group)] {
        if let Some(line) = line.filter(|_| !shown.has(Path::new(path))) {
            append(path, &line)?;
        }
    }
    Ok(())
}

/// What is to be added to the image's lists for a user whom they do not know.
pub fn name_lines(user: &Resident, about: &About) -> (Option<String>, Option<String>) {
    let Resident { name, home, uid, gid } = user.clone();
    Identity { uid, gid, name, home }.lines_for(&about.passwd, &about.group)
}

/// Adds a line to a list of the image's, if that is a file as it should be.
fn append(path: &str, line: &str) -> io::Result<()> {
    let is_file = fs::symlink_metadata(path).is_ok_and(|found| found.is_file());
    if !is_file {
        return Ok(());
    }
    match OpenOptions::new().append(true).open(path) {
        // Where an image has none, Podman makes one for its user, who is named there.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        file => file?.write_all(line.as_bytes()),
    }
}
