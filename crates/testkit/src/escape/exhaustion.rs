//! Using the machine up: it must stay well meanwhile, and nothing be left afterwards.
//!
//! Every attempt is bounded in itself, so that a wall that is missing fails a test and not the
//! machine.

use std::fs::{self, File};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use agentkernel_core::Capability::{
    LimitDisk, LimitMemory, LimitPids, MountCopyOnWrite, MountReadOnly, MountReadWrite,
};
use agentkernel_core::LimitKind;

use super::attempt::{Attempt, control_finds, note};
use super::probe::{self, Finding, judge};
use super::scene::{canary, open_folder, volume};
use crate::host::Process;
use crate::{Behaviour, Caller, Captured, NotPassed, Running, Subject, Verdict, ensure, skip};

pub(super) const TABLE: &[Behaviour] = &[
    Behaviour::new(
        "fork-bomb",
        "a fork bomb ends at the limit, and the machine can still fork",
        &[MountReadOnly, LimitPids],
        |subject| bomb(subject, "fork-bomb"),
    )
    .alone(),
    Behaviour::new(
        "thread-bomb",
        "threads count as processes do",
        &[MountReadOnly, LimitPids],
        |subject| bomb(subject, "thread-bomb"),
    )
    .alone(),
    Behaviour::new(
        "hog-memory",
        "a memory hog gets no more than the limit, and the machine can still allocate",
        &[MountReadOnly, LimitMemory],
        |subject| hog(subject, "hog-memory"),
    )
    .alone(),
    Behaviour::new(
        "hog-memory-by-many",
        "many processes together get no more memory than the limit",
        &[MountReadOnly, LimitMemory],
        |subject| hog_exactly(subject, "hog-memory-by-many"),
    )
    .alone(),
    Behaviour::new(
        "hog-memory-files",
        "files that are nothing but memory count as memory",
        &[MountReadOnly, LimitMemory],
        |subject| hog_exactly(subject, "hog-memory-files"),
    )
    .alone(),
    Behaviour::new(
        "hog-shared-memory",
        "shared memory counts as memory",
        &[MountReadOnly, LimitMemory],
        |subject| hog_exactly(subject, "hog-shared-memory"),
    )
    .alone(),
    Behaviour::new(
        "fill-disks",
        "all writable folders together take no more than the disk limit",
        &[MountReadOnly, LimitDisk],
        fill_disks,
    )
    .alone(),
    Behaviour::new(
        "fill-a-copy-on-write-folder",
        "changes to a copy-on-write folder take no more than the disk limit",
        &[MountReadOnly, MountCopyOnWrite, LimitDisk],
        fill_a_copy_on_write_folder,
    )
    .alone(),
    Behaviour::new(
        "fill-with-files",
        "empty files take room as well: there can't be any number of them",
        &[MountReadOnly, LimitDisk],
        fill_with_files,
    )
    .alone(),
    Behaviour::new(
        "hog-descriptors",
        "descriptors end at a limit, and the machine can still open files",
        &[MountReadOnly],
        hog_descriptors,
    )
    .alone(),
    Behaviour::new(
        "hog-inotify",
        "a sandbox leaves the caller some of the kernel's per-user objects",
        &[MountReadOnly],
        hog_inotify,
    )
    .alone(),
    Behaviour::new(
        "hog-asynchronous-io",
        "a sandbox leaves others the asynchronous input and output that the machine has",
        &[MountReadOnly],
        hog_asynchronous_io,
    )
    .alone(),
    Behaviour::new(
        "hog-the-file-table",
        "a sandbox can't have half of all files that the machine can have open",
        &[MountReadOnly],
        hog_the_file_table,
    )
    .alone(),
    Behaviour::new(
        "leave-a-core",
        "a crash leaves no core in a shared folder",
        &[MountReadOnly, MountReadWrite],
        leave_a_core,
    ),
    Behaviour::new(
        "start-the-core-helper",
        "a crash does not start the program that the host has for cores",
        &[MountReadOnly],
        start_the_core_helper,
    )
    .alone(),
];

/// As much as a bomb or hog ever asks for, in processes and in MiB.
const BOMB: &str = "3000";
const HOG: &str = "3072";

/// The flags for a small limit: by its name where it can be enforced exactly, else as the
/// strictest profile has it, with the nearest wall that there is.
fn small(subject: &Subject, kind: LimitKind, value: &str) -> Vec<String> {
    match subject.exact_limit(kind) {
        Ok(()) => vec![format!("--{}", kind.name()), value.into()],
        Err(_) => vec!["--profile".into(), "restrictive".into()],
    }
}

/// Passes if the machine can still start programs, allocate and open files, for root and for
/// the caller.
fn machine_is_well(subject: &Subject) -> Verdict {
    for caller in [Caller::Me, subject.caller] {
        let mut command = Command::new("sh");
        let script = "for i in 1 2 3 4; do head -c 16m /dev/zero | tail -c 1 | wc -c & done; wait";
        command
            .args(["-c", script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        caller.become_in(&mut command);
        let got = Captured::of(command)?;
        got.exits(0)?.prints("1\n1\n1\n1\n")?;
    }
    File::open("/proc/self/status")?;
    Ok(())
}

/// Makes an attempt that says `full` when it has all it can get, has a look at the machine then,
/// and lets it end. Where the attempt dies of it there is no such moment.
fn at_its_fullest(
    subject: &Subject,
    mut command: Command,
    look: impl FnOnce() -> Verdict,
) -> Result<Captured, NotPassed> {
    command.stdin(Stdio::piped());
    let mut running = Running::start(command)?.within(Duration::from_secs(40));
    let full = running.until("full\n").is_ok();
    let looked = look().and_then(|()| machine_is_well(subject));
    if let (true, Some(mut stdin)) = (full, running.take_stdin()) {
        // It may be gone by now, which its end will tell.
        let _ = stdin.write_all(b"done\n");
    }
    let got = running.finish()?;
    looked?;
    Ok(got)
}

/// The attempt with a word by which what is left of it can be found; nothing may be.
fn in_a_sandbox(subject: &Subject, attempt: Attempt) -> Result<Captured, NotPassed> {
    let word = canary();
    let scratch = subject.scratch()?;
    let command = attempt.words(&[&word]).command(subject, &scratch)?;
    let got = at_its_fullest(subject, command, || Ok(()))?;
    let left = Process::marked(&word);
    ensure!(left.is_empty(), "there are still {left:?}");
    Ok(got)
}

/// The same attempt outside, asking for little.
fn control(subject: &Subject, name: &'static str, words: &[&str]) -> Verdict {
    if subject.caller != Caller::Me {
        return Ok(());
    }
    let words = [&[name], words].concat();
    let scratch = subject.scratch()?;
    let command = probe::outside(Caller::Me, &scratch, &words)?;
    let got = at_its_fullest(subject, command, || Ok(()))?;
    control_finds(name, &got)
}

fn bomb(subject: &Subject, name: &'static str) -> Verdict {
    control(subject, name, &["200"])?;
    let flags = small(subject, LimitKind::Pids, "64");
    judge(&in_a_sandbox(subject, Attempt::new(name).words(&[BOMB]).flags(&flags))?)
}

/// A hog may end by being refused or by being killed, if it is said what for.
fn refused_or_killed(got: &Captured) -> Verdict {
    if Finding::of(&got.text()) == Finding::Missing {
        return got.exits(137)?.mentions("memory").map(drop);
    }
    judge(got)
}

fn hog(subject: &Subject, name: &'static str) -> Verdict {
    control(subject, name, &["320"])?;
    let flags = small(subject, LimitKind::Memory, "128m");
    let attempt = Attempt::new(name).words(&[HOG]).flags(&flags);
    refused_or_killed(&in_a_sandbox(subject, attempt)?)
}

fn hog_exactly(subject: &Subject, name: &'static str) -> Verdict {
    match subject.exact_limit(LimitKind::Memory) {
        Ok(()) => hog(subject, name),
        Err(why) => skip!("the limit on memory is not exact here: {why}"),
    }
}

/// Makes the attempt with a disk limit, which a backend may not be able to enforce here.
fn in_a_small_sandbox(subject: &Subject, attempt: Attempt) -> Verdict {
    let got = in_a_sandbox(subject, attempt.flags(&["--disk", "64m"]))?;
    if got.status.code() == Some(125) {
        skip!("{}", got.errors().trim_end().replace('\n', "; "));
    }
    refused_or_killed(&got)
}

fn fill_disks(subject: &Subject) -> Verdict {
    const FOLDERS: [&str; 12] = [
        "/tmp",
        "/run",
        "/dev/shm",
        "/home/agent",
        "/",
        "/var/tmp",
        "/usr",
        "/etc",
        "/dev",
        "/probe",
        "/var",
        "/opt",
    ];
    note("fill-disks", "the host's disk is not filled");
    in_a_small_sandbox(subject, Attempt::new("fill-disks").words(&["64"]).words(&FOLDERS))
}

fn fill_a_copy_on_write_folder(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let shared = open_folder(&scratch, "shared")?;
    let attempt = Attempt::new("fill-disks")
        .words(&["64", "/shared"])
        .flags(&volume(&shared, "/shared", "cow"));
    in_a_small_sandbox(subject, attempt)?;
    ensure!(fs::read_dir(&shared)?.next().is_none(), "the host's folder is not empty");
    Ok(())
}

fn fill_with_files(subject: &Subject) -> Verdict {
    for folder in ["/tmp", "/dev/shm"] {
        let attempt = Attempt::new("fill-with-files").words(&["300000", folder]);
        in_a_small_sandbox(subject, attempt).map_err(|why| why.within(folder))?;
    }
    Ok(())
}

fn hog_descriptors(subject: &Subject) -> Verdict {
    note("hog-descriptors", "the machine's own limit may be lower than any that is told");
    // As many as a process can have at all, which no caller's limit is higher than.
    let attempt = Attempt::new("hog-descriptors").words(&["1048577"]);
    judge(&in_a_sandbox(subject, attempt)?)
}

fn hog_inotify(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let command = Attempt::new("hog-inotify").words(&["100000"]).command(subject, &scratch)?;
    let use_one = || {
        let command = probe::outside(subject.caller, &scratch, &["use-inotify"])?;
        judge(&Captured::of(command)?)
    };
    judge(&at_its_fullest(subject, command, use_one)?)
}

fn hog_asynchronous_io(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let name = "hog-asynchronous-io";
    let command = Attempt::new(name).words(&["1000000"]).command(subject, &scratch)?;
    let use_some = || {
        let command = probe::outside(subject.caller, &scratch, &["use-asynchronous-io"])?;
        judge(&Captured::of(command)?)
    };
    let got = at_its_fullest(subject, command, use_some)?;
    judge(&got)
}

fn hog_the_file_table(subject: &Subject) -> Verdict {
    /// More than any sandbox needs, and no more than a machine with a small table stands.
    const MOST: u64 = 1_200_000;
    let table = fs::read_to_string("/proc/sys/fs/file-max")?;
    let half = table.trim().parse::<u64>().unwrap_or(u64::MAX) / 2;
    if half > 100 * MOST {
        skip!("this machine's table of open files has no end");
    }
    let asked = half.min(MOST).to_string();
    let attempt = Attempt::new("hog-the-file-table").words(&[&asked]);
    refused_or_killed(&in_a_sandbox(subject, attempt)?)
}

fn leave_a_core(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let shared = open_folder(&scratch, "shared")?;
    let free = open_folder(&scratch, "free")?;
    Attempt::new("crash")
        .words(&["/shared"])
        .flags(&volume(&shared, "/shared", "rw"))
        .control_words(&[&free])
        .holds_in(subject, &scratch)?;
    let left: Vec<_> = fs::read_dir(&shared)?.flatten().collect();
    ensure!(left.is_empty(), "on the host there is {left:?}");
    Ok(())
}

const CORE_PATTERN: &str = "/proc/sys/kernel/core_pattern";

/// Another core pattern for the whole machine, for a moment: only one test at a time sets it,
/// whichever process that is in, and it is put back when this is dropped.
#[derive(Debug)]
struct CorePattern {
    before: Vec<u8>,
    _turn: File,
}

impl CorePattern {
    fn set(pattern: &str) -> Result<Self, NotPassed> {
        let turn = File::open(CORE_PATTERN)?;
        turn.lock()?;
        let before = fs::read(CORE_PATTERN)?;
        fs::write(CORE_PATTERN, pattern)?;
        Ok(Self { before, _turn: turn })
    }
}

impl Drop for CorePattern {
    fn drop(&mut self) {
        if let Err(why) = fs::write(CORE_PATTERN, &self.before) {
            eprintln!("could not put {CORE_PATTERN} back: {why}");
        }
    }
}

fn start_the_core_helper(subject: &Subject) -> Verdict {
    if !rustix::process::geteuid().is_root() {
        skip!("only root can set a program for cores");
    }
    let scratch = subject.scratch()?;
    let traces = open_folder(&scratch, "traces")?;
    let helper = scratch.file("helper", format!("#!/bin/sh\n: > {}/$1\n", traces.display()))?;
    fs::set_permissions(&helper, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    // %P is the number of the process that crashed, as the host counts.
    let pattern = CorePattern::set(&format!("|{} %P", helper.display()))?;
    let attempt = Attempt::new("crash").words(&["/tmp"]);
    let got = attempt.inside(subject, &scratch);
    let started = fs::read_dir(&traces)?.count();
    let control = probe::outside(Caller::Me, &scratch, &["crash", "."])?;
    let control = Captured::of(control);
    let by_control = fs::read_dir(&traces)?.count();
    drop(pattern);
    control?;
    ensure!(by_control > started, "the control started nothing");
    ensure!(started == 0, "the host's program was started {started} times");
    judge(&got?)
}
