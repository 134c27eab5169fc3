//! Commands in the background: their list, their logs, and how they are ended.

use std::fs;
use std::process::Stdio;

use rustix::process::Signal;

use super::{Home, SOON, life};
use crate::host::{Process, unique_sleep};
use crate::running::patiently;
use crate::{Behaviour, Captured, NO_FLAGS, Running, Subject, Verdict, ensure};

pub(super) const TABLE: &[Behaviour] = &[
    life(
        "background-list",
        "background commands have numbers, and ps NAME tells which run and how others ended",
        background_list,
    ),
    life(
        "background-signal",
        "kill sends a signal to a background command, or to everything, and the sandbox goes on",
        background_signal,
    ),
    life(
        "logs-keep-streams-apart",
        "logs gives a background command's output and errors apart, at any later time",
        logs_keep_streams_apart,
    ),
    life(
        "logs-follow",
        "logs -f gives each line as it comes and ends with the command",
        logs_follow,
    ),
    life(
        "logs-are-bounded",
        "of 50 MB that a background command says, the last are kept in less than 9 MiB",
        logs_are_bounded,
    ),
    life(
        "logs-of-any-sandbox",
        "logs can be read while the sandbox is paused and after it has stopped",
        logs_of_any_sandbox,
    ),
    life(
        "attach",
        "attach gives what is said from then on, forwards signals, and has the command's status",
        attach,
    ),
    life(
        "background-time-limit",
        "a background command that runs longer than its time limit is killed",
        background_time_limit,
    ),
];

/// What a script waits for in a sandbox until somebody says go.
const GATE: &str = "mkfifo ~/gate 2>/dev/null; read go < ~/gate";
const OPEN_GATE: &str = "mkfifo ~/gate 2>/dev/null; echo go > ~/gate";

impl Home<'_> {
    /// Lets a background command through its gate.
    fn open_gate(&self, name: &str) -> Verdict {
        self.shell(name, OPEN_GATE)?.exits(0).map(drop)
    }

    /// Waits until a background command has ended.
    fn ended(&self, name: &str, number: &str) -> Verdict {
        let mut follow = self.command(&["logs", "-f", name, number]);
        follow.stdout(Stdio::null());
        Captured::of(follow)?.exits(0).map(drop)
    }

    /// The line of `ps NAME` about a background command.
    fn line_on(&self, name: &str, number: &str) -> Result<String, crate::NotPassed> {
        let list = self.does(&["ps", name])?;
        let line = list.lines().find(|line| line.split_whitespace().next() == Some(number));
        Ok(line.unwrap_or_default().into())
    }
}

fn background_list(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let name = home.started(&NO_FLAGS)?;
    let first = home.background(&name, GATE)?;
    let second = home.background(&name, "exit 7")?;
    ensure!(first != second, "two commands have the number {first}");
    home.ended(&name, &second)?;
    let (running, ended) = (home.line_on(&name, &first)?, home.line_on(&name, &second)?);
    ensure!(running.contains("running"), "expected it running: {running:?}");
    ensure!(running.contains("gate"), "expected its command line: {running:?}");
    ensure!(ended.contains('7') && !ended.contains("running"), "expected exit 7: {ended:?}");
    home.open_gate(&name)?;
    home.ended(&name, &first)?;
    let ended = home.line_on(&name, &first)?;
    ensure!(!ended.contains("running"), "it has ended: {ended:?}");
    home.refuses(&["logs", &name, "99"], &["99"])?;
    home.refuses(&["kill", &name, "99"], &["99"])?;
    home.refuses(&["attach", &name, "99"], &["99"])
}

fn background_signal(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let name = home.started(&NO_FLAGS)?;
    let marks = [unique_sleep(), unique_sleep()];
    let script = "trap 'echo hung up' HUP; echo begun; while :; do sleep 0.05; done";
    let number = home.background(&name, script)?;
    let mut follower = home.start(&["logs", "-f", &name, &number])?;
    follower.until("begun\n")?;
    home.does(&["kill", "-s", "HUP", &name, &number])?;
    follower.until("hung up\n")?;
    for signal in ["NONE", "0", "65", ""] {
        home.refuses(&["kill", "-s", signal, &name, &number], &[])?;
    }
    home.does(&["kill", "-s", "TERM", &name, &number])?;
    follower.finish()?.exits(0)?;
    // Without a number everything inside gets it, by default SIGKILL.
    for mark in &marks {
        home.background(&name, &format!("trap '' TERM; exec sleep {mark}"))?;
    }
    let foreground = home.begun(&name, "echo begun; exec sleep 60")?;
    home.does(&["kill", &name])?;
    foreground.finish()?.exits(137)?.takes_less_than(SOON)?;
    for left in marks.iter().flat_map(|mark| Process::inside(mark)) {
        ensure!(left.ends_within(patiently(SOON))?, "still running after a kill: {left:?}");
    }
    home.shell(&name, "echo there")?.exits(0)?.prints("there\n")?;
    Ok(())
}

fn logs_keep_streams_apart(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let name = home.started(&NO_FLAGS)?;
    let script = "for i in 1 2 3; do echo out $i; echo err $i >&2; done; printf '\\377\\0end'";
    let number = home.background(&name, script)?;
    home.ended(&name, &number)?;
    for command in [vec!["logs", &name, &number], vec!["logs", &name], vec!["logs", "-f", &name]] {
        let got = home.run(&command)?;
        got.exits(0)?.prints(b"out 1\nout 2\nout 3\n\xff\0end")?;
        got.complains("err 1\nerr 2\nerr 3\n")?;
    }
    // The latest is meant where no number is given.
    let latest = home.background(&name, "echo latest")?;
    home.ended(&name, &latest)?;
    home.run(&["logs", &name])?.exits(0)?.prints("latest\n")?.complains("")?;
    Ok(())
}

fn logs_follow(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let name = home.started(&NO_FLAGS)?;
    let number = home.background(&name, &format!("echo first; {GATE}; echo second; exit 3"))?;
    let mut follower = home.start(&["logs", "-f", &name, &number])?;
    let first = follower.line()?;
    ensure!(first == "first", "expected the first line, not {first:?}");
    home.open_gate(&name)?;
    follower.finish()?.exits(0)?.prints("first\nsecond\n")?.takes_less_than(SOON)?;
    // A reader who goes away is no loss to the command.
    let other = home.background(&name, "yes")?;
    let mut follow = home.command(&["logs", "-f", &name, &other]);
    follow.stdout(Stdio::null());
    let follower = Running::start(follow)?;
    follower.signal(Signal::KILL)?;
    follower.finish()?;
    let line = home.line_on(&name, &other)?;
    ensure!(line.contains("running"), "it ended with its reader: {line:?}");
    home.does(&["kill", &name, &other])?;
    home.ended(&name, &other)
}

fn logs_are_bounded(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let name = home.started(&NO_FLAGS)?;
    let script = "yes 0123456789abcde | head -c 50000000; echo; echo the end; echo err >&2";
    let number = home.background(&name, script)?;
    home.ended(&name, &number)?;
    let id = home.listed_as(&name)?["id"].as_str().unwrap_or_default().to_owned();
    let folder = home.state().join("sandboxes").join(id).join("commands").join(&number);
    let files: Result<Vec<_>, _> = fs::read_dir(&folder)?.collect();
    let sizes: Result<Vec<u64>, _> =
        files?.iter().map(|file| Ok::<_, std::io::Error>(file.metadata()?.len())).collect();
    let size: u64 = sizes?.iter().sum();
    ensure!(size < 9 << 20, "the log takes {size} bytes");
    ensure!(size > 1 << 20, "the log takes only {size} bytes");
    let got = home.run(&["logs", &name, &number])?;
    got.exits(0)?.complains("err\n")?;
    ensure!(got.stdout.ends_with(b"abcde\n\nthe end\n"), "the last words are not there: {got}");
    ensure!(got.stdout.len() > 1 << 20, "too little of it is left: {got}");
    Ok(())
}

fn logs_of_any_sandbox(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let name = home.started(&NO_FLAGS)?;
    let number = home.background(&name, &format!("echo said; {GATE}"))?;
    home.start(&["logs", "-f", &name, &number])?.until("said\n")?;
    let said = || home.run(&["logs", &name, &number])?.exits(0)?.prints("said\n").map(drop);
    home.does(&["pause", &name])?;
    said()?;
    home.does(&["unpause", &name])?;
    home.does(&["stop", &name])?;
    said()?;
    let line = home.line_on(&name, &number)?;
    ensure!(!line.is_empty() && !line.contains("running"), "it was stopped: {line:?}");
    // To follow what has ended ends as well.
    home.run(&["logs", "-f", &name, &number])?.exits(0)?.prints("said\n")?;
    home.does(&["start", &name])?;
    said()?;
    let next = home.background(&name, "echo next")?;
    ensure!(next != number, "the number {next} was given twice");
    Ok(())
}

fn attach(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let name = home.started(&NO_FLAGS)?;
    let script = format!("echo before; {GATE}; echo after; echo err >&2; exit 7");
    let number = home.background(&name, &script)?;
    home.start(&["logs", "-f", &name, &number])?.until("before\n")?;
    let attached = home.start(&["attach", &name, &number])?;
    // Whether it has begun to follow shows only by what it says.
    ensure!(!attached.ends_within(std::time::Duration::from_millis(300))?, "it ended at once");
    home.open_gate(&name)?;
    attached.finish()?.exits(7)?.prints("after\n")?.complains("err\n")?;
    let script = "trap 'echo asked; exit 9' TERM; while :; do echo tick; sleep 0.05; done";
    let number = home.background(&name, script)?;
    let mut attached = home.start(&["attach", &name])?;
    attached.until("tick\n")?;
    attached.signal(Signal::TERM)?;
    let got = attached.finish()?;
    got.exits(9)?.takes_less_than(SOON)?;
    ensure!(got.text().ends_with("asked\n"), "the signal did not arrive: {got}");
    // One that has ended has its status still.
    home.run(&["attach", &name, &number])?.exits(9)?.prints("")?;
    Ok(())
}

fn background_time_limit(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let name = home.started(&NO_FLAGS)?;
    let exec = ["exec", "-d", "--timeout", "300ms", &name, "--", "sleep", "60"];
    let number = home.does(&exec)?.trim_end().to_owned();
    home.ended(&name, &number)?;
    home.run(&["attach", &name, &number])?.exits(124)?;
    home.is(&name, "running")
}
