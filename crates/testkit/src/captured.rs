//! What a program said and how it ended, with the expectations that tests have of it.

use std::fmt;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use crate::running::patiently;
use crate::{NotPassed, Running, ensure};

/// How a program ended, and everything it said.
#[derive(Debug)]
pub struct Captured {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub status: ExitStatus,
    /// From just before it was started until it had ended and its streams were closed.
    pub took: Duration,
    /// The command line, for messages.
    pub shown: String,
}

impl Captured {
    /// Starts `command` and waits for its end.
    pub fn of(command: Command) -> Result<Self, NotPassed> {
        Running::start(command)?.finish()
    }

    /// It ended with this exit status.
    pub fn exits(&self, code: i32) -> Result<&Self, NotPassed> {
        ensure!(self.status.code() == Some(code), "expected exit {code}: {self}");
        Ok(self)
    }

    /// Its standard output is exactly this.
    pub fn prints(&self, expected: impl AsRef<[u8]>) -> Result<&Self, NotPassed> {
        let expected = expected.as_ref();
        ensure!(self.stdout == expected, "expected stdout {}: {self}", Shown(expected));
        Ok(self)
    }

    /// Its standard error is exactly this.
    pub fn complains(&self, expected: impl AsRef<[u8]>) -> Result<&Self, NotPassed> {
        let expected = expected.as_ref();
        ensure!(self.stderr == expected, "expected stderr {}: {self}", Shown(expected));
        Ok(self)
    }

    /// Its standard error holds `part` somewhere.
    pub fn mentions(&self, part: &str) -> Result<&Self, NotPassed> {
        ensure!(self.errors().contains(part), "expected {part:?} in stderr: {self}");
        Ok(self)
    }

    /// It took no longer than this; on a slow machine, than so much longer.
    pub fn takes_less_than(&self, limit: Duration) -> Result<&Self, NotPassed> {
        let limit = patiently(limit);
        ensure!(self.took < limit, "expected an end within {limit:?}: {self}");
        Ok(self)
    }

    /// Its standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Its standard error as text.
    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

impl fmt::Display for Captured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stdout, stderr, status, took, shown } = self;
        let (stdout, stderr) = (Shown(stdout), Shown(stderr));
        write!(f, "{shown} gave {status} after {took:.1?}, stdout {stdout}, stderr {stderr}")
    }
}

/// Bytes as a quoted text, cut in the middle where they are many.
pub(crate) struct Shown<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ENDS: usize = 400;
        let Self(bytes) = self;
        match bytes.split_at_checked(ENDS) {
            Some((first, rest)) if rest.len() > ENDS => {
                let (cut, last) = rest.split_at(rest.len() - ENDS);
                let (first, last) = (first.escape_ascii(), last.escape_ascii());
                write!(f, "\"{first}\" ... {} bytes ... \"{last}\"", cut.len())
            }
            _ => write!(f, "\"{}\"", bytes.escape_ascii()),
        }
    }
}
