//! What a container's engine shows in it of the host's own files.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use agentkernel_sys::descriptor::{self, Links};
use agentkernel_sys::identity;

use crate::greeting::{Resident, Seen, Setting};

/// The mounts that show them, and all that is mounted below, by the kernel's numbers: each with the
/// number of the one that the caller asked for.
pub struct Shown {
    mounts: BTreeMap<u32, u32>,
    seen: Vec<Option<Seen>>,
}

impl Shown {
    /// Looks for what a setting says is shown.
    pub fn look(setting: &Setting) -> io::Result<Self> {
        let found = setting.shown.iter().map(|target| find(target, &setting.user).ok());
        let found: Vec<Option<(u32, File)>> = found.collect();
        let asked: Vec<u32> = found.iter().flatten().map(|(mount, _)| *mount).collect();
        let all = if asked.is_empty() { BTreeMap::new() } else { all_mounts()? };
        // Whose it is, looked for upwards from a mount to the root's, above which there is none.
        let shown_by = |mount: &u32| {
            let mut mount = *mount;
            while !asked.contains(&mount) {
                mount = all.get(&mount).map(|found| found.parent).filter(|up| *up != mount)?;
            }
            Some(mount)
        };
        let mounts = all.keys().filter_map(|mount| Some((*mount, shown_by(mount)?)));
        let mounts: BTreeMap<u32, u32> = mounts.collect();
        let is_read_only = |asked: u32| {
            let own = mounts.iter().filter(|(_, by)| **by == asked);
            own.filter_map(|(mount, _)| all.get(mount)).all(|mount| mount.read_only)
        };
        let seen = found.iter().map(|found| {
            let (mount, file) = found.as_ref()?;
            let about = file.metadata().ok()?;
            let (device, inode) = (about.dev(), about.ino());
            Some(Seen { device, inode, read_only: is_read_only(*mount) })
        });
        let seen = seen.collect();
        Ok(Self { mounts, seen })
    }

    /// What is there, for each that the caller asked for.
    pub fn seen(&self) -> &[Option<Seen>] {
        &self.seen
    }

    /// Whether what is at `path`, or would be, is the host's, which is not for the agent to touch.
    pub fn has(&self, path: &Path) -> bool {
        // Of what can't be looked at nothing is known.
        let is_shown = |path: &Path| Ok(self.mounts.contains_key(&mount_of(&open(path)?)?));
        let mut there = path.ancestors().map(is_shown);
        let missing = |found: &io::Result<bool>| {
            found.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        };
        !self.mounts.is_empty()
            && there.find(|found| !missing(found)).is_none_or(|f| f.unwrap_or(true))
    }
}

/// One mount of this namespace's.
struct Mount {
    parent: u32,
    read_only: bool,
}

fn all_mounts() -> io::Result<BTreeMap<u32, Mount>> {
    let text = fs::read_to_string("/proc/self/mountinfo")?;
    // proc_pid_mountinfo(5): number, parent, device, root, place, options ... and the file system's.
    let mount = |line: &str| {
        let fields: Vec<&str> = line.split(' ').collect();
        let options = [fields.get(5)?, fields.last()?];
        let read_only = options.iter().any(|all| all.split(',').any(|option| option == "ro"));
        Some((fields[0].parse().ok()?, Mount { parent: fields[1].parse().ok()?, read_only }))
    };
    Ok(text.lines().filter_map(mount).collect())
}

/// What is at `target`, and on which mount. It may lie in a folder that only its user may enter.
fn find(target: &Path, user: &Resident) -> io::Result<(u32, File)> {
    let file =
        open(target).or_else(|_| identity::with_files_of(user.uid, user.gid, || open(target)))?;
    Ok((mount_of(&file)?, file))
}

fn open(path: &Path) -> io::Result<File> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let root = descriptor::open_path(c"/")?;
    descriptor::resolve(root.as_fd(), &path, Links::Confine).map(File::from)
}

/// The number of the mount that a file was found on.
fn mount_of(file: &File) -> io::Result<u32> {
    let about = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd()))?;
    let number = about.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
    number.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_a_mount_is_shown_by_it_and_told_by_device_and_inode() {
        let user = Resident { uid: 1, gid: 1, ..Resident::default() };
        let shown = |targets: &[&str]| {
            let shown = targets.iter().map(Into::into).collect();
            Shown::look(&Setting { shown, user: user.clone(), ..Setting::default() }).unwrap()
        };
        let proc = shown(&["/proc", "/proc/no-such"]);
        let found = fs::metadata("/proc").unwrap();
        let seen = proc.seen()[0].clone().unwrap();
        assert_eq!((seen.device, seen.inode), (found.dev(), found.ino()));
        assert_eq!(proc.seen()[1], None);
        for (path, expected) in [("/proc/self/no/such", true), ("/proc", true), ("/etc", false)] {
            assert_eq!(proc.has(Path::new(path)), expected, "{path}");
        }
        assert!(!shown(&[]).has(Path::new("/proc")));
    }
}
