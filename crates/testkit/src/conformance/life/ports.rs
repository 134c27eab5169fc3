//! Ports that lead into sandboxes which live on.

use std::net::Ipv4Addr;
use std::process::Stdio;

use agentkernel_core::Capability;

use super::super::ports::talk::{SERVER, free_port, has_perl, says_hello};
use super::Home;
use crate::{Behaviour, NotPassed, Route, Running, Subject, Verdict, ensure};

pub(super) const TABLE: &[Behaviour] = &[
    ports(
        "ports-are-shown",
        "port, ps and inspect show where a sandbox's ports are, with those that were picked",
        ports_are_shown,
    ),
    ports(
        "ports-outlive-a-stop",
        "after a stop and a start the host's ports lead into the sandbox again",
        ports_outlive_a_stop,
    ),
    ports(
        "port-of-two",
        "who wants a port that another sandbox has is refused, and can have it after that one",
        port_of_two,
    ),
    ports(
        "port-of-a-fork",
        "a fork can't have a port by its number, and has another one that is picked",
        port_of_a_fork,
    )
    .needing(COPIES),
    ports(
        "port-from-a-snapshot",
        "a sandbox from a snapshot has the ports of that, or those that are given",
        port_from_a_snapshot,
    )
    .needing(COPIES),
    ports(
        "port-of-a-pool",
        "a pool can't have a port by its number, only one that is picked for each",
        port_of_a_pool,
    ),
];

const LIVES: &[Capability] = &[Capability::Live, Capability::NetworkFull, Capability::Ports];
const COPIES: &[Capability] =
    &[Capability::Live, Capability::NetworkFull, Capability::Ports, Capability::Snapshots];

/// A behaviour of sandboxes that live on and have ports.
const fn ports(
    name: &'static str,
    promise: &'static str,
    test: fn(&Subject) -> Verdict,
) -> Behaviour {
    let behaviour = Behaviour::new(name, promise, LIVES, test);
    behaviour.only(Route::Live, "it is about sandboxes that live on")
}

impl Home<'_> {
    /// Starts to say `hello` at port 80, for as long as what is returned is held.
    fn serves(&self, name: &str) -> Result<Running, NotPassed> {
        has_perl(self.subject)?;
        let mut command = self.script(name, &format!("{SERVER} 80"));
        command.stdin(Stdio::piped());
        let mut running = Running::start(command)?;
        running.until("ready\n")?;
        Ok(running)
    }

    /// The only place where the host has a port of a sandbox.
    fn port(&self, name: &str, port: &str) -> Result<u16, NotPassed> {
        let told = self.does(&["port", name, port])?;
        let number = told.trim_end().strip_prefix("127.0.0.1:").and_then(|port| port.parse().ok());
        number.ok_or_else(|| NotPassed::Failed(format!("port {name} {port} says {told:?}")))
    }
}

fn ports_are_shown(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let port = free_port()?;
    let flag = format!("{port}:80");
    let name = home.created(&["--network", "full", "-p", &flag, "-p", "53/udp"])?;
    home.refuses(&["port", &name], &["has not been started"])?;
    home.does(&["start", &name])?;
    let picked = home.port(&name, "53/udp")?;
    let all = format!("53/udp -> 127.0.0.1:{picked}\n80/tcp -> 127.0.0.1:{port}\n");
    let told = home.does(&["port", &name])?;
    ensure!(told == all, "port says {told:?}, not {all:?}");
    ensure!(home.port(&name, "80")? == port && home.port(&name, "80/tcp")? == port, "not {port}");
    let listed = home.does(&["ps"])?;
    let cell = all.trim_end().replace('\n', ", ");
    ensure!(listed.contains("PORTS\n") && listed.contains(&cell), "ps says {listed}");
    for document in [home.listed_as(&name)?, home.json(&["inspect", &name])?] {
        let (udp, tcp) = (&document["ports"][0], &document["ports"][1]);
        ensure!(udp["host_port"] == picked && udp["protocol"] == "udp", "it is {document}");
        ensure!(tcp["host_port"] == port && tcp["address"] == "127.0.0.1", "it is {document}");
    }
    let report = home.json(&["port", "--json", &name, "80"])?;
    let ports = report["ports"].as_array().map_or(0, Vec::len);
    ensure!(ports == 1 && report["ports"][0]["port"] == 80, "port --json says {report}");
    home.refuses(&["port", &name, "81"], &["81/tcp", &name])?;
    home.refuses(&["port", &name, "0"], &["80/tcp"])?;
    home.refuses(&["port", &name, "80/sctp"], &["80/tcp"])?;
    home.refuses(&["port"], &["no sandbox"])?;
    home.refuses(&["port", "nobody"], &["nobody"])?;
    home.does(&["stop", "-t", "0", &name])?;
    home.refuses(&["port", &name], &["stopped"])?;
    let ports = &home.listed_as(&name)?["ports"];
    ensure!(ports.as_array().is_some_and(Vec::is_empty), "a stopped one has ports: {ports}");
    Ok(())
}

fn ports_outlive_a_stop(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let port = free_port()?;
    let flag = format!("{port}:80");
    let name = home.started(&["--network", "full", "-p", &flag, "-p", "80"])?;
    for _ in 0..2 {
        let _server = home.serves(&name)?;
        says_hello(subject, Ipv4Addr::LOCALHOST, port)?;
        let told = home.does(&["port", &name, "80"])?;
        let told: Vec<u16> =
            told.lines().filter_map(|line| line.rsplit(':').next()?.parse().ok()).collect();
        let picked = told.iter().find(|told| **told != port);
        ensure!(told.len() == 2 && told.contains(&port), "the ports are {told:?}");
        says_hello(subject, Ipv4Addr::LOCALHOST, picked.copied().unwrap_or_default())?;
        home.does(&["stop", "-t", "0", &name])?;
        home.does(&["start", &name])?;
    }
    Ok(())
}

fn port_of_two(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let port = free_port()?;
    let flag = format!("{port}:80");
    let first = home.started(&["--network", "full", "-p", &flag])?;
    let second = home.created(&["--network", "full", "-p", &flag])?;
    let listed = home.listed_as(&first)?;
    let by = format!("in use by the sandbox {}", listed["id"].as_str().unwrap_or_default());
    for _ in 0..2 {
        home.refuses(&["start", &second], &[&format!("127.0.0.1:{port}/tcp"), &by])?;
        home.is(&second, "created")?;
    }
    home.does(&["stop", "-t", "0", &first])?;
    home.does(&["start", &second])?;
    for _ in 0..2 {
        home.does(&["stop", "-t", "0", &second])?;
        home.does(&["start", &second])?;
    }
    let server = home.serves(&second)?;
    says_hello(subject, Ipv4Addr::LOCALHOST, port)?;
    home.refuses(&["start", &first], &["in use"])?;
    drop(server);
    home.does(&["rm", "-f", &second])?;
    home.does(&["start", &first]).map(drop)
}

fn port_of_a_fork(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let port = free_port()?;
    let flag = format!("{port}:80");
    let named = home.created(&["--network", "full", "-p", &flag])?;
    home.refuses(&["fork", &named], &[&port.to_string(), &named, "snapshot create", "-p 80/tcp"])?;
    ensure!(home.listed()?.len() == 1, "a fork was made");
    let picked = home.started(&["--network", "full", "-p", "80"])?;
    let fork = home.does(&["fork", &picked])?;
    let fork = fork.trim_end();
    let _server = home.serves(fork)?;
    let (own, others) = (home.port(fork, "80")?, home.port(&picked, "80")?);
    ensure!(own != others, "both have {own}");
    says_hello(subject, Ipv4Addr::LOCALHOST, own)
}

fn port_from_a_snapshot(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let port = free_port()?;
    let flag = format!("{port}:80");
    let first = home.started(&["--network", "full", "-p", &flag])?;
    home.does(&["snapshot", "create", &first, "kept"])?;
    let from = ["create", "--from", "kept", "--start"];
    home.refuses(&[&from[..], &["same"]].concat(), &["in use"])?;
    home.does(&[&from[..], &["-p", "80", "other"]].concat())?;
    ensure!(home.port("other", "80")? != port, "both have {port}");
    home.does(&["rm", "-f", &first])?;
    home.does(&[&from[..], &["same"]].concat())?;
    ensure!(home.port("same", "80")? == port, "it has not the snapshot's port");
    home.does(&["snapshot", "rm", "kept"]).map(drop)
}

fn port_of_a_pool(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let set = ["pool", "set", "some", "2", "-B", &subject.backend, "--network", "full", "-p"];
    home.refuses(&[&set[..], &["8080:80"]].concat(), &["8080", "-p 80/tcp"])?;
    let got = home.run(&[&set[..], &["80"]].concat())?;
    got.exits(0)?.prints("some\n")?;
    Ok(())
}
