//! What a command must not see or reach. The escape suite goes further; here is what an ordinary
//! program would stumble over.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use agentkernel_core::Capability;

use super::SLEEP;
use crate::host::unique_sleep;
use crate::{
    Behaviour, Captured, NO_FLAGS, NotPassed, Running, Scratch, Subject, Verdict, ensure, skip,
};

pub(super) const TABLE: &[Behaviour] = &[
    Behaviour::new(
        "network-none",
        "without a network there is a loopback interface of its own, and it is up",
        &[Capability::NetworkNone],
        network_none,
    ),
    Behaviour::new(
        "host-loopback",
        "what listens on the host's loopback is not reached without a network, and only where the \
         backend says so with a full one",
        &[Capability::NetworkNone],
        host_loopback,
    ),
    Behaviour::new(
        "network-full",
        "what listens on an address of the host's is reached with a full network, not with none",
        &[Capability::NetworkNone, Capability::NetworkFull],
        network_full,
    ),
    Behaviour::new(
        "network-of-a-profile",
        "only the permissive profile has a network unless one is asked for",
        &[Capability::NetworkNone, Capability::HostLoopback],
        network_of_a_profile,
    ),
    Behaviour::new(
        "host-files-hidden",
        "the caller's home and what lies in the host's shared folders is not there",
        &[],
        host_files_hidden,
    ),
    Behaviour::new(
        "host-processes-hidden",
        "a command sees the processes of its sandbox and no others",
        &[],
        host_processes_hidden,
    ),
    Behaviour::new(
        "runs-do-not-meet",
        "two runs at the same time share no file and see none of each other's processes",
        &[],
        runs_do_not_meet,
    ),
    Behaviour::new(
        "no-privileges",
        "a command has no capability and no way to gain one, as user 0 too",
        &[],
        no_privileges,
    ),
    Behaviour::new(
        "no-further-descriptors",
        "a command has its three streams open and nothing else",
        &[],
        no_further_descriptors,
    ),
    Behaviour::new("own-host-name", "a sandbox does not tell the host's name", &[], own_host_name),
];

fn network_none(subject: &Subject) -> Verdict {
    let flags = ["--network", "none"];
    let script = "tail -n +3 /proc/net/dev | cut -d: -f1; grep -c 127.0.0.1 /proc/net/fib_trie";
    let got = subject.shell(&flags, script)?;
    got.exits(0)?.complains("")?;
    let text = got.text();
    let words: Vec<&str> = text.split_whitespace().collect();
    // The table of local addresses is empty for as long as the interface is down.
    let up = words.get(1).is_some_and(|count| *count != "0");
    ensure!(words.len() == 2 && words.first() == Some(&"lo") && up, "expected lo, and up: {got}");
    Ok(())
}

fn host_loopback(subject: &Subject) -> Verdict {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let script = format!("exec 3<>/dev/tcp/127.0.0.1/{port}; echo hello >&3");
    let argv = ["bash", "-c", &script];
    let none = subject.run(&["--network", "none"], &argv)?;
    ensure!(!none.status.success(), "the host was reached without a network: {none}");
    none.mentions("refused")?;
    if subject.has(Capability::HostLoopback) {
        let guest = thread::spawn(move || {
            let mut said = String::new();
            let accepted =
                listener.accept().and_then(|(mut peer, _)| peer.read_to_string(&mut said));
            accepted.map(|_| said)
        });
        let full = subject.run(&["--network", "full"], &argv)?;
        full.exits(0)?.complains("")?;
        let said = guest.join().ok().and_then(Result::ok);
        ensure!(said.as_deref() == Some("hello\n"), "the listener heard {said:?}: {full}");
    }
    Ok(())
}

fn network_full(subject: &Subject) -> Verdict {
    let Some(address) = own_address() else {
        skip!("the host has no address but its loopback's");
    };
    let listener = TcpListener::bind((address, 0))?;
    let port = listener.local_addr()?.port();
    let script = format!("exec 3<>/dev/tcp/{address}/{port} && echo reached");
    let argv = ["bash", "-c", &script];
    subject.run(&["--network", "full"], &argv)?.exits(0)?.prints("reached\n")?;
    let none = subject.run(&["--network", "none"], &argv)?;
    ensure!(!none.status.success(), "the host was reached without a network: {none}");
    Ok(())
}

/// An address of this machine that is not the loopback's, by the kernel's own list.
fn own_address() -> Option<Ipv4Addr> {
    let text = fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let own = lines.windows(2).filter(|pair| pair[1] == "/32 host LOCAL");
    let mut addresses = own.filter_map(|pair| pair[0].strip_prefix("|-- ")?.parse().ok());
    addresses.find(|address: &Ipv4Addr| !address.is_loopback())
}

fn network_of_a_profile(subject: &Subject) -> Verdict {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let script = format!("(exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null; echo $?");
    let argv = ["bash", "-c", &script];
    for (flags, expected) in [
        (vec![], "1\n"),
        (vec!["--profile", "restrictive"], "1\n"),
        (vec!["--profile", "moderate"], "1\n"),
        (vec!["--profile", "moderate", "--network", "full"], "0\n"),
        (vec!["--profile", "permissive"], "0\n"),
        (vec!["--profile", "permissive", "--network", "none"], "1\n"),
    ] {
        subject.run(&flags, &argv)?.exits(0)?.prints(expected)?.complains("")?;
    }
    Ok(())
}

/// Counts which of its arguments are there.
const COUNT_SEEN: &str = "n=0; for i; do test -e \"$i\" && n=$((n+1)); done; echo $n seen";

fn host_files_hidden(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let canary = scratch.file("home/canary", "secret\n")?;
    let shared = Scratch::public_in(Path::new("/var/tmp"))?;
    let paths = [canary.as_path(), shared.path(), scratch.path()];
    let words = ["sh", "-c", COUNT_SEEN, "sh"].map(OsStr::new);
    let argv: Vec<&OsStr> = words.into_iter().chain(paths.map(Path::as_os_str)).collect();
    let inside = Captured::of(subject.run_command(&scratch, &NO_FLAGS, &argv))?;
    inside.exits(0)?.prints("0 seen\n")?.complains("")?;
    let mut outside = Command::new("sh");
    outside.args(argv.iter().skip(1)).stdin(Stdio::null()).stdout(Stdio::piped());
    subject.caller.become_in(&mut outside);
    Captured::of(outside)?.prints("3 seen\n")?;
    let secrets = "for i in /etc/shadow /root/.ssh /var/log /var/lib/dpkg /var/lib/rpm /boot/grub; \
                   do test -e $i && echo $i; done; \
                   find /root /var/tmp /mnt -mindepth 1 2>/dev/null; true";
    subject.shell(&NO_FLAGS, secrets)?.exits(0)?.prints("")?;
    Ok(())
}

/// Shows the arguments of every process that it can see.
const PROCESSES: &str = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '";

fn host_processes_hidden(subject: &Subject) -> Verdict {
    let (outer, inner) = (unique_sleep(), unique_sleep());
    let mut sleeper = Command::new("sleep");
    sleeper.arg(&outer).stdin(Stdio::null());
    subject.caller.become_in(&mut sleeper);
    let host = Running::start(sleeper)?;
    // The sandbox's first process may show agentkernel's arguments, so the script has no marks.
    let scratch = subject.scratch()?;
    let script = format!("read mark; {SLEEP}; {PROCESSES}; ls -d /proc/[0-9]* | wc -l; kill -9 $!");
    let mut command = subject.run_command(&scratch, &NO_FLAGS, &["sh", "-c", &script]);
    command.stdin(File::open(scratch.file("input", format!("{inner}\n"))?)?);
    let got = Captured::of(command)?;
    drop(host);
    got.exits(0)?.complains("")?;
    let text = got.text();
    ensure!(text.contains(&inner), "its own processes can't be seen: {got}");
    ensure!(!text.contains(&outer), "the host's processes can be seen: {got}");
    let count = text.split_whitespace().next_back().and_then(|count| count.parse::<u32>().ok());
    ensure!(count.is_some_and(|count| count < 10), "too many processes: {got}");
    Ok(())
}

fn runs_do_not_meet(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let marks = [unique_sleep(), unique_sleep()];
    let script = format!(
        "read mark; for i in /tmp /run /dev/shm ~; do touch $i/$mark; done; {SLEEP}; \
         echo ready; read go; ls -A /tmp /run /dev/shm ~; {PROCESSES}; kill -9 $!"
    );
    let start = |mark: &String| {
        let mut command = subject.run_command(&scratch, &NO_FLAGS, &["sh", "-c", &script]);
        command.stdin(Stdio::piped());
        let mut running = Running::start(command)?;
        let mut stdin = running.take_stdin();
        if let Some(stdin) = stdin.as_mut() {
            stdin.write_all(format!("{mark}\n").as_bytes())?;
        }
        running.until("ready\n")?;
        Ok((running, stdin))
    };
    let both: Result<Vec<_>, NotPassed> = marks.iter().map(start).collect();
    // Both have left their marks before either looks around.
    let mut seen = Vec::new();
    for (running, stdin) in both? {
        drop(stdin);
        let got = running.finish()?;
        got.exits(0)?.complains("")?;
        seen.push(got);
    }
    for (got, other) in seen.iter().zip(marks.iter().rev()) {
        ensure!(!got.text().contains(other), "one run sees the other's mark {other}: {got}");
    }
    for (got, own) in seen.iter().zip(&marks) {
        // Four files and a process.
        let count = got.text().matches(own).count();
        ensure!(count == 5, "a run sees its own mark {own} {count} times: {got}");
    }
    Ok(())
}

fn no_privileges(subject: &Subject) -> Verdict {
    let lines = "^(Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs|Seccomp):";
    let none = "0000000000000000";
    let expected = format!(
        "CapInh:\t{none}\nCapPrm:\t{none}\nCapEff:\t{none}\nCapBnd:\t{none}\nCapAmb:\t{none}\n\
         NoNewPrivs:\t1\nSeccomp:\t2\n"
    );
    let users: &[&[&str]] = match subject.has_root() {
        true => &[&[], &["-u", "0"]],
        false => &[&[]],
    };
    for user in users {
        let got = subject.run(user, &["grep", "-E", lines, "/proc/self/status"])?;
        got.exits(0)?.prints(&expected)?;
    }
    Ok(())
}

fn no_further_descriptors(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let command = subject.run_command(&scratch, &NO_FLAGS, &["ls", "/proc/self/fd"]);
    let leaky = ["sh", "-c", "exec 7</dev/null 9</etc/passwd; exec \"$0\" \"$@\""];
    for command in [subject.caller.through(&leaky, &command), command] {
        // The last is the one that ls reads the folder through.
        Captured::of(command)?.exits(0)?.prints("0\n1\n2\n3\n")?.complains("")?;
    }
    Ok(())
}

fn own_host_name(subject: &Subject) -> Verdict {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    let got = subject.run(&NO_FLAGS, &["uname", "-n"])?;
    got.exits(0)?.complains("")?;
    ensure!(got.text() != host && got.text().len() > 1, "expected a name of its own: {got}");
    Ok(())
}
