//! Control groups, of version 2, of version 1, or of both at once (hybrid).
//!
//! A group is made below the caller's own wherever that is possible, so that limits on the caller
//! hold for it too. Hierarchies are expected where systemd and the container engines put them:
//! version 1 at `/sys/fs/cgroup/CONTROLLER`, version 2 at `/sys/fs/cgroup` or its `unified`.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::descriptor;

const ROOT: &str = "/sys/fs/cgroup";

/// The tops of the hierarchies that groups are made in, as far as there are any.
pub fn hierarchies() -> BTreeSet<PathBuf> {
    let mut all: BTreeSet<PathBuf> = [Controller::Cpu, Controller::Memory, Controller::Pids]
        .iter()
        // Several controllers may be one hierarchy, under links to it.
        .filter_map(|controller| Path::new(ROOT).join(controller.name()).canonicalize().ok())
        .collect();
    all.extend(version_2_root());
    all
}

fn version_2_root() -> Option<PathBuf> {
    let roots = [ROOT.into(), Path::new(ROOT).join("unified")];
    roots.into_iter().find(|root| root.join("cgroup.controllers").exists())
}

/// The controllers that limit what a sandbox may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controller {
    Cpu,
    Memory,
    Pids,
}

impl Controller {
    const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Pids => "pids",
        }
    }
}

/// A limit for a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    pub controller: Controller,
    /// Thousandths of a processor, bytes, or processes and threads.
    pub value: u64,
}

/// Who is to live in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tenancy {
    /// One command with all that it starts. If memory runs out, all of it ends.
    Command,
    /// The same, and its place's first process.
    Lease,
    /// A place's first process too, and many commands. If memory runs out, only who took it ends.
    Place,
}

/// The two interfaces that control groups have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    One,
    Two,
}

impl Version {
    pub const fn name(self) -> &'static str {
        match self {
            Self::One => "cgroup v1",
            Self::Two => "cgroup v2",
        }
    }
}

/// Why no group can be made.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error("the kernel has no {0} controller at {ROOT}")]
    NoController(&'static str),
    #[error("the {controller} controller is not passed down to {}", dir.display())]
    NotDelegated { controller: &'static str, dir: PathBuf },
    #[error("{0}")]
    Unknown(String),
    #[error("can't start a control group's keeper: {0}")]
    NoKeeper(io::Error),
    #[error("can't {what} {}: {source}", path.display())]
    Refused { what: &'static str, path: PathBuf, source: io::Error },
}

/// A group that limits all processes in it together. It must be [removed](Self::remove); a drop
/// without that removes it as far as it can be.
#[derive(Debug)]
pub struct Group {
    /// Version 1 has a directory for each controller, version 2 one for all.
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    version: Version,
    controllers: Vec<Controller>,
    dir: PathBuf,
    /// Version 1: the file that takes threads in. Version 2: the directory.
    door: OwnedFd,
}

/// Where a group with certain limits can be made.
#[derive(Debug, Default)]
pub struct Site {
    limits: Vec<(Limit, Version, PathBuf)>,
}

/// A limit that no group can have here, and why.
pub type Impossible = (Limit, CgroupError);

impl Site {
    /// Looks for a site for as many of `limits` as possible, at most one for each controller.
    pub fn find(limits: &[Limit]) -> (Self, Vec<Impossible>) {
        let (mut site, mut impossible) = (Self::default(), Vec::new());
        match OwnGroups::read() {
            Ok(own) => {
                for limit in limits {
                    if let Err(error) = site.add(&own, *limit) {
                        impossible.push((*limit, error));
                    }
                }
            }
            Err(error) => {
                let why = error.to_string();
                let unknown = |limit: &Limit| (*limit, CgroupError::Unknown(why.clone()));
                impossible.extend(limits.iter().map(unknown));
            }
        }
        (site, impossible)
    }

    fn add(&mut self, own: &OwnGroups, limit: Limit) -> Result<(), CgroupError> {
        let controller = limit.controller;
        if let Some(path) = own.version_1(controller) {
            let root = Path::new(ROOT).join(controller.name());
            let parent = existing(&root, path);
            may_write(&parent)?;
            self.limits.push((limit, Version::One, parent));
            return Ok(());
        }
        let unified = |(_, version, _): &&mut (Limit, Version, PathBuf)| *version == Version::Two;
        let mut wanted: Vec<Controller> =
            self.limits.iter_mut().filter(unified).map(|(limit, ..)| limit.controller).collect();
        wanted.push(controller);
        let parent = own.version_2_parent(&wanted)?;
        may_write(&parent)?;
        // Who makes a process in a group below must be allowed to move one there.
        may_write(&parent.join("cgroup.procs"))?;
        for (_, _, dir) in self.limits.iter_mut().filter(unified) {
            dir.clone_from(&parent);
        }
        self.limits.push((limit, Version::Two, parent));
        Ok(())
    }

    /// Whether the group will be one of this version, at least in part. A version 2 group must be
    /// there before the process that is made in its [directory](Group::directory); a version 1
    /// group is [entered](enter) later.
    pub fn has(&self, version: Version) -> bool {
        self.limits.iter().any(|(_, of, _)| *of == version)
    }

    /// The directories that make up the group `name`, once it is made.
    pub fn directories(&self, name: &str) -> impl Iterator<Item = PathBuf> {
        let mut parents: Vec<&PathBuf> = self.limits.iter().map(|(_, _, parent)| parent).collect();
        parents.dedup();
        parents.into_iter().map(move |parent| parent.join(name))
    }

    /// Makes the group `name`, which nobody else may use. After an error nothing is left behind.
    pub fn make(&self, name: &str, tenancy: Tenancy) -> Result<Group, CgroupError> {
        let mut group = Group { parts: Vec::with_capacity(self.limits.len()) };
        for (limit, version, parent) in &self.limits {
            let dir = parent.join(name);
            if !group.parts.iter().any(|part| part.dir == dir) {
                group.parts.push(Part::create(*version, dir.clone())?);
            }
            if let Some(part) = group.parts.iter_mut().find(|part| part.dir == dir) {
                part.limit(*limit, tenancy)?;
            }
        }
        Ok(group)
    }
}

impl Group {
    /// A group that another process has made, by its directories. It can only be asked and removed.
    pub fn adopt(directories: Vec<PathBuf>) -> io::Result<Self> {
        let part = |dir: PathBuf| -> io::Result<Option<Part>> {
            let (version, controllers) = match dir.join("memory.oom_control").exists() {
                true => (Version::One, vec![Controller::Memory]),
                false if dir.join("memory.events").exists() => {
                    (Version::Two, vec![Controller::Memory])
                }
                false => (Version::One, Vec::new()),
            };
            match File::open(&dir) {
                Ok(door) => Ok(Some(Part { version, controllers, dir, door: door.into() })),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            }
        };
        let parts: io::Result<Vec<Option<Part>>> = directories.into_iter().map(part).collect();
        Ok(Self { parts: parts?.into_iter().flatten().collect() })
    }

    /// The directories that it consists of.
    pub fn directories(&self) -> impl Iterator<Item = &Path> {
        self.parts.iter().map(|part| part.dir.as_path())
    }

    /// Which interface enforces the limit on this controller, if one was asked for.
    pub fn enforced_by(&self, controller: Controller) -> Option<Version> {
        self.part_of(controller).map(|part| part.version)
    }

    /// The directory of the version 2 group, for a process to be made in.
    pub fn directory(&self) -> Option<BorrowedFd<'_>> {
        self.doors(Version::Two).next()
    }

    /// The doors of the version 1 groups, for [`enter`].
    pub fn entrances(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.doors(Version::One)
    }

    fn doors(&self, version: Version) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.parts.iter().filter(move |part| part.version == version).map(|part| part.door.as_fd())
    }

    fn part_of(&self, controller: Controller) -> Option<&Part> {
        self.parts.iter().find(|part| part.controllers.contains(&controller))
    }

    /// How many processes of the group the kernel has killed for want of memory.
    pub fn oom_kills(&self) -> io::Result<u64> {
        let Some(part) = self.part_of(Controller::Memory) else {
            return Ok(0);
        };
        let file = match part.version {
            Version::One => "memory.oom_control",
            Version::Two => "memory.events",
        };
        let text = fs::read_to_string(part.dir.join(file))?;
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        Ok(count.and_then(|count| count.parse().ok()).unwrap_or(0))
    }

    /// Leaves the group as it is.
    pub fn leave(mut self) {
        self.parts.clear();
    }

    /// Removes the group. While processes in it live that fails, and what is left of the group
    /// comes back. It is no error if somebody else has removed it.
    pub fn remove(mut self) -> Result<(), (Self, io::Error)> {
        while let Some(part) = self.parts.pop() {
            match fs::remove_dir(&part.dir) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    self.parts.push(part);
                    return Err((self, error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for part in &self.parts {
            // Nobody is there to be told.
            let _ = fs::remove_dir(&part.dir);
        }
    }
}

impl Part {
    fn create(version: Version, dir: PathBuf) -> Result<Self, CgroupError> {
        fs::create_dir(&dir).map_err(|source| refused("create", &dir, source))?;
        let opened = match version {
            Version::One => OpenOptions::new().write(true).open(dir.join("tasks")),
            Version::Two => File::open(&dir),
        };
        match opened {
            Ok(door) => Ok(Self { version, controllers: Vec::new(), dir, door: door.into() }),
            Err(source) => {
                let error = refused("open", &dir, source);
                let _ = fs::remove_dir(&dir);
                Err(error)
            }
        }
    }

    fn limit(&mut self, limit: Limit, tenancy: Tenancy) -> Result<(), CgroupError> {
        /// The span over which processor time is shared out, in microseconds: the kernel's default.
        const PERIOD: u64 = 100_000;
        self.controllers.push(limit.controller);
        let value = limit.value;
        match (self.version, limit.controller) {
            (Version::One, Controller::Cpu) => {
                self.write("cpu.cfs_quota_us", &(value * PERIOD / 1000).to_string())
            }
            (Version::Two, Controller::Cpu) => {
                self.write("cpu.max", &format!("{} {PERIOD}", value * PERIOD / 1000))
            }
            (Version::One, Controller::Memory) => {
                self.write("memory.limit_in_bytes", &value.to_string())?;
                self.write_if_there("memory.memsw.limit_in_bytes", &value.to_string())
            }
            (Version::Two, Controller::Memory) => {
                self.write("memory.max", &value.to_string())?;
                self.write_if_there("memory.swap.max", "0")?;
                let all = if tenancy == Tenancy::Place { "0" } else { "1" };
                self.write("memory.oom.group", all)
            }
            (version, Controller::Pids) => {
                // Nobody asked to count the agent, if it is inside, and the process that it keeps
                // ready, unless that is to become the only command.
                let own = match (version, tenancy) {
                    (_, Tenancy::Place) => 2,
                    (_, Tenancy::Lease) | (Version::Two, Tenancy::Command) => 1,
                    (Version::One, Tenancy::Command) => 0,
                };
                self.write("pids.max", &(value + own).to_string())
            }
        }
    }

    fn write(&self, file: &str, text: &str) -> Result<(), CgroupError> {
        let path = self.dir.join(file);
        let written = OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|source| refused("write", &path, source))
    }

    /// Kernels without swap accounting lack these files, and then there is nothing to limit.
    fn write_if_there(&self, file: &str, text: &str) -> Result<(), CgroupError> {
        match self.write(file, text) {
            Err(CgroupError::Refused { source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                Ok(())
            }
            result => result,
        }
    }
}

fn refused(what: &'static str, path: &Path, source: io::Error) -> CgroupError {
    CgroupError::Refused { what, path: path.to_owned(), source }
}

/// The calling process's groups, as `/proc/self/cgroup` has them.
struct OwnGroups(String);

impl OwnGroups {
    fn read() -> Result<Self, CgroupError> {
        let path = Path::new("/proc/self/cgroup");
        fs::read_to_string(path).map(Self).map_err(|source| refused("read", path, source))
    }

    /// The caller's version 1 group for `controller`, or `None` if that is of version 2.
    fn version_1(&self, controller: Controller) -> Option<&str> {
        self.lines().find_map(|(controllers, path)| {
            controllers.split(',').any(|name| name == controller.name()).then_some(path)
        })
    }

    fn version_2(&self) -> Option<&str> {
        self.lines().find_map(|(controllers, path)| controllers.is_empty().then_some(path))
    }

    /// Each hierarchy's controllers and the caller's group in it.
    fn lines(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'))
    }

    /// The directory in which a version 2 group with limits for all of `wanted`, the last of them
    /// new, can be made.
    fn version_2_parent(&self, wanted: &[Controller]) -> Result<PathBuf, CgroupError> {
        let missing = || CgroupError::NoController(wanted.last().map_or("", |c| c.name()));
        let path = self.version_2().ok_or_else(missing)?;
        let root = version_2_root().ok_or_else(missing)?;
        delegating_parent(&root, &existing(&root, path), wanted)
    }
}

/// Whether the caller may make a group in `dir`.
fn may_write(dir: &Path) -> Result<(), CgroupError> {
    descriptor::may_write(dir).map_err(|source| refused("make a group in", dir, source))
}

/// `path` below `root`; the root itself where a container shows only a part of the hierarchy.
fn existing(root: &Path, path: &str) -> PathBuf {
    let dir = match path.trim_start_matches('/') {
        // Joined, it would leave a slash at the end.
        "" => return root.to_owned(),
        path => root.join(path),
    };
    if dir.is_dir() { dir } else { root.to_owned() }
}

/// The nearest group from `own` upward that passes all of `wanted` down to its children. A group
/// with processes in it can't, so it is seldom `own` itself.
fn delegating_parent(
    root: &Path,
    own: &Path,
    wanted: &[Controller],
) -> Result<PathBuf, CgroupError> {
    let missing = |dir: &Path| -> Option<Controller> {
        let passed = fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap_or_default();
        wanted.iter().copied().find(|c| !passed.split_whitespace().any(|name| name == c.name()))
    };
    for dir in own.ancestors().take_while(|dir| dir.starts_with(root)) {
        if missing(dir).is_none() {
            return Ok(dir.to_owned());
        }
    }
    // Only the root group may pass controllers down and have processes of its own; on a machine
    // without systemd nobody else has asked it to yet.
    let all: String = wanted.iter().map(|c| format!("+{} ", c.name())).collect();
    let control = root.join("cgroup.subtree_control");
    let written = OpenOptions::new().write(true).open(&control);
    let written = written.and_then(|mut file| file.write_all(all.as_bytes()));
    match missing(root) {
        None => Ok(root.to_owned()),
        Some(controller) => Err(match written {
            Err(source) => refused("write", &control, source),
            Ok(()) => {
                CgroupError::NotDelegated { controller: controller.name(), dir: root.to_owned() }
            }
        }),
    }
}

/// Moves the calling thread into the version 1 group behind `door`. Child-safe.
///
/// Writing 0 to `tasks` moves only the writer and so spares the kernel the lock that stops every
/// fork on the machine; naming a process costs milliseconds.
pub fn enter(door: BorrowedFd<'_>) -> io::Result<()> {
    crate::descriptor::write(door, b"0").map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "9:name=systemd:/\n8:pids:/a\n4:memory:/b/c\n1:cpu,cpuacct:/\n0::/u\n";

    #[test]
    fn a_controller_belongs_to_the_hierarchy_that_lists_it() {
        let own = OwnGroups(HYBRID.into());
        assert_eq!(own.version_1(Controller::Memory), Some("/b/c"));
        assert_eq!(own.version_1(Controller::Cpu), Some("/"));
        assert_eq!(own.version_2(), Some("/u"));
        let unified = OwnGroups("0::/user.slice\n".into());
        assert_eq!(unified.version_1(Controller::Memory), None);
        assert_eq!(unified.version_2(), Some("/user.slice"));
    }

    #[test]
    fn the_nearest_group_that_passes_the_controllers_down_is_the_parent() {
        let root = std::env::temp_dir().join(format!("cgroup-test-{}", std::process::id()));
        let own = root.join("user/app/shell");
        fs::create_dir_all(&own).unwrap();
        for (dir, passed) in [("", "cpu memory pids"), ("user", "memory pids"), ("user/app", "")] {
            fs::write(root.join(dir).join("cgroup.subtree_control"), passed).unwrap();
        }
        let parent = |wanted: &[Controller]| delegating_parent(&root, &own, wanted).ok();
        assert_eq!(parent(&[Controller::Memory]), Some(root.join("user")));
        assert_eq!(parent(&[Controller::Memory, Controller::Cpu]), Some(root.clone()));
        fs::write(root.join("cgroup.subtree_control"), "").unwrap();
        // A plain file takes the request to pass it down without carrying it out.
        assert_eq!(parent(&[Controller::Cpu]), None);
        fs::remove_dir_all(&root).unwrap();
    }
}

/// How many processes of these groups, which others look after, the kernel has killed for want of
/// memory so far; none if they are gone.
pub fn oom_kills(groups: Vec<PathBuf>) -> u64 {
    Group::adopt(groups).map_or(0, |group| {
        let kills = group.oom_kills();
        group.leave();
        kills.unwrap_or(0)
    })
}

/// The groups of a process and what they limit, whoever has made them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    pub directories: Vec<PathBuf>,
    /// In the units of [`Limit`].
    pub cpu: Option<u64>,
    pub memory: Option<u64>,
    pub pids: Option<u64>,
}

impl Found {
    /// Looks at the groups of the process `pid`. A limit that can't be read counts as none.
    pub fn of(pid: i32) -> io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        let mut found = Self::default();
        let hierarchies = text.lines().filter_map(|line| {
            let mut fields = line.splitn(3, ':');
            let controllers = fields.nth(1)?;
            Some((controllers, fields.next()?.trim_start_matches('/')))
        });
        for (controllers, path) in hierarchies {
            let top = match controllers {
                "" => version_2_root(),
                _ => Some(Path::new(ROOT).join(controllers.split(',').next().unwrap_or_default())),
            };
            let Some(directory) = top.and_then(|top| directory_of(&top, path)) else { continue };
            let own = |controller: Controller| {
                controllers.is_empty() || controllers.split(',').any(|c| c == controller.name())
            };
            let all = [Controller::Cpu, Controller::Memory, Controller::Pids];
            if !all.into_iter().any(own) {
                continue;
            }
            let read = |names: &[&str]| {
                let texts = names.iter().map(|name| fs::read_to_string(directory.join(name)));
                texts.filter_map(Result::ok).find_map(|text| text.trim().parse::<u64>().ok())
            };
            if own(Controller::Memory) {
                let limit = read(&["memory.max", "memory.limit_in_bytes"]);
                // Version 1 has no word for none, but the most that it can count.
                found.memory = found.memory.or(limit.filter(|limit| *limit < i64::MAX as u64 / 2));
            }
            if own(Controller::Pids) {
                found.pids = found.pids.or(read(&["pids.max"]));
            }
            if own(Controller::Cpu) {
                found.cpu = found.cpu.or_else(|| cpu_limit(&directory));
            }
            found.directories.push(directory);
        }
        Ok(found)
    }
}

/// Where the group `path` of the hierarchy that is mounted at `top` is seen. Some containers have their
/// own group mounted there, and are told its path of outside.
fn directory_of(top: &Path, path: &str) -> Option<PathBuf> {
    let directory = top.join(path);
    if directory.is_dir() {
        return Some(directory);
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let is_it = |line: &str| {
        let mut fields = line.split(' ').skip(3);
        let root = fields.next().map(|root| root.trim_start_matches('/'));
        root == Some(path) && fields.next().map(Path::new) == Some(top)
    };
    mounts.lines().any(is_it).then(|| top.to_owned())
}

/// Thousandths of a processor that the group at `directory` may use.
fn cpu_limit(directory: &Path) -> Option<u64> {
    let read = |name: &str| fs::read_to_string(directory.join(name)).ok();
    let (quota, period) = match read("cpu.max") {
        Some(text) => {
            let (quota, period) = text.trim().split_once(' ')?;
            (quota.parse::<u64>().ok()?, period.parse::<u64>().ok()?)
        }
        None => (
            read("cpu.cfs_quota_us")?.trim().parse().ok()?,
            read("cpu.cfs_period_us")?.trim().parse().ok()?,
        ),
    };
    (quota * 1000).checked_div(period)
}
