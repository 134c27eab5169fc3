//! A program's start without the standard library's preparations.
//!
//! Those read `/proc/self/maps`, set up a stack for reporting overflows and more, which costs a
//! tenth of a millisecond at every start; a program that starts for one short job wants none of
//! it. What matters of them is done here.

/// Makes `$main`, a `fn() -> u8`, the program's main function, whose result is the exit status.
/// The crate needs `#![no_main]`. Standard output must be flushed by hand.
#[macro_export]
macro_rules! main {
    ($main:path) => {
        // SAFETY: the C library calls this once, and nothing else in the program has the name.
        #[unsafe(no_mangle)]
        extern "C" fn main() -> std::ffi::c_int {
            $crate::entry::prepare();
            std::ffi::c_int::from($main())
        }
    };
}

/// Does what a program relies on: the standard streams are open, if only to `/dev/null`, so that
/// no file opened later takes their numbers; and a closed pipe is an error, not a signal.
pub fn prepare() {
    open_standard_streams();
    // SAFETY: ignoring is a valid disposition.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Opens those of the standard streams that are closed, to `/dev/null`. Child-safe.
pub fn open_standard_streams() {
    for fd in 0..3 {
        // SAFETY: no memory is involved.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } == -1 {
            // The lowest number that is free is `fd`, for those below are open.
            // SAFETY: the path ends with a NUL.
            unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
        }
    }
}
