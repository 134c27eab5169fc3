//! Control groups that agentkernel left behind because it was killed before it had a keeper.

use std::fs;
use std::path::Path;

use agentkernel_sys::cgroup::Group;
use agentkernel_sys::process::{self, Pid};

/// What the name of every group starts with; the number of the process that made it follows.
const PREFIX: &str = "agentkernel-";

/// A name for the group of a sandbox that the calling process boots now. A number of a process
/// comes back; together with the time it does not.
pub fn group_name() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{SystemTime, UNIX_EPOCH};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{PREFIX}{}-{:x}-{count}", std::process::id(), now.as_nanos())
}

/// Removes the groups beside `group` whose makers are dead. One that still has processes stays:
/// the kernel refuses to remove it.
pub fn sweep(group: &Group) {
    for parent in group.directories().filter_map(Path::parent) {
        let Ok(entries) = fs::read_dir(parent) else { continue };
        for entry in entries.flatten() {
            if maker(&entry.file_name().to_string_lossy()).is_some_and(|pid| !process::exists(pid))
            {
                // Whoever sweeps at the same time may be faster.
                let _ = fs::remove_dir(entry.path());
            }
        }
    }
}

/// The process that made the group of this name, if it is one of ours.
fn maker(name: &str) -> Option<Pid> {
    name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_groups_have_a_maker() {
        assert_eq!(maker(&group_name()), Some(std::process::id() as Pid));
        for name in ["docker", "agentkernel", "agentkernel-", "agentkernel-x-1", "1-agentkernel-2"]
        {
            assert_eq!(maker(name), None, "{name}");
        }
    }

    #[test]
    fn two_groups_never_have_one_name() {
        assert_ne!(group_name(), group_name());
    }
}
