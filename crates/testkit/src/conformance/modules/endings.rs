//! How a module ends, and that the caller learns it exactly.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use super::{Shelf, ended, module};
use crate::running::patiently;
use crate::{Behaviour, NO_FLAGS, NotPassed, Subject, Verdict, ensure};

const SOON: Duration = Duration::from_secs(8);

pub(super) const TABLE: &[Behaviour] = &[
    module(
        "module-exit-statuses",
        "an exit status of a module from 0 to 255 comes back as it is",
        module_exit_statuses,
    ),
    module(
        "module-exit-status-too-large",
        "an exit status that no process can have is told, and is never taken for success",
        module_exit_status_too_large,
    ),
    module(
        "module-traps",
        "a module that traps says why, and dies of the signal that a program would",
        module_traps,
    ),
    module(
        "module-trap-tells-where",
        "a module that traps tells the functions that it was in, by their names, and no more than that",
        module_trap_tells_where,
    ),
    module(
        "module-endless-recursion",
        "a module that calls itself without end dies of it, and says that the stack was too small",
        module_endless_recursion,
    ),
    module(
        "module-time-limit",
        "a module that never ends is stopped at its time limit, with exit status 124",
        module_time_limit,
    ),
    module(
        "module-signals",
        "a signal that is sent to agentkernel ends a module that runs without end",
        module_signals,
    ),
    module(
        "module-killed-from-outside",
        "a module whose agentkernel is killed does not run on",
        module_killed_from_outside,
    ),
];

fn module_exit_statuses(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    shelf.run(&NO_FLAGS, "exit", &NO_FLAGS)?.exits(0)?.prints("")?.complains("")?;
    let statuses: &[i32] = match subject.sampled {
        false => &[0, 1, 2, 42, 101, 124, 125, 126, 127, 128, 134, 137, 139, 254, 255],
        true => &[0, 1, 42, 125, 134, 255],
    };
    for status in statuses.iter().copied() {
        let (got, report) = shelf.reported(&NO_FLAGS, "exit", &[status.to_string()])?;
        got.exits(status)?.prints("")?.complains("")?;
        ended(&report, &json!({"kind": "exited", "code": status}))?;
    }
    Ok(())
}

fn module_exit_status_too_large(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    for status in ["256", "512", "65536", "2147483648", "4294967295"] {
        let got = shelf.run(&NO_FLAGS, "exit", &[status])?;
        got.exits(255)?.prints("")?;
        // A large one is a negative number to some.
        let negative = format!("-{}", (1_u64 << 32) - status.parse::<u64>().unwrap_or_default());
        let told = [status, &negative].iter().any(|number| got.errors().contains(number));
        ensure!(told, "expected {status} in stderr: {got}");
    }
    Ok(())
}

/// Ways of `traps.wat`, with the signal, and with what the message says.
const TRAPS: [(&str, i32, &str); 9] = [
    ("divide", 8, "divide by zero"),
    ("overflow", 8, "integer overflow"),
    ("convert", 8, "conversion to integer"),
    ("memory", 11, "out of bounds memory"),
    ("bulk", 11, "out of bounds memory"),
    ("table", 11, "out of bounds table"),
    ("nothing", 6, "uninitialized element"),
    ("y", 6, "type mismatch"),
    ("unreachable", 6, "unreachable"),
];

fn module_traps(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    let known = TRAPS.iter().filter(|(trap, ..)| *trap != "convert" || subject.has_floats());
    for (trap, signal, reason) in known {
        let (got, report) = shelf.reported(&NO_FLAGS, "traps", &[trap])?;
        got.exits(128 + signal)?.prints("")?.mentions("trap: ")?.mentions(reason)?;
        for noise in ["panicked", "RUST_BACKTRACE"] {
            ensure!(!got.errors().contains(noise), "expected a message for people: {got}");
        }
        ended(&report, &json!({"kind": "signaled", "signal": signal}))?;
    }
    Ok(())
}

/// What is told of where `depths.wat` traps, but for offsets in the module: not every engine's are exact.
const DEPTHS: [&str; 5] = [
    "trap: wasm `unreachable` instruction executed",
    "0: app!innermost",
    "1: app!app::inner::h0123456789abcdef",
    "2: app!<wasm function 2>",
    "3: app!<wasm function 3>",
];

fn module_trap_tells_where(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    let got = shelf.run(&NO_FLAGS, "depths", &NO_FLAGS)?;
    got.exits(134)?.prints("")?;
    let without_offset = |line: &str| {
        let words = line.split_whitespace().filter(|word| !word.starts_with("0x") && *word != "-");
        words.collect::<Vec<_>>().join(" ")
    };
    let told: Vec<String> = got.errors().lines().map(without_offset).collect();
    ensure!(told == DEPTHS, "expected {DEPTHS:?} but for offsets: {got}");
    // Names are the module's to choose.
    for name in ["n".repeat(100_000), " line\\n".repeat(1000)] {
        let text = format!(
            "(module (func $f (@name \"{name}\") unreachable) (export \"_start\" (func $f)))"
        );
        let got = shelf.run_content("names.wat", text, &[])?;
        got.exits(134)?.prints("")?.mentions("trap: wasm `unreachable`")?.mentions("0: ")?;
        ensure!(got.stderr.len() < 16 << 10, "a message of {} bytes", got.stderr.len());
    }
    Ok(())
}

fn module_endless_recursion(subject: &Subject) -> Verdict {
    let (got, report) = Shelf::new(subject)?.reported(&NO_FLAGS, "traps", &["stack"])?;
    got.exits(139)?.prints("")?.mentions("trap: ")?.mentions("stack")?.takes_less_than(SOON)?;
    ensure!(got.stderr.len() < 64 << 10, "a message of {} bytes: {got}", got.stderr.len());
    ended(&report, &json!({"kind": "signaled", "signal": 11}))
}

fn module_time_limit(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    // What is compiled takes none of the time.
    shelf.run(&NO_FLAGS, "hello", &NO_FLAGS)?.exits(0)?;
    let limit = patiently(Duration::from_millis(500));
    let flags = ["--timeout".into(), format!("{}ms", limit.as_millis())];
    let (got, report) = shelf.reported(&flags, "loop", &NO_FLAGS)?;
    got.exits(124)?.prints("begun\n")?.mentions("time")?.takes_less_than(SOON)?;
    ensure!(got.took >= limit, "it ended before its time limit: {got}");
    let kind = &report["ended"]["kind"];
    ensure!(kind == "timed_out", "expected timed_out in the report, not {kind}");
    let in_time = shelf.run(&["--timeout", "60s"], "exit", &["9"])?;
    in_time.exits(9)?.complains("")?;
    Ok(())
}

fn module_signals(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    for (signal, number) in [(Signal::HUP, 1), (Signal::INT, 2), (Signal::TERM, 15)] {
        let mut running = shelf.start(&NO_FLAGS, "loop", &NO_FLAGS)?;
        running.line()?;
        running.signal(signal)?;
        let got = running.finish()?;
        got.exits(128 + number)?.prints("begun\n")?.complains("")?.takes_less_than(SOON)?;
    }
    Ok(())
}

fn module_killed_from_outside(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    let (reader, writer) = std::io::pipe()?;
    let mut command = shelf.command(&NO_FLAGS, "loop", &NO_FLAGS)?;
    command.stdout(writer);
    let mut running = crate::Running::start(command)?;
    let mut lines = std::io::BufReader::new(reader);
    std::io::BufRead::read_line(&mut lines, &mut String::new())?;
    running.signal(Signal::KILL)?;
    running.wait()?;
    // It held the other end, which closes when nothing is left that could write.
    let reader = lines.into_inner().into();
    let closed = crate::running::readable_within(&reader, patiently(SOON))?;
    ensure!(closed, "a module runs on without agentkernel");
    Ok::<(), NotPassed>(())
}
