//! Terminals, as a person at one meets them.

use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

use agentkernel_core::Capability;
use rustix::process::Signal;

use crate::host::{Process, unique_sleep};
use crate::running::patiently;
use crate::{
    Behaviour, Captured, NO_FLAGS, NotPassed, Route, Scratch, Subject, TerminalSession, Verdict,
    ensure,
};

const SOON: Duration = Duration::from_secs(8);

const NEEDS: &[Capability] = &[Capability::Terminal];

pub(super) const TABLE: &[Behaviour] = &[
    Behaviour::new(
        "terminal-when-both-ends-are-one",
        "a command gets a terminal when input and output are one, and not otherwise",
        NEEDS,
        terminal_when_both_ends_are_one,
    ),
    Behaviour::new(
        "terminal-by-force",
        "-t gives a terminal where the caller has none, and -T none where the caller has one",
        NEEDS,
        terminal_by_force,
    ),
    Behaviour::new(
        "terminal-let-go",
        "a command that lets go of its terminal goes on, and is not hung up",
        NEEDS,
        terminal_let_go,
    ),
    Behaviour::new(
        "terminal-controls-the-session",
        "the terminal is the command's controlling terminal and is known by name inside",
        NEEDS,
        terminal_controls_the_session,
    ),
    Behaviour::new(
        "terminal-size",
        "the terminal has the caller's size, and a change of it reaches the command as SIGWINCH",
        NEEDS,
        terminal_size,
    ),
    Behaviour::new(
        "terminal-keys",
        "Ctrl-C interrupts the command, Ctrl-D ends its input, and each key is echoed once",
        NEEDS,
        terminal_keys,
    ),
    Behaviour::new(
        "terminal-modes-restored",
        "however a run ends, the caller's terminal is as it was",
        NEEDS,
        terminal_modes_restored,
    ),
    Behaviour::new(
        "terminal-as-input-only",
        "what is typed reaches a command whose output goes elsewhere, up to Ctrl-D",
        &[],
        terminal_as_input_only,
    ),
    Behaviour::new(
        "terminal-last-words",
        "what a command says just before its end is shown, however much it is",
        NEEDS,
        terminal_last_words,
    ),
    Behaviour::new(
        "terminal-statuses",
        "exit statuses, signals and time limits are the same with a terminal",
        NEEDS,
        terminal_statuses,
    ),
    Behaviour::new(
        "terminal-hang-up",
        "when the caller's terminal goes away, so does what runs on it",
        NEEDS,
        terminal_hang_up,
    ),
];

fn start(
    subject: &Subject,
    scratch: &Scratch,
    flags: &[&str],
    script: &str,
) -> Result<TerminalSession, NotPassed> {
    let command = subject.run_command(scratch, flags, &["sh", "-c", script]);
    TerminalSession::start(&command, subject.caller, (37, 91))
}

/// Runs a script on a terminal until its end.
fn on_terminal(subject: &Subject, flags: &[&str], script: &str) -> Result<Captured, NotPassed> {
    let scratch = subject.scratch()?;
    Ok(start(subject, &scratch, flags, script)?.finish()?.0)
}

/// Says for each of the three streams whether it is a terminal.
const WHICH: &str = "a=no b=no c=no; test -t 0 && a=yes; test -t 1 && b=yes; test -t 2 && c=yes; \
                     echo $a $b $c";

fn terminal_when_both_ends_are_one(subject: &Subject) -> Verdict {
    let both = on_terminal(subject, &[], WHICH)?;
    both.exits(0)?.prints("yes yes yes\r\n")?;
    let neither = subject.shell(&NO_FLAGS, WHICH)?;
    neither.exits(0)?.prints("no no no\n")?.complains("")?;
    let scratch = subject.scratch()?;
    let into_pipe = "\"$0\" \"$@\" | cat";
    let command = subject.run_command(&scratch, &NO_FLAGS, &["sh", "-c", WHICH]);
    let command = subject.caller.through(&["sh", "-c", into_pipe], &command);
    let (got, _) = TerminalSession::start(&command, subject.caller, (24, 80))?.finish()?;
    got.exits(0)?.prints("no no no\r\n")?;
    Ok(())
}

fn terminal_by_force(subject: &Subject) -> Verdict {
    let without = on_terminal(subject, &["-T"], WHICH)?;
    without.exits(0)?.prints("no no no\r\n")?;
    let scratch = subject.scratch()?;
    let mut command = subject.run_command(&scratch, &["-t"], &["sh", "-c", WHICH]);
    command.stdin(Stdio::null());
    Captured::of(command)?.exits(0)?.prints("yes yes yes\r\n")?.complains("")?;
    // The end of a pipe means to a terminal's reader what Ctrl-D does.
    let mut command = subject.run_command(&scratch, &["-t"], &["cat"]);
    command.stdin(File::open(scratch.file("input", "typed\n")?)?);
    let got = Captured::of(command)?;
    got.exits(0)?.prints("typed\r\ntyped\r\n")?.takes_less_than(SOON)?;
    Ok(())
}

fn terminal_let_go(subject: &Subject) -> Verdict {
    // As many programs do at their exit, if for less long.
    let script = "echo here; exec </dev/null >/dev/null 2>&1; sleep 0.3; exit 7";
    on_terminal(subject, &[], script)?.exits(7)?.prints("here\r\n")?;
    Ok(())
}

fn terminal_controls_the_session(subject: &Subject) -> Verdict {
    let got = on_terminal(subject, &[], "tty; echo through /dev/tty > /dev/tty")?;
    got.exits(0)?;
    let text = got.text();
    let known = text.starts_with("/dev/pts/") || text.starts_with("/dev/console");
    ensure!(known && text.ends_with("through /dev/tty\r\n"), "no terminal of its own: {got}");
    // None is left to a command without one.
    let none = subject.shell(&NO_FLAGS, "(echo through > /dev/tty) 2>/dev/null; tty")?;
    none.prints("not a tty\n")?;
    Ok(())
}

fn terminal_size(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let script = "stty size; trap 'stty size; kill -9 $! 2>/dev/null; exit 4' WINCH; echo ready; sleep 60 & wait";
    let mut session = start(subject, &scratch, &[], script)?;
    let first = session.running.line()?;
    ensure!(first == "37 91\r", "the size is {first:?}, not 37 by 91");
    session.running.until("ready\r\n")?;
    session.resize(50, 120)?;
    let (got, _) = session.finish()?;
    got.exits(4)?.prints("37 91\r\nready\r\n50 120\r\n")?.takes_less_than(SOON)?;
    Ok(())
}

fn terminal_keys(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let script =
        "trap 'echo interrupted; kill -9 $! 2>/dev/null; exit 5' INT; echo ready; sleep 60 & wait";
    let mut session = start(subject, &scratch, &[], script)?;
    session.running.until("ready\r\n")?;
    session.type_in(b"\x03")?;
    let (got, _) = session.finish()?;
    got.exits(5)?.prints("ready\r\n^Cinterrupted\r\n")?.takes_less_than(SOON)?;

    let mut session = start(subject, &scratch, &[], "echo ready; cat; echo end")?;
    session.running.until("ready\r\n")?;
    session.type_in(b"typed\n")?;
    session.running.until("typed\r\n")?;
    session.type_in(b"\x04")?;
    let (got, _) = session.finish()?;
    // Once echoed by the terminal, once said by cat.
    got.exits(0)?.prints("ready\r\ntyped\r\ntyped\r\nend\r\n")?.takes_less_than(SOON)?;
    Ok(())
}

fn terminal_modes_restored(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let restored = |flags: &[&str], script: &str, signal: Option<Signal>| {
        let mut session =
            start(subject, &scratch, flags, &format!("echo ready; read go; {script}"))?;
        let before = session.initial.clone();
        session.running.until("ready")?;
        let meanwhile = session.modes()?;
        // The keys go to the inner terminal untouched, so the outer one must be in other modes.
        ensure!(meanwhile != before, "the caller's terminal was not changed, so nothing is shown");
        session.type_in(b"go\r")?;
        session.running.until("go\r\n")?;
        if let Some(signal) = signal {
            session.running.signal(signal)?;
        }
        let (got, after) = session.finish()?;
        ensure!(after == before, "the terminal was left as {after:?}, not {before:?}: {got}");
        Ok(())
    };
    restored(&[], "stty raw -echo; exit 3", None)?;
    restored(&["--timeout", "500ms"], "sleep 60", None)?;
    restored(&[], "exec sleep 60", Some(Signal::TERM))?;
    restored(&[], "exec sleep 60", Some(Signal::HUP))?;
    restored(&[], "kill -9 $$", None)
}

fn terminal_as_input_only(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let into_file = "\"$0\" \"$@\" > output; echo $?; cat output";
    let command = subject.run_command(&scratch, &NO_FLAGS, &["sh", "-c", "echo ready >&2; cat"]);
    let command = subject.caller.through(&["sh", "-c", into_file], &command);
    let mut session = TerminalSession::start(&command, subject.caller, (24, 80))?;
    session.running.until("ready\r\n")?;
    session.type_in(b"typed\n\x04")?;
    let (got, _) = session.finish()?;
    got.exits(0)?.prints("ready\r\ntyped\r\n0\r\ntyped\r\n")?.takes_less_than(SOON)?;
    Ok(())
}

fn terminal_last_words(subject: &Subject) -> Verdict {
    for _ in 0..10 {
        on_terminal(subject, &[], "printf 'last words'")?.exits(0)?.prints("last words")?;
    }
    let got = on_terminal(subject, &[], "seq 1 20000")?;
    got.exits(0)?;
    let expected: String = (1..=20000).map(|number| format!("{number}\r\n")).collect();
    ensure!(got.text() == expected, "20000 numbers did not arrive whole: {got}");
    Ok(())
}

fn terminal_statuses(subject: &Subject) -> Verdict {
    on_terminal(subject, &[], "exit 42")?.exits(42)?;
    on_terminal(subject, &[], "kill -9 $$")?.exits(137)?;
    on_terminal(subject, &["--timeout", "300ms"], "sleep 60")?.exits(124)?;
    let scratch = subject.scratch()?;
    let command = subject.run_command(&scratch, &NO_FLAGS, &["no-such-program"]);
    let session = TerminalSession::start(&command, subject.caller, (24, 80))?;
    let (got, _) = session.finish()?;
    got.exits(127)?;
    ensure!(got.text().contains("no-such-program"), "nothing says what was not found: {got}");
    Ok(())
}

fn terminal_hang_up(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let duration = unique_sleep();
    let script = format!("echo ready; exec sleep {duration}");
    let mut session = start(subject, &scratch, &[], &script)?;
    session.running.until("ready")?;
    // It has nobody left to tell, so its status is of no interest, but it must end.
    let sleepers = Process::sleeping(&duration);
    session.hang_up().wait()?;
    // A sandbox that lives on learns of it when agentkernel has ended.
    let limit = if subject.route == Route::Cold { Duration::ZERO } else { patiently(SOON) };
    for sleeper in &sleepers {
        ensure!(sleeper.ends_within(limit)?, "still running without a terminal: {sleeper:?}");
    }
    let left = Process::sleeping(&duration);
    ensure!(left.is_empty(), "still running without a terminal: {left:?}");
    Ok(())
}
