//! Errors at the edge: one message for people, and what they can do about it.

use agentkernel_engine::EngineError;
use agentkernel_wire::{ErrorReport, FailureReport, RequestError};

/// The exit status of everything that is agentkernel's own failure, as with Docker.
pub(crate) const FAILED: u8 = 125;

/// What to do about something that should not happen.
const REPORT_IT: &str = "if it happens again, please report it with what agentkernel doctor says";

/// Why a verb came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct CommandError {
    pub message: String,
    /// What the user can do about it.
    pub hint: String,
    pub exit_code: u8,
    /// Whether agentkerneld would do it, given the same words. Nothing was changed.
    pub elsewhere: bool,
}

impl CommandError {
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        let (message, hint) = (message.into(), hint.into());
        Self { message, hint, exit_code: FAILED, elsewhere: false }
    }

    /// The form that programs read.
    pub fn report(self) -> ErrorReport {
        let Self { message, hint, exit_code, .. } = self;
        FailureReport { message, hint, exit_code }.into()
    }
}

impl From<RequestError> for CommandError {
    fn from(err: RequestError) -> Self {
        Self::new(err.to_string(), err.hint())
    }
}

impl From<EngineError> for CommandError {
    fn from(err: EngineError) -> Self {
        let hint = err.hint.clone().unwrap_or_else(|| REPORT_IT.into());
        let EngineError { why, exit_code, elsewhere, .. } = err;
        Self { message: why, hint, exit_code, elsewhere }
    }
}
