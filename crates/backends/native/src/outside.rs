//! The engine's side of the split: it opens to the sandbox what only the caller may open, and
//! stays its master.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use agentkernel_core::{
    BootError, DestroyError, Identity, LimitInForce, Place, Remains, Usage, Wall,
};
use agentkernel_sys::cgroup::Tenancy;
use agentkernel_sys::descriptor::{self, Links};
use agentkernel_sys::identity as ids;
use agentkernel_sys::mount::Detached;
use agentkernel_sys::process::{self, Child, Death, Fork, Namespaces};
use agentkernel_sys::{signal, socket};

use crate::doors::{Doors, pair, word};
use crate::group::{Grouping, KeptGroup};
use crate::identity::{Mapping, one};
use crate::plan::{Plan, Purpose};
use crate::root::{Owners, Sent, Step};
use crate::{explain, group, inside};

/// A booted sandbox.
pub struct NativePlace {
    link: OwnedFd,
    /// The sandbox's process 1, until it was awaited.
    init: Option<Child>,
    group: Option<KeptGroup>,
    walls: Vec<Wall>,
    limits: Vec<LimitInForce>,
    notes: Vec<String>,
    steps: Vec<Step>,
    /// What its root stands on. If the place outlives us, its record says so.
    _image: Option<agentkernel_images::Image>,
}

/// What a living place is given to keep.
#[derive(Default)]
pub struct Given {
    pub listener: Option<OwnedFd>,
    pub fate: Option<OwnedFd>,
}

pub fn boot(plan: Plan, given: Given) -> Result<NativePlace, BootError> {
    let (link, link_inside) = pair()?;
    let (entry, entry_inside) = (plan.mapping == Mapping::Many).then(pair).transpose()?.unzip();
    let tenancy = match &plan.purpose {
        Purpose::Command(_) => Tenancy::Command,
        Purpose::Live { .. } if given.listener.is_none() => Tenancy::Lease,
        Purpose::Live { .. } => Tenancy::Place,
    };
    let (mut grouping, admission) = Grouping::begin(&plan.limits, tenancy)?;
    let Given { listener, fate } = given;
    let doors = Doors { link: link_inside, entry: entry_inside, admission, listener, fate };
    let fork = process::fork(Namespaces::USER.and(Namespaces::PID), grouping.directory());
    let init = match fork.map_err(explain::no_user_namespace)? {
        Fork::Parent(child) => child,
        Fork::Child => {
            // Our ends: inside they would keep the links open when we are dead.
            drop((link, entry));
            grouping.close_door();
            inside::run(&plan, doors)
        }
    };
    drop(doors);
    let pid = init.pid();
    // From here on, whatever goes wrong ends it.
    let mut place = NativePlace {
        link,
        init: Some(init),
        group: None,
        walls: Vec::new(),
        limits: Vec::new(),
        notes: Vec::new(),
        steps: Vec::new(),
        _image: None,
    };
    if let (Some(entry), Some(init)) = (&entry, &place.init) {
        open_entry(&plan, init, entry.as_fd())?;
    }
    let grouped = grouping.finish(&plan.limits, pid)?;
    place.limits = group::limits_in_force(&plan.limits, &grouped);
    place.group = grouped.and_then(Result::ok);
    place.walls = plan.walls;
    place.notes = plan.notes;
    place.steps = plan.root.steps;
    place._image = plan.image;
    Ok(place)
}

/// Maps the sandbox's numbers and sends it the trees that it wants.
fn open_entry(plan: &Plan, init: &Child, entry: BorrowedFd<'_>) -> Result<(), BootError> {
    let process = CString::new(init.pid().to_string()).unwrap_or_default();
    let (uid, gid) = plan.mapping.ranges(&plan.identity);
    ids::map_ids(&process, uid, gid, false).map_err(explain::no_mapping)?;
    send(entry, word::MAPPED, &[])?;
    for sent in plan.root.sent() {
        let tree = open_tree(plan.mapping, &plan.identity, Some(init), sent);
        let tree = tree.map_err(|error| explain::no_tree(sent, error))?;
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

/// Opens a tree, refusing links on the way, with its owners shown as those that the sandbox of
/// `identity`, with process 1 `init`, is to see.
pub fn open_tree(
    mapping: Mapping,
    identity: &Identity,
    init: Option<&Child>,
    sent: &Sent,
) -> io::Result<Detached> {
    let here = descriptor::current_directory();
    let place = descriptor::resolve(here, &sent.path, Links::Refuse)?;
    let tree = Detached::copy(place.as_fd(), true)?;
    let namespace = match sent.owners {
        Owners::Own => return Ok(tree),
        Owners::Image => init.ok_or(io::ErrorKind::NotConnected)?.user_namespace()?,
        Owners::User => {
            let (uid, gid) = descriptor::owner(place.as_fd())?;
            let (outside_uid, outside_gid) = mapping.outside(identity);
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

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn pid(&self) -> i32 {
        self.init.as_ref().map_or(0, Child::pid)
    }

    fn groups(&self) -> Vec<PathBuf> {
        self.group.iter().flat_map(KeptGroup::directories).collect()
    }

    fn release(mut self: Box<Self>) -> io::Result<()> {
        self.init = None;
        self.group.take().map_or(Ok(()), KeptGroup::release)
    }

    fn explain(&self, step: u16, error: io::Error) -> BootError {
        explain::unready(&self.steps, step, error)
    }

    fn kill(&self) {
        // The kernel ends a process namespace with its process 1. It may have ended already.
        if let Some(init) = &self.init {
            let _ = init.signal(signal::SIGKILL);
        }
    }

    fn destroy(mut self: Box<Self>) -> Result<Remains, DestroyError> {
        self.end()
    }
}

impl NativePlace {
    /// Ends the place, if that was not done yet.
    fn end(&mut self) -> Result<Remains, DestroyError> {
        self.kill();
        let left = |what: &str| {
            let what = what.to_owned();
            move |source| DestroyError { what, source }
        };
        // The group's last process is most often dead before process 1 is.
        let removed = self.remove_group();
        let mut remains = Remains::default();
        if let Some(init) = self.init.take() {
            remains.usage = usage(&init.wait().map_err(left("a process"))?);
        }
        remains.oom_kills = match removed {
            Ok(oom_kills) => oom_kills,
            Err(_) => self.remove_group().map_err(left("a control group"))?,
        };
        Ok(remains)
    }

    /// Removes the group, and returns how many were killed in it for want of memory.
    fn remove_group(&mut self) -> io::Result<u64> {
        let Some(group) = &mut self.group else { return Ok(0) };
        let oom_kills = group.oom_kills();
        group.remove()?;
        self.group = None;
        Ok(oom_kills)
    }
}

impl Drop for NativePlace {
    fn drop(&mut self) {
        // Nobody is there to be told.
        let _ = self.end();
    }
}

/// What the sandbox's process 1 used together with all that it awaited, which is everything
/// inside: whoever outlived it was killed and awaited by the kernel in its name.
fn usage(death: &Death) -> Usage {
    let process::Usage { user, system, max_resident } = death.usage();
    Usage { user, system, max_resident }
}
