//! Clients that mean no good, or are broken: the daemon stays well, and the others never notice.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use agentkernel_core::Spec;
use agentkernel_engine::pool_key;
use agentkernel_native::NATIVE;
use agentkernel_sys::socket;
use agentkernel_wire::{DAEMON_VERSION, DaemonRequest, SpecRecord};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::Value;

use crate::common::{Home, family, need_client, pause, until};
use crate::house::store;

/// A connection to the daemon.
struct Caller(UnixStream);

impl Caller {
    fn new(home: &Home) -> Self {
        let stream = UnixStream::connect(home.socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
        Self(stream)
    }

    fn says(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    /// The next line of the daemon's, whatever descriptors come with it.
    fn hears(&mut self) -> Value {
        let mut line = Vec::new();
        let mut byte = [0];
        while self.0.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
            line.push(byte[0]);
        }
        serde_json::from_slice(&line).unwrap_or_default()
    }

    /// Whether the daemon has let it go.
    fn is_let_go(&mut self) -> bool {
        match self.0.read(&mut [0; 4096]) {
            Ok(read) => read == 0,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    }
}

/// The line that asks for a sandbox out of the one pool that there is.
fn lease(home: &Home) -> String {
    let pool = store(home).list_pools().unwrap().remove(0);
    let spec: Spec = SpecRecord::from_json(&pool.spec).unwrap().try_into().unwrap();
    let key = pool_key(&NATIVE, &spec).unwrap();
    DaemonRequest::Lease { version: DAEMON_VERSION, key }.to_line()
}

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// How many of them are clients, or lead to `sent`. What the daemon opens for itself, such as its
/// logs and the sockets of engines, comes and goes.
fn received(pid: u32, home: &Home, sent: &Path) -> usize {
    // A socket's name is of its number alone; whose it is, the kernel's list says.
    let sockets = fs::read_to_string("/proc/net/unix").unwrap();
    let of_door = |line: &&str| line.ends_with(home.socket().to_str().unwrap());
    let connected = |line: &&str| line.split_ascii_whitespace().nth(5) == Some("03");
    let number =
        |line: &str| line.split_ascii_whitespace().nth(6).map(|at| format!("socket:[{at}]"));
    let clients: Vec<String> =
        sockets.lines().filter(of_door).filter(connected).filter_map(number).collect();
    let all = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let targets = all.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    targets.filter(|to| to == sent || clients.iter().any(|client| to == client)).count()
}

/// The processor time of a process's main thread so far, in ticks of a hundredth of a second.
pub fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/task/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn nonsense_is_answered_or_ends_the_connection() {
    let home = Home::new("nonsense");
    need_client!(home);
    let daemon = home.daemon();
    let passed = home.path("passed");
    let file = fs::File::create(&passed).unwrap();

    let mut broken = Caller::new(&home);
    for line in ["{\n", "\n", "\0\n", "[]\n", "{\"ask\":\"x\"}\n", "\u{fffd}\n"] {
        broken.says(line.as_bytes());
        assert_eq!(broken.hears()["answer"], "failed", "{line:?}");
    }
    broken.says(b"\xff\xfe\n{\"ask\":\"end\"}\n");
    assert_eq!(broken.hears()["answer"], "failed");
    assert_eq!(broken.hears()["answer"], "failed", "there is no lease to end");
    // It is still heard.
    broken.says(DaemonRequest::Status.to_line().as_bytes());
    assert_eq!(broken.hears()["answer"], "status");
    assert_eq!(received(daemon.id(), &home, &passed), 1);

    let mut newer = Caller::new(&home);
    let request = DaemonRequest::Lease { version: DAEMON_VERSION + 1, key: "x".into() };
    newer.says(request.to_line().as_bytes());
    let answer = newer.hears();
    assert_eq!(answer["answer"], "no_lease");
    assert!(answer["why"].as_str().unwrap().contains("version"), "{answer}");

    let mut endless = Caller::new(&home);
    let sent = (0..64).try_for_each(|_| endless.0.write_all(&[b'x'; 64 * 1024]));
    assert!(sent.is_err() || endless.is_let_go(), "a line without end is read for ever");

    // One after the other they are more than any request has; in one message, than fit.
    let mut generous = Caller::new(&home);
    let many: [BorrowedFd<'_>; socket::MAX_DESCRIPTORS] = [file.as_fd(); _];
    while socket::send(generous.0.as_fd(), b"x", &many).is_ok() {}
    assert!(generous.is_let_go());

    drop((broken, newer, endless, generous));
    until("the daemon to close what it was sent", || received(daemon.id(), &home, &passed) == 0);
    home.end(daemon);
}

#[test]
fn those_who_ask_and_never_listen_are_let_go() {
    let home = Home::new("deaf");
    need_client!(home);
    let daemon = home.daemon();
    let mut deaf = Caller::new(&home);
    let status = DaemonRequest::Status.to_line();
    // Far more answers than a socket holds.
    let sent = (0..20_000).try_for_each(|_| deaf.0.write_all(status.as_bytes()));
    assert!(sent.is_err(), "nobody let it go");
    home.must(&["daemon", "status"]);
    home.end(daemon);
}

#[test]
fn more_clients_than_can_be_let_in_wait_and_cost_nothing() {
    let home = Home::new("many");
    need_client!(home);
    let daemon = home.daemon();
    // As many as it has, and a few more.
    let most = descriptors(daemon.id()) as u64 + 8;
    let limit = Rlimit { current: Some(most), ..getrlimit(Resource::Nofile) };
    prlimit(Some(Pid::from_child(&daemon)), Resource::Nofile, limit).unwrap();
    let crowd: Vec<Caller> = (0..100).map(|_| Caller::new(&home)).collect();
    let (begin, before) = (Instant::now(), ticks(daemon.id()));
    while begin.elapsed() < Duration::from_millis(500) {
        pause();
    }
    let used = ticks(daemon.id()) - before;
    assert!(used < 15, "it used {used} hundredths of a second in half a second");
    let log = fs::read_to_string(home.path("log")).unwrap();
    assert!(log.lines().count() < 50, "{log}");
    drop(crowd);
    home.must(&["daemon", "status"]);
    home.end(daemon);
}

#[test]
fn the_silent_are_let_go_and_a_lease_lasts_as_long_as_its_client() {
    let home = Home::new("silent");
    need_client!(home);
    home.must(&["pool", "set", "pool", "1"]);
    let daemon = home.daemon();
    home.until_full("pool");
    let mut half = Caller::new(&home);
    half.says(b"{\"ask\":");
    let mut nothing = Caller::new(&home);
    // It leases and does nothing with it.
    let mut holder = Caller::new(&home);
    holder.says(lease(&home).as_bytes());
    let leased = holder.hears();
    assert_eq!(leased["answer"], "leased");
    let pid = leased["pid"].as_u64().unwrap() as u32;
    let begin = Instant::now();
    assert!(half.is_let_go());
    assert!(nothing.is_let_go());
    assert!(begin.elapsed() < Duration::from_secs(20));
    assert!(family(daemon.id()).contains(&pid), "a lease is no reason to be let go");
    // It can't have another, and the one that it has is used once.
    holder.says(lease(&home).as_bytes());
    assert_eq!(holder.hears()["answer"], "failed");
    drop(holder);
    until("the sandbox to go with its lease", || !family(daemon.id()).contains(&pid));
    home.end(daemon);
}
