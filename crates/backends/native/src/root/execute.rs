//! The steps carried out. Everything here is child-safe, but for what is added to a place later.

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use agentkernel_core::{Attachment, BootError};
use agentkernel_sys::descriptor::{self, Links};
use agentkernel_sys::mount::{self, Detached, Restrictions};
use agentkernel_sys::process;

use super::{GUARDED, Owners, READ_ONLY, Sent, Step, Steps, TreeSource};

impl Step {
    /// Carries the step out. `sent` gives the next tree that the engine sends.
    pub fn execute(&self, sent: &mut dyn FnMut() -> io::Result<OwnedFd>) -> io::Result<()> {
        self.execute_in(c"root", sent)
    }

    /// As [`execute`](Self::execute), with the root of the place at `root`.
    fn execute_in(
        &self,
        root: &CStr,
        sent: &mut dyn FnMut() -> io::Result<OwnedFd>,
    ) -> io::Result<()> {
        match self {
            Self::Scratch { options } => {
                mount::mount(c"tmpfs", c"/sys", GUARDED, options)?;
                process::change_directory(c"/sys")
            }
            Self::Directory { path, mode } => match mount::make_directory(path, *mode) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                result => result,
            },
            Self::Link { path, target } => mount::make_link(target, path),
            Self::File { path, content } => {
                mount::make_file_in(descriptor::current_directory(), path, 0o644, content)
            }
            Self::Mount { kind, path, restrictions, options } => {
                mount::mount(kind, path, *restrictions, options)
            }
            Self::Bind { source, path, restrictions } => {
                mount::bind(source, path, true)?;
                mount::restrict(path, *restrictions, true)
            }
            Self::Mask { source, path } => match mount::bind(source, path, false) {
                Ok(()) => mount::restrict(path, Restrictions::READ_ONLY, false),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(error),
            },
            Self::Place { below, file } => {
                make_place(root, below.iter().map(|p| p.as_c_str()), *file)
            }
            Self::Tree { source, restrictions, path, inside } => {
                let tree = source.open(sent)?;
                if *restrictions != Restrictions::NONE {
                    tree.restrict(*restrictions, true)?;
                }
                let place = if *inside { find_inside(root, path) } else { find(path) };
                tree.attach(place?.as_fd())
            }
            Self::BarRoot => {
                // Only a mount can be restricted, and the root's own copy is one.
                mount::bind(c"root", c"root", true)?;
                mount::restrict(c"root", READ_ONLY, false)
            }
            Self::Enter => enter(),
        }
    }
}

impl TreeSource {
    fn open(&self, sent: &mut dyn FnMut() -> io::Result<OwnedFd>) -> io::Result<Detached> {
        match self {
            Self::Local { path } => {
                let here = descriptor::current_directory();
                Detached::copy(descriptor::resolve(here, path, Links::Refuse)?.as_fd(), true)
            }
            Self::Sent(_) => sent().map(Detached::from),
        }
    }
}

/// Finds a place in the scratch space.
fn find(path: &CStr) -> io::Result<OwnedFd> {
    descriptor::resolve(descriptor::current_directory(), path, Links::Refuse)
}

/// Finds a place below `root`, out of which no link leads.
fn find_inside(root: &CStr, path: &CStr) -> io::Result<OwnedFd> {
    descriptor::resolve(find(root)?.as_fd(), path, Links::Confine)
}

/// Makes the directories `below` `root`, the last one a file if `file`, as far as they are not
/// there.
fn make_place<'a>(
    root: &CStr,
    below: impl ExactSizeIterator<Item = &'a CStr>,
    file: bool,
) -> io::Result<()> {
    let root = find(root)?;
    let last = below.len() - 1;
    let mut parent: Option<OwnedFd> = None;
    for (i, path) in below.enumerate() {
        let found = descriptor::resolve(root.as_fd(), path, Links::Confine);
        let place = match found {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let parent = parent.as_ref().map_or(root.as_fd(), |parent| parent.as_fd());
                make_in(parent, base_name(path), file && i == last)?;
                descriptor::resolve(root.as_fd(), path, Links::Confine)?
            }
            found => found?,
        };
        parent = Some(place);
    }
    Ok(())
}

fn make_in(parent: BorrowedFd<'_>, name: &CStr, file: bool) -> io::Result<()> {
    if file {
        mount::make_file_in(parent, name, 0o644, &[])
    } else {
        mount::make_directory_in(parent, name, 0o755)
    }
}

fn base_name(path: &CStr) -> &CStr {
    let bytes = path.to_bytes_with_nul();
    let start = bytes.iter().rposition(|b| *b == b'/').map_or(0, |slash| slash + 1);
    CStr::from_bytes_with_nul(&bytes[start..]).unwrap_or(path)
}

/// Makes the directory `root` the root of all processes here, and everything else unreachable.
fn enter() -> io::Result<()> {
    // Only a mount can become the root, and its own copy is one.
    mount::bind(c"root", c"root", true)?;
    process::change_directory(c"root")?;
    mount::pivot_root_here()?;
    process::change_directory(c"/")
}

/// The scratch space of a place whose root has been entered, for what is added later.
///
/// Layers of an overlay must lie on mounts of the place itself, so the scratch space has to stay
/// one. It lies at `/dev/shm`, under the directory that everybody sees there.
pub struct Behind(OwnedFd);

impl Behind {
    /// Keeps hold of the scratch space, which is the current directory, for after the root is
    /// entered.
    pub fn hold() -> io::Result<Detached> {
        Detached::copy(find(c".")?.as_fd(), false)
    }

    /// Hides the scratch space in the root.
    pub fn hide(scratch: Detached) -> io::Result<Self> {
        const SPOT: &CStr = c"/dev/shm";
        let shared = Detached::copy(find(SPOT)?.as_fd(), true)?;
        scratch.attach(find(SPOT)?.as_fd())?;
        // By its descriptor it can be reached even under another.
        shared.attach(find(SPOT)?.as_fd())?;
        Ok(Self(scratch.into()))
    }
}

/// Adds something to a place in which nothing has run yet.
pub fn attach(
    behind: &Behind,
    count: &mut usize,
    attachment: Attachment,
    tree: Option<OwnedFd>,
) -> io::Result<()> {
    process::enter_directory(behind.0.as_fd())?;
    let mut tree = tree;
    let mut sent = || tree.take().ok_or_else(|| io::ErrorKind::NotConnected.into());
    let done = steps_for(count, attachment)
        .and_then(|steps| steps.iter().try_for_each(|step| step.execute_in(c"/", &mut sent)));
    process::change_directory(c"/").and(done)
}

fn steps_for(count: &mut usize, attachment: Attachment) -> io::Result<Vec<Step>> {
    let mut steps = Steps { list: Vec::new(), layers: false };
    let wrong = |error: BootError| io::Error::other(error);
    match attachment {
        Attachment::Mount { target, access, directory } => {
            *count += 1;
            let path = Path::new(OsStr::from_bytes(target.to_bytes()));
            let path = path.strip_prefix("/").unwrap_or(path);
            let source = TreeSource::Sent(Sent { path: target.clone(), owners: Owners::Own });
            steps.mount_tree(*count, source, path, access, directory, true).map_err(wrong)?;
        }
        Attachment::Home { path } => {
            let path = Path::new(OsStr::from_bytes(path.to_bytes()));
            steps.place(path.strip_prefix("/").unwrap_or(path), false).map_err(wrong)?;
        }
        Attachment::File { path, content } => steps.push(Step::File { path, content }),
    }
    Ok(steps.list)
}
