//! How a test ends.

use std::fmt;

/// How a test ends: `Ok(())` is a pass.
pub type Verdict = Result<(), NotPassed>;

/// Why a test did not pass. The text is one line where it can be, and names what was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotPassed {
    Failed(String),
    /// The machine or the backend lacks what the test is about. It is counted and shown.
    Skipped(String),
}

impl NotPassed {
    /// The same, said of something that the test did among others.
    pub fn within(self, what: &str) -> Self {
        match self {
            Self::Failed(why) if !what.is_empty() => Self::Failed(format!("{what}: {why}")),
            other => other,
        }
    }

    /// A failure to do `what`, a step that the test itself needs.
    pub fn failed_to(what: &str, why: impl fmt::Display) -> Self {
        Self::Failed(format!("could not {what}: {why}"))
    }
}

/// A failure that ARCHITECTURE.md names among what the walls do not hold is shown as skipped with
/// the reason, so that it is neither forgotten nor taken for news. A pass stays one.
pub fn known_limit(verdict: Verdict, limit: &str) -> Verdict {
    verdict.map_err(|not_passed| match not_passed {
        NotPassed::Failed(seen) => NotPassed::Skipped(format!("a known limit: {limit} ({seen})")),
        skipped => skipped,
    })
}

impl From<std::io::Error> for NotPassed {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(format!("input or output failed: {error}"))
    }
}

impl From<rustix::io::Errno> for NotPassed {
    fn from(errno: rustix::io::Errno) -> Self {
        std::io::Error::from(errno).into()
    }
}

/// Ends the test as failed, with a formatted reason, unless the condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($why:tt)+) => {
        let holds: bool = $condition;
        if !holds {
            return Err($crate::NotPassed::Failed(format!($($why)+)));
        }
    };
}

/// Ends the test as skipped, with a formatted reason.
#[macro_export]
macro_rules! skip {
    ($($why:tt)+) => {
        return Err($crate::NotPassed::Skipped(format!($($why)+)))
    };
}
