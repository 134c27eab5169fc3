//! Ports of the host's that are to lead into a container: why one can't be had, and who has it.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv6Addr, TcpListener, UdpSocket};

use agentkernel_core::{BootError, Port, Transport};

use crate::name::PREFIX;

/// Why a port of the host's can't be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    InUse,
    Privileged,
    NoAddress,
}

impl Obstacle {
    /// What keeps this process from the port, which it does not keep.
    pub fn of(port: &Port) -> Option<Self> {
        // An engine takes all addresses of IPv6 without those of IPv4, which we would want, too.
        if port.outside.is_none() || port.address == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
            return None;
        }
        let taken = match port.transport {
            Transport::Tcp => TcpListener::bind(port.host()).map(drop),
            Transport::Udp => UdpSocket::bind(port.host()).map(drop),
        };
        match taken.err()?.kind() {
            io::ErrorKind::AddrInUse => Some(Self::InUse),
            io::ErrorKind::PermissionDenied => Some(Self::Privileged),
            io::ErrorKind::AddrNotAvailable => Some(Self::NoAddress),
            // The engine has the say.
            _ => None,
        }
    }

    /// What an engine's words mean.
    pub fn told(text: &str) -> Option<Self> {
        let text = text.to_lowercase();
        let known = [
            ("already allocated", Self::InUse),
            ("already in use", Self::InUse),
            ("privileged port", Self::Privileged),
            ("permission denied while binding", Self::Privileged),
            ("cannot assign requested address", Self::NoAddress),
            ("can't assign requested address", Self::NoAddress),
        ];
        known.into_iter().find_map(|(words, obstacle)| text.contains(words).then_some(obstacle))
    }

    /// The refusal of a port, which is in use by whoever `user` finds.
    pub fn refusal(self, port: &Port, user: impl FnOnce() -> Option<String>) -> BootError {
        let host = format!("{}/{}", port.host(), port.transport.name());
        let (why, fix) = match self {
            Self::InUse => {
                let by = user().map_or(String::new(), |user| format!(" by {user}"));
                (
                    format!("the host's port {host} is in use{by}"),
                    "end what uses it, choose another, or leave it out and have the system pick one"
                        .into(),
                )
            }
            Self::Privileged => {
                let everybody = format!(
                    ", or let everybody have it by sysctl net.ipv4.ip_unprivileged_port_start={}",
                    port.host().port()
                );
                let everybody = if cfg!(target_os = "linux") { &*everybody } else { "" };
                (
                    format!("the host's port {host} is not an ordinary user's to use"),
                    format!("choose one from 1024 on{everybody}"),
                )
            }
            Self::NoAddress => (
                format!("{} is no address of this machine", port.address),
                "choose one that it has, or leave it out for its loopback".into(),
            ),
        };
        BootError::Refused { why, fix }
    }
}

/// A container as its user knows it; `ours` is whether it is the caller's.
pub fn said(name: &str, ours: bool) -> String {
    match name.strip_prefix(PREFIX).filter(|_| ours).map(|own| (own, own.split_once('-'))) {
        None => format!("the container {name}"),
        Some((id, None)) => format!("the sandbox {id}"),
        // Of a run, or in a pool.
        Some((_, Some((pid, _)))) => format!("a sandbox of process {pid}"),
    }
}

/// The process that has the port, by the kernel's lists, if the caller may see that.
pub fn process_at(transport: Transport, port: u16) -> Option<String> {
    // The state of a socket that listens; one of UDP's has another.
    let (name, state) = match transport {
        Transport::Tcp => ("tcp", "0A"),
        Transport::Udp => ("udp", "07"),
    };
    let lists = [format!("/proc/net/{name}"), format!("/proc/net/{name}6")];
    let lists = lists.map(|path| fs::read_to_string(path).unwrap_or_default());
    let end = format!(":{port:04X}");
    let inode = lists.iter().flat_map(|list| list.lines()).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let found = fields.get(1)?.ends_with(&end) && *fields.get(3)? == state;
        fields.get(9).filter(|_| found).copied()
    })?;
    let socket = format!("socket:[{inode}]");
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let mut open = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        open.find(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == &*socket))?;
        let name = fs::read_to_string(process.path().join("comm")).ok()?;
        Some(format!("process {} ({})", process.file_name().display(), name.trim_end()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_a_port_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        // A child that another test is about to start may have it, too.
        let told = process_at(Transport::Tcp, port).unwrap();
        assert!(told.starts_with("process "), "{told}");
        assert_eq!(process_at(Transport::Tcp, 0), None);
    }

    #[test]
    fn what_engines_say_of_ports_is_understood() {
        for (text, obstacle) in [
            ("Bind for 0.0.0.0:80 failed: port is already allocated", Some(Obstacle::InUse)),
            (
                "bind(descriptor:ptr:bytes:): Address already in use (errno: 48)",
                Some(Obstacle::InUse),
            ),
            ("Permission denied while binding to host port 80.", Some(Obstacle::Privileged)),
            ("Can't assign requested address (errno: 49)", Some(Obstacle::NoAddress)),
            ("no such image", None),
        ] {
            assert_eq!(Obstacle::told(text), obstacle, "{text}");
        }
    }

    #[test]
    fn a_container_is_called_as_its_user_knows_it() {
        assert_eq!(said("agentkernel-abc", true), "the sandbox abc");
        assert_eq!(said("agentkernel-7-1-2-3", true), "a sandbox of process 7");
        assert_eq!(said("agentkernel-abc", false), "the container agentkernel-abc");
    }
}
