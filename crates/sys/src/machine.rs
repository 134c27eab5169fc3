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

/// How many processors the machine has online, whatever the caller may use of them.
pub fn processors() -> u32 {
    // SAFETY: it takes any name and involves no memory.
    let online = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    u32::try_from(online).unwrap_or(1).max(1)
}

/// A kernel setting under `/proc/sys`, if it exists and can be read.
pub fn setting(name: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/sys/{name}")).ok().map(|s| s.trim().to_owned())
}
