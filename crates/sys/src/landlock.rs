//! Landlock: a process's own promise of which files it will touch, kept by the kernel for it and
//! all that it starts.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::check;
use crate::descriptor::open_path;

// Rights and scopes of linux/landlock.h, by the version that brought them.
const V1: u64 = (1 << 13) - 1;
const V2_REFER: u64 = 1 << 13;
const V3_TRUNCATE: u64 = 1 << 14;
const V5_IOCTL_DEVICES: u64 = 1 << 15;
const EXECUTE_AND_READ: u64 = 1 | 1 << 2 | 1 << 3;
/// The version that brought scopes, of Linux 6.12.
const SCOPES: u32 = 6;
const SCOPE_ABSTRACT_SOCKETS: u64 = 1;
const SCOPE_SIGNALS: u64 = 1 << 1;

/// What the machine's kernel can promise: the version of its interface, from 1 on. Child-safe.
pub fn version() -> io::Result<u32> {
    const GET_VERSION: u32 = 1;
    // SAFETY: with this flag there is no structure to read.
    let version = check(unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<()>(),
            0_usize,
            GET_VERSION,
        )
    })?;
    u32::try_from(version).map_err(|_| io::Error::from_raw_os_error(libc::ENOSYS))
}

/// Whether [`restrict`] promises with this `version` that no abstract socket outside is reached.
pub fn keeps_abstract_sockets_out(version: u32) -> bool {
    version >= SCOPES
}

/// Promises for the calling process that it and all that it starts will reach no file but what is
/// below the root directory now, will write only below `writable` (everywhere, if that is empty),
/// and will neither signal processes nor reach abstract sockets outside, as far as `version` of
/// the kernel's interface goes. No new privileges must have been promised before. Child-safe.
pub fn restrict<'a>(
    version: u32,
    writable: impl ExactSizeIterator<Item = &'a CStr>,
) -> io::Result<()> {
    restrict_but_for(version, writable, None)
}

/// The same, but for what is below the directory `seen`, which is read all the same by whoever has that.
/// Child-safe.
pub fn restrict_but_for<'a>(
    version: u32,
    writable: impl ExactSizeIterator<Item = &'a CStr>,
    seen: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let rights = V1
        | if version >= 2 { V2_REFER } else { 0 }
        | if version >= 3 { V3_TRUNCATE } else { 0 }
        | if version >= 5 { V5_IOCTL_DEVICES } else { 0 };
    let scopes = if version >= SCOPES { SCOPE_ABSTRACT_SOCKETS | SCOPE_SIGNALS } else { 0 };
    let ruleset = create(version, rights, scopes)?;
    let below_root = if writable.len() == 0 { rights } else { EXECUTE_AND_READ };
    allow(&ruleset, c"/", below_root)?;
    for path in writable {
        allow(&ruleset, path, rights)?;
    }
    if let Some(seen) = seen {
        allow_below(&ruleset, seen, EXECUTE_AND_READ)?;
    }
    // SAFETY: no memory is involved.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) })
        .map(drop)
}

fn create(version: u32, files: u64, scopes: u64) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Ruleset {
        files: u64,
        network: u64,
        scopes: u64,
    }
    let ruleset = Ruleset { files, network: 0, scopes };
    // An older kernel refuses members that it does not know.
    let size = if version >= SCOPES { size_of::<Ruleset>() } else { size_of::<u64>() };
    // SAFETY: the kernel reads as much of `ruleset` as it is told.
    let fd = check(unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, &raw const ruleset, size, 0)
    })?;
    // SAFETY: the kernel has just opened it, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

fn allow(ruleset: &OwnedFd, path: &CStr, rights: u64) -> io::Result<()> {
    allow_below(ruleset, open_path(path)?.as_fd(), rights)
}

fn allow_below(ruleset: &OwnedFd, place: BorrowedFd<'_>, rights: u64) -> io::Result<()> {
    const PATH_BENEATH: i32 = 1;
    #[repr(C, packed)]
    struct PathBeneath {
        rights: u64,
        parent: RawFd,
    }
    let rule = PathBeneath { rights, parent: place.as_raw_fd() };
    // SAFETY: `rule` is what this type of rule reads.
    check(unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            ruleset.as_raw_fd(),
            PATH_BENEATH,
            &raw const rule,
            0,
        )
    })
    .map(drop)
}
