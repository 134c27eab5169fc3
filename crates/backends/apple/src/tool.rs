//! Apple's `container` program, run with arguments and never through a shell.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use agentkernel_core::BootError;
use agentkernel_sys::descriptor::{self, Interest};
use agentkernel_sys::process;
use agentkernel_sys::signal;
use serde::de::DeserializeOwned;

/// The program's name, which is looked for on the PATH.
pub const PROGRAM: &str = "container";

/// What to do without it.
pub const INSTALL: &str = "install Apple's container 1.2.1 or later, from github.com/apple/container, \
                           on macOS 26 and Apple silicon; elsewhere use another backend";

/// How long it may take for what it only has to look up. It waits for its own service for 10 s.
pub const LOOK: Duration = Duration::from_secs(30);

/// How long it may take to make, start or remove a container.
pub const WORK: Duration = Duration::from_secs(120);

/// How long it may take to fetch an image.
pub const FETCH: Duration = Duration::from_secs(60 * 60);

/// No answer of it is longer than that: a description of each of a user's containers.
const LONGEST: usize = 16 << 20;

/// How much is kept of what it says of its errors: the last of it counts.
const LAST_WORDS: usize = 64 << 10;

/// Why it did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    #[error("there is no {PROGRAM} on the PATH")]
    Absent,
    #[error("it can't be started: {0}")]
    NotStarted(io::Error),
    #[error("it took longer than {} s", .0.as_secs())]
    Slow(Duration),
    #[error("it answered with more than {LONGEST} bytes")]
    Endless,
    #[error("it was interrupted")]
    Interrupted,
    #[error("it can't be heard: {0}")]
    Unheard(io::Error),
    /// In its own words, with its exit status.
    #[error("{words}")]
    Refused { words: String, status: ExitStatus },
    #[error("its answer can't be read: {0}")]
    Garbled(serde_json::Error),
}

/// Has it do something, and returns what it answers.
pub fn ask(arguments: &[impl AsRef<OsStr>], patience: Duration) -> Result<Vec<u8>, ToolError> {
    let mut child = spawn(Command::new(PROGRAM).args(arguments).stdin(Stdio::null()))?;
    let heard = Said::of(&mut child, patience);
    if heard.is_err() {
        let _ = child.kill();
    }
    let status = child.wait().map_err(ToolError::Unheard)?;
    let Said { output, errors } = heard?;
    match status.success() {
        true => Ok(output),
        false => Err(ToolError::Refused {
            words: last_words(if errors.is_empty() { &output } else { &errors }),
            status,
        }),
    }
}

/// The same, for an answer in JSON.
pub fn ask_for<T: DeserializeOwned>(arguments: &[impl AsRef<OsStr>]) -> Result<T, ToolError> {
    let answer = ask(arguments, LOOK)?;
    serde_json::from_slice(&answer).map_err(ToolError::Garbled)
}

/// Starts it with pipes for what it says.
pub fn spawn(command: &mut Command) -> Result<Child, ToolError> {
    // A terminal's signals are ours to pass on, or not.
    command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ToolError::Absent,
        _ => ToolError::NotStarted(error),
    })
}

/// What one invocation says.
#[derive(Default)]
struct Said {
    output: Vec<u8>,
    errors: Vec<u8>,
}

impl Said {
    /// Hears all of it, until it has ended.
    fn of(child: &mut Child, patience: Duration) -> Result<Self, ToolError> {
        let until = Instant::now() + patience;
        let ended = process::open_pidfd(child.id().cast_signed()).map_err(ToolError::Unheard)?;
        let unwanted = signal::endings().map_err(ToolError::Unheard)?;
        let mut output = child.stdout.take().map(OwnedFd::from);
        let mut errors = child.stderr.take().map(OwnedFd::from);
        let mut said = Self::default();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ToolError::Slow(patience));
            }
            let silent = output.is_none() && errors.is_none();
            let mut all = [
                readable(output.as_ref().map(AsFd::as_fd)),
                readable(errors.as_ref().map(AsFd::as_fd)),
                readable(silent.then(|| ended.as_fd())),
                Interest::readable(unwanted.as_fd()),
            ];
            descriptor::poll(&mut all, Some(left)).map_err(ToolError::Unheard)?;
            let [speaks, complains, has_ended, is_unwanted] = all.map(|one| one.is_ready());
            if is_unwanted {
                return Err(ToolError::Interrupted);
            }
            if has_ended {
                return Ok(said);
            }
            if speaks {
                take(&mut output, &mut said.output).map_err(ToolError::Unheard)?;
            }
            if complains {
                take(&mut errors, &mut said.errors).map_err(ToolError::Unheard)?;
            }
            if said.output.len() > LONGEST {
                return Err(ToolError::Endless);
            }
            let surplus = said.errors.len().saturating_sub(LAST_WORDS);
            said.errors.drain(..surplus);
        }
    }
}

/// Wakes when what is there can be read.
fn readable(fd: Option<BorrowedFd<'_>>) -> Interest<'_> {
    fd.map_or_else(Interest::none, Interest::readable)
}

/// Takes what can be had, and lets go of what has ended.
fn take(from: &mut Option<OwnedFd>, to: &mut Vec<u8>) -> io::Result<()> {
    let Some(fd) = from else { return Ok(()) };
    let mut buffer = [0; 16 << 10];
    let read = descriptor::read(fd.as_fd(), &mut buffer)?;
    to.extend_from_slice(&buffer[..read]);
    if read == 0 {
        *from = None;
    }
    Ok(())
}

/// What it says of an error, on one line and of a length that people read.
pub fn last_words(errors: &[u8]) -> String {
    const MOST: usize = 600;
    let text = String::from_utf8_lossy(errors);
    let text = text.rfind("Error: ").map_or(&*text, |at| &text[at + "Error: ".len()..]);
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let words: String = plain.collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(MOST) {
        _ if words.is_empty() => "it says nothing".into(),
        Some((end, _)) => format!("{}...", &words[..end]),
        None => words,
    }
}

impl ToolError {
    /// Whether what was named is not there.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::Refused { words, .. } if words.contains("not found"))
    }

    /// The error in the words of the edge; `what` could not be done.
    pub fn into_boot_error(self, what: &str) -> BootError {
        let unavailable =
            |why: String, fix: &str| BootError::Unavailable { why, fix: fix.to_owned() };
        match &self {
            Self::Absent => {
                unavailable(format!("Apple's containers are not installed: {self}"), INSTALL)
            }
            Self::Interrupted => BootError::Refused {
                why: format!("{what}: it was interrupted"),
                fix: "try again: the engine keeps what it has so far".into(),
            },
            Self::Slow(_) => unavailable(
                format!("{what}: {PROGRAM} does not answer: {self}"),
                "look what its services do: `container system logs`; restart them with `container \
                 system stop` and `container system start`",
            ),
            Self::Refused { words, .. } => refusal(what, words),
            Self::NotStarted(_) | Self::Endless | Self::Unheard(_) | Self::Garbled(_) => {
                unavailable(
                    format!("{what}: {PROGRAM} does not answer as Apple's does: {self}"),
                    "see which program that is, and whether it is 1.2.1 or later: `command -v container` and \
                     `container --version`",
                )
            }
        }
    }
}

/// What it means that the tool has not done what it was asked for, by its own words.
pub fn refusal(what: &str, words: &str) -> BootError {
    match FIXES.iter().find(|(part, _)| words.contains(part)) {
        Some((_, fix)) => {
            BootError::Unavailable { why: format!("{what}: {words}"), fix: (*fix).to_owned() }
        }
        None => BootError::Refused {
            why: format!("{what}: {PROGRAM} refuses it: {words}"),
            fix: "do what it says, or use another backend".into(),
        },
    }
}

/// What to do about what it says.
const FIXES: &[(&str, &str)] = &[
    ("XPC connection error", START),
    ("system start", START),
    ("default kernel not configured", "install one: `container system kernel set --recommended`"),
    ("running under Rosetta", "use a terminal and an agentkernel that are not run by Rosetta"),
    ("requires macOS 26", "update macOS"),
    ("Unknown option", INSTALL),
];

/// How its services are started.
pub const START: &str = "start its services: `container system start`";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_in_the_tools_own_words_and_shortly() {
        let words = last_words(b"Warning! x\nError: a \x1b[31mb\n  c\n");
        assert_eq!(words, "a [31mb c");
        assert_eq!(last_words(b""), "it says nothing");
        assert!(last_words(&[b'x'; 10_000]).len() < 700);
    }

    #[test]
    fn a_program_that_hangs_or_never_ends_is_left() {
        let said = |program: &str, argument: &str, patience| {
            let mut child = spawn(Command::new(program).arg(argument)).unwrap();
            let said = Said::of(&mut child, patience);
            child.kill().unwrap();
            child.wait().unwrap();
            said.map(|said| said.output)
        };
        let short = Duration::from_millis(50);
        assert!(matches!(said("sleep", "60", short), Err(ToolError::Slow(_))));
        assert!(matches!(said("yes", "x", WORK), Err(ToolError::Endless)));
        assert_eq!(said("echo", "x", WORK).unwrap(), b"x\n");
        let absent = spawn(&mut Command::new("/none/container"));
        assert!(matches!(absent, Err(ToolError::Absent)));
    }

    #[test]
    fn each_error_says_what_to_do() {
        let of = |words: &str| {
            let status = std::process::ExitStatus::default();
            ToolError::Refused { words: words.into(), status }.into_boot_error("it fails")
        };
        let service = "interrupted: \"XPC connection error: Connection invalid\" Ensure container \
                       system service has been started with `container system start`.";
        assert!(matches!(of(service), BootError::Unavailable { fix, .. } if fix == START));
        assert!(matches!(of("no"), BootError::Refused { why, .. } if why.ends_with("it: no")));
        let absent = ToolError::Absent.into_boot_error("it fails");
        assert!(matches!(absent, BootError::Unavailable { fix, .. } if fix == INSTALL));
    }
}
