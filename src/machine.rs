//! What the machine has, asked only as far as it matters.

use agentkernel_wire::{Machine, SpecRequest};

/// The facts that `request` has to be held against. Asking costs time, so nothing is asked that
/// no limit of the request depends on.
pub(crate) fn facts(request: &SpecRequest) -> Machine {
    Machine {
        processors: request.cpus.and_then(|_| imp::processors()),
        memory: request.memory.and_then(|_| imp::memory()),
    }
}

#[cfg(target_os = "linux")]
mod imp {
    use std::fs;

    /// How many processors have an entry of their own in `/proc/cpuinfo`, which are those online.
    pub fn processors() -> Option<u32> {
        let text = fs::read_to_string("/proc/stat").ok()?;
        let is_own = |line: &&str| line.starts_with("cpu") && !line.starts_with("cpu ");
        u32::try_from(text.lines().filter(is_own).count()).ok()
    }

    /// `MemTotal`, in bytes.
    pub fn memory() -> Option<u64> {
        let text = fs::read_to_string("/proc/meminfo").ok()?;
        let kib = text
            .strip_prefix("MemTotal:")?
            .trim_start()
            .split(' ')
            .next()?;
        kib.parse::<u64>().ok()?.checked_mul(1024)
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    pub fn processors() -> Option<u32> {
        None
    }

    pub fn memory() -> Option<u64> {
        None
    }
}
