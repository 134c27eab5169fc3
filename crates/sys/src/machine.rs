//! What the machine has.

use std::fs;
use std::io;

/// All memory of the machine, in bytes.
pub fn memory_bytes() -> io::Result<u64> {
    // SAFETY: sysinfo fills the whole structure if it succeeds, and it has no invalid values.
    let info = unsafe {
        let mut info: libc::sysinfo = std::mem::zeroed();
        crate::check(libc::sysinfo(&raw mut info))?;
        info
    };
    Ok(info.totalram * u64::from(info.mem_unit))
}

/// How many processors the machine has online, up to 1024: those that a process may be put on
/// unless it was told otherwise.
pub fn processors() -> u32 {
    // SAFETY: the set has the size that the call is told, and all-zero is a valid set.
    let count = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        // Process 1 is never told otherwise in practice; ourselves we may have been.
        let size = size_of::<libc::cpu_set_t>();
        match libc::sched_getaffinity(1, size, &raw mut set) {
            0 => libc::CPU_COUNT(&set),
            _ => libc::sysconf(libc::_SC_NPROCESSORS_ONLN) as i32,
        }
    };
    u32::try_from(count).unwrap_or(1).max(1)
}

/// A kernel setting under `/proc/sys`, if it exists and can be read.
pub fn setting(name: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/sys/{name}")).ok().map(|s| s.trim().to_owned())
}
