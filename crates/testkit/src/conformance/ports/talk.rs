//! Who listens in a sandbox, and who calls from outside.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use crate::running::patiently;
use crate::{NO_FLAGS, NotPassed, Subject, Verdict, ensure, skip};

/// Says that it listens on the TCP port, and `hello` to whoever comes, until its input ends.
pub(in crate::conformance) const SERVER: &str = "\
    exec perl -e '$p = shift; socket(S, 2, 1, 0) && setsockopt(S, 1, 2, pack(\"i\", 1)) \
    && bind(S, pack(\"S n x12\", 2, $p)) && listen(S, 9) or die \"$p: $!\\n\"; \
    if (!($c = fork)) { while (accept(C, S)) { syswrite(C, \"hello\\n\"); close(C) } exit } \
    syswrite(STDOUT, \"ready\\n\"); 1 while sysread(STDIN, $x, 99); kill(9, $c)' ";

/// The same of datagrams, which it sends back.
pub(in crate::conformance) const UDP_SERVER: &str = "\
    exec perl -e '$p = shift; socket(S, 2, 2, 0) && bind(S, pack(\"S n x12\", 2, $p)) \
    or die \"$p: $!\\n\"; \
    if (!($c = fork)) { while (defined($a = recv(S, $m, 99, 0))) { send(S, \"got $m\", 0, $a) } } \
    syswrite(STDOUT, \"ready\\n\"); 1 while sysread(STDIN, $x, 99); kill(9, $c)' ";

pub(in crate::conformance) fn has_perl(subject: &Subject) -> Verdict {
    match subject.shell(&NO_FLAGS, "command -v perl")?.status.success() {
        true => Ok(()),
        false => skip!("the test image has no perl"),
    }
}

/// A port of the loopback's that nobody has, or had until now.
pub(in crate::conformance) fn free_port() -> Result<u16, NotPassed> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// The address by which this machine is known outside. Others may be of bridges that come and go with
/// containers.
pub(in crate::conformance) fn outer_address() -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // Nothing is sent; the kernel only finds out from where it would be.
    let route = socket.connect((Ipv4Addr::new(198, 51, 100, 1), 9));
    match route.and_then(|()| socket.local_addr()).ok()?.ip() {
        IpAddr::V4(address) if !address.is_loopback() => Some(address),
        _ => None,
    }
}

fn patience() -> Duration {
    patiently(Duration::from_secs(3))
}

/// What whoever listens at an address says.
pub(in crate::conformance) fn heard(
    address: impl Into<IpAddr>,
    port: u16,
) -> Result<String, NotPassed> {
    let address = SocketAddr::new(address.into(), port);
    let failed = |what: &str| {
        let what = format!("{what} {address}");
        move |why| NotPassed::failed_to(&what, why)
    };
    let mut stream =
        TcpStream::connect_timeout(&address, patience()).map_err(failed("connect to"))?;
    stream.set_read_timeout(Some(patience()))?;
    let mut said = String::new();
    stream.read_to_string(&mut said).map_err(failed("hear from"))?;
    Ok(said)
}

pub(in crate::conformance) fn says_hello(
    subject: &Subject,
    address: impl Into<IpAddr>,
    port: u16,
) -> Verdict {
    let address = address.into();
    let mut said = heard(address, port)?;
    // The program that takes calls for an engine calls on into the sandbox, and hangs up if it fails at
    // that, as it does now and then while containers beside come and go.
    if said.is_empty() && subject.host.is_none() && subject.has_containers() {
        said = heard(address, port)?;
    }
    ensure!(said == "hello\n", "at port {port} somebody says {said:?}");
    Ok(())
}

/// Nobody at the address says `hello`: there is none, or what takes the call leads nowhere.
pub(in crate::conformance) fn is_silent(address: impl Into<IpAddr>, port: u16) -> Verdict {
    let said = heard(address, port).unwrap_or_default();
    ensure!(said.is_empty(), "port {port} leads inside where it should not: {said:?}");
    Ok(())
}

pub(in crate::conformance) fn answered(address: Ipv4Addr, port: u16) -> Result<String, NotPassed> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect((address, port))?;
    let mut answer = [0; 99];
    // One may be lost, and where nobody listens the kernel says so at the next call.
    for limit in [patience() / 3, patience()] {
        socket.set_read_timeout(Some(limit))?;
        if socket.send(b"ping").is_ok()
            && let Ok(length) = socket.recv(&mut answer)
        {
            return Ok(String::from_utf8_lossy(&answer[..length]).into_owned());
        }
    }
    Ok(String::new())
}
