//! What is left of a place that another process has booted.

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use agentkernel_core::{DestroyError, Remains, Remnant};
use agentkernel_sys::cgroup::Group;
use agentkernel_sys::descriptor::{self, Interest};
use agentkernel_sys::{process, signal};

/// Ends it, if it has not ended yet, and removes its groups.
pub fn clear(remnant: Remnant) -> Result<Remains, DestroyError> {
    let left = |what: &str| {
        let what = what.to_owned();
        move |source| DestroyError { what, source }
    };
    if let Some(init) = &remnant.process {
        // It may have ended a moment ago.
        let _ = process::signal_process(init.as_fd(), signal::SIGKILL);
        descriptor::poll(&mut [Interest::readable(init.as_fd())], None)
            .map_err(left("a process"))?;
    }
    let oom_kills = remove(remnant.groups).map_err(left("a control group"))?;
    Ok(Remains { oom_kills, ..Remains::default() })
}

/// Removes groups once they are empty, which takes the kernel a moment after the death of their
/// last process.
fn remove(groups: Vec<PathBuf>) -> io::Result<u64> {
    const PAUSE: Duration = Duration::from_millis(1);
    const PATIENCE: Duration = Duration::from_secs(10);
    let until = Instant::now() + PATIENCE;
    let mut group = Group::adopt(groups)?;
    // Whoever has booted the place may be removing them, too.
    let oom_kills = group.oom_kills().unwrap_or(0);
    loop {
        match group.remove() {
            Ok(()) => return Ok(oom_kills),
            Err((rest, error))
                if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < until =>
            {
                group = rest;
                // Version 1 has no event for it.
                descriptor::poll(&mut [], Some(PAUSE))?;
            }
            Err((_, error)) => return Err(error),
        }
    }
}
