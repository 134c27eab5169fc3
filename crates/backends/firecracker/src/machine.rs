//! The inside of a machine: its process 1, which the kernel starts, and the agent, which that makes.
//!
//! They are the same program as the agent of a container, from the machine's initial root. Process 1
//! starts the agent in a process namespace of its own, and when that has ended, so does the machine:
//! nothing else is ever of use in it.

mod folders;
mod mounts;
mod net;
mod root;
mod serve;

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use agentkernel_sys::mount::Restrictions;
use agentkernel_sys::process::{self, Fork, Namespaces};
use agentkernel_sys::{machine, network, socket};

use mounts::mount_at;

/// The argument by which it is process 1 of a machine.
pub const MACHINE: &str = "machine";

/// Modules of the kernel, and the file with their names in the order in which they are loaded. A
/// kernel that has all in itself needs none.
pub const MODULES: &str = "/modules";
pub const ORDER: &str = "order";

/// The file with the names of those that only a machine with a network loads.
pub const NETWORK_ORDER: &str = "order-network";

/// Whether the calling process, which was started as an agent, is process 1 of a machine.
pub fn is_meant() -> bool {
    env::args_os().nth(1).as_deref() == Some(OsStr::new(MACHINE))
}

/// Is process 1 of a machine to its end.
pub fn run() -> ! {
    if let Err(error) = live() {
        // The machine's console, of which its host keeps the last.
        eprintln!("agentkernel: the machine can't be set up: {error}");
    }
    let error = machine::reboot();
    eprintln!("agentkernel: the machine can't end: {error}");
    // The kernel panics of that, and ends.
    process::exit_now(1)
}

fn live() -> io::Result<()> {
    process::set_umask(0o022);
    mount_at("devtmpfs", "/dev", Restrictions::NONE, "")?;
    mount_at("proc", "/proc", Restrictions::NONE, "")?;
    mount_at("sysfs", "/sys", Restrictions::NONE, "")?;
    load_modules(ORDER)?;
    mount_at("cgroup2", "/sys/fs/cgroup", Restrictions::NONE, "")?;
    network::loopback_up()?;
    // It listens before it parts, so that whoever finds a machine finds it listening.
    let listener = serve::listen()?;
    let (home, agents) = socket::pair()?;
    let namespaces =
        Namespaces::PID.and(Namespaces::MOUNT).and(Namespaces::IPC).and(Namespaces::UTS);
    match process::fork(namespaces, None)? {
        Fork::Child => {
            drop(home);
            let status = match serve::serve(listener, agents) {
                Ok(()) => 0,
                Err(error) => {
                    eprintln!("agentkernel: the sandbox can't be made: {error}");
                    1
                }
            };
            process::exit_now(status)
        }
        Fork::Parent(agent) => {
            drop((listener, agents));
            net::carry_for(&home, agent.pidfd());
            agent.wait().map(drop)
        }
    }
}

fn load_modules(order: &str) -> io::Result<()> {
    let order = match fs::read_to_string(Path::new(MODULES).join(order)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        order => order?,
    };
    for name in order.lines() {
        let path = Path::new(MODULES).join(name);
        let loaded = File::open(&path).and_then(|file| machine::load_module(&file));
        match loaded {
            // It is in the kernel already.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            done => done.map_err(|error| {
                io::Error::other(format!("can't load the kernel's module {name}: {error}"))
            })?,
        }
    }
    Ok(())
}
