//! One process, timed from its start to its end.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use agentkernel_sys::descriptor::{self, Interest};
use agentkernel_sys::process::open_pidfd;

/// How long one may take before it is killed and counts as failed.
const LIMIT: Duration = Duration::from_secs(120);

/// How much of what a failed one said on its standard error is kept.
const MOST_SAID: u64 = 4096;

/// How long it took, from just before it was started.
#[derive(Debug, Clone, Copy)]
pub struct Timed {
    /// Until the first byte of its standard output was read; none if it wrote nothing.
    pub first_output: Option<Duration>,
    /// Until it was waited for.
    pub total: Duration,
}

/// Starts processes and times them. For one thread: another needs another.
#[derive(Debug)]
pub struct Stopwatch {
    /// What processes say on their standard error, which nobody has to read in the meantime.
    said: File,
}

impl Stopwatch {
    pub fn new() -> io::Result<Self> {
        Ok(Self { said: tempfile::tempfile()? })
    }

    /// Runs a command without input. It fails unless it succeeds and its standard output is
    /// `output` to the byte, where that is given.
    pub fn time(&mut self, command: &mut Command, output: Option<&str>) -> Result<Timed, String> {
        command.stdout(Stdio::piped());
        let (seen, status, total) =
            self.run(command, |child, start| watch(child, start, output))?;
        match seen {
            Ok(first_output) if status.success() => Ok(Timed { first_output, total }),
            Ok(_) => Err(self.explain(status)),
            Err(_) if !status.success() && status.code().is_some() => Err(self.explain(status)),
            Err(why) => Err(why),
        }
    }

    /// The same for a command whose output is of no interest, and may be held open by what the
    /// command leaves running.
    pub fn time_unread(&mut self, command: &mut Command) -> Result<Duration, String> {
        command.stdout(Stdio::null());
        let (seen, status, total) = self.run(command, |child, start| {
            await_end(child, start).map_err(|error| format!("can't wait for it: {error}"))
        })?;
        seen?;
        if status.success() { Ok(total) } else { Err(self.explain(status)) }
    }

    /// Starts a command, has it watched, and tells how it ended and when. What can't be watched to
    /// its end is killed.
    fn run<T>(
        &mut self,
        command: &mut Command,
        watch: impl FnOnce(&mut Child, Instant) -> Result<T, String>,
    ) -> Result<(Result<T, String>, ExitStatus, Duration), String> {
        let cannot = |what: &str, error: io::Error| format!("can't {what}: {error}");
        self.said.set_len(0).map_err(|error| cannot("empty a file", error))?;
        self.said.seek(SeekFrom::Start(0)).map_err(|error| cannot("empty a file", error))?;
        let said = self.said.try_clone().map_err(|error| cannot("share a file", error))?;
        command.stdin(Stdio::null()).stderr(said);
        let start = Instant::now();
        let mut child = command.spawn().map_err(|error| {
            cannot(&format!("start {}", command.get_program().to_string_lossy()), error)
        })?;
        let seen = watch(&mut child, start);
        if seen.is_err() {
            // It may have ended.
            let _ = child.kill();
        }
        let status = child.wait().map_err(|error| cannot("wait", error))?;
        Ok((seen, status, start.elapsed()))
    }

    /// Why it ended as it did, in its own words if it has said any.
    fn explain(&mut self, status: ExitStatus) -> String {
        let mut bytes = Vec::new();
        // What can't be read was not said.
        let _ = self.said.seek(SeekFrom::Start(0));
        let _ = (&self.said).take(MOST_SAID).read_to_end(&mut bytes);
        match String::from_utf8_lossy(&bytes).trim() {
            "" => status.to_string(),
            said => format!("{status}: {said}"),
        }
    }
}

/// Reads all it writes until it ends, and tells when the first came.
fn watch(
    child: &mut Child,
    start: Instant,
    output: Option<&str>,
) -> Result<Option<Duration>, String> {
    let failed = |error: io::Error| format!("can't read its output: {error}");
    let mut stdout = child.stdout.take().ok_or("it has no output")?;
    let (mut first, mut read) = (None, Vec::new());
    let mut buffer = [0; 64 * 1024];
    loop {
        await_ready(stdout.as_fd(), start).map_err(failed)?;
        let count = stdout.read(&mut buffer).map_err(failed)?;
        if count == 0 {
            break;
        }
        first.get_or_insert_with(|| start.elapsed());
        if let Some(output) = output {
            read.extend_from_slice(&buffer[..count]);
            if read.len() > output.len() {
                break;
            }
        }
    }
    if output.is_some_and(|output| output.as_bytes() != read) {
        return Err(format!("its output was {:?}", String::from_utf8_lossy(&read)));
    }
    // A process may close its output long before it ends.
    await_end(child, start).map_err(failed)?;
    Ok(first)
}

fn await_end(child: &Child, start: Instant) -> io::Result<()> {
    await_ready(open_pidfd(child.id().cast_signed())?.as_fd(), start)
}

fn await_ready(fd: BorrowedFd<'_>, start: Instant) -> io::Result<()> {
    loop {
        let left = LIMIT.saturating_sub(start.elapsed());
        if descriptor::poll(&mut [Interest::readable(fd)], Some(left))? {
            return Ok(());
        }
        // A signal ends a wait, too.
        if left.is_zero() {
            let limit = LIMIT.as_secs();
            return Err(io::Error::other(format!("it took more than {limit} seconds")));
        }
    }
}
