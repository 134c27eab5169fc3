//! The keeper: a process that removes a sandbox's control group when agentkernel can't, because
//! it was killed.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::{io, mem};

use agentkernel_sys::cgroup::Group;
use agentkernel_sys::descriptor::{self, Interest};
use agentkernel_sys::process::{self, Child, Fork, Namespaces};

/// A handle on the keeper. Dropped, it leaves the keeper to its work.
#[derive(Debug)]
pub struct Keeper {
    process: Child,
    /// A byte dismisses it; the end of the stream means that agentkernel is dead.
    dismissal: OwnedFd,
}

impl Keeper {
    /// Starts a keeper of `group`, whose last process is the sandbox's init.
    pub fn start(group: &Group, init: BorrowedFd<'_>) -> io::Result<Self> {
        let directories: Vec<CString> = group
            .directories()
            .map(|dir| CString::new(dir.as_os_str().as_bytes()))
            .collect::<Result<_, _>>()?;
        let (dismissed, dismissal) = descriptor::pipe()?;
        // SAFETY: the child calls only what is child-safe.
        match unsafe { process::fork(Namespaces::NONE, None)? } {
            Fork::Parent(process) => Ok(Self { process, dismissal }),
            Fork::Child => {
                mem::forget(dismissal);
                keep(&directories, init, dismissed.as_fd());
                process::exit_now(0)
            }
        }
    }

    /// Tells it that its work has been done, and waits until it is gone.
    pub fn dismiss(self) -> io::Result<()> {
        // If it was killed, it needs no telling.
        let _ = descriptor::write(self.dismissal.as_fd(), &[1]);
        self.process.wait().map(drop)
    }
}

fn keep(directories: &[CString], init: BorrowedFd<'_>, dismissed: BorrowedFd<'_>) {
    // A signal to agentkernel's process group must not hit it, and it must keep nothing open for
    // which somebody waits to see it closed. What fails here makes it no worse a keeper.
    let _ = process::new_session();
    let _ = descriptor::close_all_but(&mut [init.as_raw_fd(), dismissed.as_raw_fd()]);
    if let Ok(0) = descriptor::read(dismissed, &mut [0]) {
        let _ = descriptor::poll(&mut [Interest::readable(init)], None);
        for directory in directories {
            let _ = descriptor::remove_directory(directory);
        }
    }
}
