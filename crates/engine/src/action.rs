//! What every front end turns its input into, and what it gets back.

use std::ffi::OsString;
use std::io;
use std::time::Duration;

use agentkernel_core::{
    Backend, BootError, Capabilities, Command, Ended, LimitInForce, Port, Probe, Profile,
    Provision, Remains, Spec, Wall,
};
use agentkernel_store::audit::AuditError;
use agentkernel_store::{DirsError, StoreError, Thing};

use agentkernel_wire::{RequestError, nearest};

use crate::live::DialError;

/// Run one command in a sandbox of its own, with the calling process's standard streams.
#[derive(Debug)]
pub struct Run {
    /// The backend asked for; `None` takes the first one that is ready.
    pub backend: Option<String>,
    pub spec: Spec,
    /// How its image is to be had.
    pub provision: Provision,
    pub command: Command,
    pub terminal: Terminal,
    /// Whether the command gets the caller's standard input, or none.
    pub stdin: bool,
    /// Whether all that can be known of the sandbox is wanted, at the price of waiting for its end.
    pub thorough: bool,
    /// Whether a sandbox out of a pool will do.
    pub pooled: bool,
}

/// Whether a command gets a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Terminal {
    /// If standard input and output both are one.
    Auto,
    Always,
    Never,
}

/// A backend and whether it can be used.
#[derive(Debug)]
pub struct Probed {
    pub name: &'static str,
    pub capabilities: Capabilities,
    pub probe: Probe,
}

/// How a run went, from the first to the last.
#[derive(Debug)]
pub struct Outcome {
    pub backend: &'static str,
    pub route: Route,
    /// The name of the module that was the program, if the sandbox's image is one.
    pub module: Option<OsString>,
    /// That of the sandbox's spec.
    pub profile: Profile,
    pub ended: Ended,
    pub phases: Phases,
    pub walls: Vec<Wall>,
    pub limits: Vec<LimitInForce>,
    /// What the sandbox did less well than others do.
    pub notes: Vec<String>,
    /// The host's ports that led into the sandbox.
    pub ports: Vec<Port>,
    pub remains: Remains,
    /// Output that could not be delivered. The command was told, as by a closed pipe.
    pub broken: Vec<Broken>,
}

/// How a command came by its sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// It was booted for it, and why nothing faster was taken.
    Cold(String),
    /// It was taken out of the pool of this name.
    Pool(String),
    /// It is the living sandbox of this name.
    Live(String),
    /// It was booted for it, and is kept under this name.
    Kept(String),
}

/// A stream of the caller's that failed.
#[derive(Debug)]
pub struct Broken {
    /// `standard output` or `standard error`.
    pub stream: &'static str,
    pub error: io::Error,
}

/// Where the time of a run went. The four add up to the whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Phases {
    /// From the request until the place's agent answered.
    pub boot: Duration,
    /// From there until the command was started.
    pub ready: Duration,
    /// From there until the command ended.
    pub exec: Duration,
    /// From there until nothing of the place was left.
    pub shutdown: Duration,
}

/// Why a request came to nothing. No command has started, unless it is said to be lost.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct EngineError {
    pub why: String,
    /// What the user can do about it.
    pub hint: Option<String>,
    /// The exit status that stands for it: 125, or 126 and 127 for a command that is not
    /// executable or not found.
    pub exit_code: u8,
    /// Whether a program that [can boot](Backend::can_boot) would do it. Nothing was changed.
    pub elsewhere: bool,
}

impl EngineError {
    /// A failure of agentkernel's own, or of what it stands on.
    pub fn failed(what: &str, error: &dyn std::fmt::Display) -> Self {
        let why = format!("{what}: {error}");
        Self { why, hint: None, exit_code: Self::FAILED, elsewhere: false }
    }

    pub(crate) fn refused(why: String, hint: String) -> Self {
        Self { why, hint: Some(hint), exit_code: Self::FAILED, elsewhere: false }
    }

    /// What this program can't do with `backend`, but another can.
    pub(crate) fn elsewhere(backend: &dyn Backend) -> Self {
        let why = format!("the {} backend is driven by agentkerneld", backend.name());
        let hint = "install agentkerneld beside agentkernel".into();
        Self { elsewhere: true, ..Self::refused(why, hint) }
    }

    /// The exit status for every failure that is not the command's.
    pub(crate) const FAILED: u8 = 125;
}

impl From<BootError> for EngineError {
    fn from(error: BootError) -> Self {
        let why = error.to_string();
        match error {
            BootError::Unavailable { fix, .. } | BootError::Refused { fix, .. } => {
                Self::refused(why, fix)
            }
            BootError::Failed { .. } => {
                Self { why, hint: None, exit_code: Self::FAILED, elsewhere: false }
            }
        }
    }
}

impl From<RequestError> for EngineError {
    fn from(error: RequestError) -> Self {
        Self::refused(error.to_string(), error.hint().into())
    }
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        let hint = match &error {
            StoreError::NotFound { thing, asked, names } if !names.is_empty() => {
                let shows = match thing {
                    Thing::Sandbox => "ps -a",
                    Thing::Snapshot => "snapshot ls",
                    Thing::Pool => "pool ls",
                };
                Some(match nearest(asked, names.iter().map(String::as_str)) {
                    Some(name) => format!("did you mean {name}?"),
                    None => format!("agentkernel {shows} shows those that there are"),
                })
            }
            _ => None,
        };
        let hint = hint.unwrap_or_else(|| error.hint());
        Self::refused(error.to_string(), hint)
    }
}

impl From<DirsError> for EngineError {
    fn from(error: DirsError) -> Self {
        let hint = error.hint();
        Self::refused(error.to_string(), hint)
    }
}

impl From<AuditError> for EngineError {
    fn from(error: AuditError) -> Self {
        let hint = error.hint();
        Self::refused(error.to_string(), hint)
    }
}

impl From<DialError> for EngineError {
    fn from(error: DialError) -> Self {
        let hint = "see whether it still runs with agentkernel ps; agentkernel rm -f removes it";
        Self::refused(error.to_string(), hint.into())
    }
}
