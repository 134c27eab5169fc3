//! Ports of the host that lead into a sandbox, as users write them, and as they are kept and told.

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;

use agentkernel_core::{Port, Transport};
use serde::{Deserialize, Deserializer, Serialize};

use crate::path::shown;
use crate::resolve::RequestError;
use crate::value::{self, ValueError, Written};

/// Ports as Docker's `-p` has them: `[ADDR:][HOSTPORT:]PORT[/tcp|/udp]`, where both ports may be
/// ranges of the same length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish {
    /// The host's loopback unless it is said, so that only this machine reaches what runs there.
    address: IpAddr,
    /// The first of the host's; `None` is one for each that the system picks.
    outside: Option<NonZeroU16>,
    /// The first and the last in the sandbox.
    inside: (NonZeroU16, NonZeroU16),
    transport: Transport,
}

/// The most ports that lead into one sandbox: engines keep a process for each.
const MOST: usize = 256;

impl Written for Publish {
    const EXPECTED: &'static str =
        "[ADDR:][HOSTPORT:]PORT[/tcp|/udp], with ports from 1 to 65535 or ranges of them";

    fn read(text: &OsStr) -> Result<Self, ValueError> {
        let wrong = |why: &str| {
            let expected = Self::EXPECTED;
            ValueError::new(format!("{} is not {expected}: {why}", shown(text)))
        };
        let word = value::utf8(text)?;
        let (word, transport) = match word.rsplit_once('/') {
            None => (word, Transport::Tcp),
            Some((word, "tcp")) => (word, Transport::Tcp),
            Some((word, "udp")) => (word, Transport::Udp),
            Some(_) => return Err(wrong("after the / comes tcp or udp")),
        };
        let (address, ports) = split_address(word).map_err(wrong)?;
        let (outside, inside) = ports.rsplit_once(':').unwrap_or(("", ports));
        let outside = match outside {
            "" | "0" => None,
            ports => Some(range(ports).map_err(wrong)?),
        };
        let inside = range(inside).map_err(wrong)?;
        let count = |(first, last): (NonZeroU16, NonZeroU16)| last.get() - first.get();
        if outside.is_some_and(|outside| count(outside) != count(inside)) {
            return Err(wrong("both ranges must have the same length"));
        }
        Ok(Self { address, outside: outside.map(|(first, _)| first), inside, transport })
    }
}

/// The address that the ports are of, and the ports.
fn split_address(word: &str) -> Result<(IpAddr, &str), &'static str> {
    const NONE: &str = "ADDR is an address such as 127.0.0.1, 0.0.0.0 or [::1]";
    if let Some(rest) = word.strip_prefix('[') {
        let (address, ports) = rest.split_once("]:").ok_or(NONE)?;
        let address = address.parse().map(IpAddr::V6);
        return Ok((address.map_err(|_| NONE)?, ports));
    }
    match word.splitn(3, ':').collect::<Vec<_>>()[..] {
        [address, _, _] => {
            let address: Ipv4Addr = address.parse().map_err(|_| NONE)?;
            Ok((address.into(), word.split_once(':').map_or("", |(_, ports)| ports)))
        }
        [outside, _] if outside.contains('.') => {
            Err("write ADDR::PORT where the system is to pick the host's")
        }
        _ => Ok((Ipv4Addr::LOCALHOST.into(), word)),
    }
}

/// A port, or the first and the last of a range.
fn range(text: &str) -> Result<(NonZeroU16, NonZeroU16), &'static str> {
    let port = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| digits).ok_or("a port is a number from 1 to 65535")
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (port(first)?, port(last)?) {
        (first, last) if first <= last => Ok((first, last)),
        _ => Err("a range begins with its lower port"),
    }
}

impl<'de> Deserialize<'de> for Publish {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        value::one(deserializer)
    }
}

impl Publish {
    /// Whether both say where a port of the sandbox is reached.
    pub(crate) fn is_about(&self, other: &Self) -> bool {
        let ((first, last), (others_first, others_last)) = (self.inside, other.inside);
        self.transport == other.transport && first <= others_last && others_first <= last
    }

    fn count(&self) -> usize {
        usize::from(self.inside.1.get() - self.inside.0.get()) + 1
    }

    fn ports(self) -> impl Iterator<Item = Port> {
        let Self { address, outside, inside: (first, last), transport } = self;
        let inside = (first.get()..=last.get()).filter_map(NonZeroU16::new);
        inside.zip(0..).filter_map(move |(inside, offset)| {
            let outside = match outside {
                None => None,
                // There are as many, so none of them is beyond the last.
                Some(first) => Some(first.checked_add(offset)?),
            };
            Some(Port { inside, transport, address, outside })
        })
    }
}

/// The core's types of what is to be published. What is said twice counts once.
pub fn resolve_ports(all: Vec<Publish>) -> Result<Vec<Port>, RequestError> {
    if all.iter().map(Publish::count).sum::<usize>() > MOST {
        return Err(RequestError::ManyPorts { most: MOST });
    }
    let mut ports: Vec<Port> = all.into_iter().flat_map(Publish::ports).collect();
    ports.sort();
    ports.dedup();
    let clash = |(at, port): (usize, &Port)| {
        let other = ports[..at].iter().find(|other| other.clashes_with(port))?;
        let targets = [other.target(), port.target()];
        Some(RequestError::SamePort { host: port.host(), targets })
    };
    match ports.iter().enumerate().find_map(clash) {
        Some(error) => Err(error),
        None => Ok(ports),
    }
}

/// A port in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortRecord {
    /// The one in the sandbox.
    port: NonZeroU16,
    protocol: Protocol,
    /// The host's address.
    address: IpAddr,
    /// The host's port; `null` for one that the system is to pick.
    host_port: Option<NonZeroU16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Protocol {
    Tcp,
    Udp,
}

impl From<&Port> for PortRecord {
    fn from(port: &Port) -> Self {
        let protocol = match port.transport {
            Transport::Tcp => Protocol::Tcp,
            Transport::Udp => Protocol::Udp,
        };
        let Port { inside, address, outside, .. } = *port;
        Self { port: inside, protocol, address, host_port: outside }
    }
}

impl From<&PortRecord> for Port {
    fn from(record: &PortRecord) -> Self {
        let transport = match record.protocol {
            Protocol::Tcp => Transport::Tcp,
            Protocol::Udp => Transport::Udp,
        };
        let PortRecord { port, address, host_port, .. } = *record;
        Self { inside: port, transport, address, outside: host_port }
    }
}

/// The ports of one sandbox, as JSON for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PortsReport {
    pub version: u32,
    pub sandbox: String,
    pub ports: Vec<PortRecord>,
}

impl PortsReport {
    pub fn new(sandbox: String, ports: &[Port]) -> Self {
        let ports = ports.iter().map(PortRecord::from).collect();
        Self { version: crate::report::VERSION, sandbox, ports }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Publish, ValueError> {
        Publish::read(OsStr::new(text))
    }

    fn resolved(texts: &[&str]) -> Result<Vec<String>, RequestError> {
        let all = texts.iter().map(|text| read(text).unwrap()).collect();
        Ok(resolve_ports(all)?.iter().map(Port::to_string).collect())
    }

    #[test]
    fn a_port_is_the_loopbacks_unless_said() {
        for (text, expected) in [
            ("80", "80/tcp -> 127.0.0.1:0"),
            ("0:80", "80/tcp -> 127.0.0.1:0"),
            (":80", "80/tcp -> 127.0.0.1:0"),
            ("8080:80", "80/tcp -> 127.0.0.1:8080"),
            ("53:53/udp", "53/udp -> 127.0.0.1:53"),
            ("8080:80/tcp", "80/tcp -> 127.0.0.1:8080"),
            ("0.0.0.0:8080:80", "80/tcp -> 0.0.0.0:8080"),
            ("10.0.0.1::80/udp", "80/udp -> 10.0.0.1:0"),
            ("10.0.0.1:0:80", "80/tcp -> 10.0.0.1:0"),
            ("[::]:8080:80", "80/tcp -> [::]:8080"),
            ("[::1]::80", "80/tcp -> [::1]:0"),
            ("[::1]:80", "80/tcp -> [::1]:0"),
            ("65535:65535", "65535/tcp -> 127.0.0.1:65535"),
        ] {
            assert_eq!(resolved(&[text]).unwrap(), [expected], "{text}");
        }
    }

    #[test]
    fn ranges_are_of_the_same_length() {
        let expected = ["7/tcp -> 127.0.0.1:90", "8/tcp -> 127.0.0.1:91"];
        assert_eq!(resolved(&["90-91:7-8"]).unwrap(), expected);
        let picked = ["7/udp -> 127.0.0.1:0", "8/udp -> 127.0.0.1:0"];
        assert_eq!(resolved(&["7-8/udp"]).unwrap(), picked);
        for (text, why) in [
            ("90-91:7", "the same length"),
            ("90-91:7-9", "the same length"),
            ("9-8", "its lower port"),
            ("0-3:7-10", "from 1 to 65535"),
            ("7-", "from 1 to 65535"),
        ] {
            let err = read(text).unwrap_err().to_string();
            assert!(err.contains(why), "{text}: {err}");
        }
    }

    #[test]
    fn what_is_no_port_is_answered_with_why() {
        let long = "1".repeat(100_000);
        for (text, why) in [
            ("", "from 1 to 65535"),
            ("0", "from 1 to 65535"),
            ("8080:0", "from 1 to 65535"),
            ("8080:", "from 1 to 65535"),
            ("70000", "from 1 to 65535"),
            ("70000:80", "from 1 to 65535"),
            ("-1", "from 1 to 65535"),
            ("+80", "from 1 to 65535"),
            ("00", "from 1 to 65535"),
            ("a:b", "from 1 to 65535"),
            ("80/sctp", "tcp or udp"),
            ("80/", "tcp or udp"),
            ("80/tcp/tcp", "from 1 to 65535"),
            ("80/udp/udp", "from 1 to 65535"),
            ("1.2.3:80:80", "ADDR is an address"),
            ("localhost:80:80", "ADDR is an address"),
            ("::1:80:80", "ADDR is an address"),
            ("[::1:80:80", "ADDR is an address"),
            ("[1.2.3.4]:80:80", "ADDR is an address"),
            ("127.0.0.1:80", "ADDR::PORT"),
            (&long, "from 1 to 65535"),
        ] {
            let err = read(text).unwrap_err().to_string();
            assert!(err.contains(why) && err.len() < 300, "{text}: {err}");
        }
    }

    #[test]
    fn a_port_of_the_hosts_leads_to_one_place() {
        assert_eq!(resolved(&["8080:80", "8080:80", "80", "80"]).unwrap().len(), 2);
        for pair in [
            ["8080:80", "8080:81"],
            ["8080:80", "0.0.0.0:8080:80"],
            ["[::]:8080:80", "[::1]:8080:80"],
            ["8080-8089:80-89", "8085:1"],
        ] {
            let err = resolved(&pair).unwrap_err();
            assert!(matches!(err, RequestError::SamePort { .. }), "{pair:?}: {err}");
        }
        for pair in [
            ["8080:80", "8081:80"],
            ["8080:80", "8080:80/udp"],
            ["8080:80", "[::]:8080:80"],
            ["127.0.0.2:8080:80", "8080:80"],
        ] {
            assert_eq!(resolved(&pair).unwrap().len(), 2, "{pair:?}");
        }
    }

    #[test]
    fn there_are_no_more_than_engines_bear() {
        assert_eq!(resolved(&["1-256"]).unwrap().len(), 256);
        for all in [&["1-257"][..], &["1-65535"], &["1-200", "201-300"]] {
            let err = resolved(all).unwrap_err();
            assert!(matches!(err, RequestError::ManyPorts { most: 256 }), "{all:?}");
        }
    }

    #[test]
    fn a_port_comes_back_as_it_was() {
        for text in ["8080:80", "[::1]::80/udp"] {
            let port = resolve_ports(vec![read(text).unwrap()]).unwrap()[0];
            assert_eq!(Port::from(&PortRecord::from(&port)), port);
        }
        let port = resolve_ports(vec![read("8080:80").unwrap()]).unwrap()[0];
        assert_eq!(
            serde_json::to_string(&PortRecord::from(&port)).unwrap(),
            r#"{"port":80,"protocol":"tcp","address":"127.0.0.1","host_port":8080}"#
        );
    }
}
