//! What the root is like whatever the image is, in each profile.

use std::path::Path;

use agentkernel_core::Capability;

use crate::{Behaviour, NO_FLAGS, Subject, Verdict, ensure, skip};

pub(super) const TABLE: &[Behaviour] = &[
    Behaviour::new(
        "private-directories",
        "/tmp, /run, /dev/shm and the home are empty, writable and thrown away",
        &[],
        private_directories,
    ),
    Behaviour::new("devices", "the usual devices work and no others are there", &[], devices),
    Behaviour::new(
        "moderate-root-is-thrown-away",
        "in the moderate profile the root can be written, and the next run does not see it",
        &[],
        moderate_root_is_thrown_away,
    ),
    Behaviour::new(
        "restrictive-root-is-read-only",
        "in the restrictive profile only the private directories can be written",
        &[Capability::RootReadOnly],
        restrictive_root_is_read_only,
    ),
    Behaviour::new(
        "permissive-user-is-the-caller",
        "in the permissive profile a command runs with the caller's own number",
        &[Capability::NetworkFull],
        permissive_user_is_the_caller,
    ),
];

/// By their names inside: the home is the user's.
const PRIVATE: [&str; 4] = ["/tmp", "/run", "/dev/shm", "$HOME"];

fn private_directories(subject: &Subject) -> Verdict {
    let script = PRIVATE.map(|place| {
        format!(
            "echo {place}; ls -A {place}; echo new > {place}/mark-of-a-test && \
             cat {place}/mark-of-a-test"
        )
    });
    let script = script.join("; ");
    let permissive = subject.has_permissive().then_some("permissive");
    for profile in ["restrictive", "moderate"].into_iter().chain(permissive) {
        let flags = ["--profile", profile];
        for _ in 0..2 {
            let got = subject.shell(&flags, &script)?;
            let text = got.exits(0)?.complains("")?.text();
            let places: Vec<&str> = text.split_inclusive("new\n").collect();
            ensure!(places.len() == PRIVATE.len(), "expected all places: {got}");
            for said in places {
                let (place, rest) = said.split_once('\n').unwrap_or_default();
                ensure!(rest == "new\n", "{place} is not empty at first, or not writable: {got}");
                let mark = Path::new(place).join("mark-of-a-test");
                ensure!(!mark.exists(), "{} is there on the host", mark.display());
            }
        }
    }
    Ok(())
}

fn devices(subject: &Subject) -> Verdict {
    let script = "set -e; echo gone > /dev/null; head -c 3 /dev/zero | od -An -tx1; \
                  head -c 9 /dev/urandom | wc -c; head -c 9 /dev/random | wc -c; \
                  (echo full > /dev/full) 2>/dev/null || echo no space; \
                  echo piped | cat /dev/stdin; echo out > /dev/fd/1 | cat";
    let got = subject.shell(&NO_FLAGS, script)?;
    got.exits(0)?.prints(" 00 00 00\n9\n9\nno space\npiped\nout\n")?;
    let list = subject.shell(&NO_FLAGS, "find /dev -type b; find /dev -type c | sort")?;
    list.exits(0)?;
    let text = list.text();
    let usual = ["console", "full", "null", "ptmx", "random", "tty", "urandom", "zero"];
    let other = text.lines().find(|device| {
        let name = device.trim_start_matches("/dev/").trim_start_matches("pts/");
        !usual.contains(&name)
    });
    ensure!(other.is_none(), "an unusual device is there: {other:?}");
    Ok(())
}

fn moderate_root_is_thrown_away(subject: &Subject) -> Verdict {
    let flags: &[&str] = if subject.has(Capability::User) { &["-u", "0"] } else { &[] };
    let script = "ls -d /mark /etc/mark /var/mark 2>/dev/null; \
                  touch /mark /etc/mark /var/mark && mkdir -p /srv/mark && echo written";
    for _ in 0..2 {
        subject.shell(flags, script)?.exits(0)?.prints("written\n")?.complains("")?;
    }
    for mark in ["/mark", "/etc/mark", "/var/mark", "/srv/mark"] {
        ensure!(!Path::new(mark).exists(), "{mark} is there on the host");
    }
    Ok(())
}

fn restrictive_root_is_read_only(subject: &Subject) -> Verdict {
    let mut flags = vec!["--profile", "restrictive"];
    if subject.has_root() {
        flags.extend(["-u", "0"]);
    }
    for place in ["", "/etc", "/var", "/home", "/usr", "/proc", "/dev"] {
        let got = subject.shell(&flags, &format!(": > {place}/mark-of-a-test"))?;
        ensure!(!got.status.success(), "the read-only root was written: {got}");
    }
    for place in PRIVATE {
        subject.shell(&flags, &format!(": > {place}/mark"))?.exits(0)?.complains("")?;
    }
    Ok(())
}

fn permissive_user_is_the_caller(subject: &Subject) -> Verdict {
    if !subject.has_permissive() {
        skip!("nobody is root in a pod, and the caller is");
    }
    let got = subject.run(&["--profile", "permissive"], &["id", "-u"])?;
    got.exits(0)?.prints(format!("{}\n", subject.caller.uid()))?;
    Ok(())
}
