//! Which system calls are allowed, and with what arguments.
//!
//! The list is the container engines' default profile (moby/profiles, seccomp/default.json) for a
//! container without capabilities, less what no sandboxed command has a use for: `adjtimex`,
//! `clock_adjtime`, `fanotify_mark`, `modify_ldt`, the `io_setup` family (its contexts are few, and
//! shared by the whole machine), and calls newer than `mseal`. `ptrace` and its
//! kin are on it for debuggers: the process namespace keeps them inside. New user namespaces,
//! mounts, `bpf`, `perf_event_open`, `keyctl` and its family, `userfaultfd` and `io_uring` are on
//! no list, so they are refused.

use libc::c_long;

/// What is asked of one word of a call's arguments.
#[derive(Debug, Clone, Copy)]
pub(super) enum Test {
    /// It has any of these bits.
    AnyOf(Word, u32),
    /// It has none of these bits.
    Without(Word, u32),
    /// It is one of these.
    OneOf(Word, &'static [u32]),
    /// It is not this.
    Not(Word, u32),
}

/// 32 bits of an argument. The kernel reads no more of most that are asked here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word(pub u32);

/// The lower word of the argument of this number, counted from 0.
pub(super) const fn low(argument: u32) -> Word {
    Word(2 * argument)
}

/// The upper word.
const fn high(argument: u32) -> Word {
    Word(2 * argument + 1)
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Allow,
    /// `EPERM`.
    Refuse,
    /// `ENOSYS`.
    Absent,
    /// Success, with nothing done.
    Pretend,
}

/// An answer to a call whose arguments pass all tests. The first rule for a call that applies
/// counts; where none does, the lists below decide.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    pub call: c_long,
    pub tests: &'static [Test],
    pub answer: Answer,
}

macro_rules! calls {
    ($($name:ident)*) => { &[$(libc::$name),*] };
}

/// The last call that was looked at when the list was made; what is newer does not exist here.
pub(super) const NEWEST_KNOWN: c_long = libc::SYS_mseal;

/// Calls that do not exist here: their arguments can't be judged by a filter, because they lie in
/// memory, and every C library falls back to calls that can be.
pub(super) const ABSENT: &[c_long] = calls![SYS_clone3];

pub(super) const ALLOWED: &[c_long] = calls![
    SYS_accept SYS_accept4 SYS_bind SYS_brk SYS_capget SYS_capset SYS_chdir SYS_clock_getres
    SYS_clock_gettime SYS_clock_nanosleep SYS_close SYS_close_range SYS_connect
    SYS_copy_file_range SYS_dup SYS_dup3 SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait
    SYS_epoll_pwait2 SYS_eventfd2 SYS_execve SYS_execveat SYS_exit SYS_exit_group SYS_faccessat
    SYS_faccessat2 SYS_fadvise64 SYS_fallocate SYS_fchdir SYS_fchmod SYS_fchmodat SYS_fchown SYS_fchownat SYS_fcntl
    SYS_fdatasync SYS_fgetxattr SYS_flistxattr SYS_flock SYS_fremovexattr SYS_fsetxattr
    SYS_fstat SYS_fstatfs SYS_fsync SYS_ftruncate SYS_futex SYS_futex_waitv SYS_get_robust_list
    SYS_getcpu SYS_getcwd SYS_getdents64 SYS_getegid SYS_geteuid SYS_getgid SYS_getgroups
    SYS_getitimer SYS_getpeername SYS_getpgid SYS_getpid SYS_getppid SYS_getpriority
    SYS_getrandom SYS_getresgid SYS_getresuid SYS_getrlimit SYS_getrusage SYS_getsid
    SYS_getsockname SYS_getsockopt SYS_gettid SYS_gettimeofday SYS_getuid SYS_getxattr
    SYS_inotify_add_watch SYS_inotify_init1 SYS_inotify_rm_watch SYS_ioctl SYS_ioprio_get SYS_ioprio_set
    SYS_kill SYS_landlock_add_rule SYS_landlock_create_ruleset SYS_landlock_restrict_self
    SYS_lgetxattr SYS_linkat SYS_listen SYS_listxattr SYS_llistxattr SYS_lremovexattr SYS_lseek
    SYS_lsetxattr SYS_madvise SYS_membarrier SYS_memfd_create SYS_memfd_secret SYS_mincore
    SYS_mkdirat SYS_mknodat SYS_mlock SYS_mlock2 SYS_mlockall SYS_mmap SYS_mprotect SYS_mq_getsetattr
    SYS_mq_notify SYS_mq_open SYS_mq_timedreceive SYS_mq_timedsend SYS_mq_unlink SYS_mremap
    SYS_mseal SYS_msgctl SYS_msgget SYS_msgrcv SYS_msgsnd SYS_msync SYS_munlock SYS_munlockall
    SYS_munmap SYS_name_to_handle_at SYS_nanosleep SYS_newfstatat SYS_openat SYS_openat2 SYS_pidfd_open
    SYS_pidfd_send_signal SYS_pipe2 SYS_pkey_alloc SYS_pkey_free SYS_pkey_mprotect SYS_ppoll
    SYS_prctl SYS_pread64 SYS_preadv SYS_preadv2 SYS_prlimit64 SYS_process_mrelease
    SYS_process_vm_readv SYS_process_vm_writev SYS_pselect6 SYS_ptrace SYS_pwrite64 SYS_pwritev
    SYS_pwritev2 SYS_read SYS_readahead SYS_readlinkat SYS_readv SYS_recvfrom SYS_recvmmsg
    SYS_recvmsg SYS_remap_file_pages SYS_removexattr SYS_renameat SYS_renameat2
    SYS_restart_syscall SYS_rseq SYS_rt_sigaction SYS_rt_sigpending SYS_rt_sigprocmask
    SYS_rt_sigqueueinfo SYS_rt_sigreturn SYS_rt_sigsuspend SYS_rt_sigtimedwait
    SYS_rt_tgsigqueueinfo SYS_sched_get_priority_max SYS_sched_get_priority_min
    SYS_sched_getaffinity SYS_sched_getattr SYS_sched_getparam SYS_sched_getscheduler
    SYS_sched_rr_get_interval SYS_sched_setaffinity SYS_sched_setattr SYS_sched_setparam
    SYS_sched_setscheduler SYS_sched_yield SYS_seccomp SYS_semctl SYS_semget SYS_semop
    SYS_semtimedop SYS_sendfile SYS_sendmmsg SYS_sendmsg SYS_sendto SYS_set_robust_list
    SYS_set_tid_address SYS_setfsgid SYS_setfsuid SYS_setgid SYS_setgroups SYS_setitimer
    SYS_setpgid SYS_setpriority SYS_setregid SYS_setresgid SYS_setresuid SYS_setreuid
    SYS_setrlimit SYS_setsid SYS_setsockopt SYS_setuid SYS_setxattr SYS_shmat SYS_shmctl
    SYS_shmdt SYS_shmget SYS_shutdown SYS_sigaltstack SYS_signalfd4 SYS_splice SYS_statfs
    SYS_statx SYS_symlinkat SYS_sync SYS_sync_file_range SYS_syncfs SYS_sysinfo SYS_tee
    SYS_tgkill SYS_timer_create SYS_timer_delete SYS_timer_getoverrun SYS_timer_gettime
    SYS_timer_settime SYS_timerfd_create SYS_timerfd_gettime SYS_timerfd_settime SYS_times
    SYS_tkill SYS_truncate SYS_umask SYS_uname SYS_unlinkat SYS_utimensat SYS_vmsplice SYS_wait4
    SYS_waitid SYS_write SYS_writev
];

/// Allowed calls that the libc crate does not name everywhere.
pub(super) const ALLOWED_BY_NUMBER: &[c_long] = &[SYS_FCHMODAT2];

/// The older calls that only this architecture still has.
#[cfg(target_arch = "x86_64")]
pub(super) const ALLOWED_HERE: &[c_long] = calls![
    SYS_access SYS_alarm SYS_arch_prctl SYS_chmod SYS_chown SYS_creat SYS_dup2 SYS_epoll_create SYS_epoll_ctl_old
    SYS_epoll_wait SYS_epoll_wait_old SYS_eventfd SYS_fork SYS_futimesat SYS_get_thread_area
    SYS_getdents SYS_getpgrp SYS_inotify_init SYS_lchown SYS_link SYS_lstat SYS_mkdir SYS_mknod SYS_open SYS_pause
    SYS_pipe SYS_poll SYS_readlink SYS_rename SYS_rmdir SYS_select SYS_set_thread_area
    SYS_signalfd SYS_stat SYS_symlink SYS_time SYS_unlink SYS_utime SYS_utimes SYS_vfork
];

#[cfg(not(target_arch = "x86_64"))]
pub(super) const ALLOWED_HERE: &[c_long] = &[];

/// The `CLONE_NEW*` flags: a process may start others, but no namespaces. The time namespace's
/// flag overlaps the exit signal and is taken by clone3 and unshare only.
const NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;

/// Requests that push input into a terminal, or make the console do so (TIOCLINUX).
const INPUT_FAKERS: &[u32] = &[libc::TIOCSTI as u32, libc::TIOCLINUX as u32];

/// Families whose sockets stay within the sandbox's own network namespace. The others are a wide
/// and seldom walked way into the kernel, and vsock leads to a hypervisor's host.
const FAMILIES: &[u32] = &[libc::AF_UNIX as u32, libc::AF_INET as u32, libc::AF_INET6 as u32];

/// The one family more that is allowed for one purpose: to ask for interfaces and routes.
const NETLINK: &[u32] = &[libc::AF_NETLINK as u32];
const ROUTES: &[u32] = &[libc::NETLINK_ROUTE as u32];

/// Linux itself, with or without two harmless variations, and the question which it is.
const PERSONALITIES: &[u32] = &[0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Only a core limit of 1 byte keeps the kernel from starting the program that the host's core
/// pattern may name (fs/coredump.c), so nobody inside may change it. Many scripts set it to 0,
/// which is what they get in effect.
const CORE: &[u32] = &[libc::RLIMIT_CORE];

pub(super) const RULES: &[Rule] = &[
    rule(libc::SYS_clone, &[Test::Without(low(0), NAMESPACES)], Answer::Allow),
    rule(libc::SYS_ioctl, &[Test::OneOf(low(1), INPUT_FAKERS)], Answer::Refuse),
    rule(libc::SYS_personality, &[Test::OneOf(low(0), PERSONALITIES)], Answer::Allow),
    rule(libc::SYS_socket, &[Test::OneOf(low(0), FAMILIES)], Answer::Allow),
    rule(
        libc::SYS_socket,
        &[Test::OneOf(low(0), NETLINK), Test::OneOf(low(2), ROUTES)],
        Answer::Allow,
    ),
    rule(libc::SYS_socketpair, &[Test::OneOf(low(0), FAMILIES)], Answer::Allow),
    rule(libc::SYS_setrlimit, &[Test::OneOf(low(0), CORE)], Answer::Pretend),
    rule(libc::SYS_prlimit64, &[Test::OneOf(low(1), CORE), Test::Not(low(2), 0)], Answer::Pretend),
    rule(libc::SYS_prlimit64, &[Test::OneOf(low(1), CORE), Test::Not(high(2), 0)], Answer::Pretend),
];

/// Families that lead out by whatever interface there is.
const INTERNET: &[u32] = &[libc::AF_INET as u32, libc::AF_INET6 as u32];

/// Rules under which there are local sockets alone.
pub(super) const NO_INTERNET: &[Rule] =
    &[rule(libc::SYS_socket, &[Test::OneOf(low(0), INTERNET)], Answer::Refuse)];

/// Setuid and setgid bits, which lend their owner's rights.
const LENDING: u32 = libc::S_ISUID | libc::S_ISGID;

/// Flags of an opening that may make a file, and so make its mode count.
const MAKING: u32 = (libc::O_CREAT | libc::O_TMPFILE & !libc::O_DIRECTORY) as u32;

/// The same number on every architecture; the libc crate lacks it on some.
const SYS_FCHMODAT2: c_long = 452;

/// Rules under which no file gets a setuid or setgid bit.
pub(super) const NO_LENDING: &[Rule] = &[
    rule(libc::SYS_fchmod, &[Test::AnyOf(low(1), LENDING)], Answer::Refuse),
    rule(libc::SYS_fchmodat, &[Test::AnyOf(low(2), LENDING)], Answer::Refuse),
    rule(SYS_FCHMODAT2, &[Test::AnyOf(low(2), LENDING)], Answer::Refuse),
    rule(libc::SYS_mknodat, &[Test::AnyOf(low(2), LENDING)], Answer::Refuse),
    rule(
        libc::SYS_openat,
        &[Test::AnyOf(low(2), MAKING), Test::AnyOf(low(3), LENDING)],
        Answer::Refuse,
    ),
    // It takes the mode in memory, where no filter sees it.
    rule(libc::SYS_openat2, &[], Answer::Absent),
    #[cfg(target_arch = "x86_64")]
    rule(libc::SYS_chmod, &[Test::AnyOf(low(1), LENDING)], Answer::Refuse),
    #[cfg(target_arch = "x86_64")]
    rule(libc::SYS_creat, &[Test::AnyOf(low(1), LENDING)], Answer::Refuse),
    #[cfg(target_arch = "x86_64")]
    rule(libc::SYS_mknod, &[Test::AnyOf(low(1), LENDING)], Answer::Refuse),
    #[cfg(target_arch = "x86_64")]
    rule(
        libc::SYS_open,
        &[Test::AnyOf(low(1), MAKING), Test::AnyOf(low(2), LENDING)],
        Answer::Refuse,
    ),
];

const fn rule(call: c_long, tests: &'static [Test], answer: Answer) -> Rule {
    Rule { call, tests, answer }
}
