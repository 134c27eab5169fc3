//! The filter of system calls that every sandboxed command runs under.
//!
//! It is an allowlist: what is not named in [`table`] is refused with `EPERM`, and what is newer
//! than the table with `ENOSYS`, which programs take as the hint to try an older way.

mod program;
mod table;

use std::io;

use crate::check;

pub use program::Filter;

/// What a filter lets through beyond the common table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policy {
    /// Refuse setuid and setgid bits on files: needed where files outlive the sandbox, since
    /// outside they would lend their owner's rights.
    pub no_setuid_files: bool,
    /// Refuse sockets of the internet's, loopback's among them: needed where a sandbox without a network
    /// shares an interface.
    pub no_internet: bool,
}

impl Policy {
    /// Every one by what it says of files.
    pub const OF_FILES: [Self; 2] = [
        Self { no_setuid_files: false, no_internet: false },
        Self { no_setuid_files: true, no_internet: false },
    ];
}

impl Filter {
    /// Puts the calling thread and all that it starts under this filter, for good. No new
    /// privileges must have been promised before. Child-safe.
    pub fn install(&self) -> io::Result<()> {
        let instructions = self.instructions();
        let program = libc::sock_fprog {
            len: instructions.len() as u16,
            filter: instructions.as_ptr().cast_mut(),
        };
        // SAFETY: the program's instructions live until the call is over; the kernel copies them.
        check(unsafe {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program)
        })
        .map(drop)
    }
}
