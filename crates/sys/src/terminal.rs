//! Terminals and pseudo-terminals.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::check;

/// Whether `fd` is a terminal.
pub fn is_terminal(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: no memory is involved.
    unsafe { libc::isatty(fd.as_raw_fd()) == 1 }
}

/// The rows and columns of the terminal `fd`.
pub fn size(fd: BorrowedFd<'_>) -> io::Result<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: `size` is what this call fills.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) })?;
    Ok((size.ws_row, size.ws_col))
}

/// Sets the rows and columns of the terminal `fd`, which tells its foreground processes.
/// Child-safe.
pub fn set_size(fd: BorrowedFd<'_>, rows: u16, columns: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: `size` is what this call reads.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }).map(drop)
}

/// Opens a new pseudo-terminal of the devpts whose multiplexer is at `multiplexer`: its
/// controlling side and its terminal side. Child-safe.
pub fn open(multiplexer: &CStr) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the path ends with a NUL.
    let controller = check(unsafe { libc::open(multiplexer.as_ptr(), flags) })?;
    // SAFETY: the kernel has just opened it, and nobody else owns it.
    let controller = unsafe { OwnedFd::from_raw_fd(controller) };
    let unlock = 0_i32;
    // SAFETY: this call reads an int.
    check(unsafe { libc::ioctl(controller.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlock) })?;
    // SAFETY: this call takes open flags as a number. It opens the very other side, by no path.
    let terminal = check(unsafe { libc::ioctl(controller.as_raw_fd(), libc::TIOCGPTPEER, flags) })?;
    // SAFETY: the kernel has just opened it, and nobody else owns it.
    Ok((controller, unsafe { OwnedFd::from_raw_fd(terminal) }))
}

/// Makes `fd` the terminal of the calling process's session, which it must lead. Child-safe.
pub fn control(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: this call takes a number: do not steal it from another session.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCSCTTY, 0) }).map(drop)
}

/// Parts the calling process, which leads its session, from its terminal `fd`. What was written to
/// it stays there to be read, as it does not when a leader ends that has one. Child-safe.
pub fn release(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCNOTTY) }).map(drop)
}

/// A terminal's modes, put back when this is dropped.
pub struct RawMode<'a> {
    fd: BorrowedFd<'a>,
    former: libc::termios,
}

impl<'a> RawMode<'a> {
    /// Hands every byte typed at the terminal `fd` through unchanged, until it is dropped.
    pub fn enter(fd: BorrowedFd<'a>) -> io::Result<Self> {
        let mut former = MaybeUninit::<libc::termios>::uninit();
        // SAFETY: `former` is what this call fills.
        check(unsafe { libc::tcgetattr(fd.as_raw_fd(), former.as_mut_ptr()) })?;
        // SAFETY: the call succeeded, so it has filled `former`.
        let former = unsafe { former.assume_init() };
        let mut raw = former;
        // SAFETY: `raw` is a valid set of modes.
        unsafe { libc::cfmakeraw(&raw mut raw) };
        // SAFETY: `raw` is a valid set of modes.
        check(unsafe { libc::tcsetattr(fd.as_raw_fd(), libc::TCSADRAIN, &raw const raw) })?;
        Ok(Self { fd, former })
    }
}

impl Drop for RawMode<'_> {
    fn drop(&mut self) {
        // A terminal that has gone needs no modes.
        // SAFETY: `former` is the valid set of modes read before.
        unsafe { libc::tcsetattr(self.fd.as_raw_fd(), libc::TCSADRAIN, &raw const self.former) };
    }
}
