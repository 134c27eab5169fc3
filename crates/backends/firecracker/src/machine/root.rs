//! A machine's root: what its image has, under what is written.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;

use agentkernel_sys::descriptor;
use agentkernel_sys::mount::{self, Detached, Restrictions};
use agentkernel_sys::process::{self, Namespaces};

use super::folders;
use super::mounts::{GUARDED, Trees, WRITTEN, c, failed, mount_at};
use crate::UPPER;
use crate::words::Making;

const READ_ONLY: Restrictions = GUARDED.and(Restrictions::READ_ONLY);

/// Where things are before the root is.
const IMAGE: &str = "/image";
const MADE: &str = "/made";
const UNKEPT: &str = "/unkept";
const PLACE: &str = "/place";
const HOST_NAME: &str = "/etc/hostname";

/// Makes the root, and makes it that of this process. Returns the directory of what is written, if that
/// outlasts the machine. Folders come from `host`.
pub fn make(making: &Making, host: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    mount::make_private()?;
    limit(making)?;
    let below = below(making)?;
    above(making)?;
    let written = c(WRITTEN)?;
    let kept = making.kept.then(|| descriptor::open_read(&written)).transpose()?;
    // So that what it notes can be told outside.
    let notes = if making.kept { ",userxattr" } else { "" };
    let options =
        format!("lowerdir={below},upperdir={WRITTEN}/{UPPER},workdir={WRITTEN}/work{notes}");
    fs::create_dir_all(PLACE)?;
    mount_at("overlay", PLACE, GUARDED_ROOT, &options)?;
    let mut trees = trees(making)?;
    trees.extend(folders::copies(making, host)?);
    let place = c(PLACE)?;
    process::change_directory(&place)?;
    mount::cover_root_here()?;
    folders::make_home(making)?;
    furnish(trees)?;
    if making.read_only {
        mount::restrict(c"/", Restrictions::READ_ONLY, false)?;
    }
    Ok(kept)
}

/// Setuid programs are of no use to commands, which can't gain a privilege, but belong to an image.
const GUARDED_ROOT: Restrictions = Restrictions::NO_DEVICES;

/// Names the machine.
pub fn name(host: &str) -> io::Result<()> {
    fs::write(HOST_NAME, format!("{host}\n")).map_err(failed("can't write its name"))?;
    process::set_host_name(&c(host)?)
}

/// Has the agent, and with it all commands, use no more than they may.
fn limit(making: &Making) -> io::Result<()> {
    let groups = "/sys/fs/cgroup";
    let write = |name: &str, what: &str| {
        let path = format!("{groups}/{name}");
        fs::write(&path, what).map_err(failed(&format!("can't set {name} to {what}")))
    };
    // Who asks for more than the whole machine has is stopped by the limit when it is used, as on a host,
    // which would not refuse it either.
    fs::write("/proc/sys/vm/overcommit_memory", "1")
        .map_err(failed("can't set overcommit_memory"))?;
    write("cgroup.subtree_control", "+cpu +memory +pids")?;
    fs::create_dir_all(format!("{groups}/place"))?;
    if let Some(millis) = making.cpus {
        write("place/cpu.max", &format!("{} 100000", millis * 100))?;
    }
    if let Some(bytes) = making.memory {
        write("place/memory.max", &bytes.to_string())?;
    }
    if let Some(count) = making.pids {
        write("place/pids.max", &count.to_string())?;
    }
    // By its number in the namespace of whoever has mounted them.
    write("place/cgroup.procs", "0")?;
    process::unshare(Namespaces::CGROUP)
}

/// The directories under what is written, the uppermost first.
fn below(making: &Making) -> io::Result<String> {
    made(&making.files)?;
    mount_disk("vda", "erofs", IMAGE, READ_ONLY_IMAGE)?;
    Ok(format!("{MADE}:{IMAGE}"))
}

const READ_ONLY_IMAGE: Restrictions = Restrictions::READ_ONLY.and(Restrictions::NO_DEVICES);

/// What every root has, whatever its image says.
fn made(files: &[(String, String)]) -> io::Result<()> {
    fs::create_dir_all(MADE)?;
    mount_at("tmpfs", MADE, GUARDED, "mode=755,size=1m")?;
    for directory in ["dev", "etc", "proc", "run", "sys", "tmp"] {
        fs::create_dir(format!("{MADE}/{directory}"))?;
    }
    fs::set_permissions(format!("{MADE}/tmp"), Permissions::from_mode(0o1777))?;
    for (path, content) in files {
        fs::write(format!("{MADE}{path}"), content)
            .map_err(failed(&format!("can't write {path}")))?;
    }
    fs::write(format!("{MADE}{HOST_NAME}"), "")
}

/// Where what is written goes.
fn above(making: &Making) -> io::Result<()> {
    if making.kept {
        mount_disk("vdb", "ext4", WRITTEN, Restrictions::NO_DEVICES)?;
    } else {
        fs::create_dir_all(WRITTEN)?;
        let size = making.scratch.map(|size| format!(",size={size}")).unwrap_or_default();
        mount_at("tmpfs", WRITTEN, Restrictions::NO_DEVICES, &format!("mode=755{size}"))?;
    }
    for directory in [UPPER, "work"] {
        fs::create_dir_all(format!("{WRITTEN}/{directory}"))?;
    }
    fs::set_permissions(format!("{WRITTEN}/{UPPER}"), Permissions::from_mode(0o755))
}

/// The directories that are not kept, and those that can be written where the root can't. They are where
/// all is that is written, so that they are bounded with it, but for those that are memory's where that
/// is a disk. And the file with the machine's name, which is written once that has one, whatever else
/// can be.
fn trees(making: &Making) -> io::Result<Trees> {
    let tree = |path: &str| Detached::copy(descriptor::open_path(&c(path)?)?.as_fd(), false);
    let memory = if making.kept { UNKEPT } else { WRITTEN };
    if making.kept {
        mount_at("tmpfs", UNKEPT, GUARDED, "mode=755")?;
    }
    let always = [(memory, "run", "/run", 0o1777), (memory, "shm", "/dev/shm", 0o1777)];
    let sometimes = [(WRITTEN, "tmp", "/tmp", 0o1777), (WRITTEN, "home", &*making.home, 0o755)];
    let sometimes =
        sometimes.into_iter().filter(|(_, _, place, _)| making.read_only && *place != "/");
    let mut trees = vec![(HOST_NAME.to_owned(), tree(&format!("{MADE}{HOST_NAME}"))?)];
    for (above, name, place, mode) in always.into_iter().chain(sometimes) {
        let own = format!("{above}/{name}");
        // Of the machine before, if that had the same disk.
        match fs::remove_dir_all(&own) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir(&own)?,
        }
        fs::set_permissions(&own, Permissions::from_mode(mode))?;
        let tree = tree(&own)?;
        tree.restrict(GUARDED, false)?;
        trees.push((place.to_owned(), tree));
    }
    Ok(trees)
}

/// Mounts what programs expect. From here on, paths are those of the image, whose links lead nowhere
/// but into it.
fn furnish(trees: Trees) -> io::Result<()> {
    let quiet = READ_ONLY.and(Restrictions::NO_EXEC);
    mount_at("proc", "/proc", quiet, "hidepid=2")?;
    mount_at("sysfs", "/sys", quiet, "")?;
    mount_at("cgroup2", "/sys/fs/cgroup", quiet, "")?;
    devices()?;
    for (place, tree) in trees {
        if place != HOST_NAME {
            // Or it is there, whatever it is.
            fs::create_dir_all(&place).map_err(failed(&format!("can't make {place}")))?;
        }
        tree.attach(descriptor::open_path(&c(&place)?)?.as_fd())
            .map_err(failed(&format!("can't mount {place}")))?;
    }
    mount::restrict(c"/dev", Restrictions::READ_ONLY, false)
}

/// The device nodes that every program may expect, and no others.
fn devices() -> io::Result<()> {
    /// By the kernel's list of devices (Documentation/admin-guide/devices.txt).
    const NODES: [(&str, u32, u32); 6] = [
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
    ];
    const LINKS: [(&str, &str); 5] = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ];
    let quiet = Restrictions::NO_SETUID.and(Restrictions::NO_EXEC);
    mount_at("tmpfs", "/dev", quiet, "mode=755,size=64k")?;
    for (name, major, minor) in NODES {
        let path = format!("/dev/{name}");
        mount::make_device(&c(&path)?, major, minor, 0o666)?;
        fs::set_permissions(&path, Permissions::from_mode(0o666))?;
    }
    for (name, target) in LINKS {
        mount::make_link(&c(target)?, &c(&format!("/dev/{name}"))?)?;
    }
    mount_at("devpts", "/dev/pts", quiet, "newinstance,ptmxmode=0666,mode=620")?;
    fs::create_dir("/dev/shm")
}

/// Mounts what is on a disk of the machine's, by its kernel's name for that.
fn mount_disk(name: &str, kind: &str, target: &str, restrictions: Restrictions) -> io::Result<()> {
    let device = format!("/dev/{name}");
    fs::create_dir_all(target)?;
    mount::mount_device(&c(&device)?, &c(kind)?, &c(target)?, restrictions, c"")
        .map_err(failed(&format!("can't mount {device} as {kind}")))
}
