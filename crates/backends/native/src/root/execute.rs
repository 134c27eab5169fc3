//! The steps carried out. Everything here is child-safe, but for what is added to a place later.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::lchown;
use std::path::Path;
use std::{fs, io};

use agentkernel_core::{Access, Attachment, c_string};
use agentkernel_sys::descriptor::{self, Links};
use agentkernel_sys::mount::{self, Detached, Restrictions};
use agentkernel_sys::process;

use super::{GUARDED, Owners, READ_ONLY, Sent, Step, Steps, TreeSource, ways};

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
            Self::GiveToRoot { path } => descriptor::give(find(path)?.as_fd(), 0, 0),
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
    let done = match attachment {
        Attachment::Mount { target, access, directory, make_place } => {
            *count += 1;
            let target = Path::new(OsStr::from_bytes(target.to_bytes()));
            attach_tree(*count, target, access, directory, make_place, tree)
        }
        Attachment::User { uid, gid, home, passwd, group } => {
            settle_user((uid, gid), &home, &passwd, &group)
        }
    };
    process::change_directory(c"/").and(done)
}

fn attach_tree(
    count: usize,
    target: &Path,
    access: Access,
    directory: bool,
    make_place: bool,
    tree: Option<OwnedFd>,
) -> io::Result<()> {
    let mut steps = Steps { list: Vec::new(), layers: false };
    let path = c_string(target.as_os_str().as_bytes()).map_err(io::Error::other)?;
    let source = TreeSource::Sent(Sent { path, owners: Owners::Own });
    steps
        .mount_tree(count, source, target, access, directory, make_place)
        .map_err(io::Error::other)?;
    let mut tree = tree;
    let mut sent = || tree.take().ok_or_else(|| io::ErrorKind::NotConnected.into());
    for step in &steps.list {
        match step.execute_in(c"/", &mut sent) {
            // The root can't be written, but what lies behind it can.
            Err(error)
                if error.kind() == io::ErrorKind::ReadOnlyFilesystem
                    && matches!(step, Step::Place { .. }) =>
            {
                step.execute_in(c"root", &mut sent)?;
            }
            done => done?,
        }
    }
    Ok(())
}

/// Has the root belong to another user, as if it had been made for that one.
fn settle_user(user: (u32, u32), home: &CStr, passwd: &CStr, group: &CStr) -> io::Result<()> {
    for (path, content) in [(c"root/etc/passwd", passwd), (c"root/etc/group", group)] {
        if !content.is_empty() {
            descriptor::remove_file(path)?;
            let content = content.to_bytes();
            mount::make_file_in(descriptor::current_directory(), path, 0o644, content)?;
        }
    }
    give_all(Path::new("."), user)?;
    descriptor::give(find(c"/")?.as_fd(), user.0, user.1)?;
    let below: Vec<CString> = ways(Path::new(OsStr::from_bytes(home.to_bytes())))
        .into_iter()
        .map(|way| CString::new(way.as_os_str().as_bytes()))
        .collect::<Result<_, _>>()?;
    let Some(home) = below.last() else { return Ok(()) };
    make_place(c"/", below.iter().map(CString::as_c_str), false)?;
    descriptor::give(find_inside(c"/", home)?.as_fd(), user.0, user.1)
}

/// Gives all that is in `directory` to `user`: the few entries of a root that was just made.
fn give_all(directory: &Path, user: (u32, u32)) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        lchown(entry.path(), Some(user.0), Some(user.1))?;
        if entry.file_type()?.is_dir() {
            give_all(&entry.path(), user)?;
        }
    }
    Ok(())
}
