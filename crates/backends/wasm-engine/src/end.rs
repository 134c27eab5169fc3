//! How a module ends.

use agentkernel_protocol::Status;
use agentkernel_wasm_calls::Failure;
use wasmtime::{Error, Trap};
use wasmtime_wasi::I32Exit;

/// How a run or a call has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// With this exit status. What is not 0 to 255 is 255, and the errors tell of it.
    Exited(u8),
    /// It could not go on. `signal` is what a program would have died of.
    Trapped { signal: u8, reason: String, backtrace: String },
    /// It was refused memory, and could not go on.
    OutOfMemory { reason: String, backtrace: String },
    /// Its time was over.
    TimedOut,
    /// It was not even begun, because of how it was called.
    Misused(String),
}

/// What a module's `proc_exit` ends it with.
#[derive(Debug, thiserror::Error)]
#[error("exited with status {0}")]
pub(crate) struct Exit(pub i32);

/// The exit status where a module was called wrongly.
const MISUSED: u8 = 2;

mod signals {
    use agentkernel_sys::signal;

    pub(super) const ABORT: u8 = signal::SIGABRT as u8;
    pub(super) const ARITHMETIC: u8 = signal::SIGFPE as u8;
    pub(super) const KILL: u8 = signal::SIGKILL as u8;
    pub(super) const MEMORY: u8 = signal::SIGSEGV as u8;
}

impl End {
    /// What this error of wasmtime's means for a module that was or was not refused memory.
    pub(crate) fn of(error: &Error, is_refused: bool) -> Self {
        let exit = error.downcast_ref().map(|Exit(status)| *status);
        let exit = exit.or_else(|| error.downcast_ref().map(|I32Exit(status)| *status));
        if let Some(status) = exit {
            return Self::Exited(u8::try_from(status).unwrap_or(u8::MAX));
        }
        let Failure { trap, reason, backtrace } = error.into();
        if trap == Some(Trap::Interrupt) {
            return Self::TimedOut;
        }
        Self::trapped(trap, reason, backtrace, is_refused)
    }

    /// What it means that a module can't go on, for this `reason`.
    pub fn trapped(
        trap: Option<Trap>,
        reason: String,
        backtrace: String,
        is_refused_memory: bool,
    ) -> Self {
        if is_refused_memory {
            return Self::OutOfMemory { reason, backtrace };
        }
        Self::Trapped { signal: trap.map_or(signals::ABORT, signal_of), reason, backtrace }
    }

    /// How a command that ends so has ended.
    pub fn status(&self) -> Status {
        match self {
            Self::Exited(status) => Status::Exited(*status),
            Self::Trapped { signal, .. } => Status::Signaled(*signal),
            // As the kernel does where there is no more.
            Self::OutOfMemory { .. } | Self::TimedOut => Status::Signaled(signals::KILL),
            Self::Misused(_) => Status::Exited(MISUSED),
        }
    }

    /// A line or more for people, if the exit status alone does not tell it.
    pub fn message(&self) -> Option<String> {
        match self {
            Self::Exited(_) | Self::TimedOut => None,
            Self::Trapped { reason, backtrace, .. } => Some(format!("trap: {reason}\n{backtrace}")),
            Self::OutOfMemory { reason, backtrace } => {
                Some(format!("trap: out of memory: {reason}\n{backtrace}"))
            }
            Self::Misused(why) => Some(format!("error: {why}\n")),
        }
    }
}

/// What is said of the status that a module asked for, if it is none that there is.
pub(crate) fn impossible_status(error: &Error) -> Option<String> {
    let Exit(status) = error.downcast_ref()?;
    beyond(status.cast_unsigned())
}

/// What is said of an exit status that is none.
pub fn beyond(status: u32) -> Option<String> {
    u8::try_from(status)
        .is_err()
        .then(|| format!("error: the module has exited with {status}, which is none of 0 to 255\n"))
}

fn signal_of(trap: Trap) -> u8 {
    match trap {
        Trap::IntegerDivisionByZero | Trap::IntegerOverflow | Trap::BadConversionToInteger => {
            signals::ARITHMETIC
        }
        Trap::MemoryOutOfBounds | Trap::TableOutOfBounds | Trap::StackOverflow => signals::MEMORY,
        _ => signals::ABORT,
    }
}
