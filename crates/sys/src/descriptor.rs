//! Files, pipes and what can be known of a descriptor.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use crate::{check, retry};

/// What a descriptor refers to, as far as it matters to whom it is handed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Pipe,
    /// One end of a local connection, of which nothing else can be made. Any other socket can be
    /// connected anew, to whatever its own network namespace reaches.
    LocalConnection,
    Terminal,
    /// `/dev/null`.
    Null,
    /// A file, a directory, another device, another socket.
    Other,
}

/// Finds out what `fd` refers to.
pub fn kind(fd: BorrowedFd<'_>) -> io::Result<Kind> {
    let stat = stat(fd)?;
    Ok(match stat.st_mode & libc::S_IFMT {
        libc::S_IFIFO => Kind::Pipe,
        libc::S_IFSOCK if is_local_connection(fd) => Kind::LocalConnection,
        // The number of the null device is fixed by Linux' devices.txt.
        libc::S_IFCHR if stat.st_rdev == libc::makedev(1, 3) => Kind::Null,
        libc::S_IFCHR if crate::terminal::is_terminal(fd) => Kind::Terminal,
        _ => Kind::Other,
    })
}

fn is_local_connection(socket: BorrowedFd<'_>) -> bool {
    let option = |name| -> Option<libc::c_int> {
        let mut value: libc::c_int = 0;
        let mut len = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: `value` has the size that the kernel is told.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                name,
                (&raw mut value).cast(),
                &raw mut len,
            )
        };
        (result == 0).then_some(value)
    };
    // SAFETY: all-zero is a valid address, and the kernel is told its size.
    let connected = unsafe {
        let mut peer: libc::sockaddr_un = std::mem::zeroed();
        let mut len = size_of::<libc::sockaddr_un>() as libc::socklen_t;
        libc::getpeername(socket.as_raw_fd(), (&raw mut peer).cast(), &raw mut len) == 0
    };
    connected
        && option(libc::SO_DOMAIN) == Some(libc::AF_UNIX)
        && matches!(option(libc::SO_TYPE), Some(libc::SOCK_STREAM | libc::SOCK_SEQPACKET))
}

fn stat(fd: BorrowedFd<'_>) -> io::Result<libc::stat> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `fd` is open and `stat` is large enough for what the kernel writes.
    check(unsafe { libc::fstat(fd.as_raw_fd(), stat.as_mut_ptr()) })?;
    // SAFETY: fstat succeeded, so it has filled `stat`.
    Ok(unsafe { stat.assume_init() })
}

/// Whether `fd` is a pipe without a name in any file system.
pub fn is_anonymous_pipe(fd: BorrowedFd<'_>) -> bool {
    /// `PIPEFS_MAGIC` of linux/magic.h, which the libc crate lacks.
    const PIPEFS: libc::c_long = 0x5049_5045;
    let mut stat = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: `fd` is open and `stat` is large enough; it is read only when the call succeeded.
    unsafe {
        libc::fstatfs(fd.as_raw_fd(), stat.as_mut_ptr()) == 0 && stat.assume_init().f_type == PIPEFS
    }
}

/// Sets the permission bits of the file behind `fd`.
pub fn set_mode(fd: BorrowedFd<'_>, mode: u32) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::fchmod(fd.as_raw_fd(), mode) }).map(drop)
}

/// A pipe: its reading and its writing end, both closed on exec.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [-1; 2];
    // SAFETY: `fds` has room for the two descriptors.
    check(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) })?;
    // SAFETY: the kernel has just opened both, and nobody else owns them.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

/// The largest pipe that an ordinary process can make, in bytes (pipe(7)).
pub const LARGEST_PIPE: usize = 1 << 20;

/// Has the pipe `fd` hold as much as a pipe can, if the system lets it.
pub fn widen(fd: BorrowedFd<'_>) {
    // A user with very many pipes gets small ones, which are slower and nothing worse.
    // SAFETY: no memory is involved.
    unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETPIPE_SZ, LARGEST_PIPE as libc::c_int) };
}

/// Makes reads and writes through `fd` return at once. It holds for everyone who shares `fd`'s
/// open file, so it is only for pipes and sockets of one's own.
pub fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no memory is involved.
    let flags = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    // SAFETY: no memory is involved.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) }).map(drop)
}

/// Opens `path` for reading and writing through `O_PATH` alone: as a place, not for its content.
/// Links are followed only in its directories, never last. Child-safe.
pub fn open_path(path: &CStr) -> io::Result<OwnedFd> {
    open(path, libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC)
}

/// Opens `path` for reading. It never waits, not even for a named pipe. Child-safe.
pub fn open_read(path: &CStr) -> io::Result<OwnedFd> {
    open(path, libc::O_RDONLY | libc::O_NONBLOCK | libc::O_CLOEXEC)
}

/// Opens `path` for writing without creating it. Child-safe.
pub fn open_write(path: &CStr) -> io::Result<OwnedFd> {
    open(path, libc::O_WRONLY | libc::O_CLOEXEC)
}

fn open(path: &CStr, flags: i32) -> io::Result<OwnedFd> {
    // SAFETY: `path` ends with a NUL.
    let fd = retry(|| unsafe { libc::open(path.as_ptr(), flags) })?;
    // SAFETY: the kernel has just opened it, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// How [`resolve`] treats links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// Any link on the way is an error (`ELOOP`), so nobody can swap the place by planting one.
    Refuse,
    /// Links are followed as if the directory that the search starts from were the root, and no
    /// `..` leads out of it.
    Confine,
}

/// Opens `path`, searched from `from`, as a place (`O_PATH`). Child-safe.
pub fn resolve(from: BorrowedFd<'_>, path: &CStr, links: Links) -> io::Result<OwnedFd> {
    open_at(from, path, libc::O_PATH, links)
}

/// Opens the file `path`, searched from `from`, for reading. It never waits.
pub fn open_read_at(from: BorrowedFd<'_>, path: &CStr, links: Links) -> io::Result<OwnedFd> {
    open_at(from, path, libc::O_RDONLY | libc::O_NONBLOCK, links)
}

fn open_at(from: BorrowedFd<'_>, path: &CStr, flags: i32, links: Links) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct OpenHow {
        flags: u64,
        mode: u64,
        resolve: u64,
    }
    let how = OpenHow {
        flags: (flags | libc::O_CLOEXEC) as u64,
        mode: 0,
        resolve: match links {
            Links::Refuse => libc::RESOLVE_NO_SYMLINKS,
            Links::Confine => libc::RESOLVE_IN_ROOT,
        },
    };
    // SAFETY: `path` ends with a NUL, and the kernel reads as much of `how` as it is told.
    let fd = retry(|| unsafe {
        libc::syscall(
            libc::SYS_openat2,
            from.as_raw_fd(),
            path.as_ptr(),
            &raw const how,
            size_of::<OpenHow>(),
        )
    })?;
    // SAFETY: the kernel has just opened it, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// The user and group that own what is at the place `fd`.
pub fn owner(fd: BorrowedFd<'_>) -> io::Result<(u32, u32)> {
    stat(fd).map(|stat| (stat.st_uid, stat.st_gid))
}

/// Whether the caller may write to what is at `path`.
pub fn may_write(path: &Path) -> io::Result<()> {
    may(path, libc::W_OK)
}

/// Whether the caller may read what is at the place `fd`, search it if it is a directory, and write to
/// it if `writing`.
pub fn may_use(fd: BorrowedFd<'_>, writing: bool) -> io::Result<()> {
    let is_directory = stat(fd)?.st_mode & libc::S_IFMT == libc::S_IFDIR;
    let search = if is_directory { libc::X_OK } else { 0 };
    let write = if writing { libc::W_OK } else { 0 };
    may(Path::new(&format!("/proc/self/fd/{}", fd.as_raw_fd())), libc::R_OK | search | write)
}

fn may(path: &Path, what: i32) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the path ends with a NUL.
    check(unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), what, libc::AT_EACCESS) })
        .map(drop)
}

/// Removes the empty directory `path`. Child-safe.
pub fn remove_directory(path: &CStr) -> io::Result<()> {
    // SAFETY: the path ends with a NUL.
    check(unsafe { libc::rmdir(path.as_ptr()) }).map(drop)
}

/// Removes the file `path`, which may be a link.
pub fn remove_file(path: &CStr) -> io::Result<()> {
    // SAFETY: the path ends with a NUL.
    check(unsafe { libc::unlink(path.as_ptr()) }).map(drop)
}

/// Gives what is at the place `fd` to a user and a group.
pub fn give(fd: BorrowedFd<'_>, uid: u32, gid: u32) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH;
    // SAFETY: the path ends with a NUL.
    check(unsafe { libc::fchownat(fd.as_raw_fd(), c"".as_ptr(), uid, gid, flags) }).map(drop)
}

/// The current directory, as [`resolve`]'s start. Child-safe.
pub fn current_directory() -> BorrowedFd<'static> {
    // SAFETY: AT_FDCWD is no descriptor; it stays valid for as long as the process lives.
    unsafe { BorrowedFd::borrow_raw(libc::AT_FDCWD) }
}

/// The listening socket that a service manager has handed over, if it has (sd_listen_fds(3)). To
/// be asked once, before anything else is opened.
pub fn handed_over() -> Option<OwnedFd> {
    /// Where those descriptors begin.
    const FIRST: RawFd = 3;
    let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    if number("LISTEN_PID") != Some(std::process::id()) || number("LISTEN_FDS") != Some(1) {
        return None;
    }
    // SAFETY: whoever started us promises that it is open, and ours.
    let socket = unsafe { OwnedFd::from_raw_fd(FIRST) };
    close_on_exec_from(FIRST).ok()?;
    Some(socket)
}

/// Reads once. Child-safe.
pub fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the kernel writes at most `buffer.len()` bytes to `buffer`.
    retry(|| unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) })
        .map(|n| n as usize)
}

/// Writes once. Child-safe.
pub fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the kernel reads at most `bytes.len()` bytes of `bytes`.
    retry(|| unsafe { libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) })
        .map(|n| n as usize)
}

/// Moves up to `len` bytes from `from` to `to` inside the kernel; one of them is a pipe. Returns
/// 0 at the end of `from`.
pub fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, len: usize) -> io::Result<usize> {
    // SAFETY: both are open; without offsets no memory is involved.
    retry(|| unsafe {
        libc::splice(
            from.as_raw_fd(),
            std::ptr::null_mut(),
            to.as_raw_fd(),
            std::ptr::null_mut(),
            len,
            libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK,
        )
    })
    .map(|n| n as usize)
}

/// Makes `fds` the standard streams, in order. They may be standard streams already, in any
/// order. Child-safe.
pub fn become_standard_streams(fds: [BorrowedFd<'_>; 3]) -> io::Result<()> {
    // First all out of the way, above the three, or one would overwrite another not yet moved.
    let mut moved = [-1; 3];
    for (to, fd) in moved.iter_mut().zip(fds) {
        // SAFETY: no memory is involved.
        *to = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3) })?;
    }
    for (target, fd) in (0..).zip(moved) {
        // SAFETY: no memory is involved; what was at `target` is replaced on purpose.
        retry(|| unsafe { libc::dup2(fd, target) })?;
    }
    Ok(())
}

/// Has every descriptor from `first` on closed by the next exec. Child-safe.
pub fn close_on_exec_from(first: RawFd) -> io::Result<()> {
    close_range(first, libc::CLOSE_RANGE_CLOEXEC)
}

/// Closes every descriptor but `keep`, which it sorts; -1 in it stands for none. Child-safe.
/// Nobody else in the process may use what is closed, or close it again.
pub fn close_all_but(keep: &mut [RawFd]) -> io::Result<()> {
    keep.sort_unstable();
    let mut from = 0;
    for &fd in keep.iter().filter(|fd| **fd >= 0) {
        if fd > from {
            close_between(from, fd - 1)?;
        }
        from = fd + 1;
    }
    close_between(from, RawFd::MAX)
}

fn close_range(first: RawFd, flags: u32) -> io::Result<()> {
    // SAFETY: no memory is involved. With the flag nothing is closed now.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, flags) }).map(drop)
}

fn close_between(first: RawFd, last: RawFd) -> io::Result<()> {
    // SAFETY: no memory is involved; the caller promised that nobody owns these.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}

/// What is wanted of, or has happened to, a descriptor in [`poll`].
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
pub struct Interest<'a> {
    raw: libc::pollfd,
    fd: std::marker::PhantomData<BorrowedFd<'a>>,
}

impl<'a> Interest<'a> {
    /// Wakes when `fd` can be read, or its peer has gone.
    pub fn readable(fd: BorrowedFd<'a>) -> Self {
        Self::new(fd.as_raw_fd(), libc::POLLIN)
    }

    /// Wakes when `fd` can be written, or its peer has gone.
    pub fn writable(fd: BorrowedFd<'a>) -> Self {
        Self::new(fd.as_raw_fd(), libc::POLLOUT)
    }

    /// Wakes when `fd` can be read or written, or its peer has gone.
    pub fn either(fd: BorrowedFd<'a>) -> Self {
        Self::new(fd.as_raw_fd(), libc::POLLIN | libc::POLLOUT)
    }

    /// Wakes only when `fd`'s peer has gone.
    pub fn gone(fd: BorrowedFd<'a>) -> Self {
        Self::new(fd.as_raw_fd(), 0)
    }

    /// Never wakes.
    pub fn none() -> Self {
        Self::new(-1, 0)
    }

    fn new(fd: RawFd, events: i16) -> Self {
        let raw = libc::pollfd { fd, events, revents: 0 };
        Self { raw, fd: std::marker::PhantomData }
    }

    /// Takes over what a [`poll`] has found of `copy`, which is one of this.
    pub fn found_by(&mut self, copy: &Interest<'_>) {
        self.raw.revents = copy.raw.revents;
    }

    /// Whether the last [`poll`] found anything.
    pub fn is_ready(&self) -> bool {
        self.raw.revents != 0
    }
}

/// Waits until one of `interests` is ready or `timeout` is over (`None`: for ever). Returns
/// whether any is ready. A signal that is caught ends the wait early, with `false`. Child-safe.
pub fn poll(interests: &mut [Interest<'_>], timeout: Option<Duration>) -> io::Result<bool> {
    let timeout = timeout.map(|t| libc::timespec {
        tv_sec: i64::try_from(t.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(t.subsec_nanos()),
    });
    // SAFETY: `Interest` is a transparent `pollfd`; the pointer to the time is null or valid.
    let ready = check(unsafe {
        libc::ppoll(
            interests.as_mut_ptr().cast(),
            interests.len() as libc::nfds_t,
            timeout.as_ref().map_or(std::ptr::null(), |t| t),
            std::ptr::null(),
        )
    });
    match ready {
        Ok(n) => Ok(n > 0),
        Err(error) if error.raw_os_error() == Some(libc::EINTR) => Ok(false),
        Err(error) => Err(error),
    }
}
