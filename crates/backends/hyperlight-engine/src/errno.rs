//! The kernel's errors by WASI's numbers.

use std::io::{self, ErrorKind};

pub(crate) const BAD_DESCRIPTOR: u8 = 8;
const IO: u8 = 29;

/// The number of what can go wrong with a stream.
pub(crate) fn of(error: &io::Error) -> u8 {
    match error.kind() {
        ErrorKind::BrokenPipe => 64,
        ErrorKind::ConnectionReset => 15,
        ErrorKind::FileTooLarge => 22,
        ErrorKind::Interrupted => 27,
        ErrorKind::InvalidInput => 28,
        ErrorKind::IsADirectory => 31,
        ErrorKind::NotConnected => 53,
        ErrorKind::PermissionDenied => 2,
        ErrorKind::StorageFull => 51,
        ErrorKind::WouldBlock => 6,
        _ if error.raw_os_error() == Some(9) => BAD_DESCRIPTOR,
        _ => IO,
    }
}
