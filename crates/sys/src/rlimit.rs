//! Resource limits of a process.

use std::io;

use crate::check;

/// A resource that the kernel limits for each process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Size of a core dump, in bytes.
    Core,
    /// Private writable memory, in bytes.
    Data,
    /// Open descriptors.
    Descriptors,
    /// Processes and threads of the user, counted within its user namespace since Linux 5.14.
    Processes,
}

/// Limits the calling process and all that it starts to `soft` of a resource, which it may raise
/// up to `hard`. Neither is ever raised above the caller's own hard limit. Child-safe.
pub fn limit(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let resource = match resource {
        Resource::Core => libc::RLIMIT_CORE,
        Resource::Data => libc::RLIMIT_DATA,
        Resource::Descriptors => libc::RLIMIT_NOFILE,
        Resource::Processes => libc::RLIMIT_NPROC,
    };
    let mut own = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `own` is what this call fills.
    check(unsafe { libc::getrlimit(resource, &raw mut own) })?;
    let hard = hard.min(own.rlim_max);
    let new = libc::rlimit { rlim_cur: soft.min(hard), rlim_max: hard };
    // SAFETY: `new` is what this call reads.
    check(unsafe { libc::setrlimit(resource, &raw const new) }).map(drop)
}

/// Has the calling process and all that it starts use only the first `count` of the processors
/// that it may use now. Child-safe.
pub fn use_processors(count: u32) -> io::Result<()> {
    // SAFETY: all-zero is the empty set, and every call is given the set's true size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        check(libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set))?;
        let mut left = count;
        for processor in 0..libc::CPU_SETSIZE as usize {
            if libc::CPU_ISSET(processor, &set) {
                if left == 0 {
                    libc::CPU_CLR(processor, &mut set);
                }
                left = left.saturating_sub(1);
            }
        }
        check(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)).map(drop)
    }
}
