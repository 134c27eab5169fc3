//! Mounts, added to a container from outside.
//!
//! An engine's own mounts have to be known when a container is made, and show the host's numbers
//! of users as they are. So ours are made here, for containers that were made ahead as for others:
//! by a process that makes them in a mount namespace of its own, where the host's files are, and
//! then joins the container's. Nothing has run in that yet.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::{fs, fs::File};

use agentkernel_core::{Access, BootError, Mount, Spec};
use agentkernel_sys::descriptor::{self, Links};
use agentkernel_sys::identity::{self, Range};
use agentkernel_sys::mount::{self, Detached, Restrictions};
use agentkernel_sys::process::{self, Fork, Namespaces};

/// The folder with the changes to mount number `number`, in the directory for layers.
pub fn upper(number: usize) -> String {
    format!("upper-{number}")
}

/// What none of them may bring along.
const GUARDED: Restrictions = Restrictions::NO_SETUID.and(Restrictions::NO_DEVICES);
const READ_ONLY: Restrictions = GUARDED.and(Restrictions::READ_ONLY);

/// Whatever of the host's is written here is only seen by the process that mounts.
const SCRATCH: &str = "/sys";

/// Adds a spec's mounts to a container, and what else its engine leaves out.
pub struct Attacher<'a> {
    spec: &'a Spec,
    /// The container's sandbox user, by its own numbers.
    user: (u32, u32),
    layers: Option<&'a Path>,
    closes_devices: bool,
    bounds_users: bool,
    mounts: OwnedFd,
    /// Its user namespace, unless that is the caller's own.
    users: Option<OwnedFd>,
}

/// Why one could not be added, and which.
#[derive(Debug)]
pub struct AttachError {
    what: String,
    source: io::Error,
}

impl<'a> Attacher<'a> {
    /// For the container whose process 1 is `pid`. What is copied-on-write is kept in `layers`; or
    /// else in memory, and goes with the container.
    pub fn new(
        pid: i32,
        spec: &'a Spec,
        user: (u32, u32),
        layers: Option<&'a Path>,
    ) -> Result<Self, BootError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::PermissionDenied => no_right(),
            _ => BootError::Failed { what: "can't reach the container".into(), source },
        };
        if !is_first(pid).map_err(failed)? {
            return Err(not_here());
        }
        let open = |kind: &str| File::open(format!("/proc/{pid}/ns/{kind}"));
        let mounts = open("mnt").map_err(failed)?.into();
        let users = open("user").map_err(failed)?;
        let own = fs::metadata("/proc/self/ns/user").map_err(failed)?;
        let same = users.metadata().map_err(failed)?.ino() == own.ino();
        if same && identity::effective().0 != 0 {
            return Err(no_right());
        }
        if !same {
            let shown = shown_as(pid, identity::effective().0).map_err(failed)?;
            if shown != Some(user.0) {
                return Err(not_own(shown, user.0));
            }
        }
        let users = (!same).then(|| users.into());
        Ok(Self { spec, user, layers, closes_devices: false, bounds_users: false, mounts, users })
    }

    /// Keeps commands from writing in the directory of devices, too, where the engine does not.
    pub fn closing_devices(self) -> Self {
        Self { closes_devices: true, ..self }
    }

    /// Leaves the caller some of what the kernel counts by the user, who is the same inside. Only for a
    /// user namespace that no other container has.
    pub fn bounding_users(self) -> Self {
        Self { bounds_users: true, ..self }
    }

    /// Adds all of them. The calling process must have a single thread.
    pub fn attach(&self) -> Result<(), BootError> {
        let failed = |source| BootError::Failed { what: "can't add mounts".into(), source };
        if self.spec.mounts.is_empty() && !self.closes_devices && !self.bounds_users {
            return Ok(());
        }
        let trees = self.spec.mounts.iter().map(|mount| self.owned_tree(mount));
        let trees: Vec<Option<Detached>> = trees.collect::<Result<_, _>>()?;
        let (report, told) = descriptor::pipe().map_err(failed)?;
        let child = match process::fork(Namespaces::NONE, None).map_err(failed)? {
            Fork::Parent(child) => child,
            Fork::Child => {
                if let Err(AttachError { what, source }) = self.attach_here(trees) {
                    let text = format!("{}\n{what}", source.raw_os_error().unwrap_or(0));
                    let _ = descriptor::write(told.as_fd(), text.as_bytes());
                }
                process::exit_now(0)
            }
        };
        drop((told, trees));
        let mut text = [0; 4096];
        let read = descriptor::read(report.as_fd(), &mut text).map_err(failed)?;
        child.wait().map_err(failed)?;
        match String::from_utf8_lossy(&text[..read]).split_once('\n') {
            None if read == 0 => Ok(()),
            Some((errno, what)) => Err(BootError::Failed {
                what: what.into(),
                source: io::Error::from_raw_os_error(errno.parse().unwrap_or(0)),
            }),
            None => Err(failed(io::ErrorKind::InvalidData.into())),
        }
    }

    /// A copy of a mount's tree in which the sandbox's user owns what the tree's owner owns. An
    /// ordinary user's engine shows that user's files so anyway.
    fn owned_tree(&self, mount: &Mount) -> Result<Option<Detached>, BootError> {
        if mount.access == Access::CopyOnWrite && !mount.source.is_dir() {
            return Err(BootError::Refused {
                why: format!(
                    "{} is a file, and only directories can be mounted cow",
                    mount.source.display()
                ),
                fix: "mount it ro or rw, or mount its directory".into(),
            });
        }
        if self.users.is_some() {
            return Ok(None);
        }
        let open = || -> io::Result<Detached> {
            let (tree, (uid, gid)) = open_tree(&mount.source)?;
            let shown = |owner, user| Range { inside: owner, outside: user, count: 1 };
            let namespace =
                identity::mapping_namespace(shown(uid, self.user.0), shown(gid, self.user.1))?;
            tree.map_owners(namespace.as_fd())?;
            Ok(tree)
        };
        open().map(Some).map_err(|error| no_tree(&mount.source, error))
    }

    fn attach_here(&self, trees: Vec<Option<Detached>>) -> Result<(), AttachError> {
        let at = |what: &str| {
            let what = what.to_owned();
            move |source| AttachError { what, source }
        };
        if let Some(users) = &self.users {
            process::join_user_namespace(users.as_fd())
                .map_err(at("can't join the container's users"))?;
        }
        if self.bounds_users {
            // Where it can't be set, that is no wall that was promised.
            let _ = identity::limit_inotify_instances(identity::INOTIFY_INSTANCES);
        }
        process::unshare(Namespaces::MOUNT).map_err(at("can't part from the host's mounts"))?;
        mount::make_private().map_err(at("can't part from the host's mounts"))?;
        let mut opened = Vec::new();
        for (mount, tree) in self.spec.mounts.iter().zip(trees) {
            let what = format!("can't mount {}", mount.source.display());
            opened.push(match tree {
                Some(tree) => tree,
                None => open_tree(&mount.source).map_err(at(&what))?.0,
            });
        }
        let layers =
            self.layers.map(|layers| open_tree(layers).map_err(at("can't find the layers")));
        let layers = layers.transpose()?.map(|(tree, _)| tree);
        self.make_scratch(layers).map_err(at("can't make room for what is written"))?;
        let mut ready = Vec::new();
        // Beyond there is nothing of the host's to look at.
        let directories = self.spec.mounts.iter().map(|mount| mount.source.is_dir());
        let directories: Vec<bool> = directories.collect();
        for (number, (mount, tree)) in self.spec.mounts.iter().zip(opened).enumerate() {
            let what = format!("can't mount {}", mount.source.display());
            ready.push(self.make_ready(number, mount, tree).map_err(at(&what))?);
        }
        process::join_mount_namespace(self.mounts.as_fd())
            .map_err(at("can't join the container's mounts"))?;
        if self.closes_devices {
            mount::restrict(c"/dev", Restrictions::READ_ONLY, false)
                .map_err(at("can't close the directory of devices"))?;
        }
        for ((mount, tree), directory) in self.spec.mounts.iter().zip(ready).zip(directories) {
            let what =
                format!("can't mount {} at {}", mount.source.display(), mount.target.display());
            self.put(mount, &tree, directory).map_err(at(&what))?;
        }
        Ok(())
    }

    /// Makes the room in which overlays are made, and goes there.
    fn make_scratch(&self, layers: Option<Detached>) -> io::Result<()> {
        let limits = &self.spec.limits;
        let size = limits.disk.or(limits.memory).map(|asked| asked.value.get());
        let size = size.map(|size| format!(",size={size}")).unwrap_or_default();
        let options = CString::new(format!("mode=755{size}")).map_err(io::Error::other)?;
        let spot = CString::new(SCRATCH).map_err(io::Error::other)?;
        mount::mount(c"tmpfs", &spot, GUARDED, &options)?;
        process::change_directory(&spot)?;
        if let Some(layers) = layers {
            mount::make_directory(c"layers", 0o755)?;
            layers.attach(find(c"layers")?.as_fd())?;
        }
        Ok(())
    }

    fn make_ready(&self, number: usize, mount: &Mount, tree: Detached) -> io::Result<Detached> {
        match mount.access {
            Access::ReadOnly => tree.restrict(READ_ONLY, true)?,
            Access::ReadWrite => tree.restrict(GUARDED, true)?,
            Access::CopyOnWrite => return self.copy_on_write(number, tree),
        }
        Ok(tree)
    }

    /// An overlay over the tree. Its marks are attributes that a user may set (`userxattr`), as those
    /// of all our layers.
    fn copy_on_write(&self, number: usize, tree: Detached) -> io::Result<Detached> {
        let base = if self.layers.is_some() { "layers/" } else { "" };
        let (lower, merged) = (format!("lower-{number}"), format!("merged-{number}"));
        let (upper, work) = (format!("{base}{}", upper(number)), format!("{base}work-{number}"));
        for directory in [&lower, &merged, &upper, &work] {
            let fresh = match fs::create_dir(directory) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
                made => made.map(|()| true)?,
            };
            if fresh && self.users.is_none() {
                chown(directory, Some(self.user.0), Some(self.user.1))?;
            }
        }
        let c_string = |text: String| CString::new(text).map_err(io::Error::other);
        tree.restrict(READ_ONLY, true)?;
        tree.attach(find(&c_string(lower.clone())?)?.as_fd())?;
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work},userxattr");
        let merged = c_string(merged)?;
        mount::mount(c"overlay", &merged, GUARDED, &c_string(options)?)?;
        Detached::copy(find(&merged)?.as_fd(), true)
    }

    /// Shows the tree at its place in the container, whose root is the caller's by now.
    fn put(&self, mount: &Mount, tree: &Detached, directory: bool) -> io::Result<()> {
        let make_place = !mount.lies_in_another(&self.spec.mounts);
        if make_place {
            match make_place_for(mount, directory) {
                // A container's root that can't be written was made so by a restriction alone.
                Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                    mount::allow_writing(c"/")?;
                    let made = make_place_for(mount, directory);
                    mount::restrict(c"/", Restrictions::READ_ONLY, false)?;
                    made?;
                }
                made => made?,
            }
        }
        let target = mount.target.strip_prefix("/").unwrap_or(&mount.target);
        let target = CString::new(target.as_os_str().as_bytes()).map_err(io::Error::other)?;
        let root = find(c"/")?;
        tree.attach(descriptor::resolve(root.as_fd(), &target, Links::Confine)?.as_fd())
    }
}

/// Makes a directory for a mount, or a file if it is one, as far as it is not there. The image may
/// have links in the way, which lead nowhere but to the container's own.
fn make_place_for(mount: &Mount, directory: bool) -> io::Result<()> {
    if mount.target.exists() {
        return Ok(());
    }
    match (directory, mount.target.parent()) {
        (true, _) => fs::create_dir_all(&mount.target),
        (false, Some(parent)) => {
            fs::create_dir_all(parent)?;
            File::create_new(&mount.target).map(drop)
        }
        (false, None) => Ok(()),
    }
}

fn find(path: &std::ffi::CStr) -> io::Result<OwnedFd> {
    descriptor::resolve(descriptor::current_directory(), path, Links::Refuse)
}

/// A copy of the host's tree at `path`, found without following a link, and its owner.
fn open_tree(path: &Path) -> io::Result<(Detached, (u32, u32))> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)?;
    let place = descriptor::resolve(descriptor::current_directory(), &path, Links::Refuse)?;
    let owner = descriptor::owner(place.as_fd())?;
    Ok((Detached::copy(place.as_fd(), true)?, owner))
}

/// Whether the process `pid` is process 1 of a process namespace below this one, as every container's
/// is. What stands for a place that is elsewhere is not: what was mounted there would be mounted here.
fn is_first(pid: i32) -> io::Result<bool> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let numbers: Vec<&str> = numbers.unwrap_or_default().split_whitespace().collect();
    Ok(numbers.len() > 1 && numbers.ends_with(&["1"]))
}

fn not_here() -> BootError {
    BootError::Refused {
        why:
            "a project and volumes can't be mounted: the sandbox's engine can't see the folders of \
              this machine"
                .into(),
        fix: "use an engine on this machine, or put what is needed into the image (--build)".into(),
    }
}

fn no_right() -> BootError {
    BootError::Refused {
        why: "only root may add a project, a volume or a closed /dev to containers that a root \
              engine has made"
            .into(),
        fix: "run agentkernel as root, or use rootless Podman".into(),
    }
}

/// As whom in the user namespace of the process `pid` the host's user `uid` is seen.
fn shown_as(pid: i32, uid: u32) -> io::Result<Option<u32>> {
    let map = fs::read_to_string(format!("/proc/{pid}/uid_map"))?;
    let ranges = map.lines().filter_map(|line| {
        let numbers: Vec<u32> = line.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        <[u32; 3]>::try_from(numbers).ok()
    });
    let mut found = ranges.filter_map(|[inside, outside, count]| {
        let offset = uid.checked_sub(outside).filter(|offset| *offset < count)?;
        inside.checked_add(offset)
    });
    Ok(found.next())
}

fn not_own(shown: Option<u32>, user: u32) -> BootError {
    let shown = shown.map_or("nobody".into(), |shown| format!("user {shown}"));
    BootError::Refused {
        why: format!(
            "the engine shows your files as those of {shown}, and commands run as user {user}, who \
             could not use a project or a volume as its owner"
        ),
        fix: "use rootless Podman, or run agentkernel and the engine as root".into(),
    }
}

fn no_tree(path: &Path, error: io::Error) -> BootError {
    const EINVAL: i32 = 22;
    match error.raw_os_error() {
        Some(EINVAL) => BootError::Refused {
            why: format!(
                "{} can't be mounted: its file system can't show it as the sandbox user's",
                path.display()
            ),
            fix: "use a directory on another file system, such as ext4, xfs, btrfs or tmpfs".into(),
        },
        _ => BootError::Failed { what: format!("can't mount {}", path.display()), source: error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_mounted_where_a_process_of_this_machine_only_stands_for_a_place() {
        let own = std::process::id().try_into().unwrap();
        assert!(!is_first(own).unwrap() && !is_first(1).unwrap());
    }
}
