//! The full network: to reach what it is said not to, and to use it up.

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use agentkernel_core::Capability::{self, HostLoopback, ImageHost, MountReadOnly, NetworkFull};
use rustix::net::{Shutdown, shutdown};

use super::attempt::Attempt;
use super::network::{has_arrived, own_address};
use super::probe::{self, judge};
use super::scene::canary;
use crate::host::Process;
use crate::{Behaviour, Caller, Captured, NotPassed, Running, Subject, Verdict};
use crate::{ensure, known_limit, skip};

const NEEDS: &[Capability] = &[MountReadOnly, NetworkFull];

pub(super) const TABLE: &[Behaviour] = &[
    Behaviour::new(
        "connect-to-the-hosts-loopback-by-full-network",
        "with the full network the host's loopback is out of reach, too, by each of its names",
        NEEDS,
        connect_to_the_hosts_loopback,
    ),
    Behaviour::new(
        "connect-to-open-services-by-full-network",
        "with the full network services that the host has open to all are out of reach, too",
        NEEDS,
        connect_to_open_services,
    ),
    Behaviour::new(
        "forge-packets-by-full-network",
        "with the full network, too, no packet is made by hand, nor in another's name",
        NEEDS,
        |subject| Attempt::new("forge-packets").flags(FULL).holds_in(subject, &subject.scratch()?),
    ),
    Behaviour::new(
        "connect-to-another-sandbox-by-full-network",
        "two sandboxes with the full network do not reach each other",
        NEEDS,
        connect_to_another_sandbox,
    ),
    Behaviour::new(
        "find-the-hosts-names-by-full-network",
        "with the full network nothing is told of the host's own names and proxies",
        NEEDS,
        find_the_hosts_names,
    ),
    Behaviour::new(
        "use-up-the-network",
        "who uses up a network has harmed neither its own streams, nor another sandbox's network",
        NEEDS,
        use_up_the_network,
    )
    .alone(),
];

const FULL: &[&str] = &["--network", "full"];

/// Why a promise does not hold where a full network is the host's own.
const HOSTS_OWN: &str = "the full network is the host's, its loopback included";

/// The host's loopback in each form: of both versions, of one in the other, and of what translators and tunnels
/// unwrap; and by which addresses engines lead from a sandbox's network to their host.
const LOOPBACK: [&str; 23] = [
    "127.0.0.1",
    "127.0.0.2",
    "127.255.255.254",
    "0.0.0.0",
    "0.0.0.1",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:0.0.0.0",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::7f00:1",
    "2002:7f00:1::",
    "2002:7f00:1::7f00:1",
    "fec0::5efe:7f00:1",
    "192.0.0.1",
    "192.0.0.3",
    "10.0.2.2",
    "10.0.2.3",
    "169.254.1.1",
    "172.17.0.1",
    "10.88.0.1",
];

/// Servers at an address of the host's whom nobody is to reach.
struct Unreached(TcpListener, UdpSocket);

impl Unreached {
    fn at(address: &str, port: u16) -> Result<Self, NotPassed> {
        let listener = TcpListener::bind((address, port))?;
        let socket = UdpSocket::bind((address, listener.local_addr()?.port()))?;
        listener.set_nonblocking(true)?;
        Ok(Self(listener, socket))
    }

    /// Whether anybody has come, or sent anything.
    fn is_reached(&self) -> Result<bool, NotPassed> {
        match self.0.accept() {
            Ok(_) => Ok(true),
            Err(why) if why.kind() == ErrorKind::WouldBlock => has_arrived(&self.1),
            Err(why) => Err(why.into()),
        }
    }
}

fn connect_to_the_hosts_loopback(subject: &Subject) -> Verdict {
    let first = Unreached::at("127.0.0.1", 0)?;
    let port = first.0.local_addr()?.port();
    // Where there is no version 6 of the protocol there is nothing to try.
    let others = ["127.255.255.254", "::1"].map(|address| Unreached::at(address, port).ok());
    let words: Vec<String> =
        [port.to_string()].into_iter().chain(LOOPBACK.map(Into::into)).collect();
    let attempt = Attempt::new("knock").words(&words).flags(FULL);
    judge(&attempt.inside(subject, &subject.scratch()?)?)?;
    let mut reached = Vec::new();
    for server in others.iter().flatten().chain([&first]) {
        if server.is_reached()? {
            reached.push(server.0.local_addr()?);
        }
    }
    let hidden = || -> Verdict {
        ensure!(reached.is_empty(), "ESCAPED: the host was reached at {reached:?}");
        Ok(())
    };
    match subject.has(HostLoopback) {
        true => known_limit(hidden(), HOSTS_OWN)?,
        false => hidden()?,
    }
    let all = [&["knock".to_string()][..], &words].concat();
    Captured::of(probe::outside(Caller::Me, &subject.scratch()?, &all)?)?.exits(0)?;
    ensure!(first.is_reached()?, "the control did not reach the host's loopback");
    Ok(())
}

fn connect_to_open_services(subject: &Subject) -> Verdict {
    /// By which addresses engines lead from a sandbox's network to their host.
    const HOSTS: [&str; 4] = ["127.0.0.1", "10.0.2.2", "172.17.0.1", "10.88.0.1"];
    let listener = TcpListener::bind("0.0.0.0:0")?;
    let port = listener.local_addr()?.port().to_string();
    let hosts = HOSTS.into_iter().map(String::from).chain(own_address());
    let words: Vec<String> = hosts.flat_map(|host| [host, port.clone()]).collect();
    let attempt = Attempt::new("connect-to-services").words(&words);
    let attempt = attempt.control_words(&["127.0.0.1", &port]).flags(FULL);
    let verdict = attempt.holds_in(subject, &subject.scratch()?);
    known_limit(verdict, "the host belongs to what the full network reaches")
}

fn connect_to_another_sandbox(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let found = Attempt::new("be-found").flags(FULL);
    let mut command = found.command(subject, &scratch)?;
    command.stdin(Stdio::piped());
    let mut found = Running::start(command)?;
    let line = found.line()?;
    let mut words = line.split_whitespace();
    let port = words.next().unwrap_or_default();
    let addresses: Vec<&str> = words.chain(["127.0.0.1", "::1"]).collect();
    let words: Vec<&str> = [port].into_iter().chain(addresses).collect();
    let verdict =
        judge(&Attempt::new("knock").words(&words).flags(FULL).inside(subject, &scratch)?);
    if let Some(mut stdin) = found.take_stdin() {
        stdin.write_all(b"done\n")?;
    }
    let found = judge(&found.finish()?);
    verdict?;
    match (subject.has(HostLoopback), subject.has_own_kernel()) {
        (true, _) => known_limit(found, HOSTS_OWN),
        (false, true) => found,
        (false, false) => known_limit(found, "an engine's containers share its network"),
    }
}

fn find_the_hosts_names(subject: &Subject) -> Verdict {
    let word = canary();
    let scratch = subject.scratch()?;
    let files = ["cat", "/etc/hosts", "/etc/resolv.conf", "/proc/self/environ"];
    let mut command = subject.run_command(&scratch, FULL, &files);
    for name in ["http_proxy", "HTTPS_PROXY", "ALL_PROXY", "LOCALDOMAIN", "HOSTALIASES"] {
        command.env(name, format!("http://{word}:{word}@192.0.2.1:3128"));
    }
    // An image may have none of the files.
    let got = Captured::of(command)?;
    let text = got.text();
    ensure!(text.contains("PATH="), "expected an environment: {got}");
    ensure!(!text.contains(&word), "a proxy of the caller's is told: {got}");
    if subject.has(ImageHost) {
        // Its files are the host's.
        return Ok(());
    }
    let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
    let lines = hosts.lines().filter_map(|line| line.split('#').next());
    let names = lines.flat_map(|line| line.split_whitespace().skip(1));
    let is_usual = |name: &str| name.starts_with("localhost") || name.starts_with("ip6-");
    let mut names = names.filter(|name| !is_usual(name));
    let told = names.find(|name| text.split_whitespace().any(|word| word == *name));
    let hidden = || -> Verdict {
        ensure!(told.is_none(), "the name {told:?} of the host's is told: {got}");
        Ok(())
    };
    match &*subject.backend {
        "podman" => known_limit(hidden(), "Podman copies the host's /etc/hosts, unless it is told"),
        _ => hidden(),
    }
}

/// A server at the host's own address, which a full network may reach. It holds on to whoever comes.
fn hold_all(listener: &TcpListener) -> Vec<TcpStream> {
    std::iter::from_fn(|| listener.accept().ok()).map(|(peer, _)| peer).collect()
}

fn use_up_the_network(subject: &Subject) -> Verdict {
    let Some(own) = own_address() else {
        skip!("the host has no address but its loopback's");
    };
    let address: IpAddr = own.parse().map_err(|why| NotPassed::failed_to("read it", why))?;
    let (tcp, open) = (TcpListener::bind((address, 0))?, TcpListener::bind((address, 0))?);
    let port = tcp.local_addr()?.port();
    let _udp = UdpSocket::bind((address, port))?;
    thread::scope(|scope| {
        let held = scope.spawn(|| hold_all(&tcp));
        let verdict = flood(subject, &own, port, open.local_addr()?.port());
        // Nobody accepts any more, or the thread would be waited for.
        let ended = shutdown(&tcp, Shutdown::Both);
        drop(held.join());
        verdict.and(ended.map_err(Into::into))
    })
}

/// How much a bridge may have, of which each end's `256 KiB` of each connection are the most.
const BRIDGE: u64 = 320 << 20;

fn flood(subject: &Subject, own: &str, port: u16, open: u16) -> Verdict {
    let scratch = subject.scratch()?;
    let attempt = Attempt::new("use-up-the-network").words(&[own, &port.to_string()]).flags(FULL);
    let mut command = attempt.command(subject, &scratch)?;
    command.stdin(Stdio::piped());
    let mut flooding = Running::start(command)?.within(Duration::from_secs(60));
    flooding.until("full\n")?;
    // Another sandbox's network goes on.
    let script = format!("exec 3<>/dev/tcp/{own}/{open} && echo reached");
    let other = subject.run(FULL, &["bash", "-c", &script])?;
    other.exits(0)?.prints("reached\n")?;
    for process in Process::descendants_of(flooding.pid()) {
        let (memory, machine) = (process.peak_memory(), process.is_machine());
        ensure!(machine || memory < BRIDGE, "{process:?} has taken {memory} bytes");
    }
    // So do its own streams.
    if let Some(mut stdin) = flooding.take_stdin() {
        stdin.write_all(b"done\n")?;
    }
    judge(&flooding.finish()?)
}
