//! A sandbox's control group, and how its command gets into it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agentkernel_core::{BootError, LimitInForce};
use agentkernel_sys::cgroup::{CgroupError, Group, Site, Tenancy, Version};
use agentkernel_sys::keeper::Kept;
use agentkernel_sys::process::Pid;
use agentkernel_sys::socket;

use crate::doors::{Admission, pair, word};
use crate::limits::LimitPlan;

/// A group that is removed whatever becomes of agentkernel.
pub struct KeptGroup {
    group: Option<Group>,
    kept: Option<Kept>,
}

impl KeptGroup {
    fn make(site: &Site, tenancy: Tenancy) -> Result<Self, CgroupError> {
        let name = group_name();
        let kept = Kept::new(site.directories(&name)).map_err(CgroupError::NoKeeper)?;
        // Without a group this is dropped, and taken out of the keeper's care.
        let mut made = Self { group: None, kept: Some(kept) };
        made.group = Some(site.make(&name, tenancy)?);
        Ok(made)
    }

    /// Leaves the group to whoever removes it later.
    pub fn release(mut self) -> io::Result<()> {
        if let Some(group) = self.group.take() {
            group.leave();
        }
        self.kept.take().map_or(Ok(()), Kept::release)
    }

    pub fn group(&self) -> Option<&Group> {
        self.group.as_ref()
    }

    /// What it consists of.
    pub fn directories(&self) -> impl Iterator<Item = PathBuf> {
        self.group.iter().flat_map(Group::directories).map(Path::to_owned)
    }

    /// Has it outlive `init`, the sandbox's process 1, even if agentkernel does not.
    fn outlive(&self, init: Pid) {
        if let Some(kept) = &self.kept {
            kept.outlive(init);
        }
    }

    /// How many processes were killed in it for want of memory.
    pub fn oom_kills(&self) -> u64 {
        self.group.as_ref().and_then(|group| group.oom_kills().ok()).unwrap_or(0)
    }

    /// Removes it, unless processes in it still live. It can be tried again.
    pub fn remove(&mut self) -> io::Result<()> {
        if let Some(group) = self.group.take() {
            group.remove().map_err(|(group, error)| {
                self.group = Some(group);
                error
            })?;
        }
        self.kept.take().map_or(Ok(()), Kept::release)
    }
}

impl Drop for KeptGroup {
    fn drop(&mut self) {
        // What can't be removed now stays; nobody is there to be told.
        self.group = None;
        let _ = self.kept.take().map_or(Ok(()), Kept::release);
    }
}

/// The group that a sandbox has, or the reason why it has none; `None` if it needs none.
pub type Grouped = Option<Result<KeptGroup, CgroupError>>;

/// A group in the making. Of version 2 it is made before the process that is to live in it; of
/// version 1 it is made beside the sandbox, since the command can enter it later by itself.
pub struct Grouping {
    pub grouped: Grouped,
    /// Where the command waits for the doors of its version 1 groups.
    door: Option<OwnedFd>,
    tenancy: Tenancy,
}

impl Grouping {
    pub fn begin(limits: &LimitPlan, tenancy: Tenancy) -> Result<(Self, Admission), BootError> {
        let mut admission = Admission {
            door: None,
            beyond_group: limits.beyond_group(),
            instead_of_group: limits.instead_of_group(),
        };
        let mut grouping = Self { grouped: None, door: None, tenancy };
        if limits.site.has(Version::Two) {
            grouping.grouped = Some(make(limits, tenancy)?);
        }
        if matches!(grouping.grouped, Some(Err(_))) {
            admission.beyond_group.append(&mut admission.instead_of_group);
        } else if limits.site.has(Version::One) {
            let (door, inside) = pair()?;
            (grouping.door, admission.door) = (Some(door), Some(inside));
        }
        Ok((grouping, admission))
    }

    /// Closes the engine's end of the command's door, in the copy that the sandbox's side has.
    pub fn close_door(&mut self) {
        self.door = None;
    }

    /// The version 2 group's directory, for a process to be made in.
    pub fn directory(&self) -> Option<BorrowedFd<'_>> {
        self.grouped.as_ref()?.as_ref().ok()?.group()?.directory()
    }

    /// Makes the group for the sandbox of `init` if that is still to be done, and lets the command
    /// in.
    pub fn finish(mut self, limits: &LimitPlan, init: Pid) -> Result<Grouped, BootError> {
        if self.grouped.is_none() && self.door.is_some() {
            self.grouped = Some(make(limits, self.tenancy)?);
        }
        if let Some(Ok(kept)) = &self.grouped {
            kept.outlive(init);
        }
        let Some(door) = self.door else { return Ok(self.grouped) };
        let sent = match self.grouped.as_ref().and_then(|grouped| grouped.as_ref().ok()) {
            Some(kept) => {
                let entrances: Vec<BorrowedFd<'_>> =
                    kept.group().into_iter().flat_map(Group::entrances).collect();
                socket::send(door.as_fd(), &[word::ADMITTED], &entrances)
            }
            None => socket::send(door.as_fd(), &[word::NO_GROUP], &[]),
        };
        match sent {
            // A sandbox that died over something else says so itself, over its link.
            Err(source) if source.kind() != io::ErrorKind::BrokenPipe => Err(BootError::Failed {
                what: "can't admit the command to its control group".into(),
                source,
            }),
            _ => Ok(self.grouped),
        }
    }
}

/// Makes the group, or says why there is none if the spec can do without.
fn make(limits: &LimitPlan, tenancy: Tenancy) -> Result<Result<KeptGroup, CgroupError>, BootError> {
    let made = KeptGroup::make(&limits.site, tenancy);
    if let Err(why) = &made {
        limits.without_group(why)?;
    }
    Ok(made)
}

/// The limits in force in a sandbox with this group, or without one.
pub fn limits_in_force(limits: &LimitPlan, grouped: &Grouped) -> Vec<LimitInForce> {
    match grouped {
        Some(Ok(kept)) => {
            let means = |controller| Some(kept.group()?.enforced_by(controller)?.name());
            limits.in_force(means, "")
        }
        Some(Err(why)) => limits.in_force(|_| None, &why.to_string()),
        None => limits.in_force(|_| None, ""),
    }
}

/// A name for the group of a sandbox that the calling process boots now. A number of a process
/// comes back; together with the time it does not.
pub fn group_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{PREFIX}{}-{:x}-{count}", std::process::id(), now.as_nanos())
}

const PREFIX: &str = "agentkernel-";

/// Who has made a group, and when, after 1970.
pub struct Maker {
    pub pid: Pid,
    pub made: Duration,
}

impl Maker {
    /// What a [name](group_name) tells of it; none if it is no such name.
    pub fn of(name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix(PREFIX)?.splitn(3, '-');
        let (pid, nanos, count) = (parts.next()?, parts.next()?, parts.next()?);
        let _: u64 = count.parse().ok()?;
        let nanos = u64::from_str_radix(nanos, 16).ok()?;
        Some(Self { pid: pid.parse().ok()?, made: Duration::from_nanos(nanos) })
    }
}
