//! Engines as from another machine: behind a port that leads to a local one.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;

use agentkernel_core::Capability;

use crate::lent::pass_on;
use crate::{NotPassed, Route, Subject};

/// What follows a backend's name in the label of such a subject.
pub(crate) const fn suffix(foreign: bool) -> &'static str {
    if foreign { "-foreign" } else { "-far" }
}

/// What its places can't do.
pub(crate) const LACKING: [Capability; 5] = [
    Capability::Ports,
    Capability::MountReadOnly,
    Capability::MountReadWrite,
    Capability::MountCopyOnWrite,
    Capability::Changes,
];

const BACKGROUND: &str = "what goes on in the background has its log here, and its engine is there";
const MOUNTS: &str = "it mounts a copy of a folder of this machine";
const UNTOLD: &str = "of a sandbox that lives elsewhere nobody tells how often memory ran out";

/// What can't be seen there, and why, by behaviours' names.
pub(crate) const LEFT_OUT: &[(&str, &str)] = &[
    ("attach", BACKGROUND),
    ("audit-tells-of-signals-and-refusals", BACKGROUND),
    ("audit-without-secrets", BACKGROUND),
    ("background-list", BACKGROUND),
    ("background-signal", BACKGROUND),
    ("background-time-limit", BACKGROUND),
    ("files-outlive-a-stop", BACKGROUND),
    ("idle-begins-after-the-background", BACKGROUND),
    ("killed-stopper", BACKGROUND),
    ("logs-are-bounded", BACKGROUND),
    ("logs-follow", BACKGROUND),
    ("logs-keep-streams-apart", BACKGROUND),
    ("logs-of-any-sandbox", BACKGROUND),
    ("pause-stops-all-progress", BACKGROUND),
    ("stop-asks-first", BACKGROUND),
    ("odd-state-path", MOUNTS),
    ("rm-leaves-nothing", MOUNTS),
    ("exec-out-of-memory", UNTOLD),
    ("killed-first-process", "its first process is on the machine of its engine"),
];

/// The same in a machine with a kernel of its own.
const LEFT_OUT_MACHINES: &[(&str, &str)] = &[
    ("volumes-in-each-other", "one of them is a file, and a machine has copies of folders"),
    ("time-limit-for-all", UNSEEN),
    ("exec-dies-with-its-client", UNSEEN),
    ("background-ends-with-the-command", UNSEEN),
];

const NO_LOOPBACK: &str = "a pod has one network, of which commands without one get no sockets";
const NO_PIDS: &str = "a cluster has no limit of processes for one pod";

/// The same in a pod.
const LEFT_OUT_PODS: &[(&str, &str)] = &[
    ("exec-as-another-user", "all in a pod are one user"),
    ("host-loopback", NO_LOOPBACK),
    ("limits-of-a-profile-hold", NO_PIDS),
    ("moderate-root-is-thrown-away", "only root could write there, and nobody is root in a pod"),
    ("network-none", NO_LOOPBACK),
];

const UNSEEN: &str = "the host sees nothing of what runs in it";

/// The same in an allocation.
const LEFT_OUT_ALLOCATIONS: &[(&str, &str)] = &[
    ("image-by-digest", NODES),
    ("image-by-tag", NODES),
    ("image-pulled-for-a-life", NODES),
    ("image-when-to-pull", NODES),
    ("restrictive-root-is-read-only", "root could write in /dev there, and is refused"),
    ("limit-memory-covers-scratch", "its /tmp is on the node's disk"),
    ("image-without-a-shell", "the agent is sent through the image's shell"),
];

const NODES: &str = "each node fetches its images by itself, and says nothing of it";

/// The same of sandboxes that live.
const LEFT_OUT_LIVE: &[(&str, &str)] = &[("out-of-memory", UNTOLD)];

const ONLY_A_STATUS: &str =
    "an engine tells of an exec's death by a signal the status that shells have";

const NOT_USED: &str = "an engine does not tell what an exec has used";

/// The same where commands are the engine's own exec.
const LEFT_OUT_FOREIGN: &[(&str, &str)] = &[
    ("report-usage", NOT_USED),
    ("limit-cpus", NOT_USED),
    ("deaths-by-signal", ONLY_A_STATUS),
    ("out-of-memory", "an engine does not tell of an exec that memory ran out"),
    ("arguments-that-are-no-text", "an engine's API takes text alone"),
    ("image-without-a-shell", "an exec takes the image's shell, and without one it is refused"),
    ("cp-there-and-back", NO_AGENT),
    ("cp-where-to", NO_AGENT),
    ("cp-of-a-stopped-one", NO_AGENT),
    ("cp-of-special-files", NO_AGENT),
    ("cp-sparse", NO_AGENT),
    ("cp-as-a-stream", NO_AGENT),
    ("cp-mistakes", NO_AGENT),
    ("cp-never-follows-links-out", NO_AGENT),
];

const NO_AGENT: &str = "files are carried by an agent inside, and none is";

/// What is tried there: what a command meets by how it is started. All else is as with any engine that
/// is elsewhere.
const TAKEN_FOREIGN: &[&str] = &[
    "a-paused-sandbox-can-be-ended",
    "background-ends-with-the-command",
    "closed-reader",
    "command-not-executable",
    "command-not-found",
    "directory",
    "doctor-agrees",
    "environment-as-given",
    "environment-is-bare",
    "every-byte",
    "exec-as-another-user",
    "exec-dies-with-its-client",
    "home",
    "input-from-a-pipe",
    "large-stream",
    "limit-memory",
    "limit-pids",
    "many-arguments",
    "network-none",
    "no-further-descriptors",
    "no-privileges",
    "nothing-left-by-a-kill",
    "restrictive-root-is-read-only",
    "signals-are-forwarded",
    "slow-reader",
    "stop-kills-what-does-not-heed",
    "streams-apart",
    "terminal-hang-up",
    "terminal-keys",
    "terminal-size",
    "time-limit",
    "user",
    "walls-stand",
];

/// Whether a behaviour is one of those that are tried on a foreign machine.
pub(crate) fn is_taken_foreign(name: &str) -> bool {
    TAKEN_FOREIGN.contains(&name)
}

/// Why a behaviour can't be seen on `subject`, if its engine is elsewhere, or its places are behind a
/// stream for another reason.
pub(crate) fn left_out(subject: &Subject, name: &str) -> Option<NotPassed> {
    if !subject.is_far() {
        return None;
    }
    let live = LEFT_OUT_LIVE.iter().filter(|_| subject.route == Route::Live);
    let foreign = LEFT_OUT_FOREIGN.iter().filter(|_| subject.foreign);
    let machines = LEFT_OUT_MACHINES.iter().filter(|_| subject.has_own_kernel());
    let pods = LEFT_OUT_PODS.iter().filter(|_| subject.has_pods());
    let allocations = LEFT_OUT_ALLOCATIONS.iter().filter(|_| subject.has_allocations());
    let clusters = pods.chain(allocations);
    let mut all = LEFT_OUT.iter().chain(live).chain(foreign).chain(machines).chain(clusters);
    let (_, why) = all.find(|(left_out, _)| *left_out == name)?;
    Some(NotPassed::Skipped((*why).into()))
}

/// Passes connections on to the engine at `socket`, for as long as the calling process lives, and has it
/// say that it is on a `foreign` machine. Returns where it takes them.
pub(crate) fn address_for(socket: &Path, foreign: bool) -> io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = format!("tcp://{}", listener.local_addr()?);
    let socket = PathBuf::from(socket);
    thread::spawn(move || {
        for client in listener.incoming().filter_map(Result::ok) {
            match foreign {
                // Who can't be passed on sees the end.
                true => drop({
                    let socket = socket.clone();
                    thread::spawn(move || drop(pass_on_foreign(&client, &socket)))
                }),
                false => {
                    let _ = client.set_nodelay(true);
                    pass_on(client.into(), socket.clone(), || ());
                }
            }
        }
    });
    Ok(address)
}

/// Passes a connection on to an engine that is to say that it is on another machine.
fn pass_on_foreign(client: &TcpStream, socket: &Path) -> io::Result<()> {
    client.set_nodelay(true)?;
    let engine = UnixStream::connect(socket)?;
    thread::scope(|scope| {
        scope.spawn(|| {
            let _ = io::copy(&mut &*client, &mut &engine);
            let _ = engine.shutdown(Shutdown::Write);
        });
        let _ = rename(&engine, client);
        let _ = client.shutdown(Shutdown::Write);
    });
    Ok(())
}

/// What the engine says of its machine, and what it is to say, which is as long.
const MACHINES: [(&[u8], &[u8]); 2] = [
    (br#""Architecture":"x86_64""#, br#""Architecture":"mips64""#),
    (br#""Architecture":"aarch64""#, br#""Architecture":"riscv64""#),
];

/// Passes on what an engine says, with another machine. From an upgrade on it is a program that speaks.
fn rename(mut engine: &UnixStream, mut client: &TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    let mut held = 0;
    loop {
        let read = engine.read(&mut buffer[held..])?;
        let said = &mut buffer[..held + read];
        let upgraded = said.starts_with(b"HTTP/1.1 101");
        for (from, to) in MACHINES {
            while let Some(at) = said.windows(from.len()).position(|words| words == from) {
                said[at..at + to.len()].copy_from_slice(to);
            }
        }
        // What may be the beginning of such words waits for the rest.
        let is_part = |at: &usize| MACHINES.iter().any(|(from, _)| from.starts_with(&said[*at..]));
        let waits = (said.len().saturating_sub(24)..said.len()).find(is_part);
        let whole = waits.filter(|_| read > 0 && !upgraded).unwrap_or(said.len());
        client.write_all(&said[..whole])?;
        held = said.len() - whole;
        let end = whole + held;
        buffer.copy_within(whole..end, 0);
        if read == 0 {
            return Ok(());
        }
        if upgraded {
            return io::copy(&mut engine, &mut client).map(drop);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_there_elsewhere() {
        let table = crate::conformance::table();
        let clusters = LEFT_OUT_PODS.iter().chain(LEFT_OUT_ALLOCATIONS);
        let all = LEFT_OUT.iter().chain(LEFT_OUT_LIVE).chain(LEFT_OUT_FOREIGN).chain(clusters);
        for (name, _) in all {
            assert!(table.iter().any(|behaviour| behaviour.name == *name), "{name}");
        }
        for name in TAKEN_FOREIGN {
            assert!(table.iter().any(|behaviour| behaviour.name == *name), "{name}");
        }
    }
}
