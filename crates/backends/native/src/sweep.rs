//! Control groups whose makers were killed together with their keepers.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agentkernel_sys::cgroup;
use agentkernel_sys::process::{self, Pid};

use crate::group::Maker;

/// How old a group must be. A maker that is seen as dead may only be in another process namespace,
/// and about to let a command into a group that is still empty.
const AGE: Duration = Duration::from_secs(60);

/// Removes the groups that nobody lives in and nobody will, wherever they are: makers may have been
/// in other groups than the caller is. Returns what was removed.
pub fn sweep() -> Vec<PathBuf> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let is_left = |name: &str| {
        Maker::of(name).is_some_and(|maker| maker.made + AGE <= now && is_dead(maker.pid))
    };
    let mut removed = Vec::new();
    let mut groups: Vec<PathBuf> = cgroup::hierarchies().into_iter().collect();
    while let Some(group) = groups.pop() {
        let inside = fs::read_dir(&group).into_iter().flatten().filter_map(Result::ok);
        let inside = inside.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        for entry in inside {
            let name = entry.file_name();
            // The kernel refuses it for a group that has processes or groups in it.
            if name.to_str().is_some_and(is_left) && fs::remove_dir(entry.path()).is_ok() {
                removed.push(entry.path());
            } else {
                groups.push(entry.path());
            }
        }
    }
    removed
}

fn is_dead(pid: Pid) -> bool {
    const ESRCH: i32 = 3;
    process::open_pidfd(pid).is_err_and(|error| error.raw_os_error() == Some(ESRCH))
}

#[cfg(test)]
mod tests {
    use agentkernel_sys::cgroup::{Controller, Limit, Site};

    use super::*;
    use crate::group::group_name;

    #[test]
    fn only_the_empty_groups_of_the_long_dead_are_swept() {
        // Numbers of processes end below this.
        const NOBODY: Pid = 4_194_304;
        let own = group_name();
        let young = own.replace(&format!("-{}-", std::process::id()), &format!("-{NOBODY}-"));
        let old_of_the_living = format!("agentkernel-{}-1-0", std::process::id());
        let old_of_the_dead = format!("agentkernel-{NOBODY}-{}-0", std::process::id());
        let foreign = format!("agentkernel-{NOBODY}-else");
        // Where the caller's own groups are made, below the top or not.
        let pids = Limit { controller: Controller::Pids, value: 1 };
        let (site, _) = Site::find(&[pids]);
        let Some(site) = site.directories("any").next() else {
            return println!("skipped: there are no control groups here");
        };
        let site = site.parent().unwrap();
        let all = [own, young, old_of_the_living, old_of_the_dead, foreign];
        let all = all.map(|name| site.join(name));
        if let Err(error) = all.iter().try_for_each(fs::create_dir) {
            return println!("skipped: no group can be made here: {error}");
        }
        let swept = sweep();
        let left: Vec<_> = all.iter().filter(|group| group.exists()).cloned().collect();
        all.iter().for_each(|group| _ = fs::remove_dir(group));
        assert!(swept.contains(&all[3]), "{swept:?}");
        assert_eq!(left, [&all[0], &all[1], &all[2], &all[4]].map(PathBuf::clone));
    }
}
