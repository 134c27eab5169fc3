//! The engine's side of the split: it opens to the sandbox what only the caller may open, and
//! stays its master.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use agentkernel_core::{BootError, DestroyError, LimitInForce, Place, Remains, Usage, Wall};
use agentkernel_sys::cgroup::{CgroupError, Group, Version};
use agentkernel_sys::descriptor::{self, Links};
use agentkernel_sys::identity as ids;
use agentkernel_sys::mount::Detached;
use agentkernel_sys::process::{self, Child, Death, Fork, Namespaces};
use agentkernel_sys::{signal, socket};

use crate::identity::{Mapping, one};
use crate::inside::{self, Admission, Doors, word};
use crate::keeper::Keeper;
use crate::plan::Plan;
use crate::root::{Owners, Sent, Step};
use crate::{explain, leftovers};

/// A booted sandbox.
pub struct NativePlace {
    link: OwnedFd,
    init: Init,
    group: Option<Group>,
    keeper: Option<Keeper>,
    walls: Vec<Wall>,
    limits: Vec<LimitInForce>,
    steps: Vec<Step>,
}

/// The sandbox's process 1: killed, and awaited, when this is dropped.
struct Init(Child);

impl Drop for Init {
    fn drop(&mut self) {
        // It may be dead already, and awaited; nobody is there to be told of anything else.
        let _ = self.0.signal(signal::SIGKILL);
        let _ = self.0.wait();
    }
}

/// A sandbox's group in the making.
struct Grouping {
    /// The group, or why there is none; not known before the sandbox is made, if that is `None`.
    made: Option<Result<Group, CgroupError>>,
    /// Where the command waits for the doors of its version 1 groups.
    door: Option<OwnedFd>,
}

pub fn boot(plan: Plan) -> Result<NativePlace, BootError> {
    let (link, link_inside) = pair()?;
    let (entry, entry_inside) = (plan.mapping == Mapping::Many).then(pair).transpose()?.unzip();
    let (grouping, admission) = begin_group(&plan)?;
    let doors = Doors { link: link_inside, entry: entry_inside, admission };
    let directory = match &grouping.made {
        Some(Ok(group)) => group.directory(),
        _ => None,
    };
    // SAFETY: everything in `inside` is child-safe.
    let fork = unsafe { process::fork(Namespaces::USER.and(Namespaces::PID), directory) };
    let init = match fork.map_err(explain::no_user_namespace)? {
        Fork::Parent(child) => Init(child),
        Fork::Child => {
            // Our ends: inside they would keep the links open when we are dead.
            drop((link, entry, grouping.door));
            inside::run(&plan, doors)
        }
    };
    drop(doors);
    if let Some(entry) = &entry {
        open_entry(&plan, &init.0, entry.as_fd())?;
    }
    let group = finish_group(&plan, grouping)?;
    let limits = plan.limits.in_force(&group);
    let group = group.and_then(Result::ok);
    let Plan { walls, root, .. } = plan;
    Ok(NativePlace { link, init, group, keeper: None, walls, limits, steps: root.steps })
}

fn pair() -> Result<(OwnedFd, OwnedFd), BootError> {
    socket::pair().map_err(|source| BootError::Failed { what: "can't make a link".into(), source })
}

/// A version 2 group is made before the process that is to live in it. One of version 1 is made
/// beside the sandbox, since the command can enter it later by itself.
fn begin_group(plan: &Plan) -> Result<(Grouping, Admission), BootError> {
    let limits = &plan.limits;
    let mut admission = Admission {
        door: None,
        beyond_group: limits.beyond_group(),
        instead_of_group: limits.instead_of_group(),
    };
    let mut grouping = Grouping { made: None, door: None };
    if limits.site.has(Version::Two) {
        grouping.made = Some(make_group(plan)?);
    }
    if matches!(grouping.made, Some(Err(_))) {
        admission.beyond_group.append(&mut admission.instead_of_group);
    } else if limits.site.has(Version::One) {
        let (door, inside) = pair()?;
        (grouping.door, admission.door) = (Some(door), Some(inside));
    }
    Ok((grouping, admission))
}

/// Makes the group, or says why there is none if the spec can do without.
fn make_group(plan: &Plan) -> Result<Result<Group, CgroupError>, BootError> {
    let made = plan.limits.site.make(&leftovers::group_name());
    if let Err(why) = &made {
        plan.limits.without_group(why)?;
    }
    Ok(made)
}

/// Makes the group if that is still to be done, and lets the command in.
fn finish_group(
    plan: &Plan,
    grouping: Grouping,
) -> Result<Option<Result<Group, CgroupError>>, BootError> {
    let Some(door) = grouping.door else {
        return Ok(grouping.made);
    };
    let made = match grouping.made {
        Some(made) => made,
        None => make_group(plan)?,
    };
    let sent = match &made {
        Ok(group) => {
            let entrances: Vec<BorrowedFd<'_>> = group.entrances().collect();
            socket::send(door.as_fd(), &[word::ADMITTED], &entrances)
        }
        Err(_) => socket::send(door.as_fd(), &[word::NO_GROUP], &[]),
    };
    match sent {
        // A sandbox that died over something else says so itself, over its link.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(failed("can't admit the command to its control group", error))
        }
        _ => Ok(Some(made)),
    }
}

/// Maps the sandbox's numbers and sends it the trees that it wants.
fn open_entry(plan: &Plan, init: &Child, entry: BorrowedFd<'_>) -> Result<(), BootError> {
    let process = CString::new(init.pid().to_string()).unwrap_or_default();
    let (uid, gid) = plan.mapping.ranges(&plan.identity);
    ids::map_ids(&process, uid, gid, false).map_err(explain::no_mapping)?;
    send(entry, word::MAPPED, &[])?;
    for sent in plan.root.sent() {
        let tree = open_tree(plan, init, sent).map_err(|error| explain::no_tree(sent, error))?;
        send(entry, word::TREE, &[tree.as_fd()])?;
    }
    Ok(())
}

fn send(entry: BorrowedFd<'_>, word: u8, fds: &[BorrowedFd<'_>]) -> Result<(), BootError> {
    match socket::send(entry, &[word], fds) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(failed("can't reach the sandbox", error))
        }
        _ => Ok(()),
    }
}

/// Opens a tree, refusing links on the way, with its owners shown as those that the sandbox is to
/// see.
fn open_tree(plan: &Plan, init: &Child, sent: &Sent) -> io::Result<Detached> {
    let here = descriptor::current_directory();
    let place = descriptor::resolve(here, &sent.path, Links::Refuse)?;
    let tree = Detached::copy(place.as_fd(), true)?;
    let namespace = match sent.owners {
        Owners::Image => init.user_namespace()?,
        Owners::User => {
            let (uid, gid) = descriptor::owner(place.as_fd())?;
            let (outside_uid, outside_gid) = plan.mapping.outside(&plan.identity);
            ids::mapping_namespace(one(uid, outside_uid), one(gid, outside_gid))?
        }
    };
    tree.map_owners(namespace.as_fd())?;
    Ok(tree)
}

fn failed(what: &str, source: io::Error) -> BootError {
    BootError::Failed { what: what.into(), source }
}

impl Place for NativePlace {
    fn link(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }

    fn walls(&self) -> &[Wall] {
        &self.walls
    }

    fn limits(&self) -> &[LimitInForce] {
        &self.limits
    }

    fn attend(&mut self) -> io::Result<()> {
        if let (Some(group), None) = (&self.group, &self.keeper) {
            self.keeper = Some(Keeper::start(group, self.init.0.pidfd())?);
            leftovers::sweep(group);
        }
        Ok(())
    }

    fn explain(&self, step: u16, error: io::Error) -> BootError {
        explain::unready(&self.steps, step, error)
    }

    fn kill(&self) {
        // The kernel ends a process namespace with its process 1. It may have ended already.
        let _ = self.init.0.signal(signal::SIGKILL);
    }

    fn destroy(self: Box<Self>) -> Result<Remains, DestroyError> {
        self.kill();
        let Self { init, group, keeper, .. } = *self;
        let left = |what: &str| {
            let what = what.to_owned();
            move |source| DestroyError { what, source }
        };
        // Its last process is most often dead already, and the group gone before process 1 is.
        let oom_kills = group.as_ref().and_then(|group| group.oom_kills().ok()).unwrap_or(0);
        let group = group.and_then(|group| group.remove().err());
        let death = init.0.wait().map_err(left("a process"))?;
        let mut remains = Remains { usage: usage(&death), oom_kills };
        if let Some((group, _)) = group {
            remains.oom_kills = group.oom_kills().unwrap_or(oom_kills);
            group.remove().map_err(|(_, error)| left("a control group")(error))?;
        }
        if let Some(keeper) = keeper {
            keeper.dismiss().map_err(left("the control group's keeper"))?;
        }
        Ok(remains)
    }
}

/// What the sandbox's process 1 used together with all that it awaited, which is everything
/// inside: whoever outlived it was killed and awaited by the kernel in its name.
fn usage(death: &Death) -> Usage {
    Usage {
        user: death.user_time(),
        system: death.system_time(),
        max_resident: death.max_resident(),
    }
}
