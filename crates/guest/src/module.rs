//! Commands whose program is a module: it is run in the command's own process, by whoever knows how.

use std::ffi::{CStr, CString};
use std::fmt::Debug;
use std::io;
use std::os::fd::{BorrowedFd, RawFd};

use agentkernel_core::BootError;
use agentkernel_protocol::Status;
use agentkernel_sys::signal;

/// Runs modules.
pub trait Runner: Debug + Sync {
    /// Has ready what every module with so much memory needs, in a process that others are copied from,
    /// and that has one thread. Doing so again changes nothing.
    fn prepare(&self, memory: Option<u64>) -> Result<(), BootError>;

    /// How much private memory a process needs that runs a module with so much of its own, besides that.
    fn besides(&self, _memory: u64) -> u64 {
        0
    }

    /// The descriptor, open since [`prepare`](Self::prepare), that a command's process needs besides its
    /// own, if it does: all others may be closed.
    fn needs(&self) -> Option<RawFd> {
        None
    }

    /// Has ready, in a process that is to become a command's, what takes long of running a module with so
    /// much memory. Whoever runs one does without, too.
    fn stand_by(&self, _memory: Option<u64>) {}

    /// Runs a module to its end, in a process that is its command's alone. Its standard streams are
    /// those of the process, and it sees the process's root and current directory. Whoever calls `runs`
    /// says that it begins. An error before that is why it could not be started; anything else that goes
    /// wrong is told on its standard error, and an end like others.
    fn run(&self, module: Module<'_>, runs: &mut dyn FnMut()) -> io::Result<Status>;
}

/// A module with all that running it takes.
#[derive(Debug)]
pub struct Module<'a> {
    pub code: BorrowedFd<'a>,
    /// What of it is called, if it is not to do what it does as a program.
    pub function: Option<&'a CStr>,
    pub argv: &'a [CString],
    /// `NAME=VALUE`.
    pub environment: &'a [CString],
    /// How much memory it may have of its own, in bytes.
    pub memory: Option<u64>,
    /// Whether it may use the network that its process is in.
    pub network: bool,
}

/// How a place runs modules.
#[derive(Debug, Clone, Copy)]
pub struct Modules {
    pub runner: &'static dyn Runner,
    /// [`Module::memory`].
    pub memory: Option<u64>,
    /// [`Module::network`].
    pub network: bool,
}

impl Modules {
    /// The number of the descriptor that is [needed](Runner::needs), or -1.
    pub(crate) fn needed(this: Option<Self>) -> RawFd {
        this.and_then(|modules| modules.runner.needs()).unwrap_or(-1)
    }
}

/// The signals that a runner may handle, of what a module does wrong.
pub(crate) const HANDLED: [i32; 4] =
    [signal::SIGSEGV, signal::SIGBUS, signal::SIGILL, signal::SIGFPE];
