//! Bridges whose places have gone, and that clear away what those have left.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use agentkernel_sys::descriptor::{self, Interest};
use agentkernel_sys::process;

use crate::bridge::Process;

/// None if each is waited for.
static LEAVING: Mutex<Option<Vec<(Process, OwnedFd)>>> = Mutex::new(None);

/// Has the calling process wait for none of them at a place's end from now on. It takes their deaths while
/// it [waits](await_beside).
pub fn wait_for_none() {
    LEAVING.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default();
}

/// Waits until `fd` can be read, and takes the deaths of bridges meanwhile.
pub fn await_beside(fd: BorrowedFd<'_>) -> io::Result<()> {
    loop {
        let mut leaving = LEAVING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = leaving.take().unwrap_or_default();
        let pidfds = all.iter().map(|(_, pidfd)| Interest::readable(pidfd.as_fd()));
        let mut interests: Vec<_> = [Interest::readable(fd)].into_iter().chain(pidfds).collect();
        let polled = descriptor::poll(&mut interests, None);
        let ready: Vec<_> = interests.iter().map(Interest::is_ready).collect();
        let mut dead = ready.iter().skip(1);
        all.retain_mut(|(process, _)| {
            let is_dead = dead.next().is_some_and(|dead| *dead);
            // It is there to be taken.
            !is_dead || process.wait().is_err()
        });
        *leaving = Some(all);
        polled?;
        if ready.first().is_some_and(|ready| *ready) {
            return Ok(());
        }
    }
}

/// Waits for a bridge whose place has gone, or leaves it.
pub(crate) fn bury(mut process: Process, pid: i32) -> io::Result<()> {
    let mut leaving = LEAVING.lock().unwrap_or_else(PoisonError::into_inner);
    match (&mut *leaving, process::open_pidfd(pid)) {
        (Some(leaving), Ok(pidfd)) => {
            leaving.push((process, pidfd));
            Ok(())
        }
        _ => process.wait(),
    }
}
