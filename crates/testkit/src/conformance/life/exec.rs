//! Commands in a sandbox that lives on.

use std::time::Duration;

use agentkernel_core::LimitKind;
use rustix::process::Signal;

use super::{Home, SOON, life};
use crate::host::{Process, unique_sleep};
use crate::running::patiently;
use crate::{Behaviour, Captured, NO_FLAGS, Running, Subject, Verdict, ensure, skip};

pub(super) const TABLE: &[Behaviour] = &[
    life(
        "exec-needs-a-running-sandbox",
        "exec in a sandbox that is created, paused, stopped or removed is refused",
        exec_needs_a_running_sandbox,
    ),
    life(
        "exec-shares-the-sandbox",
        "commands in one sandbox see each other's files and processes",
        exec_shares_the_sandbox,
    ),
    life(
        "exec-reached-from-everywhere",
        "a sandbox outlives the session that started it, and is reached from any other",
        exec_reached_from_everywhere,
    ),
    life(
        "twenty-commands-in-one",
        "twenty commands at once in one sandbox each have their own output and exit status",
        twenty_commands_in_one,
    ),
    life(
        "exec-dies-with-its-client",
        "a command dies when its agentkernel is killed, and the others in its sandbox go on",
        exec_dies_with_its_client,
    ),
    life(
        "exec-time-limit-is-its-own",
        "a command that runs out of time dies, and its sandbox and the other commands go on",
        exec_time_limit_is_its_own,
    ),
    life(
        "exec-while-its-sandbox-ends",
        "a command whose sandbox is stopped or removed under it ends, with a word on it",
        exec_while_its_sandbox_ends,
    ),
    life(
        "exec-out-of-memory",
        "a command that eats all memory is reported as such, and its sandbox survives it",
        exec_out_of_memory,
    ),
    life(
        "exec-as-another-user",
        "a command can run as any user of its sandbox, whoever that was made for",
        exec_as_another_user,
    ),
    life(
        "exec-after-all-were-stopped",
        "a command that stops every process of its sandbox keeps no other from starting",
        exec_after_all_were_stopped,
    ),
    life(
        "exec-settings-of-its-sandbox",
        "a command has the variables, directory and user of its sandbox unless it has its own",
        exec_settings_of_its_sandbox,
    ),
];

fn exec_after_all_were_stopped(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let name = home.started(&NO_FLAGS)?;
    home.shell(&name, "kill -STOP -1; echo stopped")?.exits(0)?.prints("stopped\n")?;
    let next = ["exec", "--timeout", "10s", &name, "--", "echo", "there"];
    home.run(&next)?.exits(0)?.prints("there\n")?.complains("")?;
    Ok(())
}

fn exec_needs_a_running_sandbox(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let name = home.created(&NO_FLAGS)?;
    let refused = |hint: &str| {
        let exec = ["exec", &name, "--", "echo", "ran"];
        home.refuses(&exec, &[&name, hint])?;
        let detached = ["exec", "-d", &name, "--", "echo", "ran"];
        home.refuses(&detached, &[&name, hint])
    };
    refused("agentkernel start")?;
    home.does(&["start", &name])?;
    home.shell(&name, "echo there")?.exits(0)?.prints("there\n")?.complains("")?;
    home.does(&["pause", &name])?;
    refused("agentkernel unpause")?;
    home.does(&["unpause", &name])?;
    home.shell(&name, "echo there")?.exits(0)?.prints("there\n")?.complains("")?;
    home.does(&["stop", &name])?;
    refused("agentkernel start")?;
    home.does(&["rm", &name])?;
    refused("")
}

fn exec_shares_the_sandbox(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let (name, mark) = (home.started(&NO_FLAGS)?, unique_sleep());
    let script = format!("echo mine > ~/file; echo begun; exec sleep {mark}");
    let running = home.begun(&name, &script)?;
    let look = "cat ~/file; cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '";
    let got = home.shell(&name, look)?;
    got.exits(0)?;
    let text = got.text();
    ensure!(text.starts_with("mine\n") && text.contains(&mark), "nothing is shared: {got}");
    home.shell(&name, &format!("pkill -f 'sleep {mark}' || kill $(pidof sleep)"))?;
    let ended = running.finish()?;
    ensure!(ended.status.code() == Some(143), "another command can't signal it: {ended}");
    Ok(())
}

fn exec_reached_from_everywhere(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let name = home.created(&NO_FLAGS)?;
    // A session that is killed as a whole as soon as the sandbox runs.
    let start = home.command(&["start", &name]);
    let session = ["setsid", "--wait", "sh", "-c", "\"$0\" \"$@\"; kill -9 -$$"];
    let got = Captured::of(subject.caller.through(&session, &start))?;
    ensure!(!got.status.success(), "the session was not killed: {got}");
    let mut elsewhere = home.script(&name, "echo there");
    elsewhere.current_dir("/");
    let session = subject.caller.through(&["setsid", "--wait"], &elsewhere);
    Captured::of(session)?.exits(0)?.prints("there\n")?.complains("")?;
    Ok(())
}

fn twenty_commands_in_one(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let name = home.started(&NO_FLAGS)?;
    let start = |number: i32| {
        let script = format!(
            "echo {number} > /tmp/{number}; echo begun; read go; cat /tmp/{number}; \
             echo err {number} >&2; exit {number}"
        );
        home.begun(&name, &script)
    };
    // All of them run before any is told to go on.
    let started: Result<Vec<Running>, _> = (0..20).map(start).collect();
    for (number, running) in (0..20).zip(started?) {
        let got = running.finish()?;
        got.exits(number)?.prints(format!("begun\n{number}\n"))?;
        got.complains(format!("err {number}\n"))?;
    }
    Ok(())
}

fn exec_dies_with_its_client(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let (name, mark) = (home.started(&NO_FLAGS)?, unique_sleep());
    let other = home.begun(&name, "echo begun; read go; echo end")?;
    let script = format!("trap '' TERM HUP; echo begun; sleep {mark}; echo went on");
    let mut doomed = home.begun(&name, &script)?;
    let sleepers = Process::inside(&mark);
    ensure!(!sleepers.is_empty(), "the command can't be seen from the host");
    doomed.signal(Signal::KILL)?;
    doomed.wait()?;
    for sleeper in &sleepers {
        ensure!(sleeper.ends_within(patiently(SOON))?, "it outlives its client: {sleeper:?}");
    }
    other.finish()?.exits(0)?.prints("begun\nend\n")?;
    home.shell(&name, "echo there")?.exits(0)?.prints("there\n")?;
    Ok(())
}

fn exec_time_limit_is_its_own(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let (name, mark) = (home.started(&NO_FLAGS)?, unique_sleep());
    let other = home.begun(&name, "echo begun; read go; echo end")?;
    let limit = format!("{}ms", patiently(Duration::from_millis(300)).as_millis());
    let got = home.run(&["exec", "--timeout", &limit, &name, "--", "sleep", &mark])?;
    got.exits(124)?.mentions("time")?.takes_less_than(SOON)?;
    for sleeper in Process::inside(&mark) {
        ensure!(sleeper.ends_within(patiently(SOON))?, "it outlives its time: {sleeper:?}");
    }
    other.finish()?.exits(0)?.prints("begun\nend\n")?;
    home.is(&name, "running")
}

fn exec_while_its_sandbox_ends(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    for end in [&["rm", "-f"][..], &["stop", "--time", "100ms"]] {
        let name = home.started(&NO_FLAGS)?;
        let running = home.begun(&name, "trap '' TERM; echo begun; exec sleep 60")?;
        home.does(&[end, &[&name]].concat())?;
        let got = running.finish()?;
        got.takes_less_than(SOON)?;
        let code = got.status.code();
        ensure!([Some(137), Some(125)].contains(&code), "expected a word on its end: {got}");
        if code == Some(125) {
            got.mentions("error: ")?;
        }
    }
    // Commands that come just then run, are killed, or are refused; none hangs.
    let name = home.started(&NO_FLAGS)?;
    let mut racers = Vec::new();
    for number in 0..16 {
        if number == 4 {
            racers.push(home.start(&["stop", &name])?);
        }
        racers.push(home.start(&["exec", &name, "--", "true"])?);
    }
    for racer in racers {
        let got = racer.finish()?;
        let code = got.status.code();
        let known = [Some(0), Some(125), Some(137), Some(143)].contains(&code);
        ensure!(known, "no such end is known: {got}");
        ensure!(code != Some(125) || got.errors().starts_with("error: "), "no error: {got}");
    }
    home.is(&name, "stopped")
}

fn exec_out_of_memory(subject: &Subject) -> Verdict {
    if let Err(why) = subject.exact_limit(LimitKind::Memory) {
        skip!("{why}");
    }
    let home = Home::new(subject)?;
    let name = home.started(&["--memory", "64m"])?;
    let other = home.begun(&name, "echo begun; read go; echo end")?;
    for _ in 0..2 {
        let hungry = ["dd", "if=/dev/zero", "of=/dev/null", "bs=300M", "count=1"];
        let got = home.run(&[&["exec", &name, "--"], &hungry[..]].concat())?;
        got.exits(137)?.mentions("out of memory")?;
    }
    // Its kill is not laid on those that die after it.
    let killed = home.shell(&name, "kill -9 $$")?;
    killed.exits(137)?;
    ensure!(!killed.errors().contains("out of memory"), "memory was blamed for a kill: {killed}");
    other.finish()?.exits(0)?.prints("begun\nend\n")?;
    home.is(&name, "running")
}

fn exec_as_another_user(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let name = home.started(&NO_FLAGS)?;
    let own = ["exec", "-u", "agent", &name, "--", "id", "-u"];
    home.run(&own)?.exits(0)?.prints("1000\n")?.complains("")?;
    let has_one = !subject.caller.is_root() && subject.backend == "native";
    if has_one {
        // One user is all that an ordinary caller can give away.
        home.refuses(&["exec", "-u", "0", &name, "--", "true"], &["0:0"])?;
    }
    let others =
        [("0", "0 0\n"), ("root", "0 0\n"), ("1234", "1234 1234\n"), ("1234:4321", "1234 4321\n")];
    for (user, expected) in others.iter().filter(|_| !has_one) {
        let show = ["exec", "-u", user, &name, "--", "sh", "-c", "echo $(id -u) $(id -g)"];
        home.run(&show)?.exits(0)?.prints(expected)?.complains("")?;
    }
    home.refuses(&["exec", "-u", "nobody-known", &name, "--", "true"], &["nobody-known"])
}

fn exec_settings_of_its_sandbox(subject: &Subject) -> Verdict {
    let home = Home::new(subject)?;
    let name = home.started(&["-e", "ONE=sandbox", "-e", "TWO=sandbox", "-w", "/usr"])?;
    let show = ["sh", "-c", "echo $ONE $TWO $THREE; pwd"];
    let exec = |flags: &[&str]| home.run(&[&["exec"], flags, &[&name, "--"], &show].concat());
    exec(&[])?.exits(0)?.prints("sandbox sandbox\n/usr\n")?.complains("")?;
    let own = exec(&["-e", "TWO=own", "-e", "THREE=3", "-w", "/tmp"])?;
    own.exits(0)?.prints("sandbox own 3\n/tmp\n")?.complains("")?;
    // What one command was given is not the next one's.
    exec(&[])?.exits(0)?.prints("sandbox sandbox\n/usr\n")?.complains("")?;
    Ok(())
}
