//! One execution inside a sandbox, and how it ended.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// A program to start in a sandbox, never joined into a shell string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The program and its arguments, at least one; no string holds a NUL.
    pub argv: Vec<OsString>,
    /// How long it may run before it and everything it started is killed.
    pub time_limit: Option<Duration>,
}

/// What a command's standard streams are connected to.
#[derive(Debug)]
pub enum Stdio {
    /// Standard input, output and error. Only pipes, sockets and `/dev/null` may be handed over:
    /// anything else could be reopened through `/proc/self/fd` with more rights than it carries.
    Streams([OwnedFd; 3]),
    /// A terminal of the sandbox's own, `rows` by `columns` characters; the agent hands its
    /// controlling side over the link.
    Terminal { rows: u16, columns: u16 },
}

/// How a command finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this status, 0 to 255.
    Exited(u8),
    /// This signal killed it.
    Signaled(u8),
    /// It was killed because it ran longer than its time limit.
    TimedOut,
    /// It was killed because its sandbox ran out of memory.
    OutOfMemory,
    /// agentkernel killed it, because somebody asked for that.
    Killed,
    /// Nobody knows; the sandbox went away underneath.
    Lost(String),
}

impl Ended {
    /// The exit status that stands for this ending, by the conventions of shells, `timeout` and
    /// Docker: the command's own, 128 + n for signal n, 124 for a time-out, 137 for a kill, and
    /// 125 where agentkernel itself can't tell.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Exited(code) => *code,
            // Real-time signals end at 64, so this never overflows.
            Self::Signaled(signal) => 128_u8.saturating_add(*signal),
            Self::TimedOut => 124,
            Self::OutOfMemory | Self::Killed => 137,
            Self::Lost(_) => 125,
        }
    }
}
