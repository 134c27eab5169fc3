//! The keeper: a process that removes a sandbox's control group when its maker can't, because it
//! was killed.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use crate::companion::Companion;
use crate::descriptor::{self, Interest};
use crate::process::{self, Pid};

/// A handle on the keeper. Dropped, it leaves the keeper to its work.
#[derive(Debug)]
pub struct Keeper {
    companion: Companion<Watch>,
    /// A byte dismisses it; the end of the stream means that its maker is dead.
    dismissal: OwnedFd,
}

/// What the keeper shares with its maker.
#[derive(Debug)]
struct Watch {
    directories: Vec<CString>,
    dismissed: OwnedFd,
    /// The sandbox's process 1, the last to die in the group; 0 until there is one.
    init: AtomicI32,
}

impl Keeper {
    /// Starts a keeper of the group that is to consist of `directories`.
    pub fn start(directories: impl Iterator<Item = PathBuf>) -> io::Result<Self> {
        let directories = directories.map(|dir| CString::new(dir.as_os_str().as_bytes()));
        let directories = directories.collect::<Result<_, _>>()?;
        let (dismissed, dismissal) = descriptor::pipe()?;
        let watch = Watch { directories, dismissed, init: AtomicI32::new(0) };
        // SAFETY: `keep` calls only what is child-safe, and until its maker is dead or done only
        // what can't fail.
        let companion = unsafe { Companion::start(watch, keep)? };
        Ok(Self { companion, dismissal })
    }

    /// Tells it which process it has to outlive.
    pub fn outlive(&self, init: Pid) {
        self.companion.argument().init.store(init, Ordering::Release);
    }

    /// Tells it that its work has been done, and waits until it is gone.
    pub fn dismiss(self) -> io::Result<()> {
        // If it was killed, it needs no telling.
        let _ = descriptor::write(self.dismissal.as_fd(), &[1]);
        self.companion.wait()
    }
}

fn keep(watch: &Watch) {
    // A signal to its maker's process group must not hit it, and it must keep nothing open for
    // which somebody waits to see it closed. What fails here makes it no worse a keeper.
    let _ = process::new_session();
    let _ = descriptor::close_all_but(&mut [watch.dismissed.as_raw_fd()]);
    if let Ok(0) = descriptor::read(watch.dismissed.as_fd(), &mut [0]) {
        let init = watch.init.load(Ordering::Acquire);
        // Process 1 dies with its maker, and everything inside before it.
        if init != 0
            && let Ok(init) = process::open_pidfd(init)
        {
            let _ = descriptor::poll(&mut [Interest::readable(init.as_fd())], None);
        }
        for directory in &watch.directories {
            remove_once_empty(directory);
        }
    }
}

/// A version 2 group has its process 1 before the maker can tell who that is: one that was killed
/// in between leaves a group in which somebody is still dying.
fn remove_once_empty(directory: &CStr) {
    const PAUSE: Duration = Duration::from_millis(2);
    /// Half a minute: a process that takes longer to die may never do it.
    const TRIES: u32 = 15_000;
    for _ in 0..TRIES {
        match descriptor::remove_directory(directory) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                let _ = descriptor::poll(&mut [], Some(PAUSE));
            }
            // It is removed, or it never was made.
            _ => return,
        }
    }
}
