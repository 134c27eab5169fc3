//! Limits: one that was asked for holds or is refused.

use std::ffi::OsStr;
use std::time::Duration;

use agentkernel_core::{Capability, LimitKind};
use serde_json::Value;

use super::report::reported;
use crate::{Behaviour, Captured, NotPassed, Route, Subject, Verdict, ensure, skip};

pub(super) const TABLE: &[Behaviour] = &[
    Behaviour::new(
        "limit-cpus",
        "busy processes together get no more processor time than the limit",
        &[Capability::LimitCpus],
        limit_cpus,
    )
    .alone(),
    Behaviour::new(
        "limit-memory",
        "what fits the memory limit runs, and what does not is killed",
        &[Capability::LimitMemory],
        limit_memory,
    ),
    Behaviour::new(
        "limit-memory-least",
        "a memory limit too little for any program is refused, and a little one holds or is refused",
        &[Capability::LimitMemory],
        limit_memory_least,
    ),
    Behaviour::new(
        "limit-memory-covers-scratch",
        "files in the sandbox's own memory count against the memory limit",
        &[Capability::LimitMemory],
        limit_memory_covers_scratch,
    ),
    Behaviour::new(
        "limit-pids",
        "no more processes than the limit can be alive at the same time",
        &[Capability::LimitPids],
        limit_pids,
    ),
    Behaviour::new(
        "limit-disk",
        "everything written outside of mounts together takes no more than the limit",
        &[Capability::LimitDisk],
        limit_disk,
    )
    .not_live("what lives on is on the host's disk, of which nobody can give a part"),
    Behaviour::new(
        "limits-of-a-profile",
        "a profile's own limits are in the report, with the reason where one is not exact",
        &[],
        limits_of_a_profile,
    ),
    Behaviour::new(
        "limits-of-a-profile-hold",
        "a profile's own limits hold for a process, exactly or by the nearest wall",
        &[],
        limits_of_a_profile_hold,
    ),
    Behaviour::new(
        "strict-refuses-a-weaker-wall",
        "--strict refuses a profile whose limits can't be enforced exactly, and runs otherwise",
        &[],
        strict_refuses_a_weaker_wall,
    ),
];

/// Runs `argv` under the limit that `flags` ask for. Where doctor says that the limit can't be
/// had, the run must be refused, and the test is skipped for agentkernel's own reason.
pub(super) fn limited(
    subject: &Subject,
    kind: LimitKind,
    flags: &[impl AsRef<OsStr>],
    argv: &[impl AsRef<OsStr>],
) -> Result<Captured, NotPassed> {
    let got = subject.run(flags, argv)?;
    // Of processors Nomad reserves what is asked for, and not what a profile grants.
    let is_reserved = subject.has_allocations() && kind == LimitKind::Cpus;
    if subject.exact_limit(kind).is_err() && !is_reserved {
        got.exits(125)?.prints("")?.mentions("error: ")?.mentions("hint: ")?;
        skip!("{}", got.errors().trim_end().replace('\n', "; "));
    }
    Ok(got)
}

/// The processor time used over the time that passed, for two busy processes.
fn busy_share(subject: &Subject, limit: &str) -> Result<f64, NotPassed> {
    let script = "for i in 1 2; do timeout 1 sh -c 'while :; do :; done' & done; wait";
    let (got, report) = reported(subject, &["--cpus", limit], &["sh", "-c", script])?;
    got.exits(0)?;
    let micros = |value: &Value| value.as_u64().unwrap_or_default() as f64;
    let usage = &report["rusage"];
    let used = micros(&usage["user_us"]) + micros(&usage["system_us"]);
    let passed = micros(&report["phases_us"]["exec"]);
    // Its start may have been heard of a moment late.
    ensure!(passed >= 0.98e6, "exec took {passed} us, but the command worked for a second");
    Ok(used / passed)
}

/// The share for `limit`, tried again while a busy machine keeps it below `least`.
fn share_of_at_least(subject: &Subject, limit: &str, least: f64) -> Result<f64, NotPassed> {
    let mut most = 0.0_f64;
    for _ in 0..4 {
        most = most.max(busy_share(subject, limit)?);
        if most >= least {
            break;
        }
    }
    ensure!(most >= least, "of {limit} processors only {most:.2} were used, so nothing is shown");
    Ok(most)
}

fn limit_cpus(subject: &Subject) -> Verdict {
    let part = limited(subject, LimitKind::Cpus, &["--cpus", "0.2"], &["true"])?;
    if !is_too_small(&part)? {
        part.exits(0)?;
        let little = share_of_at_least(subject, "0.2", 0.05)?;
        ensure!(little < 0.3, "{little:.2} processors were used, 0.2 allowed");
    }
    let much = share_of_at_least(subject, "1", 0.4)?;
    ensure!(much < 1.2, "{much:.2} processors were used, 1 allowed");
    Ok(())
}

/// Whether a limit was refused because the backend gives no such small amount, as where that is a
/// machine's.
fn is_too_small(got: &Captured) -> Result<bool, NotPassed> {
    let least = ["MiB at least", "whole processors only"];
    let refused = got.status.code() == Some(125);
    if refused && least.iter().any(|words| got.errors().contains(words)) {
        got.prints("")?.mentions("error: ")?.mentions("hint: ")?;
        return Ok(true);
    }
    Ok(false)
}

/// Little memory: the smaller one of two amounts that the backend gives.
pub(super) fn little_memory(subject: &Subject) -> Result<&'static str, NotPassed> {
    let got = limited(subject, LimitKind::Memory, &["--memory", "64m"], &["true"])?;
    match is_too_small(&got)? {
        true => Ok("256m"),
        false => got.exits(0).map(|_| "64m"),
    }
}

fn limit_memory(subject: &Subject) -> Verdict {
    let keep = |size: &str| format!("head -c {size} /dev/zero | tail -c {size} | wc -c");
    let little = little_memory(subject)?;
    let run = |size: &str| {
        let script = keep(size);
        limited(subject, LimitKind::Memory, &["--memory", little], &["sh", "-c", &script])
    };
    run("16m")?.exits(0)?.prints("16777216\n")?;
    let got = run("512m")?;
    ensure!(!got.text().contains("536870912"), "512 MiB fit into {little}: {got}");
    // Without the limit, the same does no harm.
    let free = subject.shell(&["--memory", "2g"], &keep("512m"))?;
    free.exits(0)?.prints("536870912\n")?;
    Ok(())
}

fn limit_memory_least(subject: &Subject) -> Verdict {
    if !subject.has(Capability::ImageModule) {
        let got = subject.run(&["--memory", "1k"], &["echo", "there"])?;
        got.exits(125)?.prints("")?.mentions("error: ")?.mentions("memory")?.mentions("hint: ")?;
    }
    let got = limited(subject, LimitKind::Memory, &["--memory", "16m"], &["echo", "there"])?;
    if !is_too_small(&got)? {
        got.exits(0)?.prints("there\n")?;
    }
    Ok(())
}

fn limit_memory_covers_scratch(subject: &Subject) -> Verdict {
    let little = little_memory(subject)?;
    let places: &[&str] = match subject.route {
        // What lives on is on a disk.
        Route::Live => &["/dev/shm", "/run"],
        Route::Cold | Route::Pool => &["/tmp", "/dev/shm", "\"$HOME\"", "/run"],
    };
    for place in places {
        let fill = |size| format!("head -c {size} /dev/zero > {place}/file && echo written");
        let small = subject.shell(&["--memory", little], &fill("8m"))?;
        small.exits(0)?.prints("written\n")?;
        let large = subject.shell(&["--memory", little], &fill("512m"))?;
        ensure!(large.status.code() != Some(0), "512 MiB fit into {place} with {little}: {large}");
        large.prints("")?;
    }
    Ok(())
}

/// How many processes a shell manages to have at once, of 60 that it would like, with itself.
fn processes(subject: &Subject, limit: &str) -> Result<usize, NotPassed> {
    let script = "echo 1; i=1; while [ $i -lt 60 ]; do sleep 60 >&- 2>&- & i=$((i+1)); \
                  echo $i; done";
    let got = limited(subject, LimitKind::Pids, &["--pids", limit], &["sh", "-c", script])?;
    let all = got.text().lines().count() == 60;
    ensure!(got.status.success() == all, "60 processes or not? {got}");
    Ok(got.text().lines().count())
}

fn limit_pids(subject: &Subject) -> Verdict {
    let (few, many) = (processes(subject, "16")?, processes(subject, "100")?);
    ensure!(few <= 16, "{few} processes were alive, 16 allowed");
    ensure!(few >= 12, "only {few} processes were alive, 16 allowed");
    ensure!(many == 60, "only {many} processes were alive, 100 allowed");
    Ok(())
}

fn limit_disk(subject: &Subject) -> Verdict {
    let exact = subject.exact_limit(LimitKind::Disk);
    // A file system in memory has a size for everyone.
    ensure!(exact.is_ok() || subject.backend != "native", "native can't limit disk: {exact:?}");
    let run =
        |script: &str| limited(subject, LimitKind::Disk, &["--disk", "16m"], &["sh", "-c", script]);
    let small = "head -c 8m /dev/zero > /tmp/file && wc -c < /tmp/file";
    run(small)?.exits(0)?.prints("8388608\n")?;
    let sizes = "cat /tmp/* \"$HOME\"/* /run/* /dev/shm/* 2>/dev/null | wc -c";
    let everywhere = "for place in /tmp \"$HOME\" /run /dev/shm; do \
                      head -c 12m /dev/zero > $place/file || echo no space in $place >&2; done";
    let got = run(&format!("{everywhere}; {sizes}"))?;
    let written: u64 = got.text().trim().parse().unwrap_or(u64::MAX);
    ensure!(written <= 16 << 20, "{written} bytes were written, 16 MiB allowed: {got}");
    ensure!(written >= 8 << 20, "only {written} bytes were written, 16 MiB allowed: {got}");
    got.mentions("No space left")?;
    let free = subject.shell(&["--disk", "256m"], &format!("{everywhere}; {sizes}"))?;
    free.prints("50331648\n")?.complains("")?;
    Ok(())
}

fn limits_of_a_profile(subject: &Subject) -> Verdict {
    let (got, report) = reported(subject, &["--profile", "restrictive"], &["true"])?;
    got.exits(0)?;
    let limits = report["limits"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (kind, value) in
        [(LimitKind::Cpus, 1.0), (LimitKind::Memory, 268_435_456.0), (LimitKind::Pids, 64.0)]
    {
        let limit = limits.iter().find(|limit| limit["name"] == kind.name());
        let Some(limit) = limit else {
            return Err(NotPassed::Failed(format!("no {} in {limits:?}", kind.name())));
        };
        let found = limit["value"].as_f64();
        ensure!(found == Some(value), "expected the value {value}: {limit}");
        let exact = limit["exact"].as_bool();
        let doctor = subject.exact_limit(kind);
        ensure!(exact == Some(doctor.is_ok()), "doctor says {doctor:?}, the report {limit}");
        let reason = limit["why"].as_str().is_some_and(|why| !why.is_empty());
        ensure!(exact == Some(true) || reason, "it is not exact for no reason: {limit}");
    }
    Ok(())
}

fn limits_of_a_profile_hold(subject: &Subject) -> Verdict {
    let flags = |profile| ["--profile", profile];
    let hungry = ["dd", "if=/dev/zero", "of=/dev/null", "bs=600M", "count=1"];
    let got = subject.run(&flags("restrictive"), &hungry)?;
    ensure!(!got.status.success(), "600 MiB fit into 256: {got}");
    subject.run(&flags("moderate"), &hungry)?.exits(0)?;
    let many = "i=0; while [ $i -lt 100 ]; do sleep 60 >&- 2>&- & i=$((i+1)); done; \
                echo forked";
    subject.shell(&flags("restrictive"), many)?.prints("")?;
    subject.shell(&flags("moderate"), many)?.exits(0)?.prints("forked\n")?;
    Ok(())
}

fn strict_refuses_a_weaker_wall(subject: &Subject) -> Verdict {
    let kinds = [LimitKind::Cpus, LimitKind::Memory, LimitKind::Pids];
    let weaker = kinds.iter().any(|kind| subject.exact_limit(*kind).is_err())
        || !subject.missing_walls.is_empty();
    let got = subject.shell(&["--profile", "restrictive", "--strict"], "echo ran")?;
    match weaker {
        true => got.exits(125)?.prints("")?.mentions("error: ")?.mentions("hint: ")?,
        false => got.exits(0)?.prints("ran\n")?.complains("")?,
    };
    // Without --strict it runs either way.
    let lenient = subject.shell(&["--profile", "restrictive"], "echo ran")?;
    lenient.exits(0)?.prints("ran\n")?.takes_less_than(Duration::from_secs(10))?;
    Ok(())
}
