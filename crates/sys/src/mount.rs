//! Mounts, in the calling thread's mount namespace.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use crate::check;

/// What a mount keeps from those who use it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restrictions(u64);

impl Restrictions {
    pub const NONE: Self = Self(0);
    pub const READ_ONLY: Self = Self(libc::MOUNT_ATTR_RDONLY);
    pub const NO_SETUID: Self = Self(libc::MOUNT_ATTR_NOSUID);
    pub const NO_DEVICES: Self = Self(libc::MOUNT_ATTR_NODEV);
    pub const NO_EXEC: Self = Self(libc::MOUNT_ATTR_NOEXEC);

    /// Both together.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn as_mount_flags(self) -> libc::c_ulong {
        let mut flags = 0;
        for (attribute, flag) in [
            (libc::MOUNT_ATTR_RDONLY, libc::MS_RDONLY),
            (libc::MOUNT_ATTR_NOSUID, libc::MS_NOSUID),
            (libc::MOUNT_ATTR_NODEV, libc::MS_NODEV),
            (libc::MOUNT_ATTR_NOEXEC, libc::MS_NOEXEC),
        ] {
            if self.0 & attribute != 0 {
                flags |= flag;
            }
        }
        flags
    }
}

/// Keeps every mount here from being told of mounts elsewhere, and from telling. Child-safe.
pub fn make_private() -> io::Result<()> {
    call(None, c"/", None, libc::MS_REC | libc::MS_PRIVATE, None)
}

/// Mounts a new file system of `kind` at `target`. Child-safe.
pub fn mount(
    kind: &CStr,
    target: &CStr,
    restrictions: Restrictions,
    options: &CStr,
) -> io::Result<()> {
    call(Some(kind), target, Some(kind), restrictions.as_mount_flags(), Some(options))
}

/// Mounts what is on the device `source`, a file system of `kind`, at `target`. Child-safe.
pub fn mount_device(
    source: &CStr,
    kind: &CStr,
    target: &CStr,
    restrictions: Restrictions,
    options: &CStr,
) -> io::Result<()> {
    call(Some(source), target, Some(kind), restrictions.as_mount_flags(), Some(options))
}

/// Makes what is at `source` visible at `target` too; with all that is mounted below it if
/// `recursive`. Child-safe.
pub fn bind(source: &CStr, target: &CStr, recursive: bool) -> io::Result<()> {
    let flags = libc::MS_BIND | if recursive { libc::MS_REC } else { 0 };
    call(Some(source), target, None, flags, None)
}

/// Adds `restrictions` to the mount at `target`, and to all below it if `recursive`. Child-safe.
pub fn restrict(target: &CStr, restrictions: Restrictions, recursive: bool) -> io::Result<()> {
    let flags = if recursive { libc::AT_RECURSIVE } else { 0 };
    set_attributes(libc::AT_FDCWD, target, flags, restrictions, Restrictions::NONE, None)
}

/// Lets the mount at `target` be written to. Child-safe.
pub fn allow_writing(target: &CStr) -> io::Result<()> {
    set_attributes(libc::AT_FDCWD, target, 0, Restrictions::NONE, Restrictions::READ_ONLY, None)
}

/// Waits until all that was written to the file system of `file` is on its device.
pub fn save(file: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::syncfs(file.as_raw_fd()) }).map(drop)
}

/// The same, and has whoever writes to the file system wait from then on, until it is [thawed](thaw).
/// Its device can be copied meanwhile. For the machine's administrator.
pub fn freeze(file: BorrowedFd<'_>) -> io::Result<()> {
    /// FIFREEZE of linux/fs.h.
    const FREEZE: libc::c_ulong = 0xc004_5877;
    // SAFETY: the kernel reads no argument.
    check(unsafe { libc::ioctl(file.as_raw_fd(), FREEZE as _, 0) }).map(drop)
}

/// Lets a file system go on that was [frozen](freeze).
pub fn thaw(file: BorrowedFd<'_>) -> io::Result<()> {
    /// FITHAW of linux/fs.h.
    const THAW: libc::c_ulong = 0xc004_5878;
    // SAFETY: the kernel reads no argument.
    check(unsafe { libc::ioctl(file.as_raw_fd(), THAW as _, 0) }).map(drop)
}

/// Makes the mount at the current directory the root of every process of this mount namespace
/// whose root it was till now, and takes all other mounts away. The current directory is the new
/// root afterwards. Child-safe.
pub fn pivot_root_here() -> io::Result<()> {
    // With the old root put on top of the new one no directory is needed for it (pivot_root(2)).
    // SAFETY: both paths end with a NUL.
    check(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) })?;
    // SAFETY: the path ends with a NUL.
    check(unsafe { libc::umount2(c".".as_ptr(), libc::MNT_DETACH) }).map(drop)
}

/// Makes the mount at the current directory the root of the calling process and of those that it makes
/// from then on, over the root that was there, which some kernels can't leave (pivot_root(2)):
/// the one that a machine starts with.
pub fn cover_root_here() -> io::Result<()> {
    call(Some(c"."), c"/", None, libc::MS_MOVE, None)?;
    // SAFETY: the path ends with a NUL.
    check(unsafe { libc::chroot(c".".as_ptr()) })?;
    // SAFETY: the path ends with a NUL.
    check(unsafe { libc::chdir(c"/".as_ptr()) }).map(drop)
}

/// Makes the device `major`:`minor` at `path`, of characters, with these permission bits.
pub fn make_device(path: &CStr, major: u32, minor: u32, mode: u32) -> io::Result<()> {
    let (kind, device) = (libc::S_IFCHR | mode, libc::makedev(major, minor));
    // SAFETY: the path ends with a NUL.
    check(unsafe { libc::mknod(path.as_ptr(), kind, device) }).map(drop)
}

/// A copy of a part of the mount tree that is mounted nowhere yet.
#[derive(Debug)]
pub struct Detached(OwnedFd);

impl Detached {
    /// Copies the mount at `place`, with all below it if `recursive`. Child-safe.
    pub fn copy(place: BorrowedFd<'_>, recursive: bool) -> io::Result<Self> {
        let mut flags =
            libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH as u32;
        if recursive {
            flags |= libc::AT_RECURSIVE as u32;
        }
        // SAFETY: the path ends with a NUL.
        let fd = check(unsafe {
            libc::syscall(libc::SYS_open_tree, place.as_raw_fd(), c"".as_ptr(), flags)
        })?;
        // SAFETY: the kernel has just opened it, and nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }))
    }

    /// Shows the users and groups that `user_namespace` maps from as those that it maps to, in
    /// this copy and all below it only. Fails with `EINVAL` where the file system can't. Child-safe.
    pub fn map_owners(&self, user_namespace: BorrowedFd<'_>) -> io::Result<()> {
        let fd = self.0.as_raw_fd();
        let mapped = Restrictions(libc::MOUNT_ATTR_IDMAP);
        let none = Restrictions::NONE;
        set_attributes(fd, c"", libc::AT_EMPTY_PATH, mapped, none, Some(user_namespace))
    }

    /// Adds `restrictions`, to all mounts below too if `recursive`. Child-safe.
    pub fn restrict(&self, restrictions: Restrictions, recursive: bool) -> io::Result<()> {
        let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
        let fd = self.0.as_raw_fd();
        set_attributes(fd, c"", flags, restrictions, Restrictions::NONE, None)
    }

    /// Mounts it at the place `target`. Child-safe.
    pub fn attach(&self, target: BorrowedFd<'_>) -> io::Result<()> {
        let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
        // SAFETY: both paths end with a NUL.
        check(unsafe {
            libc::syscall(
                libc::SYS_move_mount,
                self.0.as_raw_fd(),
                c"".as_ptr(),
                target.as_raw_fd(),
                c"".as_ptr(),
                flags,
            )
        })
        .map(drop)
    }
}

impl std::os::fd::AsFd for Detached {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Detached> for OwnedFd {
    fn from(tree: Detached) -> Self {
        tree.0
    }
}

impl From<OwnedFd> for Detached {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

fn set_attributes(
    dir: RawFd,
    path: &CStr,
    flags: i32,
    set: Restrictions,
    clear: Restrictions,
    user_namespace: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: set.0,
        attr_clr: clear.0,
        propagation: 0,
        userns_fd: user_namespace.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    // SAFETY: the path ends with a NUL, and the kernel reads as much of `attr` as it is told.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir,
            path.as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}

fn call(
    source: Option<&CStr>,
    target: &CStr,
    kind: Option<&CStr>,
    flags: libc::c_ulong,
    options: Option<&CStr>,
) -> io::Result<()> {
    let pointer = |text: Option<&CStr>| text.map_or(ptr::null(), CStr::as_ptr);
    // SAFETY: each text is null or ends with a NUL; the options of all these kinds are text too.
    check(unsafe {
        libc::mount(pointer(source), target.as_ptr(), pointer(kind), flags, pointer(options).cast())
    })
    .map(drop)
}

/// Makes a directory with these permission bits, less the umask. Child-safe.
pub fn make_directory(path: &CStr, mode: u32) -> io::Result<()> {
    // SAFETY: the path ends with a NUL.
    check(unsafe { libc::mkdir(path.as_ptr(), mode) }).map(drop)
}

/// Makes the directory `name` in `parent`. Child-safe.
pub fn make_directory_in(parent: BorrowedFd<'_>, name: &CStr, mode: u32) -> io::Result<()> {
    // SAFETY: the path ends with a NUL.
    check(unsafe { libc::mkdirat(parent.as_raw_fd(), name.as_ptr(), mode) }).map(drop)
}

/// Makes a symbolic link at `path`. Child-safe.
pub fn make_link(target: &CStr, path: &CStr) -> io::Result<()> {
    // SAFETY: both paths end with a NUL.
    check(unsafe { libc::symlink(target.as_ptr(), path.as_ptr()) }).map(drop)
}

/// Makes the file `name` in `parent`, which must not exist, with this content. Child-safe.
pub fn make_file_in(
    parent: BorrowedFd<'_>,
    name: &CStr,
    mode: u32,
    content: &[u8],
) -> io::Result<()> {
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    // SAFETY: the path ends with a NUL.
    let fd = check(unsafe { libc::openat(parent.as_raw_fd(), name.as_ptr(), flags, mode) })?;
    // SAFETY: the kernel has just opened it, and nobody else owns it.
    let file = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut rest = content;
    while !rest.is_empty() {
        let written = crate::descriptor::write(std::os::fd::AsFd::as_fd(&file), rest)?;
        rest = &rest[written..];
    }
    Ok(())
}
