//! The network: to reach anything but the sandbox's own loopback.

use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::Path;

use agentkernel_core::Capability::{MountReadOnly, NetworkFull, NetworkNone};

use super::attempt::{Attempt, attempt};
use super::probe::judge;
use super::scene::{canary, open_to_all};
use crate::{Behaviour, Captured, NotPassed, Subject, Verdict, ensure, known_limit};

pub(super) const TABLE: &[Behaviour] = &[
    Behaviour::new(
        "connect-to-abstract-sockets",
        "the host's abstract sockets are not there",
        &[MountReadOnly, NetworkNone],
        |subject| connect_to_abstract_sockets(subject, "none"),
    ),
    Behaviour::new(
        "connect-to-abstract-sockets-by-full-network",
        "the host's abstract sockets are not there with the full network either",
        &[MountReadOnly, NetworkFull],
        |subject| {
            let got = subject.run(&["--network", "full", "--verbose"], &["true"])?;
            let verdict = connect_to_abstract_sockets(subject, "full");
            match got.errors().contains("wall abstract-sockets: missing") {
                true => known_limit(verdict, "an older Landlock knows no abstract sockets"),
                false => verdict,
            }
        },
    ),
    Behaviour::new(
        "connect-to-sockets-by-path",
        "the host's sockets are not found by their paths",
        &[MountReadOnly],
        connect_to_sockets_by_path,
    ),
    Behaviour::new(
        "connect-to-host-services",
        "services of the host are out of reach, on its loopback and on its addresses",
        &[MountReadOnly, NetworkNone],
        connect_to_host_services,
    ),
    Behaviour::new(
        "send-datagrams-to-the-host",
        "no datagram reaches the host",
        &[MountReadOnly, NetworkNone],
        send_datagrams_to_the_host,
    ),
    attempt!("list-interfaces", "there is no network interface but the loopback"),
    attempt!(
        "change-the-network",
        "interfaces, addresses and routes can't be changed",
        throwaway()
    ),
    attempt!("open-raw-sockets", "no raw or packet socket is opened"),
    attempt!(
        "open-unusual-sockets",
        "no socket of an unusual family is opened, the hypervisor's among them"
    ),
    attempt!("open-kernel-netlinks", "no netlink socket but that of the routes is opened"),
    Behaviour::new(
        "connect-to-the-internet",
        "neither the internet nor a cloud's metadata can be reached",
        &[MountReadOnly, NetworkNone],
        connect_to_the_internet,
    ),
];

fn connect_to_abstract_sockets(subject: &Subject, network: &str) -> Verdict {
    let names = [canary(), canary()];
    let [streams, datagrams] = &names;
    let _listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(streams)?)?;
    let _receiver = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(datagrams)?)?;
    Attempt::new("connect-to-abstract-sockets")
        .words(&names)
        .flags(&["--network", network])
        .holds(subject)
}

fn connect_to_sockets_by_path(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let path = scratch.path().join("socket");
    let _listener = UnixListener::bind(&path)?;
    open_to_all(&path)?;
    let usual = [
        "/run/docker.sock",
        "/var/run/docker.sock",
        "/run/dbus/system_bus_socket",
        "/run/containerd/containerd.sock",
        "/run/podman/podman.sock",
        "/run/systemd/private",
        "/dev/log",
    ];
    // The engine's own, wherever it is here.
    let engines = subject.engine().filter_map(|(_, value)| value.into_string().ok());
    let engines: Vec<String> =
        engines.filter_map(|value| Some(value.strip_prefix("unix://")?.into())).collect();
    let paths = [path.as_path()].into_iter().chain(usual.iter().map(Path::new));
    let paths: Vec<&Path> = paths.chain(engines.iter().map(Path::new)).collect();
    Attempt::new("connect-to-sockets-by-path").words(&paths).holds_in(subject, &scratch)
}

/// The address by which the machine would talk to others, if it has one; nothing is sent.
pub(super) fn own_address() -> Option<String> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip().to_string())
}

fn connect_to_host_services(subject: &Subject) -> Verdict {
    let everywhere = TcpListener::bind("0.0.0.0:0")?;
    let port = everywhere.local_addr()?.port().to_string();
    let mut words = vec!["127.0.0.1".to_string(), port.clone()];
    words.extend(own_address().into_iter().flat_map(|own| [own, port.clone()]));
    // Where there is no version 6 of the protocol there is nothing to try.
    let six = TcpListener::bind("[::1]:0").ok();
    let six_port = six.as_ref().and_then(|listener| listener.local_addr().ok());
    words.extend(
        six_port.into_iter().flat_map(|address| ["::1".to_string(), address.port().to_string()]),
    );
    Attempt::new("connect-to-services").words(&words).holds(subject)
}

pub(super) fn has_arrived(socket: &UdpSocket) -> Result<bool, NotPassed> {
    socket.set_nonblocking(true)?;
    let mut bytes = [0; 16];
    match socket.recv(&mut bytes) {
        Ok(_) => Ok(true),
        Err(why) if why.kind() == std::io::ErrorKind::WouldBlock => Ok(false),
        Err(why) => Err(why.into()),
    }
}

fn send_datagrams_to_the_host(subject: &Subject) -> Verdict {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    let port = socket.local_addr()?.port().to_string();
    let mut words = vec!["127.0.0.1".to_string(), port.clone()];
    words.extend(own_address().into_iter().flat_map(|own| [own, port.clone()]));
    let attempt = Attempt::new("send-datagrams").words(&words);
    judge(&attempt.inside(subject, &subject.scratch()?)?)?;
    ensure!(!has_arrived(&socket)?, "a datagram came out");
    let all: Vec<String> = [vec!["send-datagrams".to_string()], words].concat();
    let scratch = subject.scratch()?;
    Captured::of(super::probe::outside(crate::Caller::Me, &scratch, &all)?)?.exits(0)?;
    ensure!(has_arrived(&socket)?, "the control's datagram did not arrive");
    Ok(())
}

fn connect_to_the_internet(subject: &Subject) -> Verdict {
    let addresses = ["169.254.169.254", "80", "192.0.2.1", "443", "1.1.1.1", "53"];
    Attempt::new("connect-to-services")
        .words(&addresses)
        .uncontrolled("whether the machine itself is connected is not known")
        .holds(subject)
}
