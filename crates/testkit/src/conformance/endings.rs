//! How a run ends, and that the caller learns it exactly.

use std::time::Duration;

use agentkernel_core::Capability;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::SLEEP;
use super::limits::little_memory;
use super::report::reported;
use crate::host::{Process, unique_sleep};
use crate::running::patiently;
use crate::{
    Behaviour, NO_FLAGS, NotPassed, Program, Route, Running, Subject, Verdict, ensure, skip,
};

/// Far more than any run takes, and far less than the commands here would run if left alone.
const SOON: Duration = Duration::from_secs(8);

pub(super) const TABLE: &[Behaviour] = &[
    Behaviour::new(
        "exit-statuses",
        "every exit status from 0 to 255 comes back as it is",
        &[],
        exit_statuses,
    ),
    Behaviour::new(
        "deaths-by-signal",
        "a command killed by signal n makes exit status 128 + n, a real-time signal too",
        &[],
        deaths_by_signal,
    ),
    Behaviour::new(
        "death-from-outside",
        "a command killed from the host makes exit status 137",
        &[],
        death_from_outside,
    ),
    Behaviour::new(
        "time-limit",
        "a command that runs longer than its time limit is killed, with exit status 124",
        &[],
        time_limit,
    ),
    Behaviour::new(
        "time-limit-for-all",
        "a time limit also ends descendants that ignore SIGTERM and have left the session",
        &[],
        time_limit_for_all,
    )
    .not_live("in a sandbox that lives on, what has left the command's session stays"),
    Behaviour::new(
        "out-of-memory",
        "a command killed for want of memory makes exit status 137 and a message that says so",
        &[Capability::LimitMemory],
        out_of_memory,
    ),
    Behaviour::new(
        "command-not-found",
        "a command that is not there makes exit status 127 and a message",
        &[],
        command_not_found,
    ),
    Behaviour::new(
        "command-not-executable",
        "a command that is no program makes exit status 126 and a message",
        &[],
        command_not_executable,
    ),
    Behaviour::new(
        "lost",
        "a sandbox that goes away underneath makes exit status 125 and a report that says lost",
        &[],
        lost,
    ),
    Behaviour::new(
        "background-ends-with-the-command",
        "what a command leaves in the background is killed at its end, and the output closes",
        &[],
        background_ends_with_the_command,
    )
    .not_live("in a sandbox that lives on, it stays"),
    Behaviour::new(
        "signals-are-forwarded",
        "signals sent to agentkernel reach the command, which may handle them",
        &[],
        signals_are_forwarded,
    ),
    Behaviour::new(
        "forwarded-signals-kill",
        "a command that does not handle a forwarded signal dies of it",
        &[],
        forwarded_signals_kill,
    ),
    Behaviour::new(
        "a-stopped-command-can-be-ended",
        "a termination signal ends a command that has stopped itself",
        &[],
        a_stopped_command_can_be_ended,
    ),
    Behaviour::new(
        "signals-start-out-plain",
        "a command starts with no signal blocked or ignored",
        &[],
        signals_start_out_plain,
    ),
    Behaviour::new(
        "twenty-at-once",
        "twenty runs at the same time all succeed, each with its own output",
        &[],
        twenty_at_once,
    ),
    Behaviour::new(
        "first-runs-at-once",
        "the first runs of a program that was never used before all succeed, started together",
        &[],
        first_runs_at_once,
    )
    .only(Route::Cold, "whatever makes sandboxes ahead has used it before"),
];

fn exit_statuses(subject: &Subject) -> Verdict {
    // Whatever makes the place, the same agent tells it; an engine takes too long for all of them.
    let codes: Vec<i32> = match subject.sampled {
        false => (0..=255).collect(),
        true => vec![0, 1, 2, 63, 64, 77, 100, 124, 125, 126, 127, 128, 129, 137, 254, 255],
    };
    for batch in codes.chunks(8) {
        // A sandbox that lives on does so for as long as its folder.
        let scratch = subject.scratch()?;
        let start = |code: &i32| {
            let script = format!("exit {code}");
            Running::start(subject.run_command(&scratch, &NO_FLAGS, &["sh", "-c", &script]))
        };
        let started: Result<Vec<_>, _> = batch.iter().map(start).collect();
        for (code, running) in batch.iter().zip(started?) {
            running.finish()?.exits(*code)?.complains("")?;
        }
    }
    Ok(())
}

fn deaths_by_signal(subject: &Subject) -> Verdict {
    let signals: &[i32] = match subject.sampled {
        false => &[1, 2, 3, 6, 8, 9, 10, 11, 13, 14, 15, 34, 64],
        true => &[1, 9, 11, 64],
    };
    for signal in signals {
        let script = format!("kill -{signal} $$; echo survived");
        let (got, report) = reported(subject, &NO_FLAGS, &["sh", "-c", &script])?;
        got.exits(128 + signal)?.prints("")?;
        let ended = &report["ended"];
        let expected = json!({"kind": "signaled", "signal": signal});
        ensure!(*ended == expected, "expected {expected} in the report, not {ended}: {got}");
    }
    Ok(())
}

fn death_from_outside(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let duration = unique_sleep();
    let script = format!("echo begun; exec sleep {duration}");
    let argv = ["sh", "-c", &script];
    let mut running = Running::start(subject.run_command(&scratch, &NO_FLAGS, &argv))?;
    running.line()?;
    guest(&duration)?.signal(Signal::KILL)?;
    running.finish()?.exits(137)?.takes_less_than(SOON)?;
    Ok(())
}

/// The command's process as the host sees it: the innermost one that has `mark` in its arguments.
fn guest(mark: &str) -> Result<Process, NotPassed> {
    let mut family = Process::inside(mark);
    // agentkernel's own processes have the command line in their arguments as well.
    family.retain(|process| {
        let program = process.arguments.split(' ').next().unwrap_or_default();
        ["sh", "sleep"].contains(&program)
    });
    match family.pop() {
        Some(guest) => Ok(guest),
        None => skip!("the command's process can't be seen from the host"),
    }
}

fn time_limit(subject: &Subject) -> Verdict {
    let limit = patiently(Duration::from_millis(300));
    let flags = ["--timeout".into(), format!("{}ms", limit.as_millis())];
    let (got, report) = reported(subject, &flags, &["sh", "-c", "echo begun; exec sleep 60"])?;
    got.exits(124)?.prints("begun\n")?.mentions("time")?.takes_less_than(SOON)?;
    ensure!(got.took >= limit, "it ended before its time limit: {got}");
    let kind = &report["ended"]["kind"];
    ensure!(kind == "timed_out", "expected timed_out in the report, not {kind}");
    let in_time = subject.shell(&["--timeout", "60s"], "sleep 0.1; exit 9")?;
    in_time.exits(9)?.complains("")?.takes_less_than(SOON)?;
    Ok(())
}

fn time_limit_for_all(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let mark = unique_sleep();
    let stubborn = format!("trap \"\" TERM INT HUP; {SLEEP}; echo begun; sleep $mark");
    let script = format!("trap '' TERM; export mark={mark}; setsid sh -c '{stubborn}' & wait");
    // A node that makes containers beside takes its time for the first line.
    let limit = Duration::from_secs(if subject.is_clusters() { 3 } else { 1 });
    let limit = format!("{}s", patiently(limit).as_secs());
    let flags = ["--timeout", &limit];
    let command = subject.run_command(&scratch, &flags, &["sh", "-c", &script]);
    let mut running = Running::start(command)?;
    running.line()?;
    let before = Process::sleeping(&mark);
    running.finish()?.exits(124)?.takes_less_than(SOON)?;
    let after = Process::sleeping(&mark);
    ensure!(after.is_empty(), "still running after the time limit: {after:?}");
    ensure!(!before.is_empty(), "the descendants never ran, so the test shows nothing");
    Ok(())
}

fn out_of_memory(subject: &Subject) -> Verdict {
    // It reads into one buffer of 600 MiB.
    let hungry = ["dd", "if=/dev/zero", "of=/dev/null", "bs=600M", "count=1"];
    let little = little_memory(subject)?;
    let (got, report) = reported(subject, &["--memory", little], &hungry)?;
    got.exits(137)?.mentions("out of memory")?;
    let (ended, kills) = (&report["ended"], report["oom_kills"].as_u64());
    let expected = json!({"kind": "out_of_memory"});
    ensure!(*ended == expected, "expected {expected} in the report, not {ended}: {got}");
    ensure!(kills >= Some(1), "expected oom_kills in the report, not {kills:?}");
    // A kill that has nothing to do with memory is not taken for one.
    let killed = subject.shell(&["--memory", little], "kill -9 $$")?;
    killed.exits(137)?;
    ensure!(!killed.errors().contains("out of memory"), "memory was blamed for a kill: {killed}");
    Ok(())
}

fn command_not_found(subject: &Subject) -> Verdict {
    for missing in ["no-such-program", "/no/such/program", "./no-such-program"] {
        let (got, report) = reported(subject, &NO_FLAGS, &[missing])?;
        got.exits(127)?.prints("")?.mentions("error: ")?.mentions(missing)?.mentions("hint: ")?;
        never_ran(&report, 127)?;
    }
    // The guest's own 127 is no business of agentkernel's.
    subject.shell(&NO_FLAGS, "exit 127")?.exits(127)?.complains("")?;
    Ok(())
}

/// A report on a run whose command never started holds the error in place of an ending.
fn never_ran(report: &Value, code: u8) -> Verdict {
    let found = &report["error"]["exit_code"];
    ensure!(*found == code, "expected exit status {code} in the report's error: {report}");
    ensure!(report["ended"].is_null(), "the report says that it ended: {report}");
    Ok(())
}

fn command_not_executable(subject: &Subject) -> Verdict {
    for no_program in ["/etc/passwd", "/usr"] {
        let (got, report) = reported(subject, &NO_FLAGS, &[no_program])?;
        got.exits(126)?
            .prints("")?
            .mentions("error: ")?
            .mentions(no_program)?
            .mentions("hint: ")?;
        never_ran(&report, 126)?;
    }
    subject.shell(&NO_FLAGS, "exit 126")?.exits(126)?.complains("")?;
    Ok(())
}

fn lost(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let duration = unique_sleep();
    let report = scratch.path().join("work/report.json");
    let flags = ["--report".as_ref(), report.as_os_str()];
    let script = format!("echo begun; sleep {duration}; true");
    let command = subject.run_command(
        &scratch,
        &flags,
        &["sh".as_ref(), "-c".as_ref(), script.as_ref() as &std::ffi::OsStr],
    );
    let mut running = Running::start(command)?;
    running.line()?;
    let guest = guest(&duration)?;
    let Some(init) = guest.first_of_its_place() else {
        skip!("the sandbox's first process can't be seen from the host");
    };
    if init.pid == guest.pid {
        skip!("the command is its sandbox's first process");
    }
    init.signal(Signal::KILL)?;
    let got = running.finish()?;
    got.exits(125)?.mentions("error: ")?.takes_less_than(SOON)?;
    let report = super::report::read(&report)?;
    let ended = &report["ended"];
    ensure!(ended["kind"] == "lost", "expected lost in the report, not {ended}");
    ensure!(
        ended["why"].as_str().is_some_and(|why| !why.is_empty()),
        "lost for no reason: {ended}"
    );
    Ok(())
}

fn background_ends_with_the_command(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let mark = unique_sleep();
    let script = format!(
        "export mark={mark}; {SLEEP}; setsid sh -c '{SLEEP}; wait' & echo begun; \
         read go; echo done"
    );
    let mut command = subject.run_command(&scratch, &NO_FLAGS, &["sh", "-c", &script]);
    command.stdin(std::process::Stdio::piped());
    let mut running = Running::start(command)?;
    running.line()?;
    ensure!(!Process::sleeping(&mark).is_empty(), "the command's processes can't be seen");
    // At the end of its input the script goes on, and ends.
    let got = running.finish()?;
    got.exits(0)?.prints("begun\ndone\n")?.takes_less_than(SOON)?;
    let left = Process::sleeping(&mark);
    ensure!(left.is_empty(), "still running in the background: {left:?}");
    Ok(())
}

fn signals_are_forwarded(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let signals = [
        (Signal::HUP, "HUP"),
        (Signal::INT, "INT"),
        (Signal::QUIT, "QUIT"),
        (Signal::TERM, "TERM"),
        (Signal::USR1, "USR1"),
        (Signal::USR2, "USR2"),
    ];
    for (signal, name) in signals {
        let script = format!(
            "trap 'echo {name}; kill -9 $! 2>/dev/null; exit 9' {name}; echo begun; sleep 60 & wait"
        );
        let command = subject.run_command(&scratch, &NO_FLAGS, &["sh", "-c", &script]);
        let mut running = Running::start(command)?;
        running.line()?;
        running.signal(signal)?;
        let got = running.finish()?;
        got.exits(9)?.prints(format!("begun\n{name}\n"))?.takes_less_than(SOON)?;
    }
    Ok(())
}

fn forwarded_signals_kill(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    for (signal, number) in [(Signal::HUP, 1), (Signal::INT, 2), (Signal::TERM, 15)] {
        let argv = ["sh", "-c", "echo begun; exec sleep 60"];
        let mut running = Running::start(subject.run_command(&scratch, &NO_FLAGS, &argv))?;
        running.line()?;
        running.signal(signal)?;
        running.finish()?.exits(128 + number)?.takes_less_than(SOON)?;
    }
    Ok(())
}

fn a_stopped_command_can_be_ended(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    for (signal, number) in [(Signal::TERM, 15), (Signal::HUP, 1)] {
        let script = "(until grep -q '^State:.T' /proc/$$/status; do :; done; echo stopped) &
                      kill -STOP $$; echo went on; exit 1";
        let command = subject.run_command(&scratch, &NO_FLAGS, &["sh", "-c", script]);
        let mut running = Running::start(command)?;
        running.line()?;
        running.signal(signal)?;
        let got = running.finish()?;
        got.exits(128 + number)?.prints("stopped\n")?.takes_less_than(SOON)?;
    }
    Ok(())
}

fn signals_start_out_plain(subject: &Subject) -> Verdict {
    // The C library's own two: its posix_spawn, by which the tests start agentkernel, leaves
    // them ignored.
    const INTERNAL: u64 = 1 << 31 | 1 << 32;
    let got = subject.run(&NO_FLAGS, &["grep", "-E", "^Sig(Blk|Ign):", "/proc/self/status"])?;
    got.exits(0)?;
    let text = got.text();
    let sets = text.lines().filter_map(|line| line.split_once('\t'));
    let sets: Vec<_> = sets.filter_map(|(_, set)| u64::from_str_radix(set, 16).ok()).collect();
    ensure!(sets.len() == 2, "no sets of signals: {got}");
    let plain = sets.iter().all(|set| set & !INTERNAL == 0);
    ensure!(plain, "a signal is blocked or ignored: {got}");
    Ok(())
}

fn first_runs_at_once(subject: &Subject) -> Verdict {
    let program = Program::copy_of(&subject.program);
    let program = program.map_err(|why| NotPassed::failed_to("copy the program", why))?;
    let subject = Subject { program: program.path().into(), ..subject.clone() };
    let scratch = subject.scratch()?;
    let start = |_| Running::start(subject.run_command(&scratch, &NO_FLAGS, &["echo", "hello"]));
    let started: Result<Vec<_>, _> = (0..8).map(start).collect();
    for running in started? {
        running.finish()?.exits(0)?.prints("hello\n")?.complains("")?;
    }
    Ok(())
}

fn twenty_at_once(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let start = |number: usize| {
        let script = format!("echo {number} > /tmp/number; read go; cat /tmp/number");
        let mut command = subject.run_command(&scratch, &NO_FLAGS, &["sh", "-c", &script]);
        command.stdin(std::process::Stdio::piped());
        let running = Running::start(command)?;
        // One node makes them one by one.
        Ok(if subject.has_pods() { running.within(Duration::from_secs(90)) } else { running })
    };
    let started: Result<Vec<_>, NotPassed> = (0..20).map(start).collect();
    for (number, running) in started?.into_iter().enumerate() {
        running.finish()?.exits(0)?.prints(format!("{number}\n"))?.complains("")?;
    }
    Ok(())
}
