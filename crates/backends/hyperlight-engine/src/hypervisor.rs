//! The kernel's own hypervisor, as a file.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

const FILE: &str = "/dev/kvm";

/// Opens it, which tells why it can't be used.
pub(crate) fn open() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(FILE)
}

/// Whether this process has it open.
pub(crate) fn is_open() -> bool {
    !descriptors().is_empty()
}

/// This process's descriptors of it.
pub(crate) fn descriptors() -> Vec<RawFd> {
    let all = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let is_one = |path: &PathBuf| fs::read_link(path).is_ok_and(|to| to == Path::new(FILE));
    let number = |path: PathBuf| path.file_name()?.to_str()?.parse().ok();
    all.map(|entry| entry.path()).filter(is_one).filter_map(number).collect()
}
