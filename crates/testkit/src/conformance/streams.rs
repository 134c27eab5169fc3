//! Standard input, output and error: every byte, in time, and with nothing piled up.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::report;
use crate::host::{Process, unique_sleep};
use crate::running::patiently;
use crate::{Behaviour, Captured, NO_FLAGS, NotPassed, Running, Subject, Verdict, ensure};

const SOON: Duration = Duration::from_secs(8);

/// The same from before an engine makes a place on.
fn soon(subject: &Subject) -> Duration {
    patiently(SOON) + subject.patience_for_engine()
}

pub(super) const TABLE: &[Behaviour] = &[
    Behaviour::new(
        "input-from-a-pipe",
        "what is written to a pipe reaches the command, and so does its end",
        &[],
        input_from_a_pipe,
    ),
    Behaviour::new(
        "input-from-a-file",
        "a file as the input is read from where it stands",
        &[],
        input_from_a_file,
    ),
    Behaviour::new(
        "input-from-a-socket",
        "a socket as the input and output carries both",
        &[],
        input_from_a_socket,
    ),
    Behaviour::new(
        "input-from-nothing",
        "/dev/null, a closed input and --no-stdin are at their end at once",
        &[],
        input_from_nothing,
    ),
    Behaviour::new(
        "input-never-read",
        "a command that reads nothing ends without waiting for its input, open or full",
        &[],
        input_never_read,
    ),
    Behaviour::new(
        "large-stream",
        "256 MiB go through a command unchanged, and agentkernel stays small",
        &[],
        large_stream,
    ),
    Behaviour::new(
        "large-files",
        "files as input and output keep what was there and hold every byte",
        &[],
        large_files,
    ),
    Behaviour::new(
        "every-byte",
        "NUL and bytes that are no UTF-8 pass through input, output and error",
        &[],
        every_byte,
    ),
    Behaviour::new(
        "streams-apart",
        "standard output and standard error stay apart",
        &[],
        streams_apart,
    ),
    Behaviour::new(
        "output-in-time",
        "output arrives while the command still runs, and input it asks for then reaches it",
        &[],
        output_in_time,
    ),
    Behaviour::new(
        "closed-reader",
        "a command whose reader goes away dies of SIGPIPE at once",
        &[],
        closed_reader,
    ),
    Behaviour::new(
        "closed-output",
        "a caller with a closed output still gets the command's exit status",
        &[],
        closed_output,
    ),
    Behaviour::new(
        "slow-reader",
        "a command waits for its slow reader, and nothing is piled up meanwhile",
        &[],
        slow_reader,
    ),
];

fn input_from_a_pipe(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let mut command = subject.run_command(&scratch, &NO_FLAGS, &["cat"]);
    command.stdin(Stdio::piped());
    let mut running = Running::start(command)?;
    write_to(&mut running, b"one\ntwo")?;
    running.finish()?.exits(0)?.prints("one\ntwo")?.complains("")?;
    Ok(())
}

/// Writes to the standard input and closes it.
fn write_to(running: &mut Running, text: &[u8]) -> Verdict {
    match running.take_stdin() {
        Some(mut stdin) => Ok(stdin.write_all(text)?),
        None => Err(NotPassed::Failed("the input is no pipe".into())),
    }
}

fn input_from_a_file(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let mut file = File::open(scratch.file("input", "skipped, read")?)?;
    file.seek(SeekFrom::Start(9))?;
    let mut command = subject.run_command(&scratch, &NO_FLAGS, &["cat"]);
    command.stdin(file);
    Captured::of(command)?.exits(0)?.prints("read")?.complains("")?;
    Ok(())
}

fn input_from_a_socket(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let (mut ours, theirs) = UnixStream::pair()?;
    ours.set_read_timeout(Some(soon(subject)))?;
    let mut command = subject.run_command(&scratch, &NO_FLAGS, &["cat"]);
    command.stdin(OwnedFd::from(theirs.try_clone()?)).stdout(OwnedFd::from(theirs));
    let running = Running::start(command)?;
    ours.write_all(b"there and back")?;
    ours.shutdown(Shutdown::Write)?;
    let mut back = String::new();
    ours.read_to_string(&mut back)?;
    ensure!(back == "there and back", "the socket brought back {back:?}");
    running.finish()?.exits(0)?.complains("")?;
    Ok(())
}

fn input_from_nothing(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let script = ["sh", "-c", "cat; echo end"];
    let null = subject.run_command(&scratch, &NO_FLAGS, &script);
    let closed = subject.caller.through(&["sh", "-c", "exec \"$0\" \"$@\" <&-"], &null);
    for command in [null, closed] {
        Captured::of(command)?.exits(0)?.prints("end\n")?.complains("")?;
    }
    for (flags, expected) in [(vec![], "given\nend\n"), (vec!["--no-stdin"], "end\n")] {
        let mut command = subject.run_command(&scratch, &flags, &script);
        command.stdin(File::open(scratch.file("input", "given\n")?)?);
        Captured::of(command)?.exits(0)?.prints(expected)?.complains("")?;
    }
    Ok(())
}

fn input_never_read(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let mut command = subject.run_command(&scratch, &NO_FLAGS, &["true"]);
    command.stdin(Stdio::piped());
    let mut open = Running::start(command)?;
    let held = open.take_stdin();
    open.finish()?.exits(0)?.takes_less_than(soon(subject))?;
    drop(held);

    let mut command = subject.run_command(&scratch, &NO_FLAGS, &["true"]);
    command.stdin(Stdio::piped());
    let mut full = Running::start(command)?;
    let stdin = full.take_stdin();
    let writer = thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(&[b'x'; 8 << 20])));
    full.finish()?.exits(0)?.takes_less_than(soon(subject))?;
    // With all readers gone, the writer learns it rather than hang.
    let written = writer.join().ok().flatten();
    let kind = written.and_then(|written| written.err()).map(|error| error.kind());
    ensure!(kind == Some(io::ErrorKind::BrokenPipe), "8 MiB that nobody read gave {kind:?}");
    Ok(())
}

/// A reader that gives up at a deadline.
struct Within<R> {
    inner: R,
    deadline: Instant,
}

impl<R: Read + AsFd> Read for Within<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        if poll(&mut [PollFd::new(&self.inner, PollFlags::IN)], Some(&left))? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.inner.read(buffer)
    }
}

/// A mebibyte of noise that is different for every `number`.
fn noise(block: &mut [u8], number: u64) {
    // Not a multiple of the block, so that no two blocks line up.
    let seed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
    block.chunks_mut(4099).for_each(|chunk| {
        chunk.iter_mut().zip(seed).for_each(|(byte, salt)| *byte ^= salt);
    });
}

fn mebibyte() -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..1 << 20).map(|_| next()).collect()
}

fn large_stream(subject: &Subject) -> Verdict {
    // More than anything may hold, and what an emulated machine, or a cluster's API, passes on in its time.
    let mebibytes: u64 = match subject {
        _ if subject.has_allocations() => 8,
        _ if subject.has_own_kernel() => 64,
        _ => 256,
    };
    let limit = Duration::from_secs(60);
    let scratch = subject.scratch()?;
    let (reader, writer) = io::pipe()?;
    let mut command = subject.run_command(&scratch, &NO_FLAGS, &["cat"]);
    command.stdin(Stdio::piped()).stdout(writer);
    let mut running = Running::start(command)?.within(limit);
    let mut stdin = running.take_stdin();
    let source = thread::spawn(move || {
        let mut block = mebibyte();
        for number in 0..mebibytes {
            noise(&mut block, number);
            stdin.as_mut().and_then(|stdin| stdin.write_all(&block).ok())?;
        }
        stdin
    });
    let mut reader = Within { inner: reader, deadline: Instant::now() + patiently(limit) };
    let (mut expected, mut found) = (mebibyte(), vec![0; 1 << 20]);
    for number in 0..mebibytes {
        noise(&mut expected, number);
        reader.read_exact(&mut found)?;
        ensure!(found == expected, "the mebibyte number {number} came back changed");
    }
    // Everything has passed, and the input is still open: all processes are there to be asked.
    let peak = peak_memory(&running)?;
    ensure!(peak < 32 << 20, "agentkernel grew to {peak} bytes for {mebibytes} MiB");
    drop(source.join());
    let more = reader.read(&mut found)?;
    ensure!(more == 0, "{more} bytes too many came back");
    running.finish()?.exits(0)?.complains("")?;
    Ok(())
}

/// The most memory that agentkernel and any process under it ever had, each by itself.
fn peak_memory(running: &Running) -> Result<u64, NotPassed> {
    let own = Process::find(running.pid()).map(|own| own.peak_memory()).unwrap_or_default();
    ensure!(own > 0, "the memory of agentkernel can't be measured");
    let mut family = Process::descendants_of(running.pid());
    // A machine's memory is its own.
    family.retain(|process| !process.is_machine());
    Ok(family.iter().map(Process::peak_memory).fold(own, u64::max))
}

fn large_files(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let mut content = Vec::new();
    let mut block = mebibyte();
    for number in 0..16 {
        noise(&mut block, number);
        content.extend_from_slice(&block);
    }
    let input = scratch.file("input", &content)?;
    let output = scratch.file("output", "kept\n")?;
    let mut command = subject.run_command(&scratch, &NO_FLAGS, &["cat"]);
    command.stdin(File::open(input)?).stdout(File::options().append(true).open(&output)?);
    Captured::of(command)?.exits(0)?.complains("")?;
    let written = fs::read(output)?;
    let rest = written.strip_prefix(b"kept\n".as_slice());
    ensure!(rest.is_some(), "what was in the output file is gone");
    let count = written.len();
    ensure!(rest == Some(&content), "the output file differs, with {count} bytes in it");
    Ok(())
}

fn every_byte(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let all: Vec<u8> = (0..=255_u8).chain((0..=255).rev()).collect();
    let script = "cat > /tmp/all; cat /tmp/all; cat /tmp/all >&2";
    let mut command = subject.run_command(&scratch, &NO_FLAGS, &["sh", "-c", script]);
    command.stdin(File::open(scratch.file("input", &all)?)?);
    Captured::of(command)?.exits(0)?.prints(&all)?.complains(&all)?;
    Ok(())
}

fn streams_apart(subject: &Subject) -> Verdict {
    let script = "for i in 1 2 3; do echo out $i; echo err $i >&2; done";
    let got = subject.shell(&NO_FLAGS, script)?;
    got.exits(0)?.prints("out 1\nout 2\nout 3\n")?.complains("err 1\nerr 2\nerr 3\n")?;
    Ok(())
}

fn output_in_time(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let script = "echo first; read answer; printf 'no line end: %s' \"$answer\"; cat";
    let mut command = subject.run_command(&scratch, &NO_FLAGS, &["sh", "-c", script]);
    command.stdin(Stdio::piped());
    let mut running = Running::start(command)?;
    // The script goes on only after its first line was seen.
    let first = running.line()?;
    ensure!(first == "first", "expected the first line, not {first:?}");
    let mut stdin = running.take_stdin();
    if let Some(stdin) = stdin.as_mut() {
        stdin.write_all(b"answer\n")?;
    }
    running.until("no line end: answer")?;
    drop(stdin);
    running.finish()?.exits(0)?;
    Ok(())
}

fn closed_reader(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let file = scratch.path().join("work/report.json");
    let flags = ["--report".as_ref(), file.as_os_str()];
    let (mut reader, writer) = io::pipe()?;
    let mut command = subject.run_command(&scratch, &flags, &["yes"]);
    command.stdout(writer);
    let running = Running::start(command)?;
    let mut some = [0; 4];
    reader.read_exact(&mut some)?;
    drop(reader);
    running.finish()?.exits(141)?.takes_less_than(SOON)?;
    let ended = &report::read(&file)?["ended"];
    ensure!(ended["signal"] == 13, "expected death by signal 13 in the report, not {ended}");
    Ok(())
}

fn closed_output(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let command = subject.run_command(&scratch, &NO_FLAGS, &["sh", "-c", "exit 7"]);
    for closing in [">&-", "2>&-", "<&- >&- 2>&-"] {
        let wrapper = format!("exec \"$0\" \"$@\" {closing}");
        let command = subject.caller.through(&["sh", "-c", &wrapper], &command);
        Captured::of(command)?.exits(7)?.prints("")?.complains("")?;
    }
    Ok(())
}

fn slow_reader(subject: &Subject) -> Verdict {
    let scratch = subject.scratch()?;
    let (reader, writer) = io::pipe()?;
    let mark = unique_sleep();
    let mebibytes = if subject.has_allocations() { 8 } else { 64 };
    let script = format!(": {mark}; head -c {mebibytes}m /dev/zero; echo passed >&2");
    let mut command = subject.run_command(&scratch, &NO_FLAGS, &["sh", "-c", &script]);
    command.stdout(writer);
    let running = Running::start(command)?;
    let mut reader = Within { inner: reader, deadline: Instant::now() + soon(subject) };
    let mut first = vec![0; 1 << 20];
    reader.read_exact(&mut first)?;
    // Now it can only fill what buffers there are; were these without bounds, it would end.
    let guest_waits = subject.has_own_kernel() || !Process::inside(&mark).is_empty();
    let peak = peak_memory(&running)?;
    ensure!(guest_waits && peak < 32 << 20, "agentkernel grew to {peak} bytes for a slow reader");
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest)?;
    let count = first.len() + rest.len();
    ensure!(count == mebibytes << 20, "{count} bytes arrived, not {mebibytes} MiB");
    running.finish()?.exits(0)?.complains("passed\n")?;
    Ok(())
}
