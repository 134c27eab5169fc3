//! One process, timed from its start to its end.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use agentkernel_sys::descriptor::{self, Interest};
use agentkernel_sys::process::{open_pidfd, start_without_copies};

/// How long one may take before it is killed and counts as failed.
const LIMIT: Duration = Duration::from_secs(120);

/// How many files a stopwatch has open at most: what was said and the child's copy of that, the
/// child's other two streams with both ends of a pipe, a pipe for the error of its start, a pidfd.
const FILES: u64 = 8;

/// How many files the rest of the process has open.
const FILES_OF_OTHERS: u64 = 32;

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
        // A copy of this process would take longer the more it has, and hold up its other threads.
        start_without_copies();
        Ok(Self { said: tempfile::tempfile()? })
    }

    /// One for each of so many threads. Refused if this process may not open the files that all of
    /// them need at the same time, which would make what they start fail.
    pub fn many(count: u64) -> io::Result<Vec<Self>> {
        let (need, most) = (count * FILES + FILES_OF_OTHERS, open_files_limit());
        if most.is_some_and(|most| most < need) {
            return Err(io::Error::other(format!(
                "{count} at once take up to {need} open files, and this process may have {}: see \
                 ulimit -n",
                most.unwrap_or_default()
            )));
        }
        (0..count).map(|_| Self::new()).collect()
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

/// How many files this process may have open; none if that can't be found out.
fn open_files_limit() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
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

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use super::Stopwatch;

    #[test]
    fn more_at_once_than_files_are_refused() {
        assert_eq!(Stopwatch::many(3).unwrap().len(), 3);
        let why = Stopwatch::many(1 << 40).unwrap_err().to_string();
        assert!(why.ends_with("see ulimit -n"), "{why}");
    }

    #[test]
    fn what_is_left_running_is_not_waited_for() {
        let mut stopwatch = Stopwatch::new().unwrap();
        let mut command = Command::new("/bin/sh");
        let took = stopwatch.time_unread(command.args(["-c", "sleep 5 & echo hello"])).unwrap();
        assert!(took < Duration::from_secs(4), "{took:?}");
        let why =
            stopwatch.time_unread(Command::new("/bin/sh").args(["-c", "echo no >&2; exit 3"]));
        assert_eq!(why.unwrap_err(), "exit status: 3: no");
    }
}
