//! What every front end turns its input into, and what it gets back.

use std::time::Duration;

use agentkernel_core::{
    Backend, Capabilities, Command, Ended, LimitInForce, Probe, Remains, Spec, Wall,
};

/// One request of a user's, resolved and validated.
#[derive(Debug)]
pub enum Action {
    Run(Run),
    /// Probe every backend.
    Doctor,
}

/// Run one command in a sandbox of its own, with the calling process's standard streams.
#[derive(Debug)]
pub struct Run {
    /// The backend asked for; `None` takes the first one that is ready.
    pub backend: Option<String>,
    pub spec: Spec,
    pub command: Command,
    pub terminal: Terminal,
    /// Whether the command gets the caller's standard input, or none.
    pub stdin: bool,
}

/// Whether a command gets a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Terminal {
    /// If standard input and output both are one.
    Auto,
    Always,
    Never,
}

/// What came of an action.
#[derive(Debug)]
pub enum Reply {
    Ran(Outcome),
    Probed(Vec<Probed>),
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
    pub ended: Ended,
    pub phases: Phases,
    pub walls: Vec<Wall>,
    pub limits: Vec<LimitInForce>,
    pub remains: Remains,
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

/// Why an action came to nothing. No command has started, unless it is said to be lost.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct EngineError {
    pub why: String,
    /// What the user can do about it.
    pub hint: Option<String>,
    /// The exit status that stands for it: 125, or 126 and 127 for a command that is not
    /// executable or not found.
    pub exit_code: u8,
}

/// Carries out actions on a given list of backends.
pub struct Engine {
    backends: &'static [&'static dyn Backend],
}

impl Engine {
    /// An engine over `backends`, the preferred ones first.
    pub const fn new(backends: &'static [&'static dyn Backend]) -> Self {
        Self { backends }
    }

    /// Carries out `action` and returns when it is over: a run's command has ended and its place
    /// is gone.
    pub fn handle(&self, action: Action) -> Result<Reply, EngineError> {
        match action {
            Action::Run(_) => Err(EngineError {
                why: "no backend can run a command yet".into(),
                hint: None,
                exit_code: 125,
            }),
            Action::Doctor => Ok(Reply::Probed(self.probe())),
        }
    }

    fn probe(&self) -> Vec<Probed> {
        let probe = |backend: &&'static dyn Backend| Probed {
            name: backend.name(),
            capabilities: backend.capabilities(),
            probe: backend.probe(),
        };
        self.backends.iter().map(probe).collect()
    }
}
