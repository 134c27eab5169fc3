//! Engines as from another machine: behind a port that leads to a local one.

use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::thread;

use agentkernel_core::Capability;

use crate::lent::pass_on;
use crate::{NotPassed, Route, Subject};

/// What follows a backend's name in the label of such a subject.
pub(crate) const SUFFIX: &str = "-far";

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
    ("idle-ends-it", BACKGROUND),
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

/// The same of sandboxes that live.
const LEFT_OUT_LIVE: &[(&str, &str)] = &[("out-of-memory", UNTOLD)];

/// Why a behaviour can't be seen on `subject`, if its engine is elsewhere, or its places are behind a
/// stream for another reason.
pub(crate) fn left_out(subject: &Subject, name: &str) -> Option<NotPassed> {
    // Whoever can tell of changes reaches a place's files, and so its process, otherwise.
    if subject.host.is_none() && subject.has(Capability::Changes) {
        return None;
    }
    let live = LEFT_OUT_LIVE.iter().filter(|_| subject.route == Route::Live);
    let mut all = LEFT_OUT.iter().chain(live);
    let (_, why) = all.find(|(left_out, _)| *left_out == name)?;
    Some(NotPassed::Skipped((*why).into()))
}

/// Passes connections on to the engine at `socket`, for as long as the calling process lives. Returns
/// where it takes them.
pub(crate) fn address_for(socket: &Path) -> io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = format!("tcp://{}", listener.local_addr()?);
    let socket = PathBuf::from(socket);
    thread::spawn(move || {
        for client in listener.incoming().filter_map(Result::ok) {
            let _ = client.set_nodelay(true);
            pass_on(client.into(), socket.clone(), || ());
        }
    });
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_there_elsewhere() {
        let table = crate::conformance::table();
        for (name, _) in LEFT_OUT.iter().chain(LEFT_OUT_LIVE) {
            assert!(table.iter().any(|behaviour| behaviour.name == *name), "{name}");
        }
    }
}
