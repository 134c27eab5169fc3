//! Functions of a module that are called by their names.

use std::time::Duration;

use super::{MATH, OF_THE_COMMAND_LINE, Shelf, module};
use crate::conformance::bad_input::refused;
use crate::{Behaviour, Captured, NotPassed, Route, Subject, Verdict, ensure, skip};

const SOON: Duration = Duration::from_secs(8);

pub(super) const TABLE: &[Behaviour] = &[
    module(
        "invoke",
        "--invoke calls a function with numbers, and prints what it returns, one on a line",
        invoke,
    ),
    module("invoke-with-fractions", "--invoke takes and prints fractions", invoke_with_fractions),
    module(
        "invoke-bad-arguments",
        "--invoke with too few or many arguments, or what is no such number, is a clear error",
        invoke_bad_arguments,
    ),
    module(
        "invoke-no-function",
        "--invoke of what is no function of the module is a clear error that names it",
        invoke_no_function,
    ),
    module(
        "invoke-endings",
        "a function that traps or never ends comes to an end as a module does",
        invoke_endings,
    ),
    module("invoke-of-a-program", "--invoke is refused for what is no module", invoke_of_a_program)
        .only(Route::Cold, OF_THE_COMMAND_LINE),
];

fn call(shelf: &Shelf<'_>, function: &str, words: &[&str]) -> Result<Captured, NotPassed> {
    shelf.run(&["--invoke", function], "math", words)
}

fn invoke(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    for (function, words, expected) in [
        ("add", &["2", "3"][..], "5\n"),
        ("add", &["-7", "3"], "-4\n"),
        ("add", &["2147483647", "1"], "-2147483648\n"),
        ("long", &["9007199254740993"], "9007199254740994\n"),
        ("both", &["1", "2"], "2\n1\n"),
        ("nothing", &[], ""),
    ] {
        call(&shelf, function, words)?.exits(0)?.prints(expected)?.complains("")?;
    }
    Ok(())
}

fn invoke_with_fractions(subject: &Subject) -> Verdict {
    if !subject.has_floats() {
        skip!("the guest for tests has no fractions");
    }
    let shelf = Shelf::new(subject)?;
    for (function, word, expected) in
        [("half", "5", "2.5\n"), ("half", "-0.5", "-0.25\n"), ("quarter", "1.0", "0.25\n")]
    {
        call(&shelf, function, &[word])?.exits(0)?.prints(expected)?.complains("")?;
    }
    Ok(())
}

/// It failed by a mistake of the caller's, and says so with these words.
pub(super) fn mistaken(got: &Captured, parts: &[&str]) -> Verdict {
    // The engine tells before, or the module's own process once that has begun.
    if got.status.code() == Some(125) {
        return refused(got, parts).map(drop);
    }
    got.exits(2)?.prints("")?;
    ensure!(!got.errors().contains("panicked"), "expected a message for people: {got}");
    parts.iter().try_for_each(|part| got.mentions(part).map(drop))
}

fn invoke_bad_arguments(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    for (function, words, parts) in [
        ("add", &[][..], &["add", "2"][..]),
        ("add", &["1"], &["add", "2", "1"]),
        ("add", &["1", "2", "3"], &["add", "2", "3"]),
        ("nothing", &["1"], &["nothing"]),
        ("add", &["1", "two"], &["two", "i32"]),
        ("add", &["1", ""], &["i32"]),
        ("add", &["1", "1.5"], &["1.5", "i32"]),
        ("add", &["1", "2147483648000"], &["2147483648000", "i32"]),
        ("long", &["99999999999999999999"], &["99999999999999999999", "i64"]),
        ("half", &["0x"], &["0x", "f64"]),
    ] {
        mistaken(&call(&shelf, function, words)?, parts)?;
    }
    Ok(())
}

fn invoke_no_function(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    for name in ["ad", "no-function", "_start", "Add", "add "] {
        mistaken(&call(&shelf, name, &["1", "2"])?, &[name])?;
    }
    mistaken(&call(&shelf, "", &["1", "2"])?, &["invoke"])?;
    // Without the flag there is nothing to start with.
    mistaken(&shelf.run_content("other.wat", MATH, &[])?, &["_start"])
}

fn invoke_endings(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    let got = call(&shelf, "divide", &["1", "0"])?;
    got.exits(136)?.prints("")?.mentions("trap: ")?.mentions("divide by zero")?;
    let flags = ["--timeout", "1s", "--invoke", "endless"];
    let got = shelf.run(&flags, "math", &crate::NO_FLAGS)?;
    got.exits(124)?.prints("")?.takes_less_than(SOON)?;
    Ok(())
}

fn invoke_of_a_program(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    let native = ["run", "-B", "native", "--invoke", "add", "echo", "1", "2"];
    refused(&shelf.agentkernel(&native)?, &["--invoke"])?;
    Ok(())
}
