//! Keeping house among the sandboxes that live: what has died is put away, what has run out of
//! time is removed, and what ran when the machine went down is started again.

use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use agentkernel_engine::{Engine, Journal, REBOOTED, Sandboxes};
use agentkernel_store::audit::{Entry, Kind, Who};
use agentkernel_store::{Dirs, Record, State};
use agentkernel_sys::descriptor::{self, Interest};
use agentkernel_sys::process;
use agentkernel_sys::socket::Peer;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use serde_json::json;

use crate::DaemonError;

/// By what the daemon's own doings are known in the audit log.
const CLIENT: &str = "agentkerneld";

/// The thread that keeps house.
pub struct House {
    /// Its end tells the thread to end.
    stop: OwnedFd,
    thread: JoinHandle<()>,
}

impl House {
    pub fn start(dirs: Dirs, engine: &'static Engine) -> Result<Self, DaemonError> {
        let (stopped, stop) = descriptor::pipe()?;
        let sandboxes = Sandboxes::open(engine, dirs, CLIENT)?;
        let thread = thread::Builder::new().name("house".into()).spawn(move || {
            if let Err(error) = keep(engine, &sandboxes, &stopped) {
                eprintln!("error: the house is not kept any more: {error}");
            }
        })?;
        Ok(Self { stop, thread })
    }

    pub fn stop(self) {
        drop(self.stop);
        // A panic in there has been printed.
        let _ = self.thread.join();
    }
}

fn keep(engine: &Engine, sandboxes: &Sandboxes<'_>, stopped: &OwnedFd) -> Result<(), DaemonError> {
    let comings = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
        .map_err(|errno| DaemonError::io("watch for sandboxes")(errno.into()))?;
    // A sandbox that is started makes its socket there.
    inotify::add_watch(&comings, sandboxes.dirs().sockets(), WatchFlags::CREATE)
        .map_err(|errno| DaemonError::io("watch for sandboxes")(errno.into()))?;
    for path in engine.sweep() {
        eprintln!("agentkerneld: removed {}, which a killed process had left", path.display());
    }
    start_again(sandboxes)?;
    loop {
        let all = match sandboxes.list() {
            Ok(all) => all,
            // It may be better the next time something happens.
            Err(error) => {
                eprintln!("agentkerneld: the sandboxes can't be looked through: {}", error.why);
                Vec::new()
            }
        };
        let watched: Vec<OwnedFd> = all.iter().filter_map(open_process).collect();
        let mut interests =
            vec![Interest::readable(stopped.as_fd()), Interest::readable(comings.as_fd())];
        interests.extend(watched.iter().map(|process| Interest::readable(process.as_fd())));
        descriptor::poll(&mut interests, next_expiry(&all))?;
        if interests[0].is_ready() {
            return Ok(());
        }
        let mut events = [0; 4096];
        while matches!(descriptor::read(comings.as_fd(), &mut events), Ok(read) if read > 0) {}
    }
}

/// A descriptor of the process of a sandbox that is said to run.
fn open_process(record: &Record) -> Option<OwnedFd> {
    let process = record.process.as_ref()?;
    process::open_pidfd(process.pid).ok().filter(|_| process.is_alive().unwrap_or(false))
}

/// How long until the next sandbox that is not running has had its time; one that runs ends by
/// itself.
fn next_expiry(all: &[Record]) -> Option<Duration> {
    let resting = all.iter().filter(|r| matches!(r.state, State::Created | State::Stopped));
    let ends = resting.filter_map(|record| record.created.checked_add(record.ttl?));
    let next = ends.min()?;
    let left = next.duration_since(SystemTime::now()).unwrap_or_default();
    Some(left + Duration::from_millis(1))
}

/// Starts the sandboxes that were running when the machine went down, by a process of a single
/// thread.
fn start_again(sandboxes: &Sandboxes<'_>) -> Result<(), DaemonError> {
    let went_down = |record: &Record| match record.state {
        State::Running | State::Paused => {
            record.process.as_ref().is_some_and(|process| !process.is_of_this_boot())
        }
        // Somebody has looked at it since.
        State::Stopped => record.why.as_deref() == Some(REBOOTED),
        State::Created => false,
    };
    let all = sandboxes.store().list()?;
    let ids: Vec<String> = all.into_iter().filter(went_down).map(|r| r.id.to_string()).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let mut child = Command::new("/proc/self/exe")
        .arg("restart")
        .args(ids)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(DaemonError::io("start sandboxes again"))?;
    child.wait().map_err(DaemonError::io("start sandboxes again")).map(drop)
}

/// Starts these sandboxes; one that can't be is told of, and the others are started all the same.
pub fn restart(engine: &Engine, names: &[&str]) -> Result<(), DaemonError> {
    let sandboxes = Sandboxes::open(engine, crate::dirs()?, CLIENT)?;
    for name in names {
        if let Err(error) = sandboxes.start(name) {
            eprintln!("agentkerneld: {name} can't be started again: {}", error.why);
        }
    }
    Ok(())
}

/// Writes down what the daemon does itself.
pub fn note(dirs: &Dirs, what: &str) -> Result<(), DaemonError> {
    let journal = Journal::new(dirs, CLIENT);
    let entry = Entry::new(Kind::Daemon, journal.who());
    Ok(journal.append(Entry { detail: json!({ "what": what }), ..entry })?)
}

/// Writes down who has leased a sandbox.
pub fn note_lease(dirs: &Dirs, peer: &Peer, pool: &str, pid: i32) {
    let who = Who { uid: peer.uid, pid: peer.pid, client: CLIENT.into() };
    let entry =
        Entry { detail: json!({ "pool": pool, "place": pid }), ..Entry::new(Kind::Lease, &who) };
    if let Err(error) = Journal::new(dirs, CLIENT).append(entry) {
        eprintln!("agentkerneld: a lease is not in the audit log: {}", error.why);
    }
}
