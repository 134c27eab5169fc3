//! The process that a machine is a child of, and that is at this end of its stream.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::thread;

use agentkernel_far::{Stream, carry};
use agentkernel_sys::descriptor::{self, Interest};
use agentkernel_sys::process;
use agentkernel_sys::signal::{self, Signals};

use crate::golden;
use crate::plan::Plan;
use crate::vmm::{Machine, MachineError};

/// Serves as a bridge, to the end of the place. SIGTERM ends that.
pub fn bridge() -> io::Result<()> {
    // A terminal's signals are not for those who outlive it.
    process::new_session()?;
    let machine = Arc::new(OnceLock::new());
    end_when_told(Arc::clone(&machine))?;
    let mut owner = None;
    carry(|plan| {
        let plan: Plan = serde_json::from_str(plan).map_err(|error| error.to_string())?;
        let (stream, booted) = open(&plan, &machine).map_err(|error| error.to_string())?;
        owner = Some(booted);
        Ok(stream)
    })
}

/// Has SIGTERM kill the machine, of which all else comes, or this process while there is none.
fn end_when_told(machine: Arc<OnceLock<OwnedFd>>) -> io::Result<()> {
    let signals = Signals::receive(&[signal::SIGTERM])?;
    let wait = move || {
        let _ = descriptor::poll(&mut [Interest::readable(signals.as_fd())], None);
        match machine.get() {
            Some(machine) => {
                // It may have ended of itself.
                let _ = process::signal_process(machine.as_fd(), signal::SIGKILL);
            }
            None => process::exit_now(1),
        }
    };
    thread::Builder::new().name("signals".into()).spawn(wait).map(drop)
}

/// Boots a machine, or has one that was booted before, and opens the stream into it.
fn open(plan: &Plan, killable: &OnceLock<OwnedFd>) -> Result<(Stream, Machine), MachineError> {
    let failed = |source| MachineError::Io { what: "can't connect to the machine", source };
    let mut machine = match &plan.golden {
        Some(golden) => golden::copy(plan, golden)?,
        None => Machine::boot(plan)?,
    };
    let _ = killable.set(machine.process().try_clone_to_owned().map_err(failed)?);
    let output = machine.connect()?;
    // For last words, once it serves.
    let errors = Some(machine.connect()?);
    let input = output.try_clone().map_err(failed)?;
    machine.close_doors();
    Ok((Stream { input, output, errors }, machine))
}
