//! The process that a machine is a child of, and that is at this end of its stream.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::SystemTime;

use agentkernel_far::{Stream, carry, word};
use agentkernel_firecracker::words::{Order, Own};
use agentkernel_sys::descriptor::{self, Interest};
use agentkernel_sys::process;
use agentkernel_sys::rlimit::{self, Resource};
use agentkernel_sys::signal::{self, Signals};

use crate::console::Console;
use crate::golden;
use crate::plan::Plan;
use crate::vmm::{ANSWER, Machine, MachineError};

/// What every machine is called, as every sandbox is.
const HOST_NAME: &str = "agentkernel";

/// Serves as a bridge, to the end of the place. SIGTERM ends that.
pub fn serve() -> io::Result<()> {
    // A terminal's signals are not for those who outlive it.
    process::new_session()?;
    // For people who look at the list of processes.
    process::set_name(c"bridge")?;
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
    let output = match &plan.golden {
        // Its answer comes once it has all its connections.
        Some(_) => machine.connect_saying(&beginning().map_err(failed)?)?,
        None => machine.connect()?,
    };
    if plan.network {
        carry_packets(machine.connect()?).map_err(failed)?;
    }
    let errors = Some(last_words(machine.ask_to_connect()?, machine.console()).map_err(failed)?);
    let input = output.try_clone().map_err(failed)?;
    machine.close_doors();
    Ok((Stream { input, output, errors }, machine))
}

/// What a machine is told that is about to begin.
fn beginning() -> io::Result<Vec<u8>> {
    word::encode(&Order::Begin(own_part()?))
}

/// What a machine is told apart from all others by.
pub fn own_part() -> io::Result<Own> {
    let mut seed = [0; 32];
    agentkernel_sys::machine::random(&mut seed)?;
    let clock = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    Ok(Own { host_name: HOST_NAME.into(), seed, clock })
}

/// Is the network of a machine, whose packets come over `packets`, as long as that has one. It has its own
/// connection and its own thread, so that neither holds up the commands' stream.
fn carry_packets(packets: OwnedFd) -> io::Result<()> {
    /// What all else in this process may open.
    const OTHERS: u64 = 4096;
    // It is not to take them from the links.
    let most = OTHERS + agentkernel_usernet::DESCRIPTORS as u64;
    rlimit::limit(Resource::Descriptors, most, u64::MAX)?;
    // When it ends, so does the machine's device: that is all who is in it hears of it.
    let serve = move || agentkernel_usernet::serve(&packets);
    thread::Builder::new().name("network".into()).spawn(serve).map(drop)
}

/// What can be read as the last words of a machine: what its agent says there once it serves, or, of one
/// that has died without a word, what was on its console. The machine has been asked for the connection to
/// its `agent`, and nobody else waits for the answer.
fn last_words(agent: OwnedFd, console: Console) -> io::Result<OwnedFd> {
    let (words, to) = descriptor::pipe()?;
    let pass_on = move || {
        let (mut agent, mut to) = (BufReader::new(File::from(agent)), File::from(to));
        // What was refused, or is no more, says nothing.
        let _ = agent.by_ref().take(ANSWER).skip_until(b'\n');
        let mut silent = true;
        // By hand: io::copy has splice(2) wait for the agent with the pipe locked, and who then closes the
        // other end of that waits along with it, for good.
        while let Ok(said @ [_, ..]) = agent.fill_buf() {
            silent = false;
            let said = to.write_all(said).map(|()| said.len());
            // Who hears of it no more needs none.
            let Ok(passed_on) = said else { break };
            agent.consume(passed_on);
        }
        if silent {
            let _ = to.write_all(console.last_words().as_bytes());
        }
    };
    thread::Builder::new().name("words".into()).spawn(pass_on)?;
    Ok(words)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use agentkernel_sys::socket;

    use super::*;

    /// What is heard of a machine with this on its console whose agent has said this.
    fn heard(console: &str, said: &str) -> String {
        let (read, write) = descriptor::pipe().unwrap();
        File::from(write).write_all(console.as_bytes()).unwrap();
        let console = Console::keep(read);
        let (agent, theirs) = descriptor::pipe().unwrap();
        File::from(theirs).write_all(said.as_bytes()).unwrap();
        let mut text = String::new();
        File::from(last_words(agent, console).unwrap()).read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_machine_that_dies_without_a_word_has_its_consoles() {
        for unsaid in ["", "OK 5", "OK 5\n"] {
            assert_eq!(heard("panic", unsaid), "; it said last:\npanic");
        }
        assert_eq!(heard("panic", "OK 5\noom-kills 1\n"), "oom-kills 1\n");
    }

    #[test]
    fn who_does_not_hear_them_waits_for_no_agent() {
        let console = Console::keep(descriptor::pipe().unwrap().0);
        let (agent, theirs) = socket::pair().unwrap();
        let words = last_words(agent, console).unwrap();
        let mut theirs = File::from(theirs);
        theirs.write_all(b"OK 5\nserving").unwrap();
        let mut heard = [0; 7];
        File::from(words.try_clone().unwrap()).read_exact(&mut heard).unwrap();
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            drop(words);
            tell.send(())
        });
        // Whoever passes them on waits for the next one meanwhile.
        assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(()), "it waits to close");
        drop(theirs);
    }
}
