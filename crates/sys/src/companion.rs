//! A process that shares its maker's memory.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use crate::check;
use crate::process::Child;

/// A child process that shares the caller's memory for as long as both live, which makes it cheap
/// to start and to end. Dropping this neither ends it nor frees what it uses.
#[derive(Debug)]
pub struct Companion<T: Sync + 'static> {
    child: Child,
    argument: *const T,
    stack: *mut libc::c_void,
}

// SAFETY: it owns what it points to, and a child can be awaited by any thread of its maker.
unsafe impl<T: Sync + Send + 'static> Send for Companion<T> {}

/// Room for the few calls of a companion, and a page below that nobody may touch.
const COMPANION_STACK: usize = 32 * 1024;
const PAGE: usize = 4096;

impl<T: Sync + 'static> Companion<T> {
    /// Starts one that runs `run` on `argument` and ends.
    ///
    /// # Safety
    /// It also shares the caller's thread-local storage: `run` may call only what is child-safe,
    /// and while the caller lives nothing that fails.
    pub unsafe fn start(argument: T, run: fn(&T)) -> io::Result<Self> {
        struct Start<T> {
            argument: *const T,
            run: fn(&T),
        }
        extern "C" fn start<T>(start: *mut libc::c_void) -> libc::c_int {
            // SAFETY: both it and the argument are never freed before the companion's end.
            let start = unsafe { &*start.cast::<Start<T>>() };
            // SAFETY: as above.
            (start.run)(unsafe { &*start.argument });
            0
        }
        let stack = companion_stack()?;
        let argument: *const T = Box::into_raw(Box::new(argument));
        // Left to the companion for good: it may read it at any time, and it is tiny.
        let start_argument = Box::into_raw(Box::new(Start { argument, run }));
        let mut pidfd: RawFd = -1;
        // SAFETY: the stack is the child's alone and large enough, and grows down from its end;
        // the kernel writes `pidfd` in the caller before this returns.
        let pid = check(unsafe {
            libc::clone(
                start::<T>,
                stack.add(COMPANION_STACK),
                libc::CLONE_VM | libc::CLONE_PIDFD | libc::SIGCHLD,
                start_argument.cast(),
                &raw mut pidfd,
            )
        })?;
        // SAFETY: the kernel has just opened it, and nobody else owns it.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        Ok(Self { child: Child::new(pid, pidfd), argument, stack })
    }

    /// Waits for its end, and frees what it used.
    pub fn wait(self) -> io::Result<()> {
        self.child.wait()?;
        // SAFETY: the companion is dead, so nobody uses its stack and its argument any more.
        unsafe {
            libc::munmap(self.stack, COMPANION_STACK);
            drop(Box::from_raw(self.argument.cast_mut()));
        }
        Ok(())
    }
}

fn companion_stack() -> io::Result<*mut libc::c_void> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
    // SAFETY: a new mapping, wherever the kernel likes.
    let stack =
        unsafe { libc::mmap(std::ptr::null_mut(), COMPANION_STACK, protection, flags, -1, 0) };
    if stack == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the first page of what was just mapped.
    check(unsafe { libc::mprotect(stack, PAGE, libc::PROT_NONE) })?;
    Ok(stack)
}
