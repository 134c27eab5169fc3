//! What is known of a file without opening it.

use std::fmt;
use std::time::{Duration, SystemTime};

use rustix::fs::{FileType, Stat};
use serde::{Deserialize, Serialize};

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileKind {
    File,
    Directory,
    /// A symbolic link.
    Link,
    Fifo,
    Socket,
    /// A character or block device.
    Device,
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FileKind::File => "file",
            FileKind::Directory => "directory",
            FileKind::Link => "symbolic link",
            FileKind::Fifo => "fifo",
            FileKind::Socket => "socket",
            FileKind::Device => "device",
        })
    }
}

/// A point in time as file systems keep it: seconds since 1970, and nanoseconds after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Time(pub(crate) i64, pub(crate) u32);

impl From<SystemTime> for Time {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => Time(seconds(after), after.subsec_nanos()),
            Err(error) => {
                let before = error.duration();
                match before.subsec_nanos() {
                    0 => Time(-seconds(before), 0),
                    nanos => Time(-seconds(before) - 1, 1_000_000_000 - nanos),
                }
            }
        }
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// The part of a `stat` that matters here, in types that are the same on every machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) kind: FileKind,
    /// Character device 0:0, by which an overlay says that a name is deleted.
    pub(crate) whiteout: bool,
    /// Permissions with setuid, setgid and sticky bit: the lowest 12 bits.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) dev: u64,
    pub(crate) ino: u64,
    /// Number of names.
    pub(crate) links: u64,
    /// Bytes.
    pub(crate) size: u64,
    /// Bytes that are really kept; fewer than `size` if the file has holes.
    pub(crate) kept: u64,
    pub(crate) modified: Time,
    /// The inode's change time, which no program can set.
    pub(crate) changed: Time,
}

impl Facts {
    pub(crate) fn is_dir(&self) -> bool {
        self.kind == FileKind::Directory
    }
}

// The fields' types differ between architectures, so that some of the casts do nothing on this one.
#[allow(clippy::unnecessary_cast)]
impl From<Stat> for Facts {
    fn from(stat: Stat) -> Self {
        let (kind, character) = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => (FileKind::File, false),
            FileType::Directory => (FileKind::Directory, false),
            FileType::Symlink => (FileKind::Link, false),
            FileType::Fifo => (FileKind::Fifo, false),
            FileType::Socket => (FileKind::Socket, false),
            FileType::CharacterDevice => (FileKind::Device, true),
            FileType::BlockDevice | FileType::Unknown => (FileKind::Device, false),
        };
        Facts {
            kind,
            whiteout: character && stat.st_rdev == 0,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            dev: stat.st_dev as u64,
            ino: stat.st_ino as u64,
            links: stat.st_nlink as u64,
            size: stat.st_size as u64,
            kept: (stat.st_blocks as u64).saturating_mul(512),
            modified: Time(stat.st_mtime as i64, stat.st_mtime_nsec as u32),
            changed: Time(stat.st_ctime as i64, stat.st_ctime_nsec as u32),
        }
    }
}
