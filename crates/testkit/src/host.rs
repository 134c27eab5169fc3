//! The host as its administrator sees it: processes, mounts, control groups and files.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::process::{
    Pid, PidfdFlags, WaitOptions, getpid, kill_process, pidfd_open, set_child_subreaper, waitpid,
};

use crate::running::readable_within;
use crate::{NotPassed, Scratch, Verdict};

/// A number of seconds for `sleep` that no other process has in its arguments: long enough for
/// any test, and a mark by which the process is found.
pub fn unique_sleep() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("60.{:07}{count:04}", std::process::id())
}

/// A process of the host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    pub pid: u32,
    pub parent: u32,
    /// Its number in each process namespace that it is in, the host's first.
    pub numbers: Vec<u32>,
    pub zombie: bool,
    /// Its arguments, joined by spaces; its name in brackets if it shows none.
    pub arguments: String,
}

impl Process {
    /// Every process there is.
    pub fn all() -> Vec<Self> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter_map(Self::find).collect()
    }

    /// `None` if there is no such process, or none any more.
    pub fn find(pid: u32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.strip_prefix(':')).map(str::trim)
        };
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
        let name = field("Name").unwrap_or_default();
        Some(Self {
            pid,
            parent: field("PPid")?.parse().ok()?,
            numbers: field("NSpid")?.split_whitespace().filter_map(|n| n.parse().ok()).collect(),
            zombie: field("State")?.starts_with('Z'),
            arguments: match arguments.is_empty() {
                true => format!("[{name}]"),
                false => arguments.trim_end().into(),
            },
        })
    }

    /// The running processes that have `mark` in their arguments.
    pub fn marked(mark: &str) -> Vec<Self> {
        let mut found = Self::all();
        found.retain(|process| process.arguments.contains(mark));
        found
    }

    /// The running processes that run `sleep DURATION`.
    pub fn sleeping(duration: &str) -> Vec<Self> {
        let mut found = Self::marked(duration);
        found.retain(|process| process.arguments.starts_with("sleep "));
        found
    }

    /// The running processes in sandboxes, deeper in process namespaces than the tests, that have
    /// `mark` in their arguments.
    pub fn inside(mark: &str) -> Vec<Self> {
        let own = Self::find(std::process::id()).map_or(1, |own| own.numbers.len());
        let mut found = Self::marked(mark);
        found.retain(|process| process.numbers.len() > own);
        found
    }

    /// The first process of the process namespace that it is in, itself perhaps.
    pub fn first_of_its_place(&self) -> Option<Self> {
        let mut process = self.clone();
        while process.numbers.last() != Some(&1) {
            process = Self::find(process.parent)?;
        }
        (process.numbers.len() == self.numbers.len()).then_some(process)
    }

    /// The processes started by `ancestor`, by those it started, and so on.
    pub fn descendants_of(ancestor: u32) -> Vec<Self> {
        let (mut family, mut rest) = (Vec::new(), Self::all());
        let mut known = BTreeSet::from([ancestor]);
        loop {
            let (found, others): (Vec<_>, Vec<_>) =
                rest.into_iter().partition(|process| known.contains(&process.parent));
            if found.is_empty() {
                return family;
            }
            known.extend(found.iter().map(|process| process.pid));
            family.extend(found);
            rest = others;
        }
    }

    /// Waits until it has ended; `false` if it has not within `limit`.
    pub fn ends_within(&self, limit: Duration) -> Result<bool, NotPassed> {
        let Some(pid) = self.raw() else {
            return Ok(true);
        };
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => readable_within(&pidfd, limit),
            Err(rustix::io::Errno::SRCH) => Ok(true),
            Err(errno) => Err(errno.into()),
        }
    }

    pub fn signal(&self, signal: rustix::process::Signal) -> Verdict {
        match self.raw() {
            Some(pid) => Ok(kill_process(pid, signal)?),
            None => Ok(()),
        }
    }

    /// The most memory that it ever had resident, in bytes, without the pages of files, which are its
    /// program's; 0 if it is gone.
    pub fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid));
        let status = status.unwrap_or_default();
        let field = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = value.and_then(|value| value.trim().strip_suffix(" kB"));
            kib.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() << 10
        };
        field("VmHWM:").saturating_sub(field("RssFile:"))
    }

    /// Whether it is a virtual machine.
    pub fn is_machine(&self) -> bool {
        self.arguments.split(' ').next().is_some_and(|program| program.ends_with("firecracker"))
    }

    fn raw(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.pid).ok()?)
    }
}

/// While it lives, processes whose parent has died become children of the tests', so that
/// whatever a program leaves behind shows. Other tests must not run meanwhile.
#[derive(Debug)]
pub struct Orphanage(());

impl Orphanage {
    pub fn open() -> Result<Self, NotPassed> {
        set_child_subreaper(Some(getpid()))?;
        Ok(Self(()))
    }

    /// The processes under the tests' own that are neither theirs nor reaped yet.
    pub fn inmates(&self) -> Vec<Process> {
        Process::descendants_of(std::process::id())
    }

    /// Takes in the orphans that have ended.
    pub fn reap(&self) {
        for orphan in self.inmates().iter().filter(|process| process.zombie) {
            let _ = waitpid(orphan.raw(), WaitOptions::NOHANG);
        }
    }

    /// Waits until every orphan has ended, and reaps it; `false` if one has not within `limit`.
    pub fn empties_within(&self, limit: Duration) -> Result<bool, NotPassed> {
        let deadline = Instant::now() + limit;
        loop {
            self.reap();
            let Some(orphan) = self.inmates().into_iter().next() else {
                return Ok(true);
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || !orphan.ends_within(left)? {
                return Ok(false);
            }
        }
    }
}

impl Drop for Orphanage {
    fn drop(&mut self) {
        let _ = set_child_subreaper(None);
    }
}

/// Where control groups are.
const GROUPS: &str = "/sys/fs/cgroup";

/// Everything of the host that a sandbox could leave something in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remains {
    groups: BTreeSet<PathBuf>,
    others: BTreeSet<String>,
}

impl Remains {
    /// Looks around, with a close look at the caller's folders in `scratch`.
    pub fn look(orphanage: &Orphanage, scratch: &Scratch) -> Self {
        let processes = orphanage.inmates().into_iter().map(|process| {
            let state = if process.zombie { "zombie" } else { "process" };
            format!("{state} {} ({})", process.pid, process.arguments)
        });
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mounts = mounts.lines().filter(|line| !is_its_own(line));
        let mounts = mounts.map(|line| format!("mount {line}"));
        let files = tree(scratch.path()).into_keys().chain(shared_files());
        let files = files.map(|file| format!("file {}", file.display()));
        Self { groups: groups(), others: processes.chain(mounts).chain(files).collect() }
    }

    /// What is here now and was not there before, but for control groups.
    pub fn beyond(&self, before: &Self) -> Vec<String> {
        self.others.difference(&before.others).cloned().collect()
    }

    /// What is left within `patience` that was not there before, and stays: what an engine clears
    /// away when everything in a sandbox is dead, it does without a word.
    pub fn left_within(
        patience: Duration,
        orphanage: &Orphanage,
        scratch: &Scratch,
        before: &Self,
    ) -> Result<Vec<String>, NotPassed> {
        within(patience, || {
            let now = Self::look(orphanage, scratch);
            Ok([now.beyond(before), now.groups_beyond(before)?].concat())
        })
    }

    /// The same of control groups alone, where other things may well be left.
    pub fn groups_left_within(patience: Duration, before: &Self) -> Result<Vec<String>, NotPassed> {
        within(patience, || {
            let now = Self { groups: groups(), others: BTreeSet::new() };
            now.groups_beyond(before)
        })
    }

    /// The control groups that are here now, were not there before, and stay without use.
    pub fn groups_beyond(&self, before: &Self) -> Result<Vec<String>, NotPassed> {
        let mut found = Vec::new();
        for group in self.groups.difference(&before.groups) {
            if stays_abandoned(group)? {
                found.push(format!("control group {}", group.display()));
            }
        }
        Ok(found)
    }
}

/// Whether a folder is mounted at itself, as engines do with their storage.
fn is_its_own(mount: &str) -> bool {
    let mut fields = mount.split(' ').skip(3);
    fields.next() == fields.next()
}

/// What there is of what was left, as soon as that is nothing, or after `patience`.
fn within(
    patience: Duration,
    left: impl Fn() -> Result<Vec<String>, NotPassed>,
) -> Result<Vec<String>, NotPassed> {
    let until = Instant::now() + patience;
    loop {
        let left = left()?;
        if left.is_empty() || Instant::now() >= until {
            return Ok(left);
        }
        #[expect(clippy::disallowed_methods, reason = "nothing tells of an engine's doings")]
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn groups() -> BTreeSet<PathBuf> {
    // The one whose cluster is tested, by what scripts/lanes/cluster.sh has made.
    let tested = std::env::var_os("TESTKIT_CLUSTER_GROUP");
    let counts = |path: &PathBuf| !is_of_another_cluster(path, tested.as_deref());
    folders_under(Path::new(GROUPS)).into_iter().filter(counts).collect()
}

/// Whether a control group is of a cluster that others try pods on beside, where all come and go.
fn is_of_another_cluster(group: &Path, tested: Option<&OsStr>) -> bool {
    const CLUSTER: &[u8] = b"agentkernel-cluster-";
    let mut clusters = group.iter().filter(|name| name.as_encoded_bytes().starts_with(CLUSTER));
    clusters.any(|name| Some(name) != tested)
}

/// Whether the control group has no process in it and keeps none. Those of other programs on the
/// machine, other runs of agentkernel among them, come and go meanwhile, and are empty for a
/// moment. What a run of ours still has processes in shows by these.
fn stays_abandoned(group: &Path) -> Result<bool, NotPassed> {
    const LONG_ENOUGH: Duration = Duration::from_secs(2);
    let deadline = Instant::now() + LONG_ENOUGH;
    while let Some(parent) = group.parent() {
        // Watched before it is looked at, so that no removal is missed.
        let watch = inotify::init(CreateFlags::CLOEXEC)?;
        let watched = inotify::add_watch(&watch, parent, WatchFlags::DELETE);
        if watched.is_err() || is_used(Path::new(GROUPS), group) {
            return Ok(false);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(true);
        }
        readable_within(&watch, left)?;
    }
    Ok(false)
}

/// Whether the control group has a process in it, is gone, or is one of several of a name in as many
/// hierarchies below `top` of which another has one: Nomad takes a container's first process out of Docker's
/// group for processors, and leaves it in the others.
fn is_used(top: &Path, group: &Path) -> bool {
    let processes = |group: &Path| fs::read_to_string(group.join("cgroup.procs"));
    if !processes(group).is_ok_and(|processes| processes.is_empty()) {
        return true;
    }
    let Ok(below) = group.strip_prefix(top) else { return false };
    let name: PathBuf = below.iter().skip(1).collect();
    let hierarchies = fs::read_dir(top).into_iter().flatten().flatten();
    let mut same = hierarchies.map(|hierarchy| hierarchy.path().join(&name));
    same.any(|group| processes(&group).is_ok_and(|processes| !processes.is_empty()))
}

fn folders_under(top: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(top).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let folders = folders.map(|entry| entry.path());
    folders.flat_map(|folder| [folders_under(&folder), vec![folder]].concat()).collect()
}

/// What bears agentkernel's name in the folders that all users share.
fn shared_files() -> Vec<PathBuf> {
    let folders = ["/tmp", "/var/tmp", "/dev/shm", "/run", "/run/lock"];
    let entries = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
    let paths = entries.flatten().map(|entry| entry.path());
    let ours = |path: &PathBuf| {
        let path = path.to_string_lossy();
        // What another run of the escape suite has planted is no trace of this one.
        path.contains("agentkernel") && !path.contains("/.agentkernel-canary-")
    };
    paths.filter(ours).collect()
}

/// Everything under a folder with what can be told of it: kind, permissions, owner and content.
pub fn tree(top: &Path) -> BTreeMap<PathBuf, String> {
    use std::os::unix::fs::MetadataExt;
    let mut found = BTreeMap::new();
    let entries = fs::read_dir(top).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        let Ok(data) = path.symlink_metadata() else {
            continue;
        };
        let content = match (data.is_dir(), data.is_symlink()) {
            (true, _) => "a folder".into(),
            (_, true) => {
                format!("a link to {}", fs::read_link(&path).unwrap_or_default().display())
            }
            _ => String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()).into_owned(),
        };
        let (mode, uid, gid) = (data.mode(), data.uid(), data.gid());
        if data.is_dir() {
            found.extend(tree(&path));
        }
        found.insert(path, format!("{mode:o} {uid}:{gid} {content}"));
    }
    found
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rustix::process::Signal;

    use super::*;
    use crate::Running;

    #[test]
    fn a_process_is_found_by_its_mark_and_its_end_is_seen() {
        let duration = unique_sleep();
        assert_eq!(Process::sleeping(&duration), []);
        let mut command = Command::new("sh");
        let script = format!("sleep {duration} & echo begun; wait");
        command.args(["-c", &script]).stdout(std::process::Stdio::piped());
        let mut running = Running::start(command).unwrap();
        running.line().unwrap();
        let family = Process::descendants_of(running.pid());
        let sleeper = family.first().unwrap();
        assert!(sleeper.arguments.contains(&duration), "{family:?}");
        assert!(!sleeper.ends_within(Duration::ZERO).unwrap());
        sleeper.signal(Signal::KILL).unwrap();
        assert!(sleeper.ends_within(Duration::from_secs(10)).unwrap());
        running.finish().unwrap();
    }

    #[test]
    fn a_group_counts_as_abandoned_only_if_it_stays() {
        let scratch = Scratch::new(None).unwrap();
        let group = |name: &str, processes: &str| {
            let group = scratch.folder(name).unwrap();
            fs::write(group.join("cgroup.procs"), processes).unwrap();
            group
        };
        assert!(stays_abandoned(&group("left", "")).unwrap());
        assert!(!stays_abandoned(&group("used", "1\n")).unwrap());
        let passing = group("passing", "");
        let begun = Instant::now();
        std::thread::scope(|scope| {
            let judged = scope.spawn(|| stays_abandoned(&passing).unwrap());
            fs::remove_dir_all(&passing).unwrap();
            assert!(!judged.join().unwrap());
        });
        assert!(begun.elapsed() < Duration::from_secs(1));
    }

    #[test]
    fn a_group_is_used_if_one_of_its_name_is() {
        let scratch = Scratch::new(None).unwrap();
        for (group, processes) in
            [("cpuset/a", ""), ("memory/a", "1\n"), ("cpuset/b", ""), ("memory/b", "")]
        {
            let group = scratch.path().join(group);
            fs::create_dir_all(&group).unwrap();
            fs::write(group.join("cgroup.procs"), processes).unwrap();
        }
        let used = |group: &str| is_used(scratch.path(), &scratch.path().join(group));
        let all = ["cpuset/a", "memory/a", "cpuset/b", "memory/b", "memory/gone"].map(used);
        assert_eq!(all, [true, true, false, false, true]);
    }

    #[test]
    fn groups_of_other_clusters_are_nobodys_leftovers() {
        let tested = Some(OsStr::new("agentkernel-cluster-1"));
        let pods = |name: &str| PathBuf::from(format!("/sys/fs/cgroup/cpu/{name}/kubepods/pod1"));
        for (name, tested, others) in [
            ("agentkernel-cluster-2", tested, true),
            ("agentkernel-cluster-2", None, true),
            ("agentkernel-cluster-1", tested, false),
            // A sandbox's own, and an engine's.
            ("agentkernel-1-2", None, false),
            ("docker", tested, false),
        ] {
            assert_eq!(is_of_another_cluster(&pods(name), tested), others, "{name} {tested:?}");
        }
    }

    #[test]
    fn a_changed_file_changes_the_tree() {
        let scratch = Scratch::new(None).unwrap();
        let folder = scratch.folder("folder").unwrap();
        let file = scratch.file("folder/file", "old").unwrap();
        let before = tree(&folder);
        assert_eq!(before.len(), 1);
        fs::write(file, "new").unwrap();
        assert_ne!(before, tree(&folder));
    }
}
