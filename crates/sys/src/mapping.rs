//! Files in memory, for whom only their address matters.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A file's content, readable at an address for as long as this lives. What others write to the file may
/// be seen there.
#[derive(Debug)]
pub struct Mapping {
    address: *mut libc::c_void,
    length: usize,
}

// SAFETY: it is only an address, and nothing of it changes.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// All of `file`, which must not be empty.
    pub fn of(file: BorrowedFd<'_>, length: usize) -> io::Result<Self> {
        let (protection, flags) = (libc::PROT_READ, libc::MAP_PRIVATE);
        // SAFETY: the kernel chooses a place where nothing is.
        let address = unsafe {
            libc::mmap(std::ptr::null_mut(), length, protection, flags, file.as_raw_fd(), 0)
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { address, length })
    }

    /// A copy of these bytes, of which there must be some.
    pub fn of_bytes(bytes: &[u8]) -> io::Result<Self> {
        // SAFETY: the name ends with a NUL.
        let fd = crate::check(unsafe { libc::memfd_create(c"bytes".as_ptr(), libc::MFD_CLOEXEC) })?;
        // SAFETY: the kernel has just opened it, and nobody else owns it.
        let mut file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        file.write_all(bytes)?;
        Self::of(file.as_fd(), bytes.len())
    }

    /// Where it begins: a page's beginning.
    pub fn address(&self) -> usize {
        self.address as usize
    }

    /// How long it is, in bytes. The rest of its last page is zeroes.
    pub fn length(&self) -> usize {
        self.length
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped there, and whoever had the address does not outlive this.
        unsafe { libc::munmap(self.address, self.length) };
    }
}
