//! What the tests of this crate share.
#![allow(dead_code, reason = "every test file is a program of its own and needs another part")]

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{CWD, FileType, Mode, OFlags, Timespec, Timestamps};

/// A fresh folder, removed with all that is in it when dropped.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("agentkernel-files-{}-{count}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        agentkernel_files::remove_tree(&self.0).unwrap();
    }
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Says why a test doesn't run here.
pub fn skip(why: &str) {
    eprintln!("skipped: {why}");
}

pub fn write(path: impl AsRef<Path>, content: &str) {
    fs::write(path, content).unwrap();
}

pub fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

pub fn mode(path: impl AsRef<Path>) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

pub fn set_mode(path: impl AsRef<Path>, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

pub fn set_changed(path: impl AsRef<Path>, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path.as_ref(), &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
        .unwrap();
}

pub fn changed(path: impl AsRef<Path>) -> (i64, i64) {
    let data = fs::symlink_metadata(path).unwrap();
    (data.mtime(), data.mtime_nsec())
}

pub fn fifo(path: impl AsRef<Path>) {
    rustix::fs::mknodat(CWD, path.as_ref(), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
}

pub fn whiteout(path: impl AsRef<Path>) {
    rustix::fs::mknodat(CWD, path.as_ref(), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
}

/// A file of 1 GiB with a little data in the middle and at the end.
pub fn sparse(path: impl AsRef<Path>) {
    let file = File::create(path).unwrap();
    file.set_len(1 << 30).unwrap();
    file.write_all_at(b"middle", 500 << 20).unwrap();
    file.write_all_at(b"end", (1 << 30) - 3).unwrap();
}

pub fn check_sparse(path: impl AsRef<Path>) {
    let file = File::open(path).unwrap();
    let data = file.metadata().unwrap();
    assert_eq!(data.len(), 1 << 30);
    assert!(data.blocks() * 512 < 1 << 20, "{} blocks", data.blocks());
    let mut bytes = [0; 6];
    file.read_exact_at(&mut bytes, 500 << 20).unwrap();
    assert_eq!(&bytes, b"middle");
    file.read_exact_at(&mut bytes[..3], (1 << 30) - 3).unwrap();
    assert_eq!(&bytes[..3], b"end");
}

pub fn directory(path: impl AsRef<Path>) -> OwnedFd {
    rustix::fs::open(
        path.as_ref(),
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .unwrap()
}

/// Makes `depth` directories in one another, with a file in the lowest.
pub fn deep(top: &Path, depth: u32) {
    deep_named(top, "a-directory", depth);
}

pub fn deep_named(top: &Path, name: &str, depth: u32) {
    let name = CString::new(name).unwrap();
    let mut here = directory(top);
    for _ in 0..depth {
        rustix::fs::mkdirat(&here, &name, Mode::RWXU).unwrap();
        here = descend(&here, &name);
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&here, c"bottom", flags, Mode::RUSR | Mode::WUSR).unwrap();
    File::from(file).write_all_at(b"deep", 0).unwrap();
}

pub fn check_deep(top: &Path, depth: u32) {
    let name = CString::new("a-directory").unwrap();
    let here = (0..depth).fold(directory(top), |here, _| descend(&here, &name));
    let file = rustix::fs::openat(
        here.as_fd(),
        c"bottom",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .unwrap();
    let mut bytes = [0; 4];
    File::from(file).read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"deep");
}

fn descend(here: &OwnedFd, name: &CString) -> OwnedFd {
    rustix::fs::openat(
        here,
        name,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .unwrap()
}

/// The names in a directory, in order.
pub fn names(path: impl AsRef<Path>) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// A mounted tmpfs of one mebibyte; needs root.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    pub fn at(path: &Path) -> Option<Self> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(path)
            .status();
        mounted.is_ok_and(|status| status.success()).then(|| Self(path.into()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        assert!(Command::new("umount").arg(&self.0).status().unwrap().success());
    }
}

/// Runs the test `name` of this program again as an ordinary user, with `FOLDER` naming a folder of that user's.
///
/// Returns the folder if this is that run already, or if the caller is an ordinary user anyhow.
pub fn as_ordinary_user(name: &str, scratch: &Scratch) -> Option<PathBuf> {
    use std::os::unix::process::CommandExt;
    const USER: u32 = 23456;
    if let Some(folder) = std::env::var_os("FOLDER") {
        return Some(folder.into());
    }
    let folder = scratch.folder("folder");
    if !is_root() {
        return Some(folder);
    }
    // The program itself may lie where that user can't go.
    let program = scratch.path("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    set_mode(&program, 0o755);
    std::os::unix::fs::chown(&folder, Some(USER), Some(USER)).unwrap();
    let status = Command::new(&program)
        .args(["--exact", name, "--nocapture"])
        .env("FOLDER", &folder)
        .current_dir("/")
        .uid(USER)
        .gid(USER)
        .status();
    assert!(status.unwrap().success());
    None
}
