//! What places of one process are called, so that whoever finds one can tell whether its maker lives.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the folders of one process and its containers are called by. Whoever finds them can tell
/// whether their maker still lives.
pub const PREFIX: &str = "agentkernel-";

/// A name that no other process's, and no other of this one's, has: its number and when it began,
/// and the process namespace in which that is its number.
pub fn own_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let pid = std::process::id();
    let began = began(pid).unwrap_or_default();
    format!("{PREFIX}{pid}-{began:x}-{:x}-{count}", namespace().unwrap_or_default())
}

/// Whether `name` is one of [those](own_name) of a process that lives no more. Of one in another
/// process namespace, who may use the same engine, that can't be told.
pub fn is_orphans(name: &str) -> bool {
    let maker = || {
        let mut parts = name.strip_prefix(PREFIX)?.splitn(4, '-');
        let mut next = || parts.next();
        let (pid, began, own, count) = (next()?, next()?, next()?, next()?);
        count.parse::<u64>().ok()?;
        let hex = |text| u64::from_str_radix(text, 16).ok();
        Some((pid.parse::<u32>().ok()?, hex(began)?, hex(own)?))
    };
    maker().is_some_and(|(pid, then, own)| Some(own) == namespace() && began(pid) != Some(then))
}

/// The number of the process namespace.
fn namespace() -> Option<u64> {
    Some(fs::metadata("/proc/self/ns/pid").ok()?.ino())
}

/// When a process began, in the kernel's ticks since its start.
fn began(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name, in brackets, may hold anything.
    let (_, rest) = text.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

/// A path for a folder of this process's.
pub fn own_folder() -> PathBuf {
    std::env::temp_dir().join(own_name())
}

/// Removes folders of processes that live no more, of the caller's own.
pub fn sweep_folders() -> Vec<PathBuf> {
    let entries = fs::read_dir(std::env::temp_dir()).into_iter().flatten().filter_map(Result::ok);
    let orphans = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_orphans));
    let orphans = orphans.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    // Of others' it is refused.
    orphans.map(|entry| entry.path()).filter(|path| fs::remove_dir_all(path).is_ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_dead_are_orphans() {
        let own = own_name();
        assert!(!is_orphans(&own));
        let pid = std::process::id();
        let earlier = own.replacen(&format!("-{:x}-", began(pid).unwrap()), "-1-", 1);
        assert!(is_orphans(&earlier), "another process had the number before");
        let here = namespace().unwrap();
        assert!(is_orphans(&format!("agentkernel-4194304-1-{here:x}-0")));
        let elsewhere = format!("agentkernel-4194304-1-{:x}-0", here + 1);
        let no_count = format!("agentkernel-4194304-1-{here:x}-x");
        for foreign in ["agentkernel-web", "agentkernel-1-2", "postgres", &elsewhere, &no_count] {
            assert!(!is_orphans(foreign), "{foreign}");
        }
    }
}
