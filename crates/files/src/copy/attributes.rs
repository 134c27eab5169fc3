//! All of a file that isn't its contents.

use std::ffi::CStr;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, Stat, Uid, XattrFlags, chmodat, chownat, fchmod, fchown,
    fgetxattr, flistxattr, fsetxattr, fstat, futimens, statat, utimensat,
};
use rustix::io::Errno;

use crate::descent::times;

/// The longest value and the longest list of names that Linux has, in bytes (XATTR_SIZE_MAX, XATTR_LIST_MAX).
const LONGEST: usize = 64 << 10;

/// Copies attributes, with the memory that it takes.
#[derive(Debug)]
pub(super) struct Attributes {
    names: Vec<u8>,
    value: Vec<u8>,
}

impl Attributes {
    pub fn new() -> Self {
        Self { names: vec![0; LONGEST], value: vec![0; LONGEST] }
    }

    /// Gives `to` the owner, the extended attributes, the permissions and the times of `from`; `stat` has what of
    /// that it can have.
    pub fn copy(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        stat: &Stat,
    ) -> io::Result<()> {
        let made = fstat(to)?;
        // A new owner takes the set-user-ID bit and capabilities away, so the rest comes after it.
        if (made.st_uid, made.st_gid) != (stat.st_uid, stat.st_gid) {
            fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
        }
        self.copy_extended(from, to)?;
        fchmod(to, permissions(stat))?;
        Ok(futimens(to, &times(stat))?)
    }

    fn copy_extended(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
        let length = match flistxattr(from, &mut self.names[..]) {
            Ok(length) => length,
            Err(Errno::OPNOTSUPP) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        for name in self.names[..length].split_inclusive(|byte| *byte == 0) {
            let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
            let copied = fgetxattr(from, name, &mut self.value[..])
                .and_then(|length| fsetxattr(to, name, &self.value[..length], XattrFlags::empty()));
            match copied {
                Ok(()) => {}
                // Those are the security modules' and the kernel's, which a caller may be refused.
                Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NODATA)
                    if !name.to_bytes().starts_with(b"user.") => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

/// Gives the link, fifo or device `name` in `directory`, which nobody else can reach, the owner, permissions and times
/// in `stat`. It can have no `user.*` attributes.
pub(super) fn copy_simple(directory: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> io::Result<()> {
    let made = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if (made.st_uid, made.st_gid) != (stat.st_uid, stat.st_gid) {
        let (user, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        chownat(directory, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    // A link's permissions mean nothing, and a change would be of what it leads to.
    if FileType::from_raw_mode(made.st_mode) != FileType::Symlink && made.st_mode != stat.st_mode {
        chmodat(directory, name, permissions(stat), AtFlags::empty())?;
    }
    Ok(utimensat(directory, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn permissions(stat: &Stat) -> Mode {
    Mode::from_raw_mode(stat.st_mode & 0o7777)
}
