//! Processes: made, awaited, signalled, replaced.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use crate::{check, retry};

/// A number of the kernel's for a process, seen from the caller's process namespace.
pub type Pid = libc::pid_t;

/// The kinds of namespace that Linux has, but for time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Namespaces(i32);

impl Namespaces {
    pub const NONE: Self = Self(0);
    pub const USER: Self = Self(libc::CLONE_NEWUSER);
    pub const MOUNT: Self = Self(libc::CLONE_NEWNS);
    pub const PID: Self = Self(libc::CLONE_NEWPID);
    pub const IPC: Self = Self(libc::CLONE_NEWIPC);
    pub const UTS: Self = Self(libc::CLONE_NEWUTS);
    pub const CGROUP: Self = Self(libc::CLONE_NEWCGROUP);
    pub const NETWORK: Self = Self(libc::CLONE_NEWNET);

    /// Both sets together.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A child process. Dropping it neither kills nor awaits it.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Child {
    pub(crate) fn new(pid: Pid, pidfd: OwnedFd) -> Self {
        Self { pid, pidfd }
    }

    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// A descriptor that becomes readable when the child has died.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsFd;
        self.pidfd.as_fd()
    }

    /// Sends `signal` to the child, and to nobody else even if it has died meanwhile.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        signal_process(self.pidfd(), signal)
    }

    /// Sends `signal` to the child's process group, of which it is the leader as long as it was
    /// not awaited, so that the number is still its own.
    pub fn signal_group(&self, signal: i32) -> io::Result<()> {
        // SAFETY: no memory is involved.
        check(unsafe { libc::kill(-self.pid, signal) }).map(drop)
    }

    /// The child's user namespace.
    pub fn user_namespace(&self) -> io::Result<OwnedFd> {
        Ok(std::fs::File::open(format!("/proc/{}/ns/user", self.pid))?.into())
    }

    /// Its number, and the descriptor that stands for it even when it has died.
    pub fn into_parts(self) -> (Pid, OwnedFd) {
        (self.pid, self.pidfd)
    }

    /// Waits for the child's death. It can be awaited once.
    pub fn wait(&self) -> io::Result<Death> {
        wait4(self.pid, 0).map(|death| death.expect("a blocking wait returns only with a death"))
    }
}

/// How a process died and what it used, its own awaited children included.
#[derive(Debug, Clone, Copy)]
pub struct Death {
    pub pid: Pid,
    status: i32,
    usage: libc::rusage,
}

impl Death {
    /// The exit status, or the number of the signal that killed it.
    pub fn status(&self) -> Result<u8, u8> {
        if libc::WIFEXITED(self.status) {
            Ok(libc::WEXITSTATUS(self.status) as u8)
        } else {
            Err(libc::WTERMSIG(self.status) as u8)
        }
    }

    pub fn usage(&self) -> Usage {
        Usage::from(&self.usage)
    }
}

/// Resources that dead processes have used together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub user: Duration,
    pub system: Duration,
    /// The largest resident set of any one, in bytes.
    pub max_resident: u64,
}

impl From<&libc::rusage> for Usage {
    fn from(usage: &libc::rusage) -> Self {
        Self {
            user: duration(usage.ru_utime),
            system: duration(usage.ru_stime),
            max_resident: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024,
        }
    }
}

fn duration(time: libc::timeval) -> Duration {
    let micros = time.tv_sec * 1_000_000 + time.tv_usec;
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// Of linux/sched.h; the libc crate's is too narrow for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The two sides of a process that has split.
pub enum Fork {
    Parent(Child),
    Child,
}

/// Splits the calling process: the child is a copy with only the calling thread, in new
/// `namespaces`, and in the version 2 control group that `cgroup` is the directory of, if any.
///
/// If the process has more than one thread, the child must call only what is child-safe: a lock
/// that another thread holds is held for ever in the copy, so that anything else may hang.
pub fn fork(namespaces: Namespaces, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Fork> {
    let mut pidfd: RawFd = -1;
    // SAFETY: all-zero clone_args ask for nothing.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = namespaces.0 as u64 | libc::CLONE_PIDFD as u64;
    args.pidfd = &raw mut pidfd as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child has a copy of all memory, this stack included; the kernel
    // reads `args`, as large as it is told, and writes `pidfd` in the parent only.
    let made = check(unsafe {
        libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>())
    });
    let pid = match made {
        // A filter that can't see the flags of that call lets the older one through, as engines have it.
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) && cgroup.is_none() => {
            let flags = libc::c_long::from(namespaces.0)
                | libc::c_long::from(libc::CLONE_PIDFD | libc::SIGCHLD);
            // SAFETY: as above; the third argument is where the descriptor goes on every architecture.
            check(unsafe { libc::syscall(libc::SYS_clone, flags, 0, &raw mut pidfd, 0, 0) })?
        }
        made => made?,
    };
    if pid == 0 {
        return Ok(Fork::Child);
    }
    // SAFETY: the kernel has just opened it, and nobody else owns it.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Fork::Parent(Child { pid: pid as Pid, pidfd }))
}

/// Has the standard library start commands without a copy of the calling process even if they start
/// in another directory. It looks for a function of the C library's at run time, and a static
/// program has only what something in it refers to, which this does.
pub fn start_without_copies() {
    std::hint::black_box(libc::posix_spawn_file_actions_addchdir_np as *const ());
}

/// Sends `signal` to every process that the caller may signal, itself excepted. Process 1 of a
/// process namespace reaches all that are in it, and no others. Returns whether there was any.
/// Child-safe.
pub fn signal_all(signal: i32) -> io::Result<bool> {
    // SAFETY: no memory is involved.
    match check(unsafe { libc::kill(-1, signal) }) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Sends `signal` to the process behind the descriptor `process`.
pub fn signal_process(process: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: the kernel is given no memory.
    check(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    })
    .map(drop)
}

/// Opens a descriptor that becomes readable when the process `pid` has died. Child-safe.
pub fn open_pidfd(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the kernel has just opened it, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Moves the calling thread to new `namespaces`. Child-safe.
pub fn unshare(namespaces: Namespaces) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::unshare(namespaces.0) }).map(drop)
}

/// Moves the calling process, which has a single thread, to the user namespace behind `namespace`.
/// Child-safe.
pub fn join_user_namespace(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWUSER) }).map(drop)
}

/// Moves the calling process, which has a single thread, to the mount namespace behind
/// `namespace`, whose root becomes its root and its current directory. Child-safe.
pub fn join_mount_namespace(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNS) }).map(drop)
}

/// The time on the system's clock that never goes back. Child-safe.
pub fn clock() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is what this call fills, and every Linux has the clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Ends the process without running anything on the way out. Child-safe.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: it takes any status and does not return.
    unsafe { libc::_exit(status) }
}

/// Takes the death of any child, if there is one to take. Child-safe.
///
/// Fails with `ECHILD` when there are no children.
pub fn take_any_death() -> io::Result<Option<Death>> {
    wait4(-1, libc::WNOHANG)
}

/// Whether a wait failed since there is nobody to wait for.
pub fn is_childless(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ECHILD)
}

/// Whether the caller has a child, dead or alive. Child-safe.
pub fn has_children() -> bool {
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the kernel takes null to mean that nobody wants to know of whom it told.
    let found = check(unsafe { libc::waitid(libc::P_ALL, 0, std::ptr::null_mut(), options) });
    !found.is_err_and(|error| is_childless(&error))
}

/// Waits until the caller has no children left, and returns what all that it ever had have used.
pub fn await_all_deaths() -> Usage {
    while wait4(-1, 0).is_ok() {}
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: there is room for what the kernel writes, and all-zero is valid if it writes nothing.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr());
        usage.assume_init()
    };
    Usage::from(&usage)
}

fn wait4(pid: Pid, options: i32) -> io::Result<Option<Death>> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both places are large enough for what the kernel writes.
    let pid = retry(|| unsafe { libc::wait4(pid, &raw mut status, options, usage.as_mut_ptr()) })?;
    // SAFETY: all-zero is a valid rusage, if the kernel has not written another.
    let usage = unsafe { usage.assume_init() };
    Ok((pid != 0).then_some(Death { pid, status, usage }))
}

/// Has the calling process killed when the thread that made it dies. A change of identity undoes
/// it. Child-safe.
pub fn die_with_parent() -> io::Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64)
}

/// Makes the calling process the parent of those below it who lose theirs. Child-safe.
pub fn adopt_orphans() -> io::Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1)
}

/// Starts a command that is killed when the calling thread dies.
pub fn spawn_bound(command: &mut std::process::Command) -> io::Result<std::process::Child> {
    use std::os::unix::process::CommandExt;
    let parent = std::process::id();
    let bind = move || {
        die_with_parent()?;
        // It may have died before.
        // SAFETY: no memory is involved.
        match unsafe { libc::getppid() }.unsigned_abs() == parent {
            true => Ok(()),
            false => Err(io::ErrorKind::BrokenPipe.into()),
        }
    };
    // SAFETY: what is called in the child is child-safe.
    unsafe { command.pre_exec(bind) }.spawn()
}

/// Has the calling thread give way to whoever becomes ready, and to no lesser share of the
/// processors. Its children don't.
pub fn give_way() -> io::Result<()> {
    // SAFETY: all-zero is a valid sched_param, and the kernel only reads it.
    let param: libc::sched_param = unsafe { std::mem::zeroed() };
    let policy = libc::SCHED_BATCH | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the kernel reads `param`, which lives as long as the call.
    check(unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const param) })
        .map(drop)
}

/// Hides the calling process's memory, descriptors and links in `/proc` from everyone who is not
/// privileged over it. An exec undoes it. Child-safe.
pub fn hide() -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, 0)
}

/// Names the calling thread, of a process's first one the process, in at most 15 bytes. Child-safe.
pub fn set_name(name: &CStr) -> io::Result<()> {
    // SAFETY: the kernel reads no further than the NUL that ends it.
    check(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) }).map(drop)
}

/// Makes the process the leader of a new session without a terminal. Child-safe.
pub fn new_session() -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::setsid() }).map(drop)
}

/// Sets the mask of permission bits that new files lack. Child-safe.
pub fn set_umask(mask: u32) {
    // SAFETY: it cannot fail and involves no memory.
    unsafe { libc::umask(mask) };
}

/// Changes the current directory. Child-safe.
pub fn change_directory(path: &CStr) -> io::Result<()> {
    // SAFETY: `path` ends with a NUL.
    check(unsafe { libc::chdir(path.as_ptr()) }).map(drop)
}

/// Changes the current directory to the one behind `directory`. Child-safe.
pub fn enter_directory(directory: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::fchdir(directory.as_raw_fd()) }).map(drop)
}

/// Sets the host name of the calling thread's uts namespace. Child-safe.
pub fn set_host_name(name: &CStr) -> io::Result<()> {
    // SAFETY: the kernel reads as many bytes as it is told.
    check(unsafe { libc::sethostname(name.as_ptr(), name.count_bytes()) }).map(drop)
}

/// Strings in the form that [`exec`] takes, made ahead of it because making them allocates.
#[derive(Debug)]
pub struct ExecStrings {
    /// Owns what `pointers` points to.
    strings: Vec<std::ffi::CString>,
    pointers: Vec<*const libc::c_char>,
}

impl ExecStrings {
    pub fn new(strings: Vec<std::ffi::CString>) -> Self {
        let pointers = strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect();
        Self { strings, pointers }
    }

    pub fn strings(&self) -> &[std::ffi::CString] {
        &self.strings
    }
}

/// Replaces the calling process's program. Returns only why that failed. Child-safe.
pub fn exec(program: &CStr, argv: &ExecStrings, environment: &ExecStrings) -> io::Error {
    // SAFETY: the path ends with a NUL, and both lists consist of such strings and end with null.
    unsafe {
        libc::execve(program.as_ptr(), argv.pointers.as_ptr(), environment.pointers.as_ptr())
    };
    io::Error::last_os_error()
}

/// A file as a certain mount shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileAtMount {
    device: (u32, u32),
    inode: u64,
    mount: u64,
}

/// Which file `path` leads to, links followed, and by which mount. Child-safe.
pub fn file_at_mount(path: &CStr) -> io::Result<FileAtMount> {
    let mut stat = MaybeUninit::<libc::statx>::zeroed();
    let mask = libc::STATX_INO | libc::STATX_MNT_ID;
    // SAFETY: `path` ends with a NUL and `stat` is large enough for what the kernel writes.
    check(unsafe { libc::statx(libc::AT_FDCWD, path.as_ptr(), 0, mask, stat.as_mut_ptr()) })?;
    // SAFETY: all-zero is a valid statx, and the call has filled it.
    let stat = unsafe { stat.assume_init() };
    Ok(FileAtMount {
        device: (stat.stx_dev_major, stat.stx_dev_minor),
        inode: stat.stx_ino,
        mount: stat.stx_mnt_id,
    })
}

pub(crate) fn prctl(option: i32, value: u64) -> io::Result<()> {
    // SAFETY: the options used here take a number and no memory.
    check(unsafe { libc::prctl(option, value, 0_u64, 0_u64, 0_u64) }).map(drop)
}
