//! Processes: those of the host, those of the sandbox that outlive it, and its agent.

use std::os::unix::process::CommandExt;
use std::time::Duration;

use agentkernel_core::Capability::MountReadOnly;
use rustix::process::Signal;

use super::attempt::{Attempt, attempt, control_finds};
use super::probe::{self, judge};
use super::scene::{Bystander, canary, halves};
use crate::host::Process;
use crate::running::patiently;
use crate::{Behaviour, Caller, Captured, Running, Subject, Verdict, ensure};

pub(super) const TABLE: &[Behaviour] = &[
    Behaviour::new(
        "find-host-processes",
        "the arguments and the environments of the host's processes can't be seen",
        &[MountReadOnly],
        find_host_processes,
    ),
    Behaviour::new(
        "find-the-callers-environment",
        "the environment of agentkernel is nowhere to be found",
        &[MountReadOnly],
        find_the_callers_environment,
    ),
    Behaviour::new(
        "reach-host-processes",
        "the host's processes can't be signalled, traced, read or slowed down by number",
        &[MountReadOnly],
        reach_host_processes,
    ),
    Behaviour::new(
        "reach-everyone",
        "what is aimed at all of the user's processes hits none outside",
        &[MountReadOnly],
        reach_everyone,
    ),
    Behaviour::new(
        "signal-the-callers-group",
        "what is aimed at one's own process group never hits the caller's",
        &[MountReadOnly],
        signal_the_callers_group,
    ),
    Behaviour::new(
        "find-other-sandboxes",
        "the processes of another sandbox of the same caller's can't be seen",
        &[MountReadOnly],
        find_other_sandboxes,
    ),
    attempt!(
        "read-the-agent",
        "memory, environment, descriptors and folders of process 1 can't be read",
        uncontrolled("process 1 of the host is left alone")
    ),
    Behaviour::new(
        "trace-the-agent",
        "process 1 can't be traced, read, written or robbed of descriptors",
        &[MountReadOnly],
        trace_the_agent,
    ),
    attempt!(
        "stop-the-agent",
        "no signal to process 1 ends the sandbox before its command",
        uncontrolled("process 1 of the host is left alone")
    ),
    Behaviour::new(
        "reach-host-ipc",
        "the host's shared memory, messages and semaphores are not there",
        &[MountReadOnly],
        reach_host_ipc,
    ),
    Behaviour::new(
        "outlive-the-command",
        "no daemon lives on after the command has ended",
        &[MountReadOnly],
        outlive_the_command,
    )
    .not_live("where the sandbox lives on, so does what left the command's session"),
    Behaviour::new(
        "outlive-the-time-limit",
        "no daemon lives on after the time limit",
        &[MountReadOnly],
        outlive_the_time_limit,
    )
    .not_live("where the sandbox lives on, so does what left the command's session"),
    Behaviour::new(
        "outlive-the-launcher",
        "no daemon lives on after agentkernel was killed",
        &[MountReadOnly],
        outlive_the_launcher,
    )
    .not_live("where the sandbox lives on, so does what left the command's session"),
];

fn find_host_processes(subject: &Subject) -> Verdict {
    let word = canary();
    let bystander = Bystander::start(subject.caller, &word)?;
    Attempt::new("find-a-word").words(&halves(&word)).holds(subject)?;
    bystander.ends_unharmed()
}

fn find_the_callers_environment(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    for name in ["find-own-variable", "find-a-word"] {
        let word = canary();
        let attempt = Attempt::new(name).words(&halves(&word));
        let mut command = attempt.command(subject, &scratch)?;
        command.env("CANARY", &word);
        judge(&Captured::of(command)?)?;
        let [first, second] = halves(&word);
        let mut control = probe::outside(Caller::Me, &scratch, &[name, first, second])?;
        control.env("CANARY", &word);
        control_finds(name, &Captured::of(control)?)?;
    }
    Ok(())
}

fn find_other_sandboxes(subject: &Subject) -> Verdict {
    let word = canary();
    let scratch = subject.scratch()?;
    let mut other = Attempt::new("stay").words(&[&word]).command(subject, &scratch)?;
    other.stdin(std::process::Stdio::piped());
    let mut other = Running::start(other)?;
    other.until("there\n")?;
    let attempt = Attempt::new("find-a-word").words(&halves(&word));
    let found = judge(&attempt.inside(subject, &subject.scratch()?)?);
    let [first, second] = halves(&word);
    let control = probe::outside(Caller::Me, &scratch, &["find-a-word", first, second])?;
    control_finds("find-a-word", &Captured::of(control)?)?;
    if let Some(mut stdin) = other.take_stdin() {
        std::io::Write::write_all(&mut stdin, b"done\n")?;
    }
    other.finish()?;
    found
}

fn reach_host_processes(subject: &Subject) -> Verdict {
    let bystander = Bystander::start(subject.caller, "bystander")?;
    let other = Bystander::start(Caller::Me, "bystander")?;
    let pids = [bystander.pid(), std::process::id()].map(|pid| pid.to_string());
    Attempt::new("reach-host-processes")
        .words(&pids)
        .control_words(&[other.pid().to_string()])
        .holds(subject)?;
    bystander.ends_unharmed()
}

fn reach_everyone(subject: &Subject) -> Verdict {
    let bystander = Bystander::start(subject.caller, "bystander")?;
    Attempt::new("reach-everyone").uncontrolled("it would hit everyone").holds(subject)?;
    bystander.ends_unharmed()
}

/// A shell that runs a command in its own process group and says if that was signalled.
const WATCHFUL: [&str; 4] = ["sh", "-c", "trap 'echo signalled' URG; \"$@\"; echo status $?", "sh"];

fn signal_the_callers_group(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let inner = Attempt::new("signal-own-group").command(subject, &scratch)?;
    let mut command = subject.caller.through(&WATCHFUL, &inner);
    command.process_group(0);
    let got = Captured::of(command)?;
    let text = got.text();
    ensure!(text.contains("held: "), "no attempt was made: {got}");
    ensure!(!text.contains("signalled\n"), "the caller was signalled: {got}");
    ensure!(text.ends_with("status 0\n"), "expected status 0: {got}");
    let inner = probe::outside(Caller::Me, &scratch, &["signal-own-group"])?;
    let mut control = Caller::Me.through(&WATCHFUL, &inner);
    control.process_group(0);
    let got = Captured::of(control)?;
    ensure!(got.text().contains("signalled\n"), "the control hit nobody: {got}");
    Ok(())
}

fn trace_the_agent(subject: &Subject) -> Verdict {
    let bystander = Bystander::start(Caller::Me, "bystander")?;
    Attempt::new("trace-the-agent")
        .words(&["1"])
        .control_words(&[bystander.pid().to_string()])
        .holds(subject)
}

fn reach_host_ipc(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let (key, name) = (std::process::id().to_string(), format!("/{}", canary()));
    let words = ["offer-ipc", &key, &name];
    let mut offer = probe::outside(subject.caller, &scratch, &words)?;
    offer.stdin(std::process::Stdio::piped());
    let mut offering = Running::start(offer)?;
    offering.until("there\n")?;
    let found = Attempt::new("reach-host-ipc").words(&[&key, &name]).holds(subject);
    // Its next line of input makes it take everything back, whatever was found.
    if let Some(mut stdin) = offering.take_stdin() {
        std::io::Write::write_all(&mut stdin, b"done\n")?;
    }
    offering.finish()?;
    found
}

/// Whether none of the processes with the word is left, or will be within a few seconds.
pub(super) fn nobody_is_left(word: &str) -> Verdict {
    for process in Process::marked(word) {
        let ended = process.ends_within(patiently(Duration::from_secs(5)))?;
        ensure!(ended, "{} lives on as {}", process.arguments, process.pid);
    }
    // A process may have moved on to another number meanwhile.
    let left = Process::marked(word);
    ensure!(left.is_empty(), "there are still {left:?}");
    Ok(())
}

fn outlive_the_command(subject: &Subject) -> Verdict {
    let word = canary();
    let attempt = Attempt::new("leave-daemons").words(&[&word, "leave"]);
    judge(&attempt.inside(subject, &subject.scratch()?)?)?;
    nobody_is_left(&word)
}

fn outlive_the_time_limit(subject: &Subject) -> Verdict {
    let word = canary();
    let attempt =
        Attempt::new("leave-daemons").words(&[&word, "stay"]).flags(&["--timeout", "500ms"]);
    let got = attempt.inside(subject, &subject.scratch()?)?;
    judge(got.exits(124)?)?;
    nobody_is_left(&word)
}

fn outlive_the_launcher(subject: &Subject) -> Verdict {
    let word = canary();
    let attempt = Attempt::new("leave-daemons").words(&[&word, "stay"]);
    let scratch = subject.scratch()?;
    let mut running = Running::start(attempt.command(subject, &scratch)?)?;
    running.until("held: they stay\n")?;
    running.signal(Signal::KILL)?;
    running.wait()?;
    nobody_is_left(&word)
}
