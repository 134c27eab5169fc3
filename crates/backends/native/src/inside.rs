//! The sandbox's side of the split: process 1, which makes the place and then serves it.
//!
//! Everything here is child-safe, until a place that lives is ready and served.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use agentkernel_guest::{Agent, Forked, LiveAgent, Nearest, Prepared, ReadyAgent, Term};
use agentkernel_protocol::FromAgent;
use agentkernel_sys::cgroup;
use agentkernel_sys::process::{self, Namespaces};
use agentkernel_sys::{descriptor, entry, identity, landlock, mount, network, socket};

use crate::doors::{Admission, Doors, step, word};
use crate::plan::{Plan, Purpose};
use crate::root::{self, Behind, Step};

/// Makes the place and serves it to its end.
pub fn run(plan: &Plan, doors: Doors) -> ! {
    let Doors { link, entry, admission, listener, fate } = doors;
    let served = Agent::new(link).and_then(|agent| match &plan.purpose {
        Purpose::Command(command) => {
            match make_for_command(plan, command, &agent, entry.as_ref(), &admission) {
                Ok(first) => agent.serve(first),
                Err(failure) => refuse(&agent, failure),
            }
        }
        Purpose::Live { outlives, ttl, idle } => {
            let term = Term { listener, fate, ttl: *ttl, idle: *idle };
            match make_to_live(plan, &term, *outlives, &agent, entry.as_ref(), &admission) {
                Ok((behind, namespace)) => {
                    let mut count = 0;
                    let mut attach = |what, tree| match &behind {
                        Some(behind) => root::attach(behind, &mut count, what, tree),
                        None => Err(io::ErrorKind::Unsupported.into()),
                    };
                    let ready = ReadyAgent::new(agent, &plan.rules);
                    LiveAgent::new(ready, &plan.rules, term, &mut attach)
                        .handing_out(namespace)
                        .serve()
                }
                Err(failure) => refuse(&agent, failure),
            }
        }
    });
    // Without a link nobody is left to be told, and with this process everything here ends.
    process::exit_now(if served.is_ok() { 0 } else { 1 })
}

fn refuse(agent: &Agent, (step, error): Failure) -> io::Result<()> {
    agent.say(FromAgent::Unready { step, errno: error.raw_os_error().unwrap_or(0) })
}

type Failure = (u16, io::Error);

fn make_for_command(
    plan: &Plan,
    command: &Prepared,
    agent: &Agent,
    entry: Option<&OwnedFd>,
    admission: &Admission,
) -> Result<Forked, Failure> {
    let at = |step| move |error| (step, error);
    part()?;
    let place = || settle_in(plan.own_network, admission);
    let first = agent.fork_first(command, &plan.rules, place).map_err(at(step::COMMAND))?;
    let entrance = entry.map(AsFd::as_fd);
    agent
        .close_inherited(Some(&first), [entrance, None, None, None, None], None)
        .map_err(at(step::DESCRIPTORS))?;
    make_root(plan, agent, entry, true, |_| Ok(()))?;
    Ok(first)
}

/// Makes a place that lives. Where clients may add to it, returns what that takes: the scratch space,
/// and the place's user namespace.
fn make_to_live(
    plan: &Plan,
    term: &Term,
    outlives: bool,
    agent: &Agent,
    entry: Option<&OwnedFd>,
    admission: &Admission,
) -> Result<(Option<Behind>, Option<OwnedFd>), Failure> {
    let at = |step| move |error| (step, error);
    part()?;
    settle_in(plan.own_network, admission).map_err(at(step::COMMAND))?;
    let keep = [entry, term.listener.as_ref(), term.fate.as_ref(), None, None];
    agent
        .close_inherited(None, keep.map(|fd| fd.map(AsFd::as_fd)), plan.rules.modules)
        .map_err(at(step::DESCRIPTORS))?;
    let (mut scratch, mut namespace) = (None, None);
    let additions = term.listener.is_none();
    make_root(plan, agent, entry, !outlives, |next| {
        if additions && matches!(next, Step::Enter) {
            scratch = Some(Behind::hold()?);
            // A root without programs has no `/proc`.
            namespace = Some(descriptor::open_read(c"/proc/self/ns/user")?);
        }
        Ok(())
    })?;
    // Else a pipe of the agent's would take the number of a command's stream.
    entry::open_standard_streams();
    let behind = scratch.map(Behind::hide).transpose().map_err(at(step::BEHIND))?;
    if let Some(version) = plan.landlock {
        let writable = plan.root.writable.iter().map(|path| path.as_c_str());
        landlock::restrict(version, writable).map_err(at(step::LANDLOCK))?;
    }
    Ok((behind, namespace))
}

/// Parts from the caller's session, and from what needs no more than that.
fn part() -> Result<(), Failure> {
    let at = |step| move |error| (step, error);
    process::new_session().map_err(at(step::PARENT))?;
    process::set_umask(0);
    let namespaces = Namespaces::MOUNT.and(Namespaces::IPC).and(Namespaces::UTS);
    process::unshare(namespaces).map_err(at(step::NAMESPACES))
}

/// Becomes the sandbox's user and makes the root. `before` sees each step ahead of time.
fn make_root(
    plan: &Plan,
    agent: &Agent,
    entry: Option<&OwnedFd>,
    dies_with_parent: bool,
    mut before: impl FnMut(&Step) -> io::Result<()>,
) -> Result<(), Failure> {
    let at = |step| move |error| (step, error);
    become_sandbox_user(plan, agent, entry, dies_with_parent)?;
    // Where it can't be set, by a container's read-only settings, that is no wall that was
    // promised.
    let _ = identity::limit_inotify_instances(identity::INOTIFY_INSTANCES);
    mount::make_private().map_err(at(step::PRIVATE_MOUNTS))?;
    let mut sent =
        || receive(entry, word::TREE)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into());
    for (number, step) in (0..).zip(&plan.root.steps) {
        before(step).and_then(|()| step.execute(&mut sent)).map_err(at(number))?;
    }
    process::set_host_name(c"agentkernel").map_err(at(step::HOST_NAME))
}

fn become_sandbox_user(
    plan: &Plan,
    agent: &Agent,
    entry: Option<&OwnedFd>,
    dies_with_parent: bool,
) -> Result<(), Failure> {
    let at = |step| move |error| (step, error);
    if entry.is_some() {
        receive(entry, word::MAPPED).map_err(at(step::MAPPING))?;
    } else {
        let (uid, gid) = plan.mapping.ranges(&plan.identity);
        identity::map_ids(c"self", uid, gid, true).map_err(at(step::MAPPING))?;
    }
    let agentkernel_core::Identity { uid, gid, .. } = plan.identity;
    identity::become_user(uid, gid, entry.is_some()).map_err(at(step::IDENTITY))?;
    process::hide().map_err(at(step::IDENTITY))?;
    if !dies_with_parent {
        return Ok(());
    }
    // After the change of identity, which would undo it; and if the parent is dead already, its
    // end of the link is closed.
    process::die_with_parent().map_err(at(step::PARENT))?;
    if agent.is_deserted().map_err(at(step::PARENT))? {
        process::exit_now(1);
    }
    Ok(())
}

/// What the command's process does by itself while the agent makes the root: gets a network and
/// gets under its limits.
fn settle_in(own_network: bool, admission: &Admission) -> io::Result<()> {
    if own_network {
        process::unshare(Namespaces::NETWORK)?;
        network::loopback_up()?;
    }
    let grouped = match &admission.door {
        Some(door) => enter_groups(door.as_fd())?,
        None => true,
    };
    if !grouped {
        admission.instead_of_group.iter().try_for_each(Nearest::apply)?;
    }
    admission.beyond_group.iter().try_for_each(Nearest::apply)?;
    // In its group now, which becomes the top of what it can see.
    process::unshare(Namespaces::CGROUP)
}

/// Enters the groups that the engine opened. Returns false when there are none.
fn enter_groups(door: BorrowedFd<'_>) -> io::Result<bool> {
    let mut said = [0];
    let (read, doors) = socket::receive(door, &mut said)?;
    match (read, said[0]) {
        (1, word::ADMITTED) => {
            doors.iter().flatten().try_for_each(|door| cgroup::enter(door.as_fd()))?;
            Ok(true)
        }
        (1, word::NO_GROUP) => Ok(false),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Waits for the engine's `word`, and returns the descriptor that came with it.
fn receive(entry: Option<&OwnedFd>, word: u8) -> io::Result<Option<OwnedFd>> {
    let entry = entry.ok_or(io::ErrorKind::NotConnected)?;
    let mut said = [0];
    let (read, [first, ..]) = socket::receive(entry.as_fd(), &mut said)?;
    if read == 1 && said[0] == word { Ok(first) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}
