//! The host's ports that lead into a container. The tool has a process of its own take what comes to
//! them, at numbers that it must be told when the container is made.

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::num::NonZeroU16;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use agentkernel_containers::{Obstacle, process_at, said};
use agentkernel_core::{BootError, Port, Transport};
use agentkernel_sys::descriptor;

use crate::words::{Container, Published};
use crate::{sweep, tool};

/// A container has no more: `publishedPortCountLimit` of the tool.
const MOST: usize = 64;

/// The tool takes no port 1.
const LEAST: u16 = 2;

/// Refuses ports that the tool can't be told.
pub fn check(ports: &[Port]) -> Result<(), BootError> {
    let refused = |why: String, fix: &str| Err(BootError::Refused { why, fix: fix.into() });
    if ports.len() > MOST {
        return refused(
            format!("one of Apple's containers can have {MOST} ports, not {}", ports.len()),
            "publish fewer",
        );
    }
    for (number, port) in ports.iter().enumerate() {
        let inside = port.inside.get();
        if inside < LEAST || port.outside.is_some_and(|outside| outside.get() < LEAST) {
            return refused(
                format!("the container command takes no port 1, as in {port}"),
                "choose another port",
            );
        }
        let same = |other: &&Port| other.outside.is_some() && is_same(other, port);
        if let Some(other) = ports.iter().take(number).find(same) {
            return refused(
                format!(
                    "the container command takes a port once for all addresses: {other}, {port}"
                ),
                "publish it at one address, or at all of them by 0.0.0.0",
            );
        }
    }
    Ok(())
}

/// Whether the tool takes both for one, whatever their addresses are.
fn is_same(one: &Port, other: &Port) -> bool {
    (one.outside, one.transport) == (other.outside, other.transport)
}

/// The words of the tool for a port whose number is known.
pub fn word(port: &Port) -> String {
    format!("{}:{}", port.host(), port.target())
}

/// Ports, with a number for each that the system was to pick. Until this is dropped nobody else can
/// have those.
pub struct Picked {
    pub ports: Vec<Port>,
    held: Vec<OwnedFd>,
}

impl Picked {
    pub fn new(ports: &[Port]) -> Result<Self, BootError> {
        let mut picked = Self { ports: ports.to_vec(), held: Vec::new() };
        for (number, port) in ports.iter().enumerate().filter(|(_, port)| port.outside.is_none()) {
            picked.pick(number).map_err(|source| BootError::Failed {
                what: format!("can't find a port of the host's for {}", port.target()),
                source,
            })?;
        }
        Ok(picked)
    }

    /// Lets go of what it holds.
    pub fn let_go(self) -> Vec<Port> {
        self.ports
    }

    fn pick(&mut self, number: usize) -> io::Result<()> {
        loop {
            let (socket, outside) = take_any(&self.ports[number])?;
            self.held.push(socket);
            let port = Port { outside: NonZeroU16::new(outside), ..self.ports[number] };
            // At another address it may be free.
            let is_taken = self.ports.iter().any(|other| is_same(other, &port));
            if outside >= LEAST && !is_taken {
                self.ports[number] = port;
                return Ok(());
            }
        }
    }
}

/// Takes a port of the system's choice.
fn take_any(port: &Port) -> io::Result<(OwnedFd, u16)> {
    let any = (port.address, 0);
    match port.transport {
        Transport::Tcp => {
            let socket = TcpListener::bind(any)?;
            let number = socket.local_addr()?.port();
            Ok((socket.into(), number))
        }
        Transport::Udp => {
            let socket = UdpSocket::bind(any)?;
            let number = socket.local_addr()?.port();
            Ok((socket.into(), number))
        }
    }
}

/// The ports of a container that is there, which it was given when it was made.
pub fn of(container: &Container, ports: &[Port]) -> Result<Vec<Port>, BootError> {
    let mut left: Vec<&Published> = container.configuration.published_ports.iter().collect();
    // Those with a number first: what is left was picked.
    let mut wanted: Vec<&Port> = ports.iter().collect();
    wanted.sort_by_key(|port| port.outside.is_none());
    let mut found = Vec::new();
    for port in wanted {
        let known = left.iter().position(|one| one.is(port)).map(|at| left.swap_remove(at));
        let known = known.ok_or_else(|| BootError::Refused {
            why: format!("the sandbox's container {} does not have the port {port}", container.id),
            fix: "make the sandbox anew".into(),
        })?;
        found.push(Port { outside: Some(known.host_port), ..*port });
    }
    found.sort();
    Ok(found)
}

/// How long the tool may take to let go of the ports of a container that has ended.
const LETTING_GO: Duration = Duration::from_secs(3);

/// How often it is looked whether it has.
const BREATH: Duration = Duration::from_millis(50);

/// Refuses ports that somebody has, or that can't be had for another reason. One that belongs to a
/// container is waited for: whether that one still lives the tool does not tell at once.
pub fn refuse_taken(ports: &[Port]) -> Result<(), BootError> {
    for port in ports {
        let Some(obstacle) = Obstacle::of(port) else { continue };
        if obstacle != Obstacle::InUse || !is_let_go(port) {
            return Err(obstacle.refusal(port, || user_of(port)));
        }
    }
    Ok(())
}

fn is_let_go(port: &Port) -> bool {
    let until = Instant::now() + LETTING_GO;
    while Instant::now() < until && container_at(port).is_some() {
        let _ = descriptor::poll(&mut [], Some(BREATH));
        if Obstacle::of(port) != Some(Obstacle::InUse) {
            return true;
        }
    }
    Obstacle::of(port) != Some(Obstacle::InUse)
}

/// Who uses a port of the host's, as far as that can be found out.
fn user_of(port: &Port) -> Option<String> {
    match container_at(port) {
        Some(container) => Some(said(&container.id, sweep::is_ours(&container))),
        None => process_at(port.transport, port.outside?.get()),
    }
}

/// The container that has a port, or has had it until now.
fn container_at(port: &Port) -> Option<Container> {
    let all = tool::ask_for::<Vec<Container>>(&["list", "--format", "json"]).ok()?;
    let has =
        |one: &Published| Some(one.host_port) == port.outside && one.proto == port.transport.name();
    all.into_iter().find(|container| container.configuration.published_ports.iter().any(has))
}

/// Why a container could not be started, by the tool's own words, if that is for want of a port.
pub fn refusal(words: &str, ports: &[Port]) -> Option<BootError> {
    let beyond = ports.iter().find(|port| port.address.is_ipv6());
    if let Some(port) = beyond.filter(|_| words.contains("IPv6 port forwarding")) {
        return Some(BootError::Refused {
            why: format!(
                "{} can't lead into the container, which has no IPv6 address",
                port.host()
            ),
            fix: "publish at an IPv4 address, or give the tool's network IPv6".into(),
        });
    }
    let obstacle = Obstacle::told(words)?;
    // It does not say which.
    let port = ports.iter().find(|port| Obstacle::of(port).is_some()).or(ports.first())?;
    Some(obstacle.refusal(port, || user_of(port)))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn port(address: &str, outside: u16, inside: u16, transport: Transport) -> Port {
        let address: IpAddr = address.parse().unwrap();
        let inside = NonZeroU16::new(inside).unwrap();
        Port { inside, transport, address, outside: NonZeroU16::new(outside) }
    }

    fn told(done: Result<impl Sized, BootError>) -> String {
        match done {
            Ok(_) => String::new(),
            Err(BootError::Refused { why, .. }) => why,
            Err(error) => panic!("{error:?}"),
        }
    }

    #[test]
    fn a_port_is_said_in_the_tools_words() {
        let tcp = port("127.0.0.1", 8080, 80, Transport::Tcp);
        assert_eq!(word(&tcp), "127.0.0.1:8080:80/tcp");
        assert_eq!(word(&port("::1", 53, 54, Transport::Udp)), "[::1]:53:54/udp");
    }

    #[test]
    fn what_the_tool_would_refuse_is_refused_before() {
        let tcp = |address, outside, inside| port(address, outside, inside, Transport::Tcp);
        let check = |ports: &[Port]| told(check(ports));
        assert!(check(&[tcp("127.0.0.1", 1, 80)]).contains("no port 1"));
        assert!(check(&[tcp("127.0.0.1", 0, 1)]).contains("no port 1"));
        let twice = [tcp("127.0.0.1", 80, 80), tcp("10.0.0.1", 80, 81)];
        assert!(check(&twice).contains("once for all addresses"));
        let both = [tcp("127.0.0.1", 80, 80), port("127.0.0.1", 80, 80, Transport::Udp)];
        assert_eq!(check(&both), "");
        assert_eq!(check(&[tcp("127.0.0.1", 0, 80), tcp("127.0.0.1", 0, 81)]), "");
        let many: Vec<Port> = (100..165).map(|number| tcp("127.0.0.1", 0, number)).collect();
        assert!(check(&many).contains("64 ports, not 65"));
        assert_eq!(check(&many[1..]), "");
    }

    #[test]
    fn a_picked_port_is_nobody_elses_until_it_is_let_go() {
        let ports = [
            port("127.0.0.1", 0, 80, Transport::Tcp),
            port("127.0.0.1", 0, 81, Transport::Tcp),
            port("127.0.0.1", 0, 80, Transport::Udp),
        ];
        let picked = Picked::new(&ports).unwrap();
        assert!(picked.ports.iter().all(|port| Obstacle::of(port) == Some(Obstacle::InUse)));
        let (one, other) = (picked.ports[0], picked.ports[1]);
        assert_ne!(one.outside, other.outside);
        drop(picked);
        assert_eq!(Obstacle::of(&one), None);
    }

    #[test]
    fn the_ports_of_a_container_that_is_there_are_its_own() {
        let container: Container = serde_json::from_str(
            r#"{"id": "a", "status": {"state": "stopped"}, "configuration": {"publishedPorts": [
                {"hostAddress": "127.0.0.1", "hostPort": 4000, "containerPort": 80, "proto": "tcp",
                 "count": 1},
                {"hostAddress": "127.0.0.1", "hostPort": 80, "containerPort": 80, "proto": "tcp",
                 "count": 1}]}}"#,
        )
        .unwrap();
        let tcp = |outside| port("127.0.0.1", outside, 80, Transport::Tcp);
        let found = of(&container, &[tcp(0), tcp(80)]).unwrap();
        assert_eq!(found, [tcp(80), tcp(4000)]);
        assert!(told(of(&container, &[tcp(81)])).contains("does not have the port"));
        let udp = port("127.0.0.1", 80, 80, Transport::Udp);
        assert!(of(&container, &[udp]).is_err());
    }

    #[test]
    fn what_the_tool_says_of_ports_is_told_with_the_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = listener.local_addr().unwrap().port();
        let ports =
            [port("::1", 8080, 80, Transport::Udp), port("127.0.0.1", number, 80, Transport::Tcp)];
        let refused = |words| match refusal(words, &ports) {
            Some(BootError::Refused { why, .. }) => why,
            other => format!("{other:?}"),
        };
        let taken = refused("bind(descriptor:ptr:bytes:): Address already in use (errno: 48)");
        assert!(taken.contains(&format!("127.0.0.1:{number}/tcp is in use")), "{taken}");
        let ipv6 = refused("cannot configure IPv6 port forwarding for container with unknown IPv6");
        assert!(ipv6.contains("[::1]:8080"), "{ipv6}");
        assert_eq!(refused("no kernel"), "None");
    }
}
