//! What a module is started with, and how it is named.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::process::Stdio;

use agentkernel_core::Capability;
use serde_json::json;

use super::{OF_THE_COMMAND_LINE, Shelf, ended, module};
use crate::conformance::report;
use crate::{Behaviour, NO_FLAGS, Route, Running, Subject, Verdict, ensure};

pub(super) const TABLE: &[Behaviour] = &[
    module("module-runs", "a module runs, and what it says comes back to the byte", module_runs),
    module(
        "module-text-or-binary",
        "a module does the same whether its file is text or binary, whatever its name",
        module_text_or_binary,
    ),
    module(
        "module-arguments",
        "arguments of a module arrive as they are: empty, with spaces, dashes, more than ASCII",
        module_arguments,
    ),
    module(
        "module-many-arguments",
        "a module takes a thousand arguments and one of 100 KiB",
        module_many_arguments,
    ),
    module(
        "module-environment",
        "a module sees the variables that it was given, and no others",
        module_environment,
    ),
    module(
        "module-clocks-and-random",
        "a module has the time of day, a clock that goes on, sleep, and numbers unlike another's",
        module_clocks_and_random,
    ),
    module(
        "modules-at-once",
        "twenty runs of a module at the same time all succeed, each with its own files",
        modules_at_once,
    )
    .needing(&[Capability::ImageModule, Capability::RootChanges]),
    module(
        "module-in-the-report",
        "the report of a module names the backend, route, ending, exit status and its own name",
        module_in_the_report,
    ),
    module(
        "module-walls",
        "a module's report names the walls that doctor promises, all of them in force",
        module_walls,
    ),
    module(
        "module-chooses-the-backend",
        "run takes a module by its name or its first bytes, as a word or as the image",
        module_chooses_the_backend,
    )
    .only(Route::Cold, OF_THE_COMMAND_LINE),
];

/// `hello.wat` as it is in binary form, but for the names.
pub(super) const HELLO: &[&[u8]] = &[
    // The magic number, and the version.
    b"\0asm\x01\0\0\0",
    // Types: of four numbers a fifth, and of nothing nothing.
    b"\x01\x0c\x02\x60\x04\x7f\x7f\x7f\x7f\x01\x7f\x60\0\0",
    // The import, of the first type.
    b"\x02\x23\x01\x16wasi_snapshot_preview1\x08fd_write\0\0",
    // A function of the second type, and a memory of a page at least.
    b"\x03\x02\x01\x01\x05\x03\x01\0\x01",
    // Exports: the memory, and the function.
    b"\x07\x13\x02\x06memory\x02\0\x06_start\0\x01",
    // The function: it pushes 1, 0, 1, 16, calls the import, drops what that returns, and ends.
    b"\x0a\x0f\x01\x0d\0\x41\x01\x41\0\x41\x01\x41\x10\x10\0\x1a\x0b",
    // What is in the memory from 0 on.
    b"\x0b\x14\x01\0\x41\0\x0b\x0e\x08\0\0\0\x06\0\0\0hello\n",
];

fn module_runs(subject: &Subject) -> Verdict {
    Shelf::new(subject)?
        .run(&NO_FLAGS, "hello", &NO_FLAGS)?
        .exits(0)?
        .prints("hello\n")?
        .complains("")?;
    Ok(())
}

fn module_text_or_binary(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    let (text, binary) = (super::HELLO.as_bytes(), HELLO.concat());
    for (name, content) in [
        ("hello.wat", text),
        ("hello.wasm", &*binary),
        ("binary.wat", &binary),
        ("text.wasm", text),
        ("two words's \u{fc}.wasm", &binary),
        ("binary", &binary),
    ] {
        let got = shelf.run_content(name, content, &[])?;
        got.exits(0)?.prints("hello\n")?.complains("")?;
    }
    Ok(())
}

/// Each with a NUL behind it.
fn listed(words: &[impl AsRef<OsStr>]) -> Vec<u8> {
    let word = |word: &OsStr| [word.as_encoded_bytes(), b"\0"].concat();
    words.iter().flat_map(|each| word(each.as_ref())).collect()
}

fn module_arguments(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    let odd = [
        "args.wat",
        "",
        "two words",
        " ",
        "--",
        "-B",
        "--memory=1",
        "quo'te\"",
        "new\nline",
        "$HOME",
        "\u{fc}ml\u{e4}ut \u{1f980}",
        "",
    ];
    let [_, arguments @ ..] = &odd;
    shelf.run(&NO_FLAGS, "args", arguments)?.exits(0)?.prints(listed(&odd))?.complains("")?;
    shelf.run(&NO_FLAGS, "args", &NO_FLAGS)?.exits(0)?.prints("args.wat\0")?.complains("")?;
    // What is no text can't be told to a module in all engines, but is never changed.
    let bytes = OsString::from_vec(b"\xff\xfe".to_vec());
    let got = shelf.run(&NO_FLAGS, "args", &[&bytes])?;
    match got.status.code() {
        Some(0) => got.prints(b"args.wat\0\xff\xfe\0")?,
        _ => got.prints("")?.mentions("UTF-8")?,
    };
    Ok(())
}

fn module_many_arguments(subject: &Subject) -> Verdict {
    let many: Vec<String> = (0..1000).map(|number| format!("argument {number}")).collect();
    let many: Vec<String> = many.into_iter().chain(["x".repeat(100 << 10)]).collect();
    let got = Shelf::new(subject)?.run(&NO_FLAGS, "args", &many)?;
    got.exits(0)?.complains("")?;
    let expected = [b"args.wat\0".to_vec(), listed(&many)].concat();
    ensure!(got.stdout == expected, "of {} bytes {} came back", expected.len(), got.stdout.len());
    Ok(())
}

fn module_environment(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    shelf.run(&NO_FLAGS, "environ", &NO_FLAGS)?.exits(0)?.prints("")?.complains("")?;
    let flags = ["-e", "ONE=1", "-e", "EMPTY=", "-e", "WORDS=a = \u{fc}\nb", "-e", "COPIED"];
    let mut command = shelf.command(&flags, "environ", &NO_FLAGS)?;
    command.env("COPIED", "the caller's").env("SECRET", "stays outside");
    let got = crate::Captured::of(command)?;
    got.exits(0)?.complains("")?;
    let mut found: Vec<&[u8]> = got.stdout.split_inclusive(|byte| *byte == 0).collect();
    found.sort_unstable();
    let expected = ["COPIED=the caller's", "EMPTY=", "ONE=1", "WORDS=a = \u{fc}\nb"];
    ensure!(found.concat() == listed(&expected), "expected {expected:?}: {got}");
    Ok(())
}

fn module_clocks_and_random(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    let look = || {
        let got = shelf.run(&NO_FLAGS, "clock", &NO_FLAGS)?;
        got.exits(0)?.complains("")?;
        ensure!(got.stdout.len() == 40, "expected 40 bytes: {got}");
        let (times, random) = got.stdout.split_at(24);
        let time =
            |bytes: &[u8]| bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let times: Vec<u64> = times.chunks(8).map(time).collect();
        Ok((times, random.to_vec()))
    };
    let now = || {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed();
        now.map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or_default())
    };
    let before = now();
    let (times, random) = look()?;
    let (_, other) = look()?;
    let [day, begun, ended] = &times[..] else { return Ok(()) };
    ensure!((before..=now()).contains(day), "it is {day} inside, and was {before} before");
    let slept = ended.saturating_sub(*begun);
    ensure!(slept >= 20_000_000, "it slept {slept} ns of 20 ms");
    ensure!(random != other, "two runs had the same random numbers: {random:?}");
    ensure!(random.iter().any(|byte| *byte != 0), "random numbers are all zero");
    Ok(())
}

fn modules_at_once(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    let start = |number: usize| {
        let number = number.to_string();
        let words = ["write", "/tmp/number", &number, "input", "-", "read", "/tmp/number"];
        let mut command = shelf.command(&NO_FLAGS, "files", &words)?;
        command.stdin(Stdio::piped());
        Running::start(command)
    };
    let started: Result<Vec<_>, _> = (0..20).map(start).collect();
    for (number, running) in started?.into_iter().enumerate() {
        running.finish()?.exits(0)?.prints(number.to_string())?.complains("")?;
    }
    Ok(())
}

fn module_in_the_report(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    let (got, report) = shelf.reported(&["--profile", "restrictive"], "exit", &["42"])?;
    got.exits(42)?.complains("")?;
    let expected = [
        ("version", json!(1)),
        ("backend", json!(subject.backend)),
        ("profile", json!("restrictive")),
        ("exit_code", json!(42)),
        ("oom_kills", json!(0)),
        ("route/kind", json!(subject.route.name())),
    ];
    for (key, expected) in expected {
        let found = report.pointer(&format!("/{key}")).unwrap_or(&serde_json::Value::Null);
        ensure!(*found == expected, "the report's {key} is {found}, not {expected}");
    }
    ended(&report, &json!({"kind": "exited", "code": 42}))?;
    let text = report.to_string();
    ensure!(text.contains("exit.wat"), "the report does not name the module: {text}");
    Ok(())
}

fn module_walls(subject: &Subject) -> Verdict {
    report::agrees_with_doctor(subject, || {
        let flags = ["--network", "none"];
        let (got, report) = Shelf::new(subject)?.reported(&flags, "hello", &NO_FLAGS)?;
        got.exits(0)?;
        Ok(report)
    })
}

fn module_chooses_the_backend(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    shelf.scratch.file("work/args.wat", super::source("args")?)?;
    shelf.scratch.file("work/hello", HELLO.concat())?;
    let expected = "args.wat\0a\0--\0-b\0";
    for words in [
        &["run", "args.wat", "a", "--", "-b"][..],
        &["run", "args.wat", "--", "a", "--", "-b"],
        &["run", "./args.wat", "a", "--", "-b"],
        &["run", "--", "args.wat", "a", "--", "-b"],
        &["run", "--profile", "moderate", "args.wat", "a", "--", "-b"],
        &["run", "--image", "args.wat", "a", "--", "-b"],
        &["run", "--image", "args.wat", "--", "a", "--", "-b"],
        &["run", "-B", &subject.backend, "--image", "args.wat", "a", "--", "-b"],
    ] {
        shelf.agentkernel(words)?.exits(0)?.prints(expected)?.complains("")?;
    }
    shelf.agentkernel(&["run", "./hello"])?.exits(0)?.prints("hello\n")?.complains("")?;
    Ok(())
}
