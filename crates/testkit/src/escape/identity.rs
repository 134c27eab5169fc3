//! Who the sandbox's programs are: to become somebody else, or to leave files that make the next
//! one somebody else.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use agentkernel_core::Capability::{MountCopyOnWrite, MountReadOnly, MountReadWrite};

use super::attempt::{Attempt, attempt, control_finds};
use super::probe::{self, Finding, judge};
use super::scene::{canary, open_folder, volume};
use crate::host::Process;
use crate::{Behaviour, Caller, Captured, NotPassed, Running, Scratch, Subject, Verdict};
use crate::{ensure, known_limit, skip};

pub(super) const TABLE: &[Behaviour] = &[
    attempt!("become-others", "nobody changes their user, group or groups"),
    attempt!(
        "gain-capabilities",
        "no capability is held, bound or to be had, and no new privilege allowed"
    ),
    attempt!("write-id-maps", "the maps of users and groups can't be written"),
    attempt!("raise-priorities", "no priority is raised and no limit of the sandbox's lifted"),
    Behaviour::new(
        "run-setuid-copies",
        "a setuid-root program in a shared folder runs as the user who starts it",
        &[MountReadOnly, MountReadWrite, MountCopyOnWrite],
        run_setuid_copies,
    ),
    Behaviour::new(
        "rewrite-setuid-programs",
        "a setuid program in a shared folder does not keep its bit and become another",
        &[MountReadOnly, MountReadWrite],
        rewrite_setuid_programs,
    ),
    Behaviour::new(
        "run-the-hosts-setuid-programs",
        "su and mount of the host's have no more rights than anyone inside",
        &[MountReadOnly],
        run_the_hosts_setuid_programs,
    ),
    Behaviour::new(
        "leave-privileged-files",
        "no file with privileges of the caller's or of root's comes to a shared folder",
        &[MountReadOnly, MountReadWrite],
        leave_privileged_files,
    ),
    Behaviour::new(
        "be-somebody-on-the-host",
        "seen from the host, a command is nobody but the caller, without any privilege",
        &[MountReadOnly],
        be_somebody_on_the_host,
    ),
];

/// A folder with copies of the probe that have all that the kernel would give privileges for.
fn privileged_copies(scratch: &Scratch) -> Result<[PathBuf; 3], NotPassed> {
    let folder = open_folder(scratch, "shared")?;
    let copies = ["setuid", "setgid", "capable"].map(|name| folder.join(name));
    for (copy, mode) in copies.iter().zip([0o4755, 0o2755, 0o755]) {
        probe::copy_to(copy)?;
        chown(copy, Some(0), Some(0))?;
        fs::set_permissions(copy, Permissions::from_mode(mode))?;
    }
    let words = [Path::new("give-capabilities"), &copies[2]];
    judge(&Captured::of(probe::outside(Caller::Me, scratch, &words)?)?)?;
    Ok(copies)
}

fn run_setuid_copies(subject: &Subject) -> Verdict {
    if !rustix::process::geteuid().is_root() {
        skip!("only root can plant such programs");
    }
    let name = "run-privileged-copies";
    for access in ["ro", "rw", "cow"] {
        let scratch = subject.scratch()?;
        let copies = privileged_copies(&scratch)?;
        let shared = scratch.path().join("shared");
        for copy in ["setuid", "setgid", "capable"] {
            Attempt::new(name)
                .words(&[format!("/shared/{copy}")])
                .flags(&volume(&shared, "/shared", access))
                .inside(subject, &scratch)
                .and_then(|got| judge(&got))?;
        }
        // Where it is root who tests, the control must be somebody else.
        if let Caller::User { .. } = subject.caller {
            for copy in &copies {
                let words = [Path::new(name), copy];
                let control = probe::outside(subject.caller, &scratch, &words)?;
                control_finds(name, &Captured::of(control)?)?;
            }
        }
    }
    Ok(())
}

fn rewrite_setuid_programs(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let shared = open_folder(&scratch, "shared")?;
    let program = shared.join("program");
    probe::copy_to(&program)?;
    chown(&program, Some(subject.caller.uid()), Some(subject.caller.gid()))?;
    fs::set_permissions(&program, Permissions::from_mode(0o4755))?;
    let before = fs::read(&program)?;
    let attempt = Attempt::new("rewrite-privileged-programs")
        .words(&["/shared/program"])
        .flags(&volume(&shared, "/shared", "rw"));
    judge(&attempt.inside(subject, &scratch)?)?;
    let setuid = fs::metadata(&program)?.mode() & 0o4000 != 0;
    let rewritten = fs::read(&program)? != before;
    let kept = || -> Verdict {
        ensure!(!(setuid && rewritten), "a setuid program on the host is another now");
        Ok(())
    };
    known_limit(kept(), "a mapped write keeps the setuid bit of a program in a folder mounted rw")
}

fn run_the_hosts_setuid_programs(subject: &Subject) -> Verdict {
    let script = "su -c 'id -u' < /dev/null; echo su $?; \
                  mount -t tmpfs none /tmp; echo mount $?; \
                  umount /proc; echo umount $?";
    let got = subject.shell(&crate::NO_FLAGS, script)?;
    let text = got.text();
    for program in ["su", "mount", "umount"] {
        let answer = text.lines().find_map(|line| line.strip_prefix(&format!("{program} ")));
        let failed = answer.is_some_and(|code| code != "0");
        ensure!(failed, "{program} did not fail: {got}");
    }
    ensure!(!text.lines().any(|line| line == "0"), "su made a root: {got}");
    Ok(())
}

/// What of the files in a folder gives more to whoever runs them than they have.
fn privileges(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)));
    let privileged = files.filter(|(_, data)| data.mode() & 0o6000 != 0 && !data.is_dir());
    privileged
        .map(|(path, data)| {
            let (mode, uid, gid) = (data.mode(), data.uid(), data.gid());
            format!("{} {mode:o} of {uid}:{gid}", path.display())
        })
        .collect()
}

fn leave_privileged_files(subject: &Subject) -> Verdict {
    let name = "leave-privileged-files";
    let scratch = subject.scratch()?;
    let shared = open_folder(&scratch, "shared")?;
    let free = open_folder(&scratch, "free")?;
    let attempt = Attempt::new(name)
        .words(&["/shared"])
        .flags(&volume(&shared, "/shared", "rw"))
        .control_words(&[&free]);
    let verdict = attempt.holds_in(subject, &scratch);
    let left = privileges(&shared);
    ensure!(left.is_empty(), "on the host there is {left:?}");
    if subject.caller == Caller::Me {
        ensure!(!privileges(&free).is_empty(), "the control left nothing");
    }
    let files = fs::read_dir(&shared)?.flatten().map(|entry| entry.path());
    let words: Vec<PathBuf> =
        [PathBuf::from("look-for-capabilities")].into_iter().chain(files).collect();
    judge(&Captured::of(probe::outside(Caller::Me, &scratch, &words)?)?)?;
    match &verdict {
        Err(NotPassed::Failed(seen))
            if seen.ends_with(": a security label: it worked (1 in all)") =>
        {
            known_limit(verdict, "before Linux 6.11, every user may label files of his own")
        }
        _ => verdict,
    }
}

/// The numbers in a line of `/proc/PID/status`, in the base that the line uses.
fn numbers(status: &str, name: &str, base: u32) -> Result<BTreeSet<u64>, NotPassed> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let line = line.ok_or_else(|| NotPassed::Failed(format!("{name} is not in {status:?}")))?;
    let words = line.trim_start_matches(':').split_whitespace();
    words
        .map(|word| u64::from_str_radix(word, base))
        .collect::<Result<_, _>>()
        .map_err(|why| NotPassed::failed_to(&format!("read {name}{line}"), why))
}

/// The ids that a process may have on the host: the caller's own, unless that is root, and the
/// high ones that belong to nobody.
fn may_have(caller: Caller, own: u32, id: u64) -> bool {
    (!caller.is_root() && id == u64::from(own)) || id > u64::from(u16::MAX)
}

fn is_nobody(status: &str, caller: Caller) -> Verdict {
    for id in numbers(status, "Uid", 10)? {
        ensure!(may_have(caller, caller.uid(), id), "it is user {id}");
    }
    for line in ["Gid", "Groups"] {
        for id in numbers(status, line, 10)? {
            ensure!(may_have(caller, caller.gid(), id), "{line}: {id}");
        }
    }
    Ok(())
}

fn has_no_privilege(status: &str) -> Verdict {
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let held = numbers(status, set, 16)?;
        ensure!(held == [0].into(), "{set} is {held:x?}");
    }
    for (field, value) in [("NoNewPrivs", 1), ("Seccomp", 2)] {
        let found = numbers(status, field, 10)?;
        ensure!(found == [value].into(), "{field} is {found:?}");
    }
    Ok(())
}

fn be_somebody_on_the_host(subject: &Subject) -> Verdict {
    let word = canary();
    let attempt = Attempt::new("stay").words(&[&word]);
    let scratch = subject.scratch()?;
    let mut command = attempt.command(subject, &scratch)?;
    command.stdin(Stdio::piped());
    let mut running = Running::start(command)?;
    running.until("there\n")?;
    let mut inside = Process::marked(&word);
    inside.retain(|process| process.arguments.starts_with(probe::INSIDE));
    let found = inside.len();
    let [process] = inside.as_slice() else {
        ensure!(false, "expected one process with {word}, there are {found}");
        return Ok(());
    };
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid))?;
    has_no_privilege(&status)?;
    let nobody = is_nobody(&status, subject.caller);
    if let Some(mut stdin) = running.take_stdin() {
        stdin.write_all(b"done\n")?;
    }
    let got = running.finish()?;
    ensure!(matches!(Finding::of(&got.text()), Finding::Held(_)), "{got}");
    match subject.missing_walls.iter().any(|wall| wall == "user-namespace") {
        true => known_limit(nobody, "a root engine's containers have the host's users"),
        false => nobody,
    }
}
