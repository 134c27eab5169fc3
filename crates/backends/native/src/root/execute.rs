//! The steps carried out. Everything here is child-safe.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use agentkernel_sys::descriptor::{self, Links};
use agentkernel_sys::mount::{self, Detached, Restrictions};
use agentkernel_sys::process;

use super::{GUARDED, READ_ONLY, Step, TreeSource};

impl Step {
    /// Carries the step out. `sent` gives the next tree that the engine sends.
    pub fn execute(&self, sent: &mut dyn FnMut() -> io::Result<OwnedFd>) -> io::Result<()> {
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
            Self::Place { below, file } => make_place(below.iter().map(|p| p.as_c_str()), *file),
            Self::Tree { source, restrictions, path, inside } => {
                let tree = source.open(sent)?;
                if *restrictions != Restrictions::NONE {
                    tree.restrict(*restrictions, true)?;
                }
                tree.attach(find(path, *inside)?.as_fd())
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

/// Finds a place below the root or in the scratch space.
fn find(path: &CStr, inside: bool) -> io::Result<OwnedFd> {
    let here = descriptor::current_directory();
    if !inside {
        return descriptor::resolve(here, path, Links::Refuse);
    }
    let root = descriptor::resolve(here, c"root", Links::Refuse)?;
    descriptor::resolve(root.as_fd(), path, Links::Confine)
}

/// Makes the directories `below` the root, the last one a file if `file`, as far as they are not
/// there.
fn make_place<'a>(below: impl ExactSizeIterator<Item = &'a CStr>, file: bool) -> io::Result<()> {
    let here = descriptor::current_directory();
    let root = descriptor::resolve(here, c"root", Links::Refuse)?;
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
