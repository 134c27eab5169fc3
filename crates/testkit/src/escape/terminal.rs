//! The caller's terminal: to push input into it, to reach it at all, to leave it spoilt.

use std::process::Command;

use agentkernel_core::Capability::{MountReadOnly, Terminal};

use super::attempt::{Attempt, attempt};
use super::probe::{self, Finding, judge};
use crate::{Behaviour, Caller, Captured, NotPassed, Subject, TerminalSession, Verdict, ensure};

pub(super) const TABLE: &[Behaviour] = &[
    attempt!(
        "push-into-own-terminal",
        "the filter refuses to push input into any terminal, whatever the request's high bits"
    ),
    attempt!("steal-the-console", "no terminal is made the machine's console, or hung up"),
    Behaviour::new(
        "push-into-the-callers-terminal",
        "no input is pushed into the caller's terminal, with or without one inside",
        &[MountReadOnly, Terminal],
        push_into_the_callers_terminal,
    ),
    Behaviour::new(
        "find-a-terminal-without-asking",
        "without a terminal of its own a sandbox sees none, on whichever stream the caller's is",
        &[MountReadOnly],
        find_a_terminal_without_asking,
    ),
    Behaviour::new(
        "find-the-callers-terminal",
        "the terminal in a sandbox is another than the caller's",
        &[MountReadOnly, Terminal],
        find_the_callers_terminal,
    ),
    Behaviour::new(
        "spoil-the-callers-terminal",
        "what a command does to its terminal is not done to the caller's",
        &[MountReadOnly, Terminal],
        spoil_the_callers_terminal,
    ),
];

fn on_a_terminal(command: &Command, caller: Caller) -> Result<Captured, NotPassed> {
    let (got, _) = TerminalSession::start(command, caller, (24, 80))?.finish()?;
    Ok(got)
}

/// What the line says that starts with one of the words by which the probe judges.
fn findings(got: &Captured) -> Vec<Finding> {
    let lines = got.text();
    let all = lines.lines().map(Finding::of);
    all.filter(|finding| *finding != Finding::Missing).collect()
}

/// The probe's role that runs `command` and then looks for input that was pushed.
fn watched(caller: Caller, command: &Command) -> Result<Command, NotPassed> {
    let probe = probe::path()?.to_string_lossy();
    Ok(caller.through(&[&probe, "watch-the-terminal"], command))
}

fn push_into_the_callers_terminal(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    for flag in ["-t", "-T"] {
        let attempt = Attempt::new("push-into-a-terminal").flags(&[flag]);
        let command = watched(subject.caller, &attempt.command(subject, &scratch)?)?;
        let got = on_a_terminal(&command, subject.caller)?;
        let found = findings(&got);
        let held = |finding: &Finding| matches!(finding, Finding::Held(_));
        ensure!(found.len() == 2 && found.iter().all(held), "{flag}: {got}");
    }
    let command = probe::outside(Caller::Me, &scratch, &["push-into-a-terminal"])?;
    let got = on_a_terminal(&watched(Caller::Me, &command)?, Caller::Me)?;
    let pushed = matches!(findings(&got).as_slice(), [.., Finding::Escaped(_)]);
    ensure!(pushed, "the control pushed nothing: {got}");
    Ok(())
}

/// Ways to connect only some of the streams to the caller's terminal.
const PARTLY: [&str; 4] = [
    "\"$@\" | cat",
    "\"$@\" < /dev/null | cat",
    "\"$@\" < /dev/null 2>&1 | cat",
    "echo | \"$@\" | cat",
];

fn find_a_terminal_without_asking(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let attempt = Attempt::new("find-a-terminal");
    let without = attempt.clone().flags(&["-T"]);
    let got = on_a_terminal(&without.command(subject, &scratch)?, subject.caller)?;
    judge(&got)?;
    for script in PARTLY {
        let command = attempt.command(subject, &scratch)?;
        let command = subject.caller.through(&["sh", "-c", script, "sh"], &command);
        judge(&on_a_terminal(&command, subject.caller)?)?;
    }
    let command = probe::outside(Caller::Me, &scratch, &["find-a-terminal"])?;
    let got = on_a_terminal(&command, Caller::Me)?;
    let found = matches!(findings(&got).as_slice(), [Finding::Escaped(_)]);
    ensure!(found, "the control found no terminal: {got}");
    Ok(())
}

/// The command with the numbers of the terminal on which it is started as its last words.
fn told_of_its_terminal(caller: Caller, command: &Command) -> Result<Command, NotPassed> {
    let script = "numbers=$(\"$0\" name-the-terminal | head -n 1) && exec \"$@\" $numbers";
    let probe = probe::path()?.to_string_lossy();
    Ok(caller.through(&["sh", "-c", script, &probe], command))
}

fn find_the_callers_terminal(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let name = "find-the-callers-terminal";
    let command = Attempt::new(name).flags(&["-t"]).command(subject, &scratch)?;
    let command = told_of_its_terminal(subject.caller, &command)?;
    judge(&on_a_terminal(&command, subject.caller)?)?;
    let command = probe::outside(Caller::Me, &scratch, &[name])?;
    let got = on_a_terminal(&told_of_its_terminal(Caller::Me, &command)?, Caller::Me)?;
    let found = matches!(findings(&got).as_slice(), [Finding::Escaped(_)]);
    ensure!(found, "the control did not find its terminal: {got}");
    Ok(())
}

/// Whether `command` leaves the terminal's modes other than they were.
fn spoils(caller: Caller, command: &Command) -> Result<bool, NotPassed> {
    let script = "stty -g; \"$@\"; stty -g";
    let got = on_a_terminal(&caller.through(&["sh", "-c", script, "sh"], command), caller)?;
    let text = got.text();
    ensure!(text.contains("held: "), "no attempt was made: {got}");
    let mut modes = text.lines().filter(|line| !line.contains("held: "));
    Ok(modes.next() != modes.next_back())
}

fn spoil_the_callers_terminal(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    for flag in ["-t", "-T"] {
        let attempt = Attempt::new("spoil-the-terminal").flags(&[flag]);
        let command = attempt.command(subject, &scratch)?;
        let spoilt = spoils(subject.caller, &command)?;
        ensure!(!spoilt, "{flag}: the caller's terminal has other modes now");
    }
    let command = probe::outside(Caller::Me, &scratch, &["spoil-the-terminal"])?;
    ensure!(spoils(Caller::Me, &command)?, "the control spoilt nothing");
    Ok(())
}
