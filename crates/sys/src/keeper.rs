//! The keeper: a process that removes control groups when their maker can't, because it was killed.
//!
//! There is one for a process that makes groups, for as long as it has any. It shares its maker's
//! memory, where it finds the list of them; it reads that only when the maker is dead, and each
//! change of the list is one atomic store, so it finds it whole whenever that happens.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::companion::Companion;
use crate::descriptor::{self, Interest};
use crate::process::{self, Pid};

/// A group in the keeper's care. Dropped, it stays there.
#[derive(Debug)]
pub struct Kept {
    entry: &'static Entry,
}

/// A line of the list. It is never freed, but used again.
#[derive(Debug)]
struct Entry {
    /// Null while the line is free.
    directories: AtomicPtr<Vec<CString>>,
    /// The sandbox's process 1, the last to die in the group; 0 until there is one.
    init: AtomicI32,
    next: *const Entry,
}

// SAFETY: `next` is set before the line can be found, and never changed.
unsafe impl Send for Entry {}
// SAFETY: as above; all else is atomic.
unsafe impl Sync for Entry {}

/// The first line of the list.
static FIRST: AtomicPtr<Entry> = AtomicPtr::new(ptr::null_mut());

/// The keeper's process, while there is something to keep.
static KEEPER: Mutex<Option<Keeper>> = Mutex::new(None);

struct Keeper {
    companion: Companion<OwnedFd>,
    /// A byte dismisses it; the end of the stream means that its maker is dead.
    dismissal: OwnedFd,
    groups: usize,
}

impl Kept {
    /// Has the keeper, which is started if there is none, care for the group that is to consist of
    /// `directories`.
    pub fn new(directories: impl Iterator<Item = PathBuf>) -> io::Result<Self> {
        let directories = directories.map(|dir| CString::new(dir.as_os_str().as_bytes()));
        let directories: Vec<CString> = directories.collect::<Result<_, _>>()?;
        let mut keeper = KEEPER.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *keeper {
            Some(keeper) => keeper.groups += 1,
            none => *none = Some(Keeper::start()?),
        }
        Ok(Self { entry: write(directories) })
    }

    /// Tells it which process it has to outlive.
    pub fn outlive(&self, init: Pid) {
        self.entry.init.store(init, Ordering::Release);
    }

    /// Takes the group out of its care. If that was the last one, waits until the keeper is gone.
    pub fn release(self) -> io::Result<()> {
        let mut keeper = KEEPER.lock().unwrap_or_else(PoisonError::into_inner);
        let directories = self.entry.directories.swap(ptr::null_mut(), Ordering::AcqRel);
        if !directories.is_null() {
            // SAFETY: it came from a box, and only whoever takes it off the list frees it. The
            // keeper does not read the list while we live.
            drop(unsafe { Box::from_raw(directories) });
        }
        match keeper.take() {
            Some(last) if last.groups == 1 => last.dismiss(),
            Some(other) => {
                *keeper = Some(Keeper { groups: other.groups - 1, ..other });
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// Writes a line, where one is free or at the list's start. Only who has the lock may.
fn write(directories: Vec<CString>) -> &'static Entry {
    let directories = Box::into_raw(Box::new(directories));
    if let Some(free) = lines().find(|entry| entry.directories.load(Ordering::Acquire).is_null()) {
        free.init.store(0, Ordering::Release);
        free.directories.store(directories, Ordering::Release);
        return free;
    }
    let entry: &'static mut Entry = Box::leak(Box::new(Entry {
        directories: AtomicPtr::new(directories),
        init: AtomicI32::new(0),
        next: FIRST.load(Ordering::Acquire),
    }));
    let entry: &'static Entry = entry;
    FIRST.store(ptr::from_ref(entry).cast_mut(), Ordering::Release);
    entry
}

fn lines() -> impl Iterator<Item = &'static Entry> {
    let mut next: *const Entry = FIRST.load(Ordering::Acquire);
    std::iter::from_fn(move || {
        // SAFETY: it is null or a line, and lines are never freed.
        let entry = unsafe { next.as_ref() }?;
        next = entry.next;
        Some(entry)
    })
}

impl Keeper {
    fn start() -> io::Result<Self> {
        let (dismissed, dismissal) = descriptor::pipe()?;
        // SAFETY: `keep` calls only what is child-safe, and until its maker is dead or done only
        // what can't fail.
        let companion = unsafe { Companion::start(dismissed, keep)? };
        Ok(Self { companion, dismissal, groups: 1 })
    }

    /// Tells it that its work has been done, and waits until it is gone.
    fn dismiss(self) -> io::Result<()> {
        // If it was killed, it needs no telling.
        let _ = descriptor::write(self.dismissal.as_fd(), &[1]);
        self.companion.wait()
    }
}

fn keep(dismissed: &OwnedFd) {
    // A signal to its maker's process group must not hit it, and it must keep nothing open for
    // which somebody waits to see it closed. What fails here makes it no worse a keeper.
    let _ = process::new_session();
    let _ = descriptor::close_all_but(&mut [dismissed.as_raw_fd()]);
    if let Ok(0) = descriptor::read(dismissed.as_fd(), &mut [0]) {
        lines().for_each(remove);
    }
}

fn remove(entry: &Entry) {
    // SAFETY: it is null or a list that only the maker would free, who is dead.
    let Some(directories) = (unsafe { entry.directories.load(Ordering::Acquire).as_ref() }) else {
        return;
    };
    let init = entry.init.load(Ordering::Acquire);
    // Process 1 dies with its maker, and everything inside before it.
    if init != 0
        && let Ok(init) = process::open_pidfd(init)
    {
        let _ = descriptor::poll(&mut [Interest::readable(init.as_fd())], None);
    }
    for directory in directories {
        remove_once_empty(directory);
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
