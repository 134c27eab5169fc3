//! Ports of the host's that lead into a sandbox. What listens there is perl, by the kernel's own calls.

pub(super) mod talk;

use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::process::Stdio;

use agentkernel_core::Capability;

use self::talk::{
    SERVER, UDP_SERVER, answered, free_port, has_perl, is_silent, outer_address, says_hello,
};
use super::bad_input::{all_refused, refused};
use crate::{
    Behaviour, Captured, NotPassed, Route, Running, Scratch, Subject, Verdict, ensure, skip,
};

const NEEDS: &[Capability] = &[Capability::NetworkFull, Capability::Ports];

pub(super) const TABLE: &[Behaviour] = &[
    Behaviour::new(
        "port-published",
        "what listens in a sandbox is reached at the host's loopback, and at no other address",
        NEEDS,
        port_published,
    ),
    Behaviour::new(
        "port-at-an-address",
        "what is published at all addresses is reached from outside, too",
        NEEDS,
        port_at_an_address,
    )
    .only(Route::Cold, WAY),
    Behaviour::new(
        "port-at-an-ipv6-address",
        "what is published at an IPv6 address is reached there, or refused",
        NEEDS,
        port_at_an_ipv6_address,
    )
    .only(Route::Cold, WAY),
    Behaviour::new(
        "port-of-udp",
        "datagrams come in and are answered, and at no other address",
        NEEDS,
        port_of_udp,
    ),
    Behaviour::new(
        "port-picked",
        "a port that the system picks is told when the command begins, and leads to it",
        NEEDS,
        port_picked,
    )
    .not_live("there the verb port tells it"),
    Behaviour::new(
        "ports-in-a-range",
        "each port of a range leads to its own, also beside the same one of another transport",
        NEEDS,
        ports_in_a_range,
    )
    .only(Route::Cold, WAY),
    Behaviour::new(
        "port-in-use",
        "a port that somebody has is refused by its number and by who has it, and nothing is left",
        NEEDS,
        port_in_use,
    ),
    Behaviour::new(
        "port-again",
        "a port is free for the next one as soon as the one before it has ended",
        NEEDS,
        port_again,
    )
    .not_live("there port-of-two shows it"),
    Behaviour::new(
        "port-without-a-network",
        "a port without a network is refused, since nothing could come through",
        &[Capability::Ports],
        port_without_a_network,
    ),
    Behaviour::new(
        "port-of-roots",
        "a port below 1024 is refused where it is not the caller's to use, with what to change",
        NEEDS,
        port_of_roots,
    )
    .only(Route::Cold, WAY),
    Behaviour::new(
        "ports-in-the-report",
        "the report has the ports, with those that were picked",
        NEEDS,
        ports_in_the_report,
    )
    .only(Route::Cold, WAY),
    Behaviour::new(
        "bad-ports",
        "what is no port, a port that is given twice and too many of them are refused",
        &[],
        bad_ports,
    ),
    Behaviour::new(
        "ports-of-a-project",
        "a project's file publishes nothing unless it is trusted",
        &[Capability::NetworkFull],
        ports_of_a_project,
    )
    .only(Route::Cold, "it is about the settings that a run reads"),
];

const WAY: &str = "it is the engine's way, which is the same for all";

/// Starts a script that listens in a sandbox, and waits until it does.
fn serve(
    subject: &Subject,
    scratch: &Scratch,
    ports: &[&str],
    script: &str,
) -> Result<Running, NotPassed> {
    let published = ports.iter().flat_map(|port| ["-p", port]);
    let flags: Vec<&str> = ["--network", "full"].into_iter().chain(published).collect();
    has_perl(subject)?;
    let mut command = subject.run_command(scratch, &flags, &["sh", "-c", script]);
    command.stdin(Stdio::piped());
    let mut running = Running::start(command)?;
    running.until("ready\n")?;
    Ok(running)
}

fn port_published(subject: &Subject) -> Verdict {
    let (scratch, port) = (subject.scratch()?, free_port()?);
    // A port below 1024 is anybody's inside.
    let running = serve(subject, &scratch, &[&format!("{port}:80")], &format!("{SERVER} 80"))?;
    for _ in 0..3 {
        says_hello(subject, Ipv4Addr::LOCALHOST, port)?;
    }
    is_silent(Ipv4Addr::new(127, 0, 0, 2), port)?;
    if let Some(other) = outer_address() {
        is_silent(other, port)?;
    }
    running.finish()?.exits(0)?.complains("")?;
    is_silent(Ipv4Addr::LOCALHOST, port)
}

fn port_at_an_address(subject: &Subject) -> Verdict {
    let Some(address) = outer_address() else {
        skip!("the host has no route to the outside");
    };
    let (scratch, port) = (subject.scratch()?, free_port()?);
    let flag = format!("0.0.0.0:{port}:8000");
    let running = serve(subject, &scratch, &[&flag], &format!("{SERVER} 8000"))?;
    says_hello(subject, Ipv4Addr::LOCALHOST, port)?;
    says_hello(subject, address, port)?;
    running.finish()?.exits(0)?;
    let flag = format!("{address}:{port}:8000");
    let running = serve(subject, &scratch, &[&flag], &format!("{SERVER} 8000"))?;
    says_hello(subject, address, port)?;
    is_silent(Ipv4Addr::LOCALHOST, port)?;
    running.finish()?.exits(0)?;
    Ok(())
}

fn port_at_an_ipv6_address(subject: &Subject) -> Verdict {
    if let Err(why) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) {
        skip!("the host has no IPv6: {why}");
    }
    let (scratch, port) = (subject.scratch()?, free_port()?);
    let flag = format!("[::1]:{port}:8000");
    let flags = ["--network", "full", "-p", &flag];
    let got = Captured::of(subject.run_command(&scratch, &flags, &["true"]))?;
    if got.status.code() == Some(125) {
        refused(&got, &["[::1]", "IPv4"])?;
        return Ok(());
    }
    let running = serve(subject, &scratch, &[&flag], &format!("{SERVER} 8000"))?;
    says_hello(subject, Ipv6Addr::LOCALHOST, port)?;
    is_silent(Ipv4Addr::LOCALHOST, port)?;
    running.finish()?.exits(0)?;
    Ok(())
}

fn port_of_udp(subject: &Subject) -> Verdict {
    let (scratch, port) = (subject.scratch()?, free_port()?);
    let flag = format!("{port}:53/udp");
    let running = serve(subject, &scratch, &[&flag], &format!("{UDP_SERVER} 53"))?;
    let answer = answered(Ipv4Addr::LOCALHOST, port)?;
    ensure!(answer == "got ping", "the answer was {answer:?}");
    if let Some(other) = outer_address() {
        let answer = answered(other, port)?;
        ensure!(answer.is_empty(), "at {other} somebody answers {answer:?}");
    }
    is_silent(Ipv4Addr::LOCALHOST, port)?;
    running.finish()?.exits(0)?.complains("")?;
    Ok(())
}

/// The host's port in a line such as `agentkernel: port 80/tcp -> 127.0.0.1:49153`.
fn told_port(line: &str) -> Option<u16> {
    line.trim_end().strip_prefix("agentkernel: port 8000/tcp -> 127.0.0.1:")?.parse().ok()
}

fn port_picked(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    for flag in ["8000", "0:8000", "127.0.0.1::8000"] {
        let mut running = serve(subject, &scratch, &[flag], &format!("{SERVER} 8000"))?;
        let told = running.error_line()?;
        let Some(port) = told_port(&told) else {
            return Err(NotPassed::Failed(format!("no port was told: {told:?}")));
        };
        says_hello(subject, Ipv4Addr::LOCALHOST, port)?;
        running.finish()?.exits(0)?;
    }
    Ok(())
}

fn ports_in_a_range(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    // Two in a row that nobody has.
    let first = loop {
        let port = free_port()?;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port.saturating_add(1))).is_ok() {
            break port;
        }
    };
    let second = first + 1;
    let tcp = format!("{first}-{second}:8000-8001");
    let udp = format!("{first}:8000/udp");
    // What a shell has in the background gets no input of its own accord.
    let script = format!("exec 3<&0; ({SERVER} 8001) <&3 & {UDP_SERVER} 8000");
    let mut running = serve(subject, &scratch, &[&tcp, &udp], &script)?;
    running.until("ready\n")?;
    let answer = answered(Ipv4Addr::LOCALHOST, first)?;
    ensure!(answer == "got ping", "the answer was {answer:?}");
    says_hello(subject, Ipv4Addr::LOCALHOST, second)?;
    is_silent(Ipv4Addr::LOCALHOST, first)?;
    running.finish()?.exits(0)?;
    Ok(())
}

fn port_in_use(subject: &Subject) -> Verdict {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    let scratch = subject.scratch()?;
    let flag = format!("{port}:80");
    let flags = ["--network", "full", "-p", &flag];
    let got = Captured::of(subject.run_command(&scratch, &flags, &["echo", "ran"]))?;
    refused(&got, &[&format!("127.0.0.1:{port}/tcp"), "in use"])?;
    if subject.caller == crate::Caller::Me {
        // A child that another test is about to start may have it, too.
        got.mentions("in use by process ")?;
    }
    drop(listener);
    // Nothing of the first one is in the way.
    let running = serve(subject, &scratch, &[&flag], &format!("{SERVER} 80"))?;
    let got = Captured::of(subject.run_command(&scratch, &flags, &["echo", "ran"]))?;
    refused(&got, &[&port.to_string(), "in use"])?;
    says_hello(subject, Ipv4Addr::LOCALHOST, port)?;
    running.finish()?.exits(0)?;
    Ok(())
}

fn port_again(subject: &Subject) -> Verdict {
    let (scratch, flag) = (subject.scratch()?, format!("{}:80", free_port()?));
    for _ in 0..4 {
        let flags = ["--network", "full", "-p", &flag];
        let got = Captured::of(subject.run_command(&scratch, &flags, &["echo", "ran"]))?;
        got.exits(0)?.prints("ran\n")?.complains("")?;
    }
    Ok(())
}

fn port_without_a_network(subject: &Subject) -> Verdict {
    let cases: &[(&[&str], &[&str])] = &[
        (&["-p", "8080:80", "--network", "none"], &["80/tcp", "--network full"]),
        (&["-p", "53/udp"], &["53/udp", "--network full"]),
        (&["-p", "80", "--profile", "restrictive"], &["80/tcp"]),
    ];
    all_refused(subject, &subject.scratch()?, cases)
}

fn port_of_roots(subject: &Subject) -> Verdict {
    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")?;
    if subject.caller.is_root() || first.trim().parse::<u16>().unwrap_or_default() < 700 {
        skip!("every port is the caller's to use here");
    }
    if !subject.engine().any(|(name, _)| name == "CONTAINER_HOST") || subject.backend == "docker" {
        skip!("the engine is root's");
    }
    let flags = ["--network", "full", "-p", "699:80"];
    let got = Captured::of(subject.run_command(&subject.scratch()?, &flags, &["true"]))?;
    refused(&got, &["127.0.0.1:699/tcp", "ip_unprivileged_port_start"])?;
    Ok(())
}

fn ports_in_the_report(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let report = scratch.path().join("work/report.json");
    let port = free_port()?;
    let flag = format!("{port}:80");
    let report_flag = report.display().to_string();
    let flags = ["--network", "full", "-p", &flag, "-p", "53/udp", "--report", &report_flag];
    Captured::of(subject.run_command(&scratch, &flags, &["true"]))?.exits(0)?;
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(report)?).unwrap_or_default();
    let ports = &report["ports"];
    ensure!(ports[1]["port"] == 80 && ports[1]["host_port"] == port, "the ports are {ports}");
    let picked = ports[0]["host_port"].as_u64().unwrap_or_default();
    ensure!(ports[0]["protocol"] == "udp" && picked > 0, "the ports are {ports}");
    Ok(())
}

fn bad_ports(subject: &Subject) -> Verdict {
    let long = "8".repeat(10_000);
    let many: Vec<String> = (1..=300).map(|port| format!("-p{port}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let texts = [
        "0",
        "70000",
        "a:b",
        "80/sctp",
        "1.2.3:80:80",
        "",
        "80:",
        "8080:0",
        "-1",
        "80-70:1-11",
        "80-90:80",
        "::1:80:80",
        "localhost:80:80",
        "127.0.0.1:80",
        "80 ",
        "\u{6f0}",
        "80:80:80:80",
        &long,
    ];
    let flags: Vec<[&str; 2]> = texts.iter().map(|text| ["-p", text]).collect();
    let wrong = flags.iter().map(|flags| (&flags[..], &["-p"][..]));
    let clash: (&[&str], &[&str]) =
        (&["-p", "8080:80", "-p", "0.0.0.0:8080:81"], &["8080", "80/tcp", "81/tcp"]);
    let range: (&[&str], &[&str]) = (&["-p", "1-65535"], &["256"]);
    let cases: Vec<(&[&str], &[&str])> = wrong.chain([clash, range, (&many, &["256"])]).collect();
    all_refused(subject, &subject.scratch()?, &cases)
}

fn ports_of_a_project(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    scratch.file("work/agentkernel.toml", "ports = [8000]\n")?;
    let got = Captured::of(subject.run_command(&scratch, &["--network", "full"], &["true"]))?;
    refused(&got, &["`ports`", "--trust"])?;
    let flags = ["--network", "full", "--trust"];
    let got = Captured::of(subject.run_command(&scratch, &flags, &["true"]))?;
    match subject.has(Capability::Ports) {
        true => got.exits(0)?.mentions("8000/tcp -> 127.0.0.1:")?,
        false => refused(&got, &["ports"])?,
    };
    Ok(())
}
