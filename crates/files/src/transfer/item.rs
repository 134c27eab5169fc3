//! Opening what is to be copied. It may be anything, and become something else at any time.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, OFlags, Stat, fstatfs, readlinkat, statat};
use rustix::io::Errno;

use super::error::{Located, Refusal, TransferError, Transferred, Where};
use super::write::At;
use crate::descent::{Mounts, open_file, open_in};

/// What a name stands for.
pub(super) enum Item {
    Directory,
    File(File, Stat),
    Link(CString, Stat),
    /// What stands in an overlay's layer for a name that is gone.
    Whiteout(Stat),
}

/// Why a name can't be copied.
pub(super) enum NotRead {
    /// It is no longer there, as if it never had been.
    Gone,
    Refused(Refusal),
    Failed(io::Error),
}

impl From<Errno> for NotRead {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT => Self::Gone,
            Errno::ACCESS | Errno::PERM => Self::Refused(Refusal::Unreadable),
            // It was a file or a directory when it was looked at.
            Errno::LOOP | Errno::NOTDIR | Errno::INVAL | Errno::NXIO | Errno::ISDIR => {
                Self::Refused(Refusal::Changed)
            }
            errno => Self::Failed(errno.into()),
        }
    }
}

impl Item {
    /// Opens a file or reads a link. Never blocks and opens no device.
    pub fn read((directory, name): At<'_>) -> Result<Self, NotRead> {
        let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Ok(Self::Directory),
            FileType::RegularFile => {
                let (file, stat) = open_file(directory, name, Mounts::Cross)?;
                refuse_kernels(file.as_fd())?;
                Ok(Self::File(file, stat))
            }
            FileType::Symlink => Ok(Self::Link(readlinkat(directory, name, Vec::new())?, stat)),
            FileType::Fifo => Err(NotRead::Refused(Refusal::Fifo)),
            FileType::Socket => Err(NotRead::Refused(Refusal::Socket)),
            FileType::CharacterDevice if stat.st_rdev == 0 => Ok(Self::Whiteout(stat)),
            FileType::CharacterDevice | FileType::BlockDevice => {
                Err(NotRead::Refused(Refusal::Device))
            }
            FileType::Unknown => Err(NotRead::Refused(Refusal::Unknown)),
        }
    }
}

/// As [`Item::read`], of what the caller named, so that it has to be there. `None` was refused.
pub(super) fn read_named(
    from: At<'_>,
    (path, place): (&Path, Where),
    done: &mut Transferred,
) -> Result<Option<Item>, TransferError> {
    let at = || Located { path: path.into(), place };
    match Item::read(from) {
        Ok(Item::Whiteout(_)) => {
            done.refuse(|| path.into(), Refusal::Device);
            Ok(None)
        }
        Ok(item) => Ok(Some(item)),
        Err(NotRead::Refused(refusal)) => {
            done.refuse(|| path.into(), refusal);
            Ok(None)
        }
        Err(NotRead::Gone) => Err(TransferError::Missing { at: at() }),
        Err(NotRead::Failed(source)) => {
            Err(TransferError::Failed { action: "open".into(), at: at(), source })
        }
    }
}

/// Opens a directory to be read.
pub(super) fn open_directory((directory, name): At<'_>) -> Result<OwnedFd, NotRead> {
    let opened = open_in(directory, name, OFlags::RDONLY | OFlags::DIRECTORY, Mounts::Cross)?;
    refuse_kernels(opened.as_fd())?;
    Ok(opened)
}

/// Refuses what the kernel makes up as it is read: its files have no true lengths, and its directories no end.
pub(super) fn refuse_kernels(file: BorrowedFd<'_>) -> Result<(), NotRead> {
    match KERNELS.contains(&fstatfs(file)?.f_type) {
        true => Err(NotRead::Refused(Refusal::Kernel)),
        false => Ok(()),
    }
}

/// The kernel's own file systems, from Linux's `include/uapi/linux/magic.h`.
const KERNELS: [i64; 14] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x1cd1,      // devpts
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0xcafe_4a11, // bpf
    0x6265_6570, // configfs
    0x6165_676c, // pstore
    0x4249_4e4d, // binfmt_misc
    0x6e73_6673, // nsfs
    0x1980_0202, // mqueue
];
