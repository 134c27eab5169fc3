//! Process 1 where an engine starts a container once and keeps nothing of one that has ended.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use agentkernel_sys::descriptor::{self, Interest};
use agentkernel_sys::process::{self, Fork, Namespaces, Pid};
use agentkernel_sys::signal::{self, Signals};

/// Puts this program's file at `target`, which is then whole.
pub fn install(target: &Path) -> io::Result<()> {
    let part = target.with_extension("part");
    let mut from = File::open("/proc/self/exe")?;
    io::copy(&mut from, &mut File::create(&part)?)?;
    fs::set_permissions(&part, Permissions::from_mode(0o755))?;
    fs::rename(part, target)
}

/// Has one place after the other served by `serve`, each by a process of its own, with which all that
/// runs in it ends. Returns only why that can't be.
pub fn serve(serve: impl Fn() -> io::Result<()>) -> io::Result<()> {
    let deaths = Signals::receive(&[signal::SIGCHLD])?;
    loop {
        match process::fork(Namespaces::NONE, None)? {
            Fork::Child => {
                process::exit_now(i32::from(serve().is_err()));
            }
            Fork::Parent(child) => await_death(&deaths, child.pid())?,
        }
        process::signal_all(signal::SIGKILL)?;
        process::await_all_deaths();
    }
}

/// Waits until `agent` is dead, and meanwhile takes the deaths of those who have lost their parents.
fn await_death(deaths: &Signals, agent: Pid) -> io::Result<()> {
    loop {
        descriptor::poll(&mut [Interest::readable(deaths.as_fd())], None)?;
        while deaths.take()?.is_some() {}
        while let Some(death) = process::take_any_death()? {
            if death.pid == agent {
                return Ok(());
            }
        }
    }
}
