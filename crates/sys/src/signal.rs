//! Signals, received as data.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::{check, descriptor};

pub use libc::{
    SIGABRT, SIGALRM, SIGBUS, SIGCHLD, SIGCONT, SIGFPE, SIGHUP, SIGILL, SIGINT, SIGKILL, SIGPIPE,
    SIGQUIT, SIGSEGV, SIGSTOP, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH,
};

/// Receives signals in place of their handlers, through a descriptor that can be polled.
#[derive(Debug)]
pub struct Signals {
    fd: OwnedFd,
}

impl Signals {
    /// Blocks `signals` in the calling thread and receives them here from now on. Threads made
    /// later inherit the block; a program that is executed does too, unless it is
    /// [reset](reset_to_default). Child-safe.
    pub fn receive(signals: &[i32]) -> io::Result<Self> {
        let set = set_of(signals);
        // SAFETY: `set` is valid, and the former mask is not asked for.
        check(unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) })?;
        Ok(Self { fd: arrivals(signals)? })
    }

    /// The next signal that has arrived, if any has. Child-safe.
    pub fn take(&self) -> io::Result<Option<i32>> {
        const SIZE: usize = size_of::<libc::signalfd_siginfo>();
        let mut info = [0_u8; SIZE];
        match descriptor::read(self.fd.as_fd(), &mut info) {
            // The number is the first member, 32 bits wide.
            Ok(SIZE) => Ok(Some(i32::from_ne_bytes([info[0], info[1], info[2], info[3]]))),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What can be read when one of `signals` that are blocked has arrived and waits. Child-safe.
fn arrivals(signals: &[i32]) -> io::Result<OwnedFd> {
    let set = set_of(signals);
    // SAFETY: `set` is valid.
    let fd = check(unsafe {
        libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    })?;
    // SAFETY: the kernel has just opened it, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What can be read when a signal has arrived that would end a program, if those are blocked.
pub fn endings() -> io::Result<OwnedFd> {
    arrivals(&[SIGHUP, SIGINT, SIGQUIT, SIGTERM])
}

/// Gives every signal but the real-time ones and those to `keep` its default effect and unblocks all,
/// as a program expects that starts afresh. Child-safe.
pub fn reset_to_default(keep: &[i32]) -> io::Result<()> {
    for signal in (1..32).filter(|signal| !keep.contains(signal)) {
        // SAFETY: the default is a valid disposition. Two signals can't be changed, and
        // their defaults stand anyway.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let set = set_of(&[]);
    // SAFETY: `set` is valid, and the former mask is not asked for.
    check(unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()) })
        .map(drop)
}

/// Has this signal do nothing from now on.
pub fn ignore(signal: i32) {
    // SAFETY: to ignore is a valid disposition of whatever signal this is.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Ends the calling process by this signal, as the kernel would.
pub fn die_of(signal: i32) -> ! {
    // If it can't be the signal, its number in a status is as near as can be.
    let _ = reset_to_default(&[]);
    // SAFETY: no memory is involved.
    unsafe { libc::raise(signal) };
    crate::process::exit_now(128 + signal)
}

fn set_of(signals: &[i32]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset fills the set before anything else reads it; numbers that are out of
    // range are refused without harm.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for &signal in signals {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        set.assume_init()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::descriptor::{self, Interest};

    #[test]
    fn a_signal_that_is_held_back_is_pending_until_it_is_taken() {
        let signals = Signals::receive(&[SIGUSR2]).unwrap();
        let is_pending = |arrivals: io::Result<OwnedFd>| {
            let arrivals = arrivals.unwrap();
            let mut all = [Interest::readable(arrivals.as_fd())];
            descriptor::poll(&mut all, Some(Duration::ZERO)).unwrap();
            all[0].is_ready()
        };
        assert!(!is_pending(arrivals(&[SIGUSR2])));
        // SAFETY: it is blocked in this thread, to which it is sent.
        assert_eq!(unsafe { libc::raise(SIGUSR2) }, 0);
        assert!(is_pending(arrivals(&[SIGTERM, SIGUSR2])));
        assert!(!is_pending(endings()));
        assert_eq!(signals.take().unwrap(), Some(SIGUSR2));
        assert!(!is_pending(arrivals(&[SIGUSR2])));
    }
}
