//! System calls of Linux behind safe functions: the one room with unsafe code.
//!
//! Everything that may run in a child between its creation and its exec (marked *child-safe*)
//! neither allocates nor takes a lock, so it may be called there even when the parent has threads.
#![deny(unsafe_op_in_unsafe_fn)]
#![cfg(target_os = "linux")]

pub mod cgroup;
mod companion;
pub mod descriptor;
pub mod entry;
pub mod identity;
pub mod keeper;
pub mod landlock;
pub mod machine;
pub mod mapping;
pub mod mount;
pub mod network;
pub mod process;
pub mod rlimit;
pub mod seccomp;
pub mod signal;
pub mod socket;
pub mod terminal;
pub mod vsock;

use std::io;

/// Turns the C library's -1 into the error it stands for. Child-safe.
fn check<T: PartialEq + From<i8>>(result: T) -> io::Result<T> {
    if result == T::from(-1) { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Repeats a call for as long as signals interrupt it. Child-safe.
fn retry<T: PartialEq + From<i8>>(mut call: impl FnMut() -> T) -> io::Result<T> {
    loop {
        match check(call()) {
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            result => return result,
        }
    }
}
