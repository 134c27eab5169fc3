//! The streams of a module: every byte, in time, and with nothing piled up.

use std::fs::File;
use std::io::{self, Read, Write};
use std::process::Stdio;
use std::time::Duration;

use super::{Shelf, module, source};
use crate::{Behaviour, Captured, NO_FLAGS, Running, Subject, Verdict, ensure};

const SOON: Duration = Duration::from_secs(8);

pub(super) const TABLE: &[Behaviour] = &[
    module(
        "module-streams-apart",
        "what a module writes to its output and to its error stays apart",
        module_streams_apart,
    ),
    module(
        "module-every-byte",
        "every byte passes through a module's input, output and error as it is",
        module_every_byte,
    ),
    module("module-input", "a module reads a pipe, a file, or nothing, to the end", module_input),
    module(
        "module-output-in-time",
        "a module's output arrives while it runs, and input that comes later reaches it",
        module_output_in_time,
    ),
    module("module-large-input", "16 MiB go through a module unchanged", module_large_input),
    module(
        "module-large-output",
        "a module writes 100 MiB to whoever reads, with every byte in its place",
        module_large_output,
    ),
    module(
        "module-closed-reader",
        "a module whose reader goes away is told so by an error, at once",
        module_closed_reader,
    ),
];

fn module_streams_apart(subject: &Subject) -> Verdict {
    let got = Shelf::new(subject)?.run(&NO_FLAGS, "streams", &NO_FLAGS)?;
    got.exits(0)?.prints("out\nout\n")?.complains("err\nerr\n")?;
    Ok(())
}

fn module_every_byte(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    let all: Vec<u8> = (0..=255_u8).chain((0..=255).rev()).collect();
    let mut command = shelf.command(&NO_FLAGS, "tee", &["both"])?;
    command.stdin(File::open(shelf.scratch.file("input", &all)?)?);
    Captured::of(command)?.exits(0)?.prints(&all)?.complains(&all)?;
    Ok(())
}

fn module_input(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    let tee = || shelf.command(&NO_FLAGS, "tee", &NO_FLAGS);
    let mut piped = tee()?;
    piped.stdin(Stdio::piped());
    let mut running = Running::start(piped)?;
    if let Some(mut stdin) = running.take_stdin() {
        stdin.write_all(b"one\ntwo")?;
    }
    running.finish()?.exits(0)?.prints("one\ntwo")?.complains("")?;
    let mut from_file = tee()?;
    from_file.stdin(File::open(shelf.scratch.file("input", "from a file")?)?);
    Captured::of(from_file)?.exits(0)?.prints("from a file")?.complains("")?;
    let closed = subject.caller.through(&["sh", "-c", "exec \"$0\" \"$@\" <&-"], &tee()?);
    for command in [tee()?, closed, shelf.command(&["--no-stdin"], "tee", &NO_FLAGS)?] {
        Captured::of(command)?.exits(0)?.prints("")?.complains("")?;
    }
    Ok(())
}

fn module_output_in_time(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    let mut command = shelf.command(&NO_FLAGS, "tee", &NO_FLAGS)?;
    command.stdin(Stdio::piped());
    let mut running = Running::start(command)?;
    let mut stdin = running.take_stdin();
    for word in ["one", "two"] {
        if let Some(stdin) = stdin.as_mut() {
            stdin.write_all(format!("{word}\n").as_bytes())?;
        }
        let line = running.line()?;
        ensure!(line == word, "expected {word}, not {line:?}");
    }
    drop(stdin);
    running.finish()?.exits(0)?.prints("one\ntwo\n")?.complains("")?;
    Ok(())
}

fn module_large_input(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()
    };
    let words = if subject.sampled { 1 << 18 } else { 4 << 20 };
    let noise: Vec<u8> = (0..words).flat_map(|_| next()).collect();
    let mut command = shelf.command(&NO_FLAGS, "tee", &NO_FLAGS)?;
    command.stdin(File::open(shelf.scratch.file("input", &noise)?)?);
    let got = Captured::of(command)?;
    got.exits(0)?.complains("")?;
    let same = got.stdout == noise;
    ensure!(same, "{} bytes came back, and not as they were: {got}", got.stdout.len());
    Ok(())
}

fn module_large_output(subject: &Subject) -> Verdict {
    let blocks: u32 = if subject.sampled { 100 } else { 1600 };
    let limit = Duration::from_secs(60);
    let shelf = Shelf::new(subject)?;
    let (mut reader, writer) = io::pipe()?;
    let flood = source("flood")?.replace("(i32.const 1600)", &format!("(i32.const {blocks})"));
    let flood = shelf.scratch.file("flood.wat", flood)?;
    let mut command = subject.run_module(&shelf.scratch, &NO_FLAGS, &flood, &NO_FLAGS);
    command.stdout(writer);
    let running = Running::start(command)?.within(limit);
    let (mut expected, mut found) = (vec![165; 64 << 10], vec![0; 64 << 10]);
    for number in 0..blocks {
        expected.splice(..4, number.to_le_bytes());
        reader.read_exact(&mut found)?;
        ensure!(found == expected, "block {number} is another one, or changed");
    }
    let more = reader.read(&mut found)?;
    ensure!(more == 0, "{more} bytes too many came");
    running.finish()?.exits(0)?.complains("")?;
    Ok(())
}

fn module_closed_reader(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    let (mut reader, writer) = io::pipe()?;
    let mut command = shelf.command(&NO_FLAGS, "flood", &NO_FLAGS)?;
    command.stdout(writer);
    let running = Running::start(command)?;
    let mut some = [0; 4];
    reader.read_exact(&mut some)?;
    drop(reader);
    // That is its own status for that.
    running.finish()?.exits(3)?.complains("")?.takes_less_than(SOON)?;
    Ok(())
}
